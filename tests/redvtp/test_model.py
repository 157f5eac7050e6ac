"""What a user calls: load, generate, a batch, and messages for what is wrong."""

from __future__ import annotations

import pytest

from redvtp import Prompt, RedVTP, Settings, load
from redvtp.models.checkpoint import CheckpointError
from redvtp.sequence import VISUAL
from tests.tiny import picture

SHORT = {"length": 6, "steps": 3}


def test_one_question_and_a_batch_agree(model, prompts):
    batch = model.generate_batch(prompts, prune=RedVTP(keep=0.5), **SHORT)
    for answer, prompt in zip(batch, prompts, strict=True):
        images = list(prompt.images) or None
        single = model.generate(images, prompt.question, prune=RedVTP(keep=0.5), **SHORT)
        assert (single.text, single.ids) == (answer.text, answer.ids)
        assert single.kept.tolist() == answer.kept.tolist()
        assert (single.steps, single.tokens_fed, single.flops) == (answer.steps, answer.tokens_fed, answer.flops)


def test_an_answer_says_what_was_kept(model):
    answer = model.generate(picture(90, 50), "What?", prune=RedVTP(keep=0.25), **SHORT)
    full = model.generate(picture(90, 50), "What?", **SHORT)
    assert len(answer.kept) == len(full.kept) // 4
    assert answer.layout.count(VISUAL).tolist() == [len(answer.kept)]
    assert answer.tokens_fed < full.tokens_fed
    assert answer.steps == full.steps == 3
    assert answer.text == model.host.tokenizer.decode(answer.ids, skip_special_tokens=True).strip()


def test_repeating_a_call_repeats_the_answer(model):
    image = picture(60, 60)
    calls = [model.generate(image, "What?", prune=RedVTP(keep=0.5), temperature=1.0, seed=5, **SHORT) for _ in range(2)]
    assert calls[0].ids == calls[1].ids
    model.generate(image, "Other?", temperature=1.0, **SHORT)
    assert model.generate(image, "What?", prune=RedVTP(keep=0.5), temperature=1.0, seed=5, **SHORT).ids == calls[0].ids


def test_a_list_of_images_a_single_one_and_none(model):
    image = picture(30, 30)
    assert model.generate([image], "a", **SHORT).ids == model.generate(image, "a", **SHORT).ids
    assert model.generate([], "a", **SHORT).ids == model.generate(None, "a", **SHORT).ids


def test_the_end_of_turn_ends_an_answer(model):
    decoding = model.start([Prompt("a")], **SHORT)
    assert decoding.stop_ids == [[model.host.tokenizer.convert_tokens_to_ids("<|eot_id|>")]]
    assert model.start([Prompt("a")], stop=(), **SHORT).stop_ids == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 10, "steps": 5, "block_length": 4}, "block_length=4"),
        ({"length": 8, "steps": 0}, "steps=0"),
        ({"prune": RedVTP(step=9), **SHORT}, "step=9"),
        ({"seeds": [1, 2], **SHORT}, "2 seeds for 1 samples"),
    ],
)
def test_mistakes_are_one_line_before_any_forward(model, monkeypatch, arguments, message):
    monkeypatch.setattr(type(model.host), "forward", lambda *_, **__: pytest.fail("a forward ran"))
    with pytest.raises(ValueError, match=message) as caught:
        model.generate_batch([Prompt("?", [picture(9, 9)])], **arguments)
    assert "\n" not in str(caught.value)


def test_unknown_settings_are_refused(model):
    with pytest.raises(ValueError, match="unknown setting 'lenght': expected one of length, steps"):
        model.generate(None, "?", lenght=4)
    assert Settings().block == 32


def test_unknown_models_are_refused():
    with pytest.raises(CheckpointError, match="'mini/none'.*expected a folder"):
        load("mini/none")
