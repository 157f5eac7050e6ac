"""The rivals' own rules: against slow computations, and how `keep` maps to their parameters."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from redvtp import (
    VTW,
    Count,
    DivPrune,
    FastV,
    Mass,
    Model,
    Outliers,
    PyramidDrop,
    Rank,
    Recorder,
    RedVTP,
    Scheduled,
    Share,
    SparseVLM,
    TrimProjector,
)
from redvtp.plans import Task, forwards, planned
from redvtp.pruning.divprune import most_diverse
from redvtp.pruning.pyramiddrop import stage_ends
from redvtp.pruning.sparsevlm import density_peaks, pruned_layers, raters, recycled, recycled_budget
from redvtp.pruning.stages import falling_shares
from redvtp.pruning.tome import merge_to
from redvtp.selection import Inputs
from redvtp.sequence import PROMPT, VISUAL
from tests import tiny
from tests.pruning.matrix import Watched
from tests.redvtp.runs import run


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def first_cut(model, prompt, method, **settings):
    """The first selection of one sample and its layout."""
    recorder = Recorder()
    run(model, [prompt], method, recorder=recorder, **settings)
    return recorder.cuts[0].selection, recorder.cuts[0].layout


# ---- DivPrune ----------------------------------------------------------------------------------------------


def slow_diverse(states: torch.Tensor, count: int, taken: list[int]) -> list[int]:
    """Token by token, all distances to the taken ones each time."""
    unit = [normalize(row, dim=0) for row in states.double()]
    apart = [[1 - float(a @ b) for b in unit] for a in unit]
    order = list(taken)
    while len(order) < count:
        others = [i for i in range(len(unit)) if i not in order]
        against = order or range(len(unit))
        order.append(max(others, key=lambda i: (min(apart[i][j] for j in against if j != i), -i)))
    return order


@pytest.mark.parametrize("taken", [[], [3], [7, 2, 9]])
@pytest.mark.parametrize("count", [3, 4, 11, 20])
def test_diversity_is_the_exact_greedy_choice(taken, count):
    states = noise(20, 5, seed=count)
    found = most_diverse(states, count, torch.tensor(taken, dtype=torch.long))
    assert found.tolist() == slow_diverse(states, count, taken)


def test_of_equal_tokens_the_first_is_taken():
    states = torch.eye(4).repeat(3, 1)
    assert most_diverse(states, 4).tolist()[:1] == [0]
    assert sorted(most_diverse(states, 4, torch.tensor([1])).tolist()) == [0, 1, 2, 3]
    assert len(set(most_diverse(states, 12).tolist())) == 12


def test_divprune_keeps_what_is_diverse_in_the_embeddings(model, prompts):
    state = model.host.begin(prompts[:1], 6)
    visual = state.embeds[0, state.layout.columns_of(VISUAL)[0]]
    count = int(0.4 * len(visual))
    expected = sorted(slow_diverse(visual, count, []))
    assert run(model, prompts[:1], DivPrune(keep=0.4))[0].kept.tolist() == expected
    guarded = torch.nonzero(state.layout.newline[0, state.layout.columns_of(VISUAL)[0]]).flatten().tolist()
    expected = sorted(slow_diverse(visual, count, guarded))
    assert run(model, prompts[:1], DivPrune(keep=0.4, protect=("newline",)))[0].kept.tolist() == expected


# ---- ToMe --------------------------------------------------------------------------------------------------


def slow_merge(states: torch.Tensor, size: torch.Tensor, target: int):
    """Lists of members, one pair at a time."""
    groups = [[i] for i in range(len(states))]

    def mean(group):
        return sum(size[i] * states[i] for i in group) / sum(size[i] for i in group)

    while len(groups) > target:
        unit = [normalize(mean(group).float(), dim=0) for group in groups]
        pairs = []
        for s in range(0, len(groups), 2):
            alike = [round(float(unit[s] @ unit[d]), 5) for d in range(1, len(groups), 2)]
            pairs.append((max(alike), s, 2 * alike.index(max(alike)) + 1))
        pairs = sorted(pairs, key=lambda pair: -pair[0])[: len(groups) - target]
        for _, s, d in pairs:
            groups[d] = sorted(groups[d] + groups[s])
        gone = {s for _, s, _ in pairs}
        groups = [group for i, group in enumerate(groups) if i not in gone]
    return sorted(groups)


@pytest.mark.parametrize("target", [1, 2, 7, 13, 20, 23])
def test_merging_is_that_of_single_pairs(target):
    # Rows of few values: many equal similarities.
    states = noise(23, 4, seed=target).round().add(0.1)
    size = torch.arange(23).remainder(3).add(1.0)
    place, weights, sizes = merge_to(states, size, target)
    groups = slow_merge(states, size, target)
    assert [torch.nonzero(row).flatten().tolist() for row in weights] == groups
    assert place.tolist() == [group[0] for group in groups]
    assert sizes.tolist() == [float(size[group].sum()) for group in groups]
    expected = torch.stack([(size[g, None] * states[g]).sum(0) / size[g].sum() for g in groups])
    torch.testing.assert_close(weights @ states, expected)


# ---- TRIM --------------------------------------------------------------------------------------------------


def test_trim_keeps_what_is_like_the_question_and_the_mean_of_the_rest(model, prompts):
    state = model.host.begin(prompts[:1], 6)
    visual = state.layout.columns_of(VISUAL)[0]
    tokens = state.embeds[0, visual]
    behind = [c for c in state.layout.columns_of(PROMPT)[0].tolist() if c > int(visual[-1])]
    assert 0 < len(behind) < state.layout.count(PROMPT).item()
    like = torch.cosine_similarity(tokens, state.embeds[0, behind].mean(0, keepdim=True))
    ranked = sorted(range(len(tokens)), key=lambda i: -float(like[i]))
    count = int(0.3 * len(tokens))
    plain, _ = first_cut(model, prompts[0], TrimProjector(keep=0.3, aggregate=False))
    assert plain.keep[0].tolist() == sorted(ranked[:count])
    found, _ = first_cut(model, prompts[0], TrimProjector(keep=0.3))
    rest = sorted(ranked[count - 1 :])
    assert found.keep[0].tolist() == sorted([*ranked[: count - 1], rest[-1]])
    merged = found.merge[0] @ tokens
    for place, token in enumerate(found.keep[0].tolist()):
        expected = tokens[rest].mean(0) if token == rest[-1] else tokens[token]
        torch.testing.assert_close(merged[place], expected, atol=1e-5, rtol=0)


def test_outliers_are_beyond_the_quartiles():
    score = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8, 30, 20])
    assert Outliers().count(10, score) == 2  # Q1 3.25, Q3 7.75, bound 14.5
    assert Outliers(5.0).count(10, score) == 1  # 30.25: none, and at least one stays
    with pytest.raises(ValueError, match="Outliers"):
        Outliers(-1)


# ---- SparseVLM ---------------------------------------------------------------------------------------------


def test_raters_are_the_question_tokens_above_average_relevance():
    visual, text = noise(1, 9, 6), noise(1, 5, 6, seed=1)
    rows, question = torch.ones(1, 9, dtype=torch.bool), torch.tensor([[False, True, True, True, True]])
    rows[0, 8] = False
    relevance = torch.zeros(4)
    for v in visual[0, :8]:
        relevance += torch.softmax(torch.stack([v @ t for t in text[0, 1:]]), 0) / 8
    expected = [False, *(bool(r >= relevance.mean()) for r in relevance)]
    assert any(expected) and not all(expected[1:])
    assert raters(Inputs(visual, rows, text, question))[0].tolist() == expected


def test_clusters_of_the_dropped_tokens_are_inside_the_budget(model, prompts):
    for keep in (0.5, 0.7):
        method = SparseVLM(keep=keep)
        selection, layout = first_cut(model, prompts[0], method)
        n, total = layout.count(VISUAL).item(), selection.keep.shape[1]
        share = method.cuts(3, 3)[0].keep
        assert total == share.count(n, torch.empty(0))
        merged = (selection.merge[0] > 0).sum(1)
        dropped = n - total + int((merged > 1).sum())
        assert 1 <= int((merged > 1).sum()) <= total // 2
        assert int(merged[merged > 1].sum()) <= recycled(dropped)
        torch.testing.assert_close(selection.merge[0].sum(1), torch.ones(total))
        plain, _ = first_cut(model, prompts[0], replace(method, recycle=False))
        best = set(selection.keep[0].tolist()) & set(plain.keep[0].tolist())
        clusters = recycled_budget(total, n, on_top=False)[1]
        assert len(best) >= total - clusters  # the others stand where clusters have their centres
        assert plain.keep.shape == selection.keep.shape


def test_sparsevlm_prunes_in_stages(monkeypatch, prompts):
    """In six layers: after the first and after the third, where the rest of the first stage is rated again."""
    monkeypatch.setitem(tiny.SHAPE, "num_hidden_layers", 6)
    host, recorder, method = tiny.build_host(), Recorder(), SparseVLM(keep=0.5)
    watched = Watched(host)
    result = run(Model(watched), prompts[:1], method, recorder=recorder)[0]
    cuts = planned(method, 3, 6)
    assert [cut.cut.layer for cut in cuts] == [1, 3] * 3
    task = Task(result.visual_tokens, result.layout.count(PROMPT).item(), 6, 3)
    assert [tuple(each[:, 0].tolist()) for each in watched.lengths] == [f.lengths for f in forwards(task, cuts, 6)]
    first, second = (record.selection for record in recorder.cuts[:2])
    assert second.merge.shape[2] == first.keep.shape[1] > second.keep.shape[1]
    assert int(second.keep.max()) < first.keep.shape[1]


@pytest.mark.parametrize(("total", "count"), [(1, 40), (5, 40), (20, 40), (39, 40), (925, 3700), (40, 3700)])
def test_how_many_clusters(total, count):
    left, clusters = recycled_budget(total, count, on_top=False)
    assert left == total
    assert clusters == min(recycled(count - total) // 10 + 1, total // 2)
    left, clusters = recycled_budget(total, count, on_top=True)
    assert total + clusters == left <= count


def test_density_peaks_find_separate_clusters():
    middle = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = middle.repeat_interleave(6, 0) + 0.3 * noise(18, 2)
    centre, member = density_peaks(points, 3)
    assert sorted((centre // 6).tolist()) == [0, 1, 2]
    assert member.tolist() == [centre.div(6, rounding_mode="floor").tolist().index(i // 6) for i in range(18)]
    equal = torch.zeros(5, 2)
    centre, member = density_peaks(equal, 2)
    assert (centre.tolist(), len(member)) == ([0, 1], 5)


def test_rank_budget():
    one = torch.outer(noise(4), noise(10, seed=1))
    assert Rank(1.0).count(10, one) == 1
    assert Rank(0.5).count(10, one) == 6
    assert Rank(1.0).count(10, torch.eye(10)[:4]) == 4
    with pytest.raises(ValueError, match="needs attention by text token"):
        Rank().count(3, torch.rand(3))
    with pytest.raises(ValueError, match=r"Rank\(0\)"):
        Rank(0)


def test_depths_are_the_sources():
    assert pruned_layers(32) == [2, 6, 15]
    assert pruned_layers(6) == [1, 3]
    assert pruned_layers(3) == [1]


# ---- how keep maps to layers -------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0.2, 0.25, 0.4, 0.5, 0.75])
@pytest.mark.parametrize("method", [PyramidDrop, SparseVLM, VTW])
def test_the_mean_share_over_layers_is_the_budget(method, keep):
    for layers in (16, 32):
        left, seen = 1.0, 0.0
        after = {cut.layer: cut.keep for cut in method(keep=keep).cuts(1, layers)}
        for layer in range(1, layers + 1):
            seen += left
            left = left if layer not in after else 0.0 if after[layer] == Count(0) else after[layer].ratio
        if method is VTW:
            assert seen == int(keep * layers)
        else:
            assert seen / layers == pytest.approx(keep)


def test_pyramiddrop_has_the_papers_stages_at_its_budget():
    keep = (1 + 0.5 + 0.25 + 0.125) / 4
    cuts = PyramidDrop(keep=keep).cuts(1, 32)
    assert [cut.layer for cut in cuts] == [8, 16, 24]
    assert [cut.keep.ratio for cut in cuts] == pytest.approx([0.5, 0.25, 0.125])
    assert stage_ends(0.25, 32) == [4, 13, 23]
    assert stage_ends(0.1, 32) == [2, 12, 22]


def test_pyramiddrops_first_stage_ranks_as_fastv_does(model, prompts):
    first = PyramidDrop(keep=0.6).cuts(1, 3)[0]
    ours, _ = first_cut(model, prompts[0], PyramidDrop(keep=0.6))
    theirs, _ = first_cut(model, prompts[0], FastV(keep=first.keep, layer=first.layer))
    assert ours.keep.tolist() == theirs.keep.tolist()


def test_vtw_has_no_visual_tokens_after_its_layer(model, prompts):
    watched = Watched(model.host)
    result = run(Model(watched), prompts[:1], VTW(keep=0.67))[0]
    text = result.layout.length - result.visual_tokens
    full = text + result.visual_tokens
    assert [lengths[:, 0].tolist() for lengths in watched.lengths] == [[full, full, text]] * 3
    assert [cut.layer for cut in VTW(keep=0.5).cuts(1, 32)] == [16]
    watched.lengths.clear()
    result = run(Model(watched), prompts[:1], Scheduled(VTW(keep=0.67), start=0.4, lasting=True))[0]
    assert [lengths[:, 0].tolist() for lengths in watched.lengths] == [[full] * 3, [full, full, text], [text] * 3]
    assert len(result.kept) == 0
    assert [VTW(keep=layer / 49).cuts(1, 49)[0].layer for layer in range(1, 49)] == list(range(1, 49))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PyramidDrop(keep=0.1).cuts(1, 6), "first 1 of 6 layers are already 16.7% on average"),
        (lambda: SparseVLM(keep=0.05).cuts(1, 32), "first 2 of 32 layers"),
        (lambda: VTW(keep=0.1).cuts(1, 6), "expected a layer of 6 or more, which is 16.7%"),
        (lambda: falling_shares(0.3, [2], 4), "first 2 of 4 layers"),
        (lambda: PyramidDrop(keep=Count(3)), "give a float"),
        (lambda: PyramidDrop(rows="committed"), "rows='committed'"),
        (lambda: FastV(rows="all"), "rows='all'"),
        (lambda: SparseVLM(keep=Mass(0.5)), "give a float, or Rank"),
        (lambda: SparseVLM(images=(0,)), "protect and images do not apply"),
        (lambda: VTW(keep=Count(0)), "share of layers"),
        (lambda: VTW(protect=("newline",)), "protect and images do not apply"),
        (lambda: DivPrune(keep=Mass(0.5)), "divprune has no scores"),
        (lambda: TrimProjector(protect=("newline",)), "aggregate=False"),
        (lambda: RedVTP(keep=Rank()), "redvtp has no attention by text token"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_shares_may_be_written_as_shares():
    assert VTW(keep=Share(0.5)) == VTW(keep=0.5)
