"""What holds for every registered method; a new one is tested by being registered."""

from __future__ import annotations

import math

import pytest
import torch

from redvtp import Share
from redvtp.pruning import METHODS
from tests.redvtp.runs import assert_same, run

KEEP = 0.4


@pytest.fixture(params=sorted(METHODS))
def method(request):
    return METHODS[request.param](keep=KEEP)


def lasting(method) -> bool:
    return all(cut.lasting for cut in method.cuts(3, 4))


def test_it_is_named_and_a_value(method):
    assert METHODS[method.name] is type(method)
    assert method == type(method)(keep=KEEP)
    assert hash(method) == hash(type(method)(keep=Share(KEEP)))


def test_a_batch_gives_what_each_sample_gives_alone(model, prompts, method):
    for together, prompt in zip(run(model, prompts, method), prompts, strict=True):
        assert_same(together, run(model, [prompt], method)[0])


def test_it_is_deterministic_and_leaves_the_model_as_it_was(model, prompts, method):
    before = {name: value.clone() for name, value in model.host.model.state_dict().items()}
    first, second = run(model, prompts[:2], method), run(model, prompts[:2], method)
    for one, other in zip(first, second, strict=True):
        assert_same(one, other)
    assert all(torch.equal(value, before[name]) for name, value in model.host.model.state_dict().items())
    assert not any(value.requires_grad for value in model.host.model.parameters())


def test_it_keeps_exactly_its_budget_and_feeds_less(model, prompts, method):
    for result, plain in zip(run(model, prompts, method), run(model, prompts), strict=True):
        kept = result.kept.tolist()
        assert kept == sorted(set(kept))
        if not result.visual_tokens:
            assert kept == []
            continue
        wanted = max(1, math.floor(KEEP * result.visual_tokens)) if lasting(method) else result.visual_tokens
        assert len(kept) == wanted
        assert result.tokens_fed < plain.tokens_fed
        assert result.flops < plain.flops


def test_keeping_everything_is_the_unpruned_run(model, prompts, method):
    for result, plain in zip(run(model, prompts, type(method)(keep=1.0)), run(model, prompts), strict=True):
        assert_same(result, plain)


def test_attention_is_asked_for_only_where_it_is_needed(method):
    for cut in method.cuts(3, 4):
        assert method.needs(cut).attention <= {"response", "prompt"}
        assert cut.step > 0 or not method.needs(cut).attention
