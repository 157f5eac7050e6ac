"""Replayed forwards: the same results as running each, and no place where a captured forward could go wrong."""

from __future__ import annotations

import pytest
import torch

from redvtp import Decoding, DLLMCache, FastDLLM, FastV, LladaFastV, Model, PrefixDLM, RedVTP, Settings, ToMe, graphs
from redvtp.graphs import Graphs
from tests.redvtp.runs import assert_all_same, run
from tests.redvtp.tape import Tape
from tests.tiny import build_lavida

BLOCKS = {"length": 8, "steps": 8, "block_length": 4}
CACHES = (None, PrefixDLM(), PrefixDLM(reencode=True), FastDLLM(refresh=3), FastDLLM(dual=True), DLLMCache(3, 2))
METHODS = (None, RedVTP(keep=0.5), RedVTP(keep=0.4, step=3), LladaFastV(keep=0.4))


@pytest.fixture(autouse=True)
def tape(monkeypatch):
    """The graph's rules on a CPU as one more kind of runner."""
    monkeypatch.setitem(graphs.RUNNERS, "tape", Tape)


@pytest.fixture(scope="module", params=["llada_v", "lavida"])
def either(request, host):
    """Both hosts, anew, so that no shape of another test is there."""
    return Model(host if request.param == "llada_v" else build_lavida())


@pytest.mark.parametrize("cache", CACHES, ids=repr)
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_the_results_are_those_without(either, prompts, cache, method):
    """Twice, in batches of one and three: shapes are captured in the first run and met again in the second."""
    model = Model(either.host)
    for batch in (prompts[:1], prompts[:3]):
        plain = run(model, batch, method, cache=cache, **BLOCKS)
        for kind in ("tape", "eager", "tape"):
            assert_all_same(run(model, batch, method, cache=cache, graphs=kind, **BLOCKS), plain)
    # dLLM-Cache's rows depend on values; it takes the ordinary path all along.
    assert bool(model._graphs["tape"].counts["run"]) != isinstance(cache, DLLMCache)


@pytest.mark.parametrize("cache", [None, PrefixDLM(), FastDLLM(refresh=4)], ids=repr)
@pytest.mark.parametrize(
    "settings",
    [
        {"cfg_scale": 0.6, "suffix": "the end"},
        {"threshold": 0.2, "length": 12, "block_length": 4, "steps": None},
        {"stop": ("a", "b", "c", "d", "e"), "length": 8, "steps": 8, "block_length": 2},
        {"temperature": 0.7},
        {"remasking": "margin", "schedule": "shift"},
    ],
    ids=str,
)
def test_under_other_settings(model, prompts, cache, settings):
    for method in (None, RedVTP(keep=0.5), ToMe(keep=0.5)):
        for batch in (prompts[:1], prompts[:3]):
            plain = run(model, batch, method, cache=cache, **{**BLOCKS, **settings})
            assert_all_same(run(model, batch, method, cache=cache, graphs="tape", **{**BLOCKS, **settings}), plain)


def test_what_repeats_is_replayed_and_what_does_not_says_why(model, prompts):
    made = Graphs(model.host, "tape")
    before = Tape.replays
    state = model.host.begin(prompts[:1], 8)
    for _ in range(2):
        Decoding(model.host, state, Settings(length=8, steps=8), RedVTP(keep=0.5), graphs=made).run()
    assert made.counts == {"attention is watched": 2, "run": 14}
    assert Tape.replays - before == 13
    assert len(made.shapes) == 1
    for cache, reason in (
        (PrefixDLM(), "attention is watched"),
        (FastDLLM(refresh=3), "it fills the cache anew"),
        (DLLMCache(), "which rows are computed depends on their values"),
    ):
        fresh = Graphs(model.host, "eager")
        Decoding(model.host, state, Settings(length=8, steps=8), RedVTP(keep=0.5), cache=cache, graphs=fresh).run()
        assert fresh.counts[reason]
    fresh = Graphs(model.host, "eager")
    Decoding(model.host, state, Settings(length=8, steps=4), FastV(keep=0.5), graphs=fresh).run()
    assert not fresh.counts["run"]


@pytest.mark.parametrize("cache", [None, PrefixDLM(), FastDLLM(refresh=8)], ids=repr)
def test_runs_that_take_turns_do_not_disturb_each_other(model, prompts, cache):
    """Two samples of one shape share the buffers, step by step in turn; each keeps its own keys and values."""
    pair = [prompts[0], type(prompts[0])("What is It?", prompts[0].images)]
    plain = [run(model, [one], RedVTP(keep=0.5), cache=cache, **BLOCKS) for one in pair]
    made = Graphs(model.host, "tape")
    runs = []
    for one in pair:
        state = model.host.begin([one], 8)
        settings = Settings(**BLOCKS)
        runs.append(Decoding(model.host, state, settings, RedVTP(keep=0.5), cache=cache, graphs=made))
    assert runs[0].state.layout.length == runs[1].state.layout.length
    while any([one.step() for one in runs]):
        pass
    assert made.counts["run"] >= 12
    for one, expected in zip(runs, plain, strict=True):
        assert one.results()[0].canvas.tolist() == expected[0].canvas.tolist()


@pytest.mark.parametrize("cache", [PrefixDLM(), FastDLLM(refresh=8)], ids=repr)
def test_a_fork_and_its_parent_keep_what_is_theirs(model, prompts, cache):
    method = RedVTP(keep=0.4, step=3)
    plain = [run(model, prompts[:2], prune, cache=cache, **BLOCKS) for prune in (method, None)]
    parent = model.start(
        prompts[:2], cache=cache, watch=method.needs(None), graphs="eager", stop=(), **BLOCKS
    )
    for _ in range(3):
        parent.step()
    parent.watch = None
    forks = [parent.fork(method), parent.fork(None)]
    running = [parent, *forks]
    while any([one.step() for one in running]):
        pass
    for one, expected in zip((forks[0], forks[1], parent), (plain[0], plain[1], plain[1]), strict=True):
        assert [r.canvas.tolist() for r in one.results()] == [r.canvas.tolist() for r in expected]


def test_only_the_latest_shapes_are_kept(model, prompts):
    made = Graphs(model.host, "eager", keep=2)
    for length in (4, 6, 8, 6):
        state = model.host.begin(prompts[:1], length)
        Decoding(model.host, state, Settings(length=length, steps=length), graphs=made).run()
    assert [key[3] for key in made.shapes] == [(1, 8), (1, 6)]


def test_logits_of_a_replay_are_not_the_next_ones_memory(model, prompts):
    state, canvas = model.host.begin(prompts[:1], 4), torch.full((1, 4), model.host.mask_id)
    made = Graphs(model.host, "tape")
    first = [made.forward(state, canvas, slice(0, 4), None).logits for _ in range(3)]
    kept = first[-1].clone()
    canvas = canvas.clone()
    canvas[0, 1] = 3
    other = made.forward(state, canvas, slice(0, 4), None).logits
    assert torch.equal(first[-1], kept)
    assert not torch.equal(other, kept)


def test_without_a_gpu_a_run_says_so_and_goes_on(model, prompts):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    plain = run(model, prompts[:1])
    with pytest.warns(UserWarning, match="the model is on cpu, so this run has no CUDA graphs"):
        assert_all_same(run(model, prompts[:1], graphs=True), plain)
    with pytest.raises(ValueError, match="graphs='cuda': the model is on cpu"):
        Graphs(model.host)
    with pytest.raises(ValueError, match="graphs='fast': expected one of cuda, eager"):
        model.start(prompts[:1], graphs="fast")
    with pytest.raises(ValueError, match="keep=0"):
        Graphs(model.host, "eager", keep=0)


def test_graphs_of_another_host_are_refused(model, mha_host, prompts):
    state = model.host.begin(prompts[:1], 4)
    with pytest.raises(ValueError, match="graphs of another host"):
        Decoding(model.host, state, Settings(length=4, steps=4), graphs=Graphs(mha_host, "eager"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("cache", CACHES, ids=repr)
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_on_a_gpu_captured_forwards_give_the_same(prompts, cache, method):
    from tests.tiny import build_host

    host = build_host()
    host.model.to("cuda")
    model = Model(host)
    for batch in (prompts[:1], prompts[:3]) * 2:
        plain = run(model, batch, method, cache=cache, **BLOCKS)
        found = run(model, batch, method, cache=cache, graphs=True, **BLOCKS)
        assert [one.canvas.tolist() for one in found] == [one.canvas.tolist() for one in plain]


class Stubborn:
    """A host that predicts the mask itself, with certainty, at one row as long as another is masked."""

    def __init__(self, host) -> None:
        self.host = host

    def __getattr__(self, name):
        return getattr(self.host, name)

    def forward(self, state, canvas, rows, probe=None, at_layer=None):
        output = self.host.forward(state, canvas, rows, probe, at_layer)
        place = torch.arange(canvas.shape[1]).expand_as(canvas)
        mine = place[:, rows].flatten() if isinstance(rows, slice) else place[rows]
        open_ = (canvas[:, -1] == self.mask_id)[:, None].expand_as(canvas)
        open_ = open_[:, rows].flatten() if isinstance(rows, slice) else open_[rows]
        output.logits[(mine == 1) & open_, self.mask_id] = 1e4
        return output
