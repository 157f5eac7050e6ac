"""Fast-dLLM: which rows it computes, what the dual cache keeps, and parallel decoding."""

from __future__ import annotations

import pytest
import torch

from redvtp import FastDLLM, Recorder, RedVTP, Settings
from redvtp.caching import Moment
from redvtp.generation.sampling import factor_rows, threshold_rows
from redvtp.models.base import Span
from tests.redvtp.runs import assert_all_same, run

BLOCKS = {"length": 32, "steps": 32, "block_length": 8}


def fed(model, prompts, cache, **settings) -> list[int]:
    """Tokens that each step of a single sample ran on."""
    recorder = Recorder()
    run(model, prompts[:1], cache=cache, recorder=recorder, **settings)
    return [int(step.fed[0]) for step in recorder.steps]


def test_the_prefix_cache_computes_the_block_and_what_follows_it(model, prompts):
    whole = int(model.host.begin(prompts[:1], 32).layout.length)
    expected = []
    for left in (32, 24, 16, 8):
        expected += ([whole] + [left] * 2) * 2 + [whole, left]
    assert fed(model, prompts, FastDLLM(refresh=3), **BLOCKS) == expected


def test_the_dual_cache_computes_the_block_alone(model, prompts):
    whole = int(model.host.begin(prompts[:1], 32).layout.length)
    assert fed(model, prompts, FastDLLM(dual=True), **BLOCKS) == ([whole] + [8] * 7) * 4


def test_with_one_block_the_dual_cache_is_the_prefix_cache(model, prompts):
    for method in (None, RedVTP(keep=0.5)):
        settings = {"length": 32, "steps": 16}
        prefix, dual = (run(model, prompts, method, cache=FastDLLM(4, dual=d), **settings) for d in (False, True))
        assert_all_same(prefix, dual)


def test_the_dual_cache_differs_where_there_are_more_blocks(model, prompts):
    logits = []
    for dual in (False, True):
        recorder = Recorder(logits=True)
        run(model, prompts[:1], cache=FastDLLM(dual=dual), recorder=recorder, **BLOCKS)
        logits.append([step.logits for step in recorder.steps])
    # The first step computes everything; in the second the dual cache alone leaves out the later blocks.
    assert torch.equal(logits[0][0], logits[1][0])
    assert len(logits[0][1]) == 31
    assert len(logits[1][1]) == 7
    # In the third the later blocks have seen the second's token in the prefix cache only.
    assert not torch.allclose(logits[0][2][:6], logits[1][2], atol=1e-6)


def test_spans_of_a_block():
    later = Moment(step=9, index=1, start=8, stop=16, rows=35)
    assert FastDLLM(refresh=4).span(later) == Span(8, 35)
    assert FastDLLM(refresh=4, dual=True).span(later) == Span(8, 16)
    assert FastDLLM(refresh=1).span(later) == later.everything
    cut = Moment(step=9, index=1, start=8, stop=16, rows=35, cut=True)
    assert FastDLLM(refresh=4).span(cut) == Span(8, 35)
    assert FastDLLM(refresh=4, reencode=True).span(cut) == cut.everything


def committed(conf: list[float], factor: float) -> int:
    """The rule as published, in plain words: walk down the confidences until one misses its bar."""
    ordered = sorted((c for c in conf if c > float("-inf")), reverse=True)
    place = len(ordered) - 1
    for i, c in enumerate(ordered):
        if i and c < 1 - factor / (i + 2):
            place = i
            break
    return place + 1 if place in (0, len(ordered) - 1) else place


def test_the_factor_rule_is_the_published_one():
    generator = torch.Generator().manual_seed(3)
    conf = torch.rand(400, 9, generator=generator, dtype=torch.float64) ** 0.2
    conf[torch.rand(400, 9, generator=generator) < 0.3] = float("-inf")
    for factor in (0.2, 0.5, 1.0, 2.0):
        moved = factor_rows(conf, factor)
        for row, taken in zip(conf, moved, strict=True):
            eligible = int((row > float("-inf")).sum())
            assert int(taken.sum()) == (committed(row.tolist(), factor) if eligible else 0)
            rest = row[~taken & (row > float("-inf"))]
            assert not len(rest) or float(row[taken].min()) >= float(rest.max())


def test_the_threshold_commits_what_reaches_it_and_at_least_one():
    conf = torch.tensor([[0.9, 0.2, 0.95], [0.1, 0.3, 0.2], [0.9, 0.9, 0.9]], dtype=torch.float64)
    conf[1, 0] = float("-inf")
    assert threshold_rows(conf, 0.9).tolist() == [[True, False, True], [False, True, False], [True] * 3]


@pytest.mark.parametrize("rule", [{"threshold": 0.9}, {"factor": 1.0}], ids=str)
@pytest.mark.parametrize("cache", [None, FastDLLM()], ids=repr)
def test_a_response_takes_as_many_steps_as_its_confidence_asks_for(model, prompts, rule, cache):
    result = run(model, prompts[:1], cache=cache, length=8, steps=3, **rule)[0]
    assert model.host.mask_id not in result.canvas.tolist()
    assert result.steps <= 8
    sure = run(model, prompts[:1], cache=cache, length=8, threshold=1e-9)[0]
    assert sure.steps == 1
    unsure = run(model, prompts[:1], cache=cache, length=8, threshold=1.0)[0]
    assert unsure.steps == 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0}, "threshold=0: expected a number"),
        ({"threshold": 1.5}, "threshold=1.5"),
        ({"factor": -1.0}, "factor=-1.0"),
        ({"factor": True}, "factor=True"),
        ({"threshold": 0.9, "factor": 1.0}, "expected one of them"),
        ({"factor": 1.0, "remasking": "random"}, "remasking='random'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Settings(**settings)
