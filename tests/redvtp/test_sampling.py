"""The rules of one step: tokens, confidence, transfer, stop scan, settings."""

from __future__ import annotations

import math

import pytest
import torch

from redvtp import Settings
from redvtp.generation.sampling import confidence, first_occurrence, pick_tokens, transfer_rows
from tests.redvtp.runs import run


@pytest.mark.parametrize("rule", ["low_confidence", "entropy", "margin"])
def test_confidences_equal_naive_formulas(rule):
    logits = torch.randn(6, 9, generator=torch.Generator().manual_seed(0)) * 3
    logits[:, 4] = float("-inf")
    tokens = logits.argmax(-1)
    ours = confidence(logits, tokens, rule)
    assert ours.dtype == torch.float64
    for row, values in enumerate(logits.tolist()):
        weights = [math.exp(v) for v in values]
        p = sorted((w / sum(weights) for w in weights), reverse=True)
        naive = {
            "low_confidence": p[0],
            "margin": p[0] - p[1],
            "entropy": sum(q * math.log(q) for q in p if q > 0),
        }[rule]
        assert float(ours[row]) == pytest.approx(naive, abs=1e-8)


def test_confidence_is_of_the_token_drawn_not_of_the_likeliest():
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    assert float(confidence(logits, torch.tensor([2]), "low_confidence")) == pytest.approx(0.0900, abs=1e-4)


def test_greedy_takes_the_likeliest_and_noise_follows_the_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0, float("-inf")]])
    assert pick_tokens(logits, 0.0, None).tolist() == [2]
    noise = torch.rand(20_000, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = pick_tokens(logits.expand(20_000, -1), 1.0, noise).bincount(minlength=4) / 20_000
    torch.testing.assert_close(drawn, logits[0].softmax(-1), atol=0.015, rtol=0)


def test_the_draw_equals_the_quotient_rule():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(50, 12, generator=generator)
    noise = torch.rand(50, 12, dtype=torch.float64, generator=generator)
    for temperature in (0.3, 1.0, 2.5):
        quotient = logits.double().exp() / (-noise.log()) ** temperature
        assert torch.equal(pick_tokens(logits, temperature, noise), quotient.argmax(-1))


@pytest.mark.parametrize("seed", range(10))
def test_transfer_takes_the_surest_rows_ties_to_the_earlier(seed):
    generator = torch.Generator().manual_seed(seed)
    conf = torch.randint(0, 4, (3, 8), generator=generator).double()
    conf[conf == 0] = float("-inf")
    quota = torch.tensor([0, 3, 8])
    moved = transfer_rows(conf, quota)
    for b in range(3):
        able = [i for i in range(8) if conf[b, i] > float("-inf")]
        expected = sorted(able, key=lambda i: (-conf[b, i], i))[: int(quota[b])]
        assert torch.nonzero(moved[b]).flatten().tolist() == sorted(expected)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [([7], [1, 6]), ([7, 8], [1, 6]), ([8, 7], [2, 6]), ([], [6, 6]), ([1] * 7, [6, 6]), ([5, 7, 8], [0, 6])],
)
def test_first_occurrence(pattern, expected):
    tokens = torch.tensor([[5, 7, 8, 7, 8, 8], [0, 1, 2, 3, 4, 5]])
    assert first_occurrence(tokens, pattern).tolist() == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"length": 0}, "length=0"),
        ({"length": 8.0}, "length=8.0"),
        ({"steps": True}, "steps=True"),
        ({"length": 10, "block_length": 4}, "block_length=4: expected a divisor of length=10"),
        ({"block_length": 0}, "block_length=0"),
        ({"length": 8, "block_length": 2, "steps": 6}, "steps=6: expected a multiple of the 4 blocks"),
        ({"remasking": "best"}, "remasking='best'"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"cfg_scale": -0.1}, "cfg_scale=-0.1"),
        ({"stop": "stop"}, "stop='stop'"),
        ({"stop": ("",)}, "stop="),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message) as caught:
        Settings(**fields)
    assert "\n" not in str(caught.value)


def test_blocks_are_filled_in_order(model, prompts):
    decoding = model.start(prompts, length=8, steps=8, block_length=2)
    done = 0
    while decoding.step():
        done += 1
        filled = decoding.canvas != model.host.mask_id
        assert bool(filled[:, : done // 2 * 2].all())
        assert not bool(filled[:, done // 2 * 2 + 2 :].any())


def test_more_steps_than_tokens_and_a_remainder(model, prompts):
    assert run(model, prompts[:1], length=3, steps=8)[0].steps == 3
    decoding = model.start(prompts[:1], length=7, steps=3)
    masked = []
    while True:
        masked.append(int((decoding.canvas == model.host.mask_id).sum()))
        if not decoding.step():
            break
    assert masked == [7, 4, 2]


def test_a_stop_ends_the_answer_before_it_and_the_earliest_wins(model, prompts):
    tokens = run(model, prompts[:1], length=8, steps=8)[0].canvas.tolist()
    words = [model.host.tokenizer.decode([token]) for token in tokens]
    last = run(model, prompts[:1], length=8, steps=8, stop=(words[-1],))[0]
    assert last.ids == tokens[: tokens.index(tokens[-1])]
    both = run(model, prompts[:1], length=8, steps=1, stop=("?!?", words[5], words[2]))[0]
    one = run(model, prompts[:1], length=8, steps=1)[0].canvas.tolist()
    found = [one.index(t) for t in (tokens[5], tokens[2]) if t in one]
    # Once a text was found, only the first of the list is looked for, in later texts and later steps.
    assert both.ids == (one[: found[0]] if found else one)


def test_after_a_find_only_the_first_text_is_looked_for(model, prompts):
    decoding = model.start(prompts[:1], length=6, steps=6)
    decoding.stop_ids = [[1], [2]]
    decoding.canvas[0] = torch.tensor([9, 9, 9, 2, 9, 9])
    decoding._scan_stops()
    assert (bool(decoding.stopped[0]), int(decoding.stop_at[0])) == (True, 3)
    decoding.canvas[0, 2] = 2
    decoding._scan_stops()
    assert int(decoding.stop_at[0]) == 3
    decoding.canvas[0, 1] = 1
    decoding._scan_stops()
    assert int(decoding.stop_at[0]) == 1
