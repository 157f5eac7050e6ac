"""MaskKV on a cache: what each head keeps, that it sees nothing else, and what that costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from redvtp import (
    Count,
    Decoding,
    DLLMCache,
    FastDLLM,
    MaskKV,
    Mass,
    Model,
    PrefixDLM,
    Recorder,
    RedVTP,
    Scheduled,
    Settings,
    plans,
)
from redvtp.attention import rotate
from redvtp.graphs import Graphs
from redvtp.models.forgotten import Forgotten
from redvtp.pruning.maskkv import rounded
from redvtp.selection import Cut, Selection
from redvtp.sequence import VISUAL
from tests.redvtp.runs import assert_all_same, assert_same, run
from tests.tiny import build_host, build_lavida

BLOCKS = {"length": 8, "steps": 8, "block_length": 4}
CACHES = (
    PrefixDLM(),
    PrefixDLM(reencode=True),
    FastDLLM(refresh=3),
    FastDLLM(refresh=4, dual=True, reencode=True),
    DLLMCache(prompt_interval=4, response_interval=3, share=0.3),
)
METHODS = (
    MaskKV(keep=0.3, per_head=True),
    MaskKV(keep=0.5, per_head=True, importance=(3.0, 1.0, 2.0), alpha=0.5, positions="original"),
    MaskKV(keep=0.4, per_head=True, images=(0,), step=2),
    MaskKV(keep=Mass(0.5), per_head=True),
)
METHOD = METHODS[0]


@pytest.fixture(scope="module", params=[2, 4], ids=["grouped", "single"])
def exact(request):
    """A tiny host in double precision, with shared and with own keys of the query heads."""
    host = build_host(kv_heads=request.param, seed=request.param)
    host.model.double()
    return host


def begun(host, prompt, method, cache, steps, recorder=None, **settings) -> Decoding:
    """A run of one sample after some steps."""
    settings = {**BLOCKS, **settings}
    state = host.begin([prompt], settings["length"])
    decoding = Decoding(host, state, Settings(**settings), method, cache=cache, recorder=recorder)
    for _ in range(steps):
        decoding.step()
    return decoding


def held(state) -> torch.Tensor:
    """``[L, H_kv, n]`` which visual tokens of a single sample's sequence each head still has."""
    return state.cache.forgotten.held(state.layout.columns_of(VISUAL))[0]


# ---- what every method does ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", CACHES, ids=repr)
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_batch_gives_what_each_sample_gives_alone_and_twice_the_same(model, prompts, method, cache):
    batch = run(model, prompts, method, cache=cache, **BLOCKS)
    assert_all_same(batch, [run(model, [prompt], method, cache=cache, **BLOCKS)[0] for prompt in prompts])
    assert_all_same(batch, run(model, prompts, method, cache=cache, **BLOCKS))


@pytest.mark.parametrize("cache", CACHES, ids=repr)
def test_samples_that_take_different_steps_change_nothing_for_each_other(model, prompts, cache):
    settings = {"length": 12, "block_length": 4, "threshold": 0.2}
    batch = run(model, prompts, METHOD, cache=cache, **settings)
    assert_all_same(batch, [run(model, [one], METHOD, cache=cache, **settings)[0] for one in prompts])
    assert len({result.steps for result in batch}) > 1


@pytest.mark.parametrize("cache", CACHES, ids=repr)
def test_padding_changes_nothing(model, prompts, cache):
    short = run(model, prompts[-1:], METHOD, cache=cache, **BLOCKS)[0]
    assert_same(run(model, [prompts[2], prompts[-1]], METHOD, cache=cache, **BLOCKS)[1], short)


@pytest.mark.parametrize("cache", CACHES, ids=repr)
def test_guidance_forgets_in_both_branches(model, prompts, cache):
    settings = {"cfg_scale": 0.6, "suffix": "the end", **BLOCKS}
    batch = run(model, prompts[:3], METHOD, cache=cache, **settings)
    assert_all_same(batch, [run(model, [one], METHOD, cache=cache, **settings)[0] for one in prompts[:3]])
    decoding = model.start(prompts[:1], prune=METHOD, cache=cache, **settings)
    decoding.step()
    assert torch.equal(held(decoding.state), held(decoding.guide))


@pytest.mark.parametrize("cache", CACHES, ids=repr)
def test_keeping_everything_is_the_cache_without_a_method(model, prompts, cache):
    recorders = Recorder(logits=True), Recorder(logits=True)
    found = run(model, prompts, MaskKV(keep=1.0, per_head=True), cache=cache, recorder=recorders[0], **BLOCKS)
    assert_all_same(found, run(model, prompts, cache=cache, recorder=recorders[1], **BLOCKS))
    for one, other in zip(*(recorder.steps for recorder in recorders), strict=True):
        assert torch.equal(one.logits, other.logits)


@pytest.mark.parametrize("cache", CACHES, ids=repr)
def test_a_cut_in_which_every_head_keeps_all_changes_nothing(exact, prompts, cache):
    everything = Count(int(exact.begin(prompts[:1], 8).original))
    recorders = Recorder(logits=True), Recorder(logits=True)
    for method, recorder in zip((MaskKV(keep=everything, per_head=True), RedVTP(keep=everything)), recorders):
        begun(exact, prompts[0], method, cache, 8, recorder)
        assert len(recorder.cuts) == 1
    for one, other in zip(*(recorder.steps for recorder in recorders), strict=True):
        torch.testing.assert_close(one.logits, other.logits, atol=1e-5, rtol=0)


def test_it_runs_on_lavida_too(prompts):
    model = Model(build_lavida())
    batch = run(model, prompts[:3], METHOD, cache=PrefixDLM(), **BLOCKS)
    assert_all_same(batch, [run(model, [one], METHOD, cache=PrefixDLM(), **BLOCKS)[0] for one in prompts[:3]])


def test_captured_forwards_leave_it_to_the_ordinary_path(model, prompts):
    for cache in (PrefixDLM(), FastDLLM(refresh=3)):
        made = Graphs(model.host, "eager")
        state = model.host.begin(prompts[:1], 8)
        found = Decoding(model.host, state, Settings(**BLOCKS), MaskKV(keep=0.3, per_head=True, step=3), cache=cache,
                         graphs=made).run()
        plain = run(model, prompts[:1], MaskKV(keep=0.3, per_head=True, step=3), cache=cache, stop=(), **BLOCKS)
        assert_all_same(found, plain)
        assert made.counts["run"] and made.counts["each head attends to columns of its own"]


@pytest.mark.parametrize("cache", CACHES, ids=repr)
def test_a_fork_forgets_and_its_parent_does_not(model, prompts, cache):
    decoding = model.start(prompts[:2], cache=cache, watch=METHOD.needs(Cut(1)), **BLOCKS)
    decoding.step()
    decoding.watch = None
    fork = decoding.fork(METHOD)
    assert decoding.state.cache.forgotten is None
    assert fork.state.cache.forgotten.columns.any()
    assert_all_same(fork.run(), run(model, prompts[:2], METHOD, cache=cache, **BLOCKS))
    assert_all_same(decoding.run(), run(model, prompts[:2], cache=cache, **BLOCKS))


# ---- what is kept --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0.1, 0.45, 0.9])
@pytest.mark.parametrize("importance", [None, (9.0, 0.0, 1.0)])
@pytest.mark.parametrize("cache", CACHES[::2], ids=repr)
def test_as_many_entries_are_held_as_the_budget_says(exact, prompts, keep, importance, cache):
    decoding = begun(exact, prompts[0], MaskKV(keep=keep, importance=importance, per_head=True), cache, 1)
    state, config = decoding.state, exact.config.text_config
    heads = config.num_hidden_layers * config.num_key_value_heads
    seats, original = int(keep * int(state.original)), int(state.original)
    found = held(state)
    assert int(found.sum()) == seats * heads
    assert bool(found.any(0).any(0).all()) and len(decoding.kept[0]) == found.shape[2] <= original
    text = int(state.layout.real.sum()) - found.shape[2]
    entries = state.cache.entries(state.layout.lengths, config.num_key_value_heads)
    assert entries.tolist() == [(text + seats) * heads]
    if importance and keep < 0.9:
        assert int(found[0].sum()) > int(found[1].sum())


def test_what_a_head_keeps_is_what_its_query_heads_look_at_together(exact, prompts, monkeypatch):
    views, select = [], MaskKV.select
    monkeypatch.setattr(MaskKV, "select", lambda self, view: views.append(view) or select(self, view))
    decoding = begun(exact, prompts[0], METHOD, PrefixDLM(), 1)
    mass, config = views[0].heads.mass[0], exact.config.text_config
    found, groups = held(decoding.state), config.num_attention_heads // config.num_key_value_heads
    assert found.shape[1] == config.num_key_value_heads and mass.shape[1] == config.num_attention_heads
    for layer in range(config.num_hidden_layers):
        for head in range(config.num_key_value_heads):
            total = [
                sum(float(mass[layer, head * groups + i, token]) for i in range(groups)) for token in decoding.kept[0]
            ]
            order = sorted(range(len(total)), key=lambda place: -total[place])
            mine = found[layer, head].nonzero().flatten().tolist()
            assert mine == sorted(order[: len(mine)])
    assert len({tuple(one) for one in found.flatten(0, 1).tolist()}) > 1


def test_only_the_chosen_images_tokens_are_forgotten(model, prompts):
    decoding = model.start(prompts[3:4], prune=replace(METHOD, images=(1,)), cache=PrefixDLM(), **BLOCKS)
    image = decoding.state.layout.image[0]
    decoding.step()
    state = decoding.state
    first = state.layout.image[0, state.layout.columns_of(VISUAL)[0]] == 0
    assert int(first.sum()) == int((image == 0).sum())
    assert bool(held(state)[..., first].all())
    assert int(held(state)[..., ~first].sum()) == int(0.3 * int((image == 1).sum())) * 3 * 2


@pytest.mark.parametrize("cache", CACHES, ids=repr)
def test_a_heads_tokens_only_get_fewer(exact, prompts, cache):
    """A second cut takes from what a head has; a refresh brings nothing back."""
    decoding = begun(exact, prompts[0], Scheduled(METHOD, steps=(1, 4), shares=(0.6, 0.3)), cache, 0)
    before, total = None, int(decoding.state.original)
    for step in range(1, 8):
        decoding.step()
        now = torch.zeros(*held(decoding.state).shape[:2], total, dtype=torch.bool)
        now[..., decoding.kept[0]] = held(decoding.state)
        assert before is None or not bool((now & ~before).any())
        seats = int(total * (0.6 if step < 4 else 0.3))
        assert int(now.sum()) == seats * now.shape[0] * now.shape[1]
        before = now


def test_whole_budgets_by_hand():
    each = torch.tensor([[2.6, 1.4], [0.3, 3.7]]).double()
    most = torch.full((2, 2), 10)
    assert rounded(each, most, 8).tolist() == [[3, 1], [0, 4]]  # 2 left over: to .65 and .925 of one
    assert rounded(each, most.clamp(max=3), 8).tolist() == [[3, 2], [0, 3]]
    assert rounded(each, torch.tensor([[1, 1], [1, 1]]), 8).tolist() == [[1, 1], [1, 1]]
    assert rounded(torch.full((2, 2), 1.5).double(), most, 6).tolist() == [[2, 2], [1, 1]]
    large = rounded(torch.tensor([[90.0, 30.0, 0.0]]).double(), torch.full((1, 3), 50), 120)
    assert large.tolist() == [[50, 50, 20]]


def test_forgotten_columns_by_hand():
    keep = torch.tensor([[0, 2], [1, -1]])
    heads = torch.tensor([[[[True, False]], [[True, True]]], [[[True, False]], [[False, False]]]])  # [B, L, 1, m]
    visual = torch.tensor([[1, 2, 3], [2, 3, -1]])
    made = Forgotten.after(Selection(keep, heads=heads), visual, 5, None)
    assert made.columns[..., 0].nonzero().tolist() == [[0, 3, 0], [1, 3, 1]]
    assert made.count.tolist() == [[[1], [0]], [[0], [1]]]
    again = Forgotten.after(Selection(keep, heads=torch.ones_like(heads)), visual, 5, made)
    assert torch.equal(again.columns, made.columns)
    assert made.hide(None, 0, 2).shape == (2, 2, 1, 5)
    real = torch.tensor([[True] * 5, [False] + [True] * 4])[:, None, None]
    assert made.hide(real, 1, 2)[1, 1, 0].tolist() == [False, True, True, False, True]
    bias = torch.zeros(2, 1, 1, 5)
    assert made.hide(bias, 0, 1)[0, 0, 0].tolist() == [0, 0, 0, float("-inf"), 0]
    assert made.hide(None, 1, 1, torch.tensor([1]))[0, 0, 0].tolist() == [True, True, True, False, True]
    assert made.rows(torch.tensor([1]), 1).columns[0, :, 1, 0].tolist() == [False, False, True, False]


# ---- what the heads see --------------------------------------------------------------------------------------


@torch.no_grad()
def by_hand(host, state, canvas, start: int, stop: int, everything: bool) -> torch.Tensor:
    """``[stop - start, V]`` logits of a step of one sample, head by head over the columns that the head has.

    Computed are the response rows from ``start`` to ``stop``, or every column; keys and values of the others are read
    from the state's cache, whose keys are not rotated yet.
    """
    decoder, layout, width = host.decoder, state.layout, host.decoder.layers[0].self_attn.head_dim
    embedded = decoder.embed_tokens(canvas)
    own = torch.arange(layout.length)
    hidden = state.with_rows(embedded)
    if not everything:
        own = torch.arange(layout.prompt_length + start, layout.prompt_length + stop)
        hidden = embedded[:, start:stop]
    gone = state.cache.forgotten.columns[0]
    rotary = decoder.rotary_emb(hidden, position_ids=state.positions)
    for number, layer in enumerate(decoder.layers):
        attention, normed = layer.self_attn, layer.input_layernorm(hidden)
        query, key, value = (
            part(normed).unflatten(2, (-1, width)).transpose(1, 2)
            for part in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        store = state.cache.layers[number]
        keys, values = (part.clone().unflatten(2, (-1, width)).transpose(1, 2) for part in (store.keys, store.values))
        keys[:, :, own], values[:, :, own] = key, value
        keys = rotate(keys, rotary)
        query = rotate(query, tuple(part[:, own] for part in rotary))
        outputs = []
        for head in range(query.shape[1]):
            shared = head // (query.shape[1] // keys.shape[1])
            rows = []
            for place, column in enumerate(own.tolist()):
                seen = [c for c in range(layout.length) if not gone[c, number, shared]]
                if state.cache.alone and column < layout.prompt_length:
                    seen = [c for c in seen if c < layout.prompt_length]
                scores = keys[0, shared, seen] @ query[0, head, place] / width**0.5
                rows.append(torch.softmax(scores, 0) @ values[0, shared, seen])
            outputs.append(torch.stack(rows))
        hidden = hidden + attention.o_proj(torch.cat(outputs, 1))[None]
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    rows = hidden[0, layout.prompt_length + start : layout.prompt_length + stop] if everything else hidden[0]
    return host.model.lm_head(decoder.norm(rows)).float()


# The step that is computed by hand, counted from 1: what it computes.
LATER = (
    (PrefixDLM(), 2, (0, 8), False),
    (PrefixDLM(), 5, (0, 8), False),
    (PrefixDLM(reencode=True), 2, (0, 8), True),
    (FastDLLM(refresh=3), 3, (0, 8), False),
    (FastDLLM(refresh=3), 4, (0, 8), True),
    (FastDLLM(dual=True), 7, (4, 8), False),
    (DLLMCache(prompt_interval=20, response_interval=2), 3, (0, 8), False),
    (DLLMCache(prompt_interval=20, response_interval=20, share=1.0), 4, (0, 8), False),
    (DLLMCache(prompt_interval=2, response_interval=2), 3, (0, 8), True),
    (DLLMCache(prompt_interval=2, response_interval=20, share=1.0), 3, (0, 8), True),
)


@pytest.mark.parametrize(("cache", "step", "rows", "everything"), LATER, ids=str)
def test_a_later_step_sees_through_each_head_what_that_head_has(exact, prompts, cache, step, rows, everything):
    recorder = Recorder(logits=True)
    decoding = begun(exact, prompts[0], METHODS[1], cache, step - 1, recorder)
    canvas = decoding.canvas.clone()
    expected = by_hand(exact, decoding.state, canvas, *rows, everything)
    decoding.step()
    masked = canvas[0, slice(*rows)] == exact.mask_id
    found = recorder.steps[-1].logits
    expected = expected[masked].index_fill(1, torch.tensor(exact.banned_ids), float("-inf"))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("cache", "step", "rows", "everything"), LATER, ids=str)
def test_flops_count_what_each_head_attends_to(exact, prompts, cache, step, rows, everything):
    """Against the same step in which every head still has every token of the sequence."""
    decoding = begun(exact, prompts[0], METHODS[1], cache, step - 1)
    remembering = begun(exact, prompts[0], METHODS[1], cache, step - 1)
    remembering.state.cache.forgotten = None
    cost = []
    for one in (decoding, remembering):
        before = one.flops[0]
        one.step()
        cost.append(one.flops[0] - before)
    layout, config = decoding.state.layout, exact.config.text_config
    gone = decoding.state.cache.forgotten.columns[0]  # [T, L, H_kv]
    saved = 0
    for number in range(config.num_hidden_layers):
        last = number == config.num_hidden_layers - 1
        ran = rows[1] - rows[0] if not everything or last else layout.length
        for head in range(config.num_attention_heads):
            shared = head // (config.num_attention_heads // config.num_key_value_heads)
            saved += 4 * ran * int(gone[:, number, shared].sum()) * exact.decoder.layers[0].self_attn.head_dim
    assert cost[1] - cost[0] == saved > 0
    assert isinstance(decoding.flops[0], int)


# ---- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaskKV(per_head=1), "per_head=1: expected True or False"),
        (lambda: MaskKV(per_head=True, protect=("newline",)), r"protect=\('newline',\): not with per_head=True"),
    ],
)
def test_words_that_cannot_be_meant_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("method", "cache", "message"),
    [
        (METHOD, None, "maskkv, per_head=True: each head keeps keys and values of its own in a cache; got cache=None"),
        (Scheduled(METHOD, steps=(1, 2)), None, "maskkv, per_head=True: each head keeps keys"),
        (Scheduled(METHOD, layer=1), PrefixDLM(), "per_head=True: heads forget between two forwards, not inside"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_forward(model, prompts, monkeypatch, method, cache, message):
    monkeypatch.setattr(type(model.host), "forward", lambda *_, **__: pytest.fail("a forward ran"))
    with pytest.raises(ValueError, match=message):
        model.generate_batch(prompts[:1], prune=method, cache=cache, length=6, steps=3)


def test_neither_a_fork_nor_a_plan_without_a_cache(model, prompts):
    decoding = model.start(prompts[:1], watch=METHOD.needs(Cut(1)), **BLOCKS)
    decoding.step()
    with pytest.raises(ValueError, match="got cache=None"):
        decoding.fork(METHOD)
    with pytest.raises(ValueError, match="per_head=True: what any head keeps is known only with the scores"):
        plans.planned(METHOD, 8, 3)
    heads = torch.ones(1, 3, 2, 1, dtype=torch.bool)
    with pytest.raises(ValueError, match="a selection by heads is of a cache, and this state has none"):
        decoding.state.apply(Selection(torch.tensor([[0]]), heads=heads))
