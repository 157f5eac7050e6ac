"""On a GPU nothing in a step waits for it: the whole step runs here on tensors without values."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from analysis.speed_case import Case, build
from redvtp import Decoding, DLLMCache, FastDLLM, PrefixDLM, RedVTP, Settings
from redvtp.graphs import Graphs
from redvtp.models.lavida import Lavida
from redvtp.models.llada_v import LladaV
from tests.redvtp.pretend_cuda import Waited, plain_attention, pretending
from tests.redvtp.runs import assert_all_same, run

CASE = Case(hidden=48, layers=3, heads=4, mlp=64, vocabulary=90, visual=20, prompt=9, response=8, steps=8)
BLOCKS = {"length": 8, "steps": 8, "block_length": 4}


@pytest.fixture
def pretended(monkeypatch):
    """The mode, and a function that makes a host and a state of ``batch`` samples on the pretended GPU."""
    seen = []
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", plain_attention(seen))
    network, real = build(CASE, stock=True)

    def make(kind=LladaV, batch=1, dtype=torch.bfloat16, **options):
        state = real.part(torch.zeros(batch, dtype=torch.long))
        model = copy.deepcopy(network.model).to(dtype)
        for module in model.modules():
            for name, weight in module.named_parameters(recurse=False):
                setattr(module, name, torch.nn.Parameter(weight.data.to("cuda:0"), requires_grad=False))
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to("cuda:0"))
        host = kind(model, mask_id=89, banned_ids=(1, 2), onednn=False, **options)
        # How many visual tokens there were is read when the run begins, which may wait.
        return host, replace(
            state,
            embeds=state.embeds.to("cuda:0", dtype),
            layout=state.layout.to("cuda:0"),
            positions=state.positions.to("cuda:0"),
        )

    with pretending() as mode:
        yield mode, make, seen


@pytest.mark.parametrize("kind", [LladaV, Lavida])
@pytest.mark.parametrize("fused", [False, True], ids=["stock", "fused"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "cache", [None, PrefixDLM(), FastDLLM(refresh=3), FastDLLM(dual=True), DLLMCache(3, 2)], ids=repr
)
def test_steps_wait_for_nothing_and_build_no_mask(pretended, kind, fused, batch, cache):
    mode, make, masks = pretended
    host, state = make(kind, batch, fused=fused)
    decoding = Decoding(host, state, Settings(**BLOCKS), cache=cache)
    mode.strict = True
    for step in range(8):
        assert decoding.step() == (step < 7)
    mode.strict = False
    assert decoding.progress.looks == 0
    assert len(masks) >= 8 * host.layers
    assert masks.count(None) == len(masks)


@pytest.mark.parametrize("cache", [None, PrefixDLM(), FastDLLM(refresh=8)], ids=repr)
def test_neither_do_steps_through_fixed_buffers(pretended, cache):
    mode, make, _ = pretended
    host, state = make(batch=2)
    graphs = Graphs(host, "eager")
    decoding = Decoding(host, state, Settings(**BLOCKS), cache=cache, graphs=graphs)
    mode.strict = True
    while decoding.step():
        pass
    assert graphs.counts["run"] >= 6


def test_a_step_that_is_looked_at_waits_for_the_cut_alone(pretended, monkeypatch):
    """Step 1 runs to its end under the probe; the host waits where the score decides what is kept."""
    mode, make, _ = pretended
    host, state = make()
    monkeypatch.setattr(RedVTP, "check", lambda *_: None)  # before the first step; it may look
    decoding = Decoding(host, state, Settings(**BLOCKS), RedVTP(keep=0.5))
    mode.strict = True
    calls = []
    decoding._record = lambda *_: calls.append("step")
    with pytest.raises(Waited):
        decoding.step()
    assert calls == ["step"]


@pytest.mark.parametrize(
    "options",
    [
        {"fixed_rows": False},
        {"stop_ids": [[5]]},
        {"settings": Settings(**{**BLOCKS, "threshold": 0.9})},
        {"settings": Settings(**BLOCKS, remasking="random")},
    ],
    ids=str,
)
def test_what_only_the_device_knows_is_waited_for(pretended, options):
    mode, make, _ = pretended
    host, state = make()
    options = {"settings": Settings(**BLOCKS), **options}
    mode.strict = True
    with pytest.raises((Waited, RuntimeError)):  # torch itself refuses to list values that are not there
        decoding = Decoding(host, state, options.pop("settings"), **options)
        for _ in range(3):
            decoding.step()


@pytest.mark.parametrize("cache", [None, PrefixDLM(), FastDLLM(refresh=3, dual=True), DLLMCache(3, 2)], ids=repr)
@pytest.mark.parametrize(
    "settings",
    [{}, {"cfg_scale": 0.6, "suffix": "the end"}, {"remasking": "entropy", "schedule": "cosine"},
     {"threshold": 0.3, "steps": None}, {"steps": 2}],
    ids=str,
)  # fmt: skip
def test_logits_of_all_rows_lead_to_the_same_results(model, prompts, cache, settings):
    for method in (None, RedVTP(keep=0.5)):
        found = []
        for fixed in (False, True):
            decoding = model.start(prompts[:3], prune=method, cache=cache, **{**BLOCKS, **settings})
            decoding.fixed_rows = fixed
            found.append(decoding.run())
        assert_all_same(*found)


def test_a_predicted_mask_keeps_every_step_and_the_bookkeeping(model, prompts):
    """The mask is a legal prediction: its row stays open, which the host must not have planned away."""
    from tests.redvtp.test_graphs import Stubborn

    for settings in ({"length": 8, "steps": 4}, BLOCKS, {"length": 4, "steps": 8}):
        found = []
        for certain in (False, True):
            host = Stubborn(model.host)
            decoding = Decoding(host, host.begin(prompts[:2], settings["length"]), Settings(**settings))
            decoding.progress.certain = certain
            decoding.fixed_rows = certain
            found.append(decoding.run())
        assert_all_same(*found)
        assert model.host.mask_id in found[0][0].canvas.tolist() or settings["steps"] == 8


def test_the_host_plans_with_stop_texts_only_by_looking(model, prompts):
    decoding = model.start(prompts[:1], stop=("q",), **BLOCKS)
    decoding.run()
    assert decoding.progress.looks == decoding.done_steps
    plain = model.start(prompts[:1], stop=(), **BLOCKS)
    plain.run()
    assert plain.progress.looks == 0
    assert run(model, prompts[:1], stop=(), **BLOCKS)[0].steps == 8


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("cache", [None, PrefixDLM(), FastDLLM(refresh=3)], ids=repr)
def test_on_a_gpu_torch_sees_no_wait(cache):
    host, state = build(replace(CASE, dtype="bfloat16"), "cuda")
    for _ in range(2):  # the first run sets up libraries
        decoding = Decoding(host, state, CASE.settings, cache=cache)
        torch.cuda.set_sync_debug_mode("error")
        try:
            while decoding.step():
                pass
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert len(decoding.results()[0].ids) == CASE.response
