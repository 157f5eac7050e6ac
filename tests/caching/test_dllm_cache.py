"""dLLM-Cache: which rows it recomputes, and what that leaves out."""

from __future__ import annotations

import pytest
import torch

from redvtp import DLLMCache, Recorder, RedVTP
from redvtp.caching import Moment
from redvtp.models.base import Span
from redvtp.models.changed_rows import changed_rows
from tests.redvtp.runs import run

SETTINGS = {"length": 8, "steps": 8}


def logits(model, prompts, cache, method=None):
    recorder = Recorder(logits=True)
    run(model, prompts, method, cache=cache, recorder=recorder, **SETTINGS)
    return [step.logits for step in recorder.steps], [step.fed.tolist() for step in recorder.steps]


@pytest.mark.parametrize("prompt_interval", [3, 20])
@pytest.mark.parametrize("method", [None, RedVTP(keep=0.5)], ids=repr)
def test_recomputing_every_row_is_refreshing_the_response(model, prompts, method, prompt_interval):
    all_rows = logits(model, prompts, DLLMCache(prompt_interval, 20, share=1.0), method)
    refreshed = logits(model, prompts, DLLMCache(prompt_interval, 1), method)
    for one, other in zip(all_rows[0], refreshed[0], strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_what_each_step_computes(model, prompts):
    whole = int(model.host.begin(prompts[:1], 8).layout.length)
    fed = logits(model, prompts[:1], DLLMCache(prompt_interval=4, response_interval=3, share=0.5))[1]
    prompt = whole - 8
    assert fed == [[whole], [4], [4], [8], [prompt + 4], [4], [8], [4]]
    nothing = logits(model, prompts[:1], DLLMCache(20, 20, share=0.0))[1]
    assert nothing == [[whole]] + [[0]] * 7


@torch.no_grad()
def test_the_rows_are_those_whose_values_changed_most(host):
    layer = host.decoder.layers[1]
    rows = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0))
    old = layer.self_attn.v_proj(layer.input_layernorm(rows))
    moved = rows.clone()
    moved[0, 4] += 1.0
    moved[0, 1] += 0.2
    moved[1, 5] *= -1.0
    assert changed_rows(layer, moved, old, 2).tolist() == [[4, 1], [5, 0]]
    assert changed_rows(layer, moved, old, 0).shape == (2, 0)


def test_intervals_count_the_steps_of_the_whole_response():
    cache = DLLMCache(prompt_interval=4, response_interval=2, share=0.5)
    spans = [cache.span(Moment(step, step % 3, 0, 3, 9)) for step in range(5)]
    some, rows = Span(0, 9, share=0.5), Span(0, 9)
    assert spans == [Span(0, 9, prompt=True), some, rows, some, Span(0, 9, prompt=True)]
    assert DLLMCache(3, 2).span(Moment(3, 0, 0, 3, 9)) == Span(0, 9, prompt=True, share=0.25)
