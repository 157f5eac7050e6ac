"""What holds for every registered cache with every pruning method; a new one is tested by being registered."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from analysis.speed_case import Case, build
from redvtp import D3ToM, Decoding, DLLMCache, FastDLLM, FastV, LladaFastV, PrefixDLM, Recorder, RedVTP, Share, ToMe
from redvtp.caching import CACHES
from redvtp.models.base import Span
from redvtp.selection import Cut
from redvtp.sequence import VISUAL
from tests.redvtp.runs import METHODS, assert_all_same, assert_same, extras, run

BLOCKS = {"length": 8, "steps": 8, "block_length": 4}
CHOSEN = (
    PrefixDLM(),
    PrefixDLM(reencode=True),
    FastDLLM(refresh=3),
    FastDLLM(refresh=4, dual=True, reencode=True),
    DLLMCache(prompt_interval=4, response_interval=3, share=0.3),
    DLLMCache(prompt_interval=2, response_interval=5, share=0.0),
)
EVERY_STEP = (FastDLLM(refresh=1), FastDLLM(refresh=1, dual=True), DLLMCache(1, 1), DLLMCache(1, 1, 0.0))
FEW = (None, RedVTP(keep=0.5), LladaFastV(keep=0.4), FastV(keep=0.5), ToMe(keep=0.5))


def test_all_registered_caches_are_tested_here():
    assert {type(cache) for cache in CHOSEN} == set(CACHES.values())


@pytest.mark.parametrize("cache", EVERY_STEP, ids=repr)
@pytest.mark.parametrize("method", [None, *METHODS], ids=repr)
def test_refreshing_in_every_step_is_the_run_without_a_cache(model, prompts, method, cache):
    found = []
    for chosen in (None, cache):
        recorder = Recorder(logits=True)
        found.append((run(model, prompts, method, cache=chosen, recorder=recorder, **BLOCKS), recorder.steps))
    assert_all_same(found[0][0], found[1][0])
    for plain, cached in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(cached.logits, plain.logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cache", CHOSEN, ids=repr)
@pytest.mark.parametrize("method", [None, *METHODS], ids=repr)
def test_a_batch_gives_what_each_sample_gives_alone(model, prompts, method, cache):
    batch = run(model, prompts, method, cache=cache, **BLOCKS)
    assert_all_same(batch, [run(model, [prompt], method, cache=cache, **BLOCKS)[0] for prompt in prompts])


@pytest.mark.parametrize("cache", CHOSEN, ids=repr)
def test_samples_that_take_different_steps_change_nothing_for_each_other(model, prompts, cache):
    """With a bar for the confidence samples end their blocks, and refresh, at steps of their own."""
    settings = {"length": 12, "block_length": 4, "threshold": 0.2}
    for method in (None, RedVTP(keep=0.4), RedVTP(keep=0.4, step=2)):
        batch = run(model, prompts, method, cache=cache, **settings)
        assert_all_same(batch, [run(model, [one], method, cache=cache, **settings)[0] for one in prompts])
        assert len({result.steps for result in batch}) > 1


@pytest.mark.parametrize("cache", CHOSEN, ids=repr)
@pytest.mark.parametrize("settings", [{"cfg_scale": 0.6, "suffix": "the end"}, {"temperature": 0.7}], ids=str)
def test_it_works_under_other_settings(model, prompts, cache, settings):
    batch = run(model, prompts[:3], RedVTP(keep=0.5), cache=cache, **settings, **BLOCKS)
    alone = [run(model, [one], RedVTP(keep=0.5), cache=cache, **settings, **BLOCKS)[0] for one in prompts[:3]]
    assert_all_same(batch, alone)


@pytest.mark.parametrize("cache", CHOSEN, ids=repr)
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_keeping_everything_is_the_cache_without_a_method(model, prompts, method, cache):
    plain = run(model, prompts[:2], cache=cache, **BLOCKS)
    assert_all_same(run(model, prompts[:2], replace(method, keep=Share(1.0)), cache=cache, **BLOCKS), plain)


@pytest.mark.parametrize("cache", CHOSEN, ids=repr)
@pytest.mark.parametrize("method", [method for method in METHODS if not isinstance(method, (D3ToM, FastV))], ids=repr)
def test_the_cache_is_cut_with_the_sequence_and_the_run_costs_less(model, prompts, method, cache):
    decoding = run_to_the_end(model, prompts, method, cache)
    state = decoding.last
    for layer in state.cache.layers.values():
        assert layer.keys.shape[1] == layer.values.shape[1] == state.layout.length
    plain, whole = (run(model, prompts[:1], method, cache=chosen, **BLOCKS)[0] for chosen in (cache, None))
    assert len(plain.kept) == len(whole.kept) < plain.visual_tokens
    assert plain.layout.count(VISUAL).tolist() == [len(plain.kept)]
    assert plain.tokens_fed < whole.tokens_fed
    assert plain.flops < whole.flops


def run_to_the_end(model, prompts, method, cache):
    decoding = model.start(
        prompts[:1], prune=method, cache=cache, extras=extras(model, prompts[:1]), stop=(), **BLOCKS
    )
    more = True
    while more:
        decoding.last = decoding.state
        more = decoding.step()
    return decoding


@pytest.mark.parametrize("cache", CHOSEN, ids=repr)
@pytest.mark.parametrize("method", FEW, ids=repr)
def test_padding_in_the_cache_changes_nothing(model, prompts, method, cache):
    """A longer sample beside it pads the short one; nothing of the padding may be read."""
    short = run(model, prompts[-1:], method, cache=cache, **BLOCKS)[0]
    beside = run(model, [prompts[2], prompts[-1]], method, cache=cache, **BLOCKS)[1]
    assert_same(beside, short)


@pytest.mark.parametrize("cache", CHOSEN, ids=repr)
def test_a_fork_shares_nothing_with_the_run_it_came_from(model, prompts, cache):
    method = RedVTP(keep=0.4)
    decoding = model.start(prompts[:2], cache=cache, watch=method.needs(Cut(1)), **BLOCKS)
    decoding.step()
    forks = [decoding.fork(method), decoding.fork(None)]
    alone = [run(model, prompts[:2], prune, cache=cache, **BLOCKS) for prune in (method, None)]
    for fork, expected in zip(forks, alone, strict=True):
        assert_all_same(fork.run(), expected)
    assert_all_same(decoding.run(), alone[1])


def test_a_recorder_and_a_watch_see_what_was_computed_and_change_nothing(model, prompts):
    for cache in CHOSEN:
        recorder = Recorder(attention=True, per_layer=True)
        assert_all_same(
            run(model, prompts, RedVTP(keep=0.5), cache=cache, recorder=recorder, **BLOCKS),
            run(model, prompts, RedVTP(keep=0.5), cache=cache, **BLOCKS),
        )
        assert not bool(torch.isnan(recorder.steps[0].attention).any())
        unknown = [bool(torch.isnan(step.attention).any()) for step in recorder.steps]
        assert any(unknown) != isinstance(cache, PrefixDLM)


def test_a_fork_that_needs_rows_nobody_computed_says_so(model, prompts):
    method = RedVTP(keep=0.4, step=6)
    decoding = model.start(prompts[:1], cache=FastDLLM(refresh=8), watch=method.needs(Cut(1)), **BLOCKS)
    for _ in range(6):
        decoding.step()
    with pytest.raises(ValueError, match="redvtp needs attention of rows that step 6 did not compute"):
        decoding.fork(method)


@pytest.mark.parametrize("cache", CHOSEN, ids=repr)
@pytest.mark.parametrize("step", [2, 6])
def test_a_cut_gets_the_attention_it_needs_whatever_the_cache_would_compute(model, prompts, cache, step):
    recorder = Recorder(attention=True)
    run(model, prompts, RedVTP(keep=0.5, step=step, rows="prompt+masked"), cache=cache, recorder=recorder, **BLOCKS)
    assert [record.cut.step for record in recorder.cuts] == [step]
    assert not bool(torch.isnan(recorder.steps[step - 1].attention).any())
    assert recorder.steps[step - 1].fed.min() > 8  # more than the response: the prompt, too


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FastDLLM(refresh=0), "refresh=0: expected a whole number of steps"),
        (lambda: FastDLLM(refresh=True), "refresh=True"),
        (lambda: FastDLLM(dual="no"), "dual='no'"),
        (lambda: DLLMCache(prompt_interval=1.5), "prompt_interval=1.5"),
        (lambda: DLLMCache(response_interval=-1), "response_interval=-1"),
        (lambda: DLLMCache(share=1.5), "share=1.5"),
        (lambda: PrefixDLM(reencode=1), "reencode=1"),
    ],
)
def test_words_that_cannot_be_meant_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("cache", [FastDLLM, "fast_dllm", 32], ids=str)
def test_what_is_no_cache_is_refused_before_any_forward(model, prompts, monkeypatch, cache):
    monkeypatch.setattr(type(model.host), "forward", lambda *_, **__: pytest.fail("a forward ran"))
    with pytest.raises(ValueError, match="expected a cache with its parameters"):
        model.generate_batch(prompts[:1], cache=cache)


def test_a_host_that_cannot_cache_refuses_before_any_forward(model, prompts, monkeypatch):
    monkeypatch.setattr(type(model.host), "can", model.host.can - {"cache"})
    with pytest.raises(ValueError, match="prefix_dlm: host llada_v cannot run with a cache"):
        model.generate_batch(prompts[:1], cache=PrefixDLM())


CASE = Case(hidden=48, layers=3, heads=4, mlp=64, vocabulary=90, visual=20, prompt=9, response=8, steps=8)


@pytest.mark.parametrize("cache", CHOSEN, ids=repr)
def test_flops_are_exactly_what_torch_counts(cache):
    host, state = build(CASE, stock=True)  # the counter does not know oneDNN's product
    decoding = Decoding(host, state, CASE.settings, cache=cache)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        result = decoding.run()[0]
    assert result.flops == counter.get_total_flops()


def test_spans_say_what_they_are():
    assert Span(0, 5, prompt=True).is_all(5)
    for span in (Span(0, 5), Span(0, 4, prompt=True), Span(0, 5, prompt=True, share=0.5)):
        assert not span.is_all(5)
    columns = torch.tensor([-1, 0, 2, 3, 4, 5])
    assert Span(1, 3).computes(columns, 2).tolist() == [False, False, False, True, True, False]
    assert Span(0, 9, prompt=True).computes(columns, 2).tolist() == [False] + [True] * 5
    assert not Span(0, 9, share=0.5).computes(columns, 2).any()
