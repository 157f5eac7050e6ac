"""Hiding committed response tokens: who sees them, who does not, and that nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from redvtp import FastDLLM, FastV, Random, Recorder, ToMe
from redvtp.attention import AttentionProbe
from redvtp.models import decoder
from redvtp.models.base import Unseen
from redvtp.models.decoder import key_mask, run_layers
from redvtp.sequence import VISUAL, Layout
from tests.redvtp.runs import FAST, assert_all_same, run


def started(model, prompts, taken: int = 1, **settings):
    """A run without a method, some steps in, that stops at nothing."""
    trunk = model.start(prompts, stop=(), recorder=Recorder(), **{**FAST, **settings})
    for _ in range(taken):
        trunk.step()
    return trunk


def logits_of(model, state, canvas) -> torch.Tensor:
    """``[B, R, V]`` of all response rows."""
    rows = torch.ones_like(canvas, dtype=torch.bool)
    return model.host.forward(state, canvas, rows).logits.unflatten(0, canvas.shape)


def changed(canvas, place: int, host) -> torch.Tensor:
    """The canvas with another token at one row."""
    other = canvas.clone()
    other[:, place] = (other[:, place] + 7) % host.mask_id
    return other


@pytest.fixture
def state(model, prompts):
    return model.host.begin(prompts, 6)


@pytest.fixture
def canvas(model, prompts):
    return torch.arange(6).repeat(len(prompts), 1)


def hide(state, canvas, place: int, everywhere: bool):
    columns = torch.zeros_like(canvas, dtype=torch.bool)
    columns[:, place] = True
    return replace(state, unseen=Unseen(columns, everywhere))


def test_what_is_hidden_everywhere_reaches_no_other_row(model, state, canvas):
    hidden = hide(state, canvas, 2, True)
    one, two = (logits_of(model, hidden, each) for each in (canvas, changed(canvas, 2, model.host)))
    others = [0, 1, 3, 4, 5]
    assert one[:, others].equal(two[:, others]) and not one[:, 2].equal(two[:, 2])
    seen = logits_of(model, state, changed(canvas, 2, model.host))
    assert not torch.allclose(seen[:, others], two[:, others], atol=1e-3)


def test_the_prompt_passes_on_what_is_hidden_from_the_response_alone(model, state, canvas):
    hidden = hide(state, canvas, 2, False)
    one, two = (logits_of(model, hidden, each) for each in (canvas, changed(canvas, 2, model.host)))
    assert not torch.allclose(one[:, 0], two[:, 0], atol=1e-5)
    layers = model.host.decoder.layers
    try:  # in a single layer nothing can be passed on
        model.host.decoder.layers = layers[:1]
        one, two = (logits_of(model, hidden, each) for each in (canvas, changed(canvas, 2, model.host)))
    finally:
        model.host.decoder.layers = layers
    assert one[:, [0, 1, 3, 4, 5]].equal(two[:, [0, 1, 3, 4, 5]])


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("merged", [False, True])
def test_the_mask_has_what_it_says(state, everywhere, merged):
    layout = state.layout
    columns = torch.zeros(len(layout.kind), 6, dtype=torch.bool)
    columns[0, [1, 4]] = True
    size = torch.ones(layout.kind.shape) + (layout.kind == VISUAL) if merged else None
    plain, mask = (key_mask(layout, size, torch.float32, one) for one in (None, Unseen(columns, everywhere)))
    first = layout.length - 6
    for sample, row, column in ((0, first, first + 1), (0, first + 1, first + 1), (0, first, first),
                                (1, first, first + 1), (0, first - 1, first + 4)):  # fmt: skip
        gone = sample == 0 and row != column and column in (first + 1, first + 4) and (everywhere or row >= first)
        before = True if plain is None else plain[sample, 0, 0, column]
        expected = (float("-inf") if merged else False) if gone else before
        assert mask[sample, 0, row, column] == expected
    assert mask.shape == (len(layout.kind), 1, layout.length, layout.length)


def test_a_layer_whose_tail_alone_is_computed_hides_the_same(model, state):
    hidden = torch.randn(*state.layout.kind.shape, state.embeds.shape[2], generator=torch.Generator().manual_seed(3))
    columns = torch.zeros(len(hidden), 6, dtype=torch.bool)
    columns[:, 3] = True
    given = (model.host.decoder, hidden, state.layout, state.positions)
    with torch.no_grad():
        whole, _ = run_layers(*given, unseen=Unseen(columns))
        tail, _ = run_layers(*given, tail=6, unseen=Unseen(columns))
    torch.testing.assert_close(tail, whole[:, -6:])


def test_the_probe_sees_attention_without_what_is_hidden(model, state, canvas):
    """With all response columns hidden but their own, the visual tokens get a share of what these would have got."""
    layout = state.layout
    rows = torch.arange(layout.length - 6, layout.length).expand(len(canvas), -1)
    probes = [AttentionProbe(rows, layout.columns_of(VISUAL), layers=[1]) for _ in range(2)]
    every = torch.rand(len(canvas), 6) < 2
    for probe, one in zip(probes, (state, replace(state, unseen=Unseen(every)))):
        model.host.forward(one, canvas, torch.ones_like(canvas, dtype=torch.bool), probe)
    before, after = (probe.mean() for probe in probes)
    shown = layout.count(VISUAL) > 0
    assert bool((after >= before).all()) and bool((after.sum(2) > before.sum(2))[shown].all())


def test_before_the_first_step_there_is_nothing_to_hide(model, prompts):
    trunk = started(model, prompts, 0)
    trunk.hide_committed()
    for ours, theirs in zip(trunk.run(), run(model, prompts, stop=())):
        assert ours.canvas.equal(theirs.canvas)


@pytest.mark.parametrize("method", [None, Random(keep=0.5, step=1), ToMe(keep=0.5)], ids=repr)
@pytest.mark.parametrize("everywhere", [False, True])
def test_a_fork_hides_and_the_trunk_does_not_notice(model, prompts, method, everywhere):
    trunk = started(model, prompts)
    fork = trunk.fork(method)
    fork.hide_committed(everywhere)
    fork.run()
    assert_all_same(trunk.fork(method).run(), run(model, prompts, method, stop=()))


def test_each_sample_of_a_batch_gets_what_it_gets_alone(model, prompts):
    together = started(model, prompts)
    together.hide_committed()
    results = together.run()
    for prompt, result in zip(prompts, results, strict=True):
        alone = started(model, [prompt])
        alone.hide_committed()
        (own,) = alone.run()
        assert own.canvas.equal(result.canvas)


def test_it_changes_what_is_answered(model, prompts):
    settings = {"length": 12, "steps": 6}
    plain = started(model, prompts, 3, **settings)
    fork = plain.fork(None)
    fork.hide_committed()
    assert [one.canvas.tolist() for one in fork.run()] != [one.canvas.tolist() for one in plain.run()]


def test_only_what_was_committed_is_hidden_and_it_stays_so(model, prompts):
    trunk = started(model, prompts)
    committed = trunk.canvas != model.host.mask_id
    trunk.hide_committed()
    assert trunk.state.unseen.columns.equal(committed[trunk.active])
    trunk.step()
    assert trunk.state.unseen.columns.equal(committed[trunk.active])  # not what came later


def test_a_cut_inside_a_step_keeps_it_hidden(model, prompts, monkeypatch):
    """Layers after the cut run on fewer columns, those of the response still at their end."""
    trunk = model.start(prompts, prune=FastV(keep=0.5, layer=1), stop=(), **FAST)
    trunk.step()
    trunk.hide_committed(everywhere=True)
    seen = []

    def spy(layout: Layout, size, dtype, unseen=None):
        mask = key_mask(layout, size, dtype, unseen)
        seen.append((layout.length, mask.shape[2]))
        return mask

    monkeypatch.setattr(decoder, "key_mask", spy)
    trunk.step()
    assert len(seen) == 2 and seen[1][0] < seen[0][0]
    assert all(length == rows for length, rows in seen)


def test_it_is_refused_where_it_cannot_be_done(model, prompts, monkeypatch):
    cached = started(model, prompts, cache=FastDLLM())
    with pytest.raises(ValueError, match="hide_committed: cache fast_dllm cannot hide"):
        cached.hide_committed()
    plain = started(model, prompts)
    monkeypatch.setattr(type(model.host), "can", model.host.can - {"hide"})
    with pytest.raises(ValueError, match="hide_committed: llada_v cannot hide"):
        plain.hide_committed()
