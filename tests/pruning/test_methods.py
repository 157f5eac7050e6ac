"""The methods: against slow computations of their own, and their parameters."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from transformers import LlamaModel

from redvtp import (
    Count,
    Cut,
    FastV,
    LladaFastV,
    Mass,
    Needs,
    Oracle,
    PyramidDrop,
    Random,
    RedVTP,
    Selection,
    Shuffled,
    ToMe,
    Uniform,
)
from redvtp.pruning import METHODS, get
from redvtp.pruning.base import Scored
from redvtp.pruning.controls import even_order
from redvtp.pruning.tome import merge_to
from redvtp.sequence import VISUAL, is_tile
from tests.redvtp.runs import assert_same, evidence, run

LENGTH, STEPS, KEEP = 6, 3, 0.4


@pytest.fixture(scope="module")
def eager(host):
    """The language model with eager attention: the same weights, another way to compute."""
    config = copy.deepcopy(host.config.text_config)
    config._attn_implementation = "eager"
    model = LlamaModel(config).eval()
    model.load_state_dict(host.decoder.state_dict())
    return model


def best(score: torch.Tensor, count: int) -> list[int]:
    """Indices of the ``count`` best scores, in order."""
    return sorted(sorted(range(len(score)), key=lambda i: (-float(score[i]), i))[:count])


def layer(eager, index, hidden):
    """One layer on one sample at positions 0, 1, ...; its output and head-mean map."""
    rotary = eager.rotary_emb(hidden, position_ids=torch.arange(hidden.shape[1])[None])
    maps = []
    hook = eager.layers[index].self_attn.register_forward_hook(lambda _, __, out: maps.append(out[1]))
    out = eager.layers[index](hidden, attention_mask=None, position_embeddings=rotary)
    hook.remove()
    return out, maps[0][0].mean(0)


@torch.no_grad()
def slow_run(host, eager, prompt, kind: str, cut_layer: int = 1) -> tuple[list[int], list[int], list[list[int]]]:
    """One sample, step by step and layer by layer on full maps: tokens, kept, lengths of each layer."""
    state = host.begin([prompt], LENGTH)
    embeds, visual = state.embeds[0], state.layout.columns_of(VISUAL)[0].tolist()
    count, kept = max(1, int(KEEP * len(visual))), list(range(len(visual)))
    canvas, lengths = [host.mask_id] * LENGTH, []
    for step in range(STEPS):
        hidden = torch.cat([embeds, host.decoder.embed_tokens(torch.tensor(canvas))])[None]
        masked = [i for i, token in enumerate(canvas) if token == host.mask_id]
        columns, maps, here = list(visual), [], []
        for index in range(3):
            here.append(hidden.shape[1])
            hidden, attention = layer(eager, index, hidden)
            maps.append(attention)
            if kind == "pyramiddrop" and (stage := PyramidDrop(keep=0.6).cuts(1, 3)[index : index + 1]):
                rows = [hidden.shape[1] - LENGTH + i for i in masked]
                left = int(stage[0].keep.ratio * len(visual))
                chosen = best(attention[rows][:, columns].mean(0), left)
                gone = {columns[i] for i in range(len(columns)) if i not in chosen}
                hidden = hidden[:, [i for i in range(hidden.shape[1]) if i not in gone]]
                columns = list(range(columns[0], columns[0] + left))
            if index + 1 == cut_layer and (kind == "fastv" or (kind == "llada_fastv" and step == 0)):
                rows = [hidden.shape[1] - LENGTH + i for i in masked]
                chosen = best(attention[rows][:, columns].mean(0), count)
                gone = {columns[i] for i in range(len(columns)) if i not in chosen}
                hidden = hidden[:, [i for i in range(hidden.shape[1]) if i not in gone]]
                if kind == "llada_fastv":
                    embeds = embeds[[i for i in range(len(embeds)) if i not in gone]]
                    kept, visual = chosen, list(range(columns[0], columns[0] + count))
        lengths.append(here)
        logits = host.model.lm_head(eager.norm(hidden[0, -LENGTH:]))
        logits[:, list(host.banned_ids)] = float("-inf")
        sure, token = logits.double().softmax(-1).max(-1)
        for i in sorted(masked, key=lambda i: (-float(sure[i]), i))[: LENGTH // STEPS]:
            canvas[i] = int(token[i])
        if kind == "redvtp" and step == 0:
            rows = [maps[0].shape[0] - LENGTH + i for i, t in enumerate(canvas) if t == host.mask_id]
            kept = best(torch.stack(maps).mean(0)[rows][:, visual].mean(0), count)
            gone = {visual[i] for i in range(len(visual)) if i not in kept}
            embeds = embeds[[i for i in range(len(embeds)) if i not in gone]]
            visual = list(range(visual[0], visual[0] + count))
    return canvas, kept, lengths


@pytest.mark.parametrize("which", [0, 2])
@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("none", None),
        ("redvtp", RedVTP(keep=KEEP)),
        ("llada_fastv", LladaFastV(keep=KEEP)),
        ("llada_fastv", LladaFastV(keep=KEEP, layer=2)),
        ("fastv", FastV(keep=KEEP, layer=1)),
        ("fastv", FastV(keep=KEEP)),
        ("pyramiddrop", PyramidDrop(keep=0.6)),
    ],
    ids=str,
)
def test_methods_equal_a_slow_computation(model, host, eager, prompts, kind, method, which):
    cut_layer = getattr(method, "layer", None) or 1
    canvas, kept, lengths = slow_run(host, eager, prompts[which], kind, cut_layer)
    result = run(model, [prompts[which]], method)[0]
    assert result.canvas.tolist() == canvas
    assert result.kept.tolist() == kept
    assert result.tokens_fed == pytest.approx(sum(sum(step) / 3 for step in lengths))


def test_fastv_leaves_the_sequence_whole(model, prompts):
    decoding = model.start(prompts[:1], prune=FastV(keep=0.3), length=6, steps=3)
    before = decoding.state.layout.length
    decoding.step()
    assert decoding.state.layout.length == before
    result = decoding.run()[0]
    assert len(result.kept) == result.layout.count(VISUAL).item()


@dataclass(frozen=True)
class Skipper(Scored):
    """Layer skipping: the later half of the visual tokens misses layer 2 of every step."""

    name: ClassVar[str] = "skipper"

    def cuts(self, steps, layers):
        return tuple(Cut(step=k, layer=1, until=3, lasting=False) for k in range(1, steps + 1))

    def score(self, view):
        return -torch.arange(view.visual.shape[1]).expand_as(view.visual).double()


def test_skipped_tokens_rejoin(model, prompts):
    batch = run(model, prompts, Skipper(keep=0.5))
    for result, prompt in zip(batch, prompts, strict=True):
        assert_same(result, run(model, [prompt], Skipper(keep=0.5))[0])
        total, n = result.layout.real.sum().item(), len(result.kept)
        assert result.tokens_fed == pytest.approx(3 * (total - (n - max(1, n // 2) if n else 0) / 3))


@dataclass(frozen=True)
class Twice(Scored):
    """Two lasting cuts inside step 1."""

    name: ClassVar[str] = "twice"

    def cuts(self, steps, layers):
        return (Cut(step=1, layer=1), Cut(step=1, layer=2))

    def needs(self, cut):
        return Needs(attention=frozenset({"response"}))

    def select(self, view):
        n = view.valid.sum(1)
        return Selection(torch.stack([torch.arange(1, int(n[0]))]))


def test_two_cuts_in_one_step_add_up(model, prompts):
    result = run(model, prompts[:1], Twice(keep=0.5))[0]
    state = model.host.begin(prompts[:1], LENGTH)
    assert result.kept.tolist() == list(range(2, int(state.original[0])))


# ---- controls ----------------------------------------------------------------------------------------------


def test_shuffled_scores_keep_as_many_as_redvtp_but_others(model, prompts):
    one, other = (run(model, prompts[:1], method)[0].kept for method in (RedVTP(keep=0.3), Shuffled(keep=0.3)))
    assert len(one) == len(other)
    assert one.tolist() != other.tolist()


def test_random_follows_the_seed_of_its_sample(model, prompts):
    kept = [
        [r.kept.tolist() for r in run(model, prompts[:3], Random(keep=0.5), seeds=seeds)]
        for seeds in ([0, 1, 2], [0, 1, 3], [2, 1, 0])
    ]
    assert kept[0][0] == kept[1][0]
    assert kept[0][2] != kept[1][2]
    assert kept[0][0] != kept[2][0]


def test_the_oracle_keeps_evidence_first(model, prompts):
    state = model.host.begin(prompts[:1], LENGTH)
    visual = state.layout.columns_of(VISUAL)[0]
    x0, y0, x1, y1 = evidence(prompts)["evidence"][0][0]
    box = state.layout.box[0, visual]
    shows = is_tile(state.layout)[0, visual] & (box[:, 0] < x1) & (box[:, 2] > x0) & (box[:, 1] < y1) & (box[:, 3] > y0)
    wanted = torch.nonzero(shows).flatten().tolist()
    assert 0 < len(wanted) < len(visual)
    assert run(model, prompts[:1], Oracle(keep=Count(len(wanted))))[0].kept.tolist() == wanted
    more = run(model, prompts[:1], Oracle(keep=Count(len(wanted) + 3)))[0].kept.tolist()
    assert set(wanted) < set(more)


def test_uniform_is_an_even_grid_at_any_ratio():
    row, column = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    order = even_order(row, column)
    assert len(order.unique()) == 256
    for quarter in (4, 16, 64):
        kept = order >= order.flatten().sort(descending=True).values[quarter - 1]
        side = 16 // int(quarter**0.5)
        blocks = kept.reshape(16 // side, side, 16 // side, side).sum((1, 3))
        assert bool((blocks == 1).all())


@pytest.mark.parametrize("protect", [("newline",), ("thumbnail",), ("newline", "thumbnail")])
def test_protected_tokens_stay_inside_the_budget(model, prompts, protect):
    layout = model.host.begin(prompts[:1], LENGTH).layout
    visual = layout.columns_of(VISUAL)[0]
    guard = torch.zeros(len(visual), dtype=torch.bool)
    if "newline" in protect:
        guard |= layout.newline[0, visual]
    if "thumbnail" in protect:
        guard |= layout.tile[0, visual] == 0
    count = int(guard.sum()) + 2
    kept = run(model, prompts[:1], RedVTP(keep=Count(count), protect=protect))[0].kept
    assert len(kept) == count
    assert set(torch.nonzero(guard).flatten().tolist()) <= set(kept.tolist())


def test_only_the_images_named_are_pruned(model, prompts):
    layout = model.host.begin(prompts[3:4], LENGTH).layout
    image = layout.image[0, layout.columns_of(VISUAL)[0]]
    kept = run(model, prompts[3:4], RedVTP(keep=0.5, images=(0,)))[0].kept
    first = int((image == 0).sum())
    assert int((kept < first).sum()) == first // 2
    assert [i for i in kept.tolist() if i >= first] == list(range(first, len(image)))


# ---- merging -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [1, 2, 5, 9, 16, 17])
def test_merge_weights_sum_to_one_and_sizes_to_all(target):
    states = torch.randn(17, 6, generator=torch.Generator().manual_seed(target))
    size = torch.arange(1.0, 18.0)
    place, weights, sizes = merge_to(states, size, target)
    assert weights.shape == (target, 17)
    assert bool((place.diff() > 0).all())
    torch.testing.assert_close(weights.sum(1), torch.ones(target))
    torch.testing.assert_close(sizes.sum(), size.sum())
    torch.testing.assert_close((weights * sizes[:, None]).sum(0), size)
    members = weights > 0
    assert bool((members.sum(0) == 1).all())
    assert members.int().argmax(1).tolist() == place.tolist()


def test_equal_tokens_merge_first():
    states = torch.eye(6)
    states[3] = states[0]
    place, weights, sizes = merge_to(states, torch.ones(6), 5)
    assert place.tolist() == [0, 1, 2, 4, 5]
    assert sizes.tolist() == [2, 1, 1, 1, 1]
    torch.testing.assert_close(weights @ states, states[[0, 1, 2, 4, 5]])


def test_tome_reaches_its_budget_and_refuses_what_it_cannot_do(model, prompts):
    for keep in (0.9, 0.5, 0.1):
        result = run(model, prompts[:1], ToMe(keep=keep))[0]
        n = model.host.begin(prompts[:1], LENGTH).original.item()
        assert len(result.kept) == int(keep * n)
    with pytest.raises(ValueError, match="protect and images do not apply"):
        ToMe(protect=("newline",))


# ---- parameters --------------------------------------------------------------------------------------------


def test_every_method_is_registered_and_named():
    assert {RedVTP, LladaFastV, FastV, ToMe, Random, Uniform, Oracle, Shuffled} <= set(METHODS.values())
    assert all(get(name) is method and method.name == name for name, method in METHODS.items())
    with pytest.raises(ValueError, match="unknown pruning method 'none'.*redvtp"):
        get("none")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RedVTP(keep=1), "bare int"),
        (lambda: RedVTP(keep=1.5), "keep ratio 1.5"),
        (lambda: RedVTP(rows="all"), "rows='all'"),
        (lambda: RedVTP(step=0), "step=0"),
        (lambda: RedVTP(layers=()), "at least one layer"),
        (lambda: Random(positions="old"), "positions='old'"),
        (lambda: Random(protect=("text",)), "protect="),
        (lambda: Random(protect="newline"), "protect="),
    ],
)
def test_bad_parameters_are_refused_when_written(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (RedVTP(step=3), "step=3"),
        (RedVTP(layers=(4,)), "layer 4 is out of range, expected 1..3"),
        (LladaFastV(layer=3), "layer=3"),
        (FastV(layer=0), "layer=0"),
        (Random(step=7), "step=7"),
        (Oracle(), "needs the extra 'evidence'"),
        (RedVTP(keep=Count(0)), r"Count\(0\)"),
        (RedVTP(keep=Count(10_000)), "only"),
        (RedVTP(keep=Count(2), protect=("thumbnail",)), "protected"),
        (Uniform(keep=0.05, protect=("newline", "thumbnail")), "protected"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_before_any_forward(model, prompts, monkeypatch, method, message):
    monkeypatch.setattr(type(model.host), "forward", lambda *_, **__: pytest.fail("a forward ran"))
    with pytest.raises(ValueError, match=message) as caught:
        model.generate_batch(prompts[:1], prune=method, length=6, steps=3)
    assert "\n" not in str(caught.value)


def test_a_run_of_one_step_prunes_nothing(model, prompts):
    for method in (RedVTP(keep=0.5), Shuffled(keep=0.5), RedVTP(keep=Mass(0.5)), Random(keep=0.5), ToMe(keep=0.5)):
        result = run(model, prompts[:1], method, steps=1)[0]
        assert_same(result, run(model, prompts[:1], steps=1)[0])


def test_no_image_token_left_inside_a_layer_is_possible(model, prompts):
    result = run(model, prompts[:1], LladaFastV(keep=Count(0)))[0]
    assert result.kept.tolist() == []
    assert result.layout.count(VISUAL).item() == 0


def test_attention_to_tokens_dropped_within_the_step_is_not_made_up(model, prompts):
    class Mixed(FastV):
        def cuts(self, steps, layers):
            return (Cut(step=1, layer=1, lasting=False), Cut(step=1))

    with pytest.raises(ValueError, match="after step 1 the attention to tokens dropped within it is not known"):
        model.generate_batch(prompts[:1], prune=Mixed(keep=0.5), length=6, steps=3)
