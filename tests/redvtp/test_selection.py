"""Budgets and the deterministic top-k."""

from __future__ import annotations

import math

import pytest
import torch

from redvtp.selection import Count, Cut, Mass, Share, as_budget, pad_rows, top_selection


def select(score, budget, protected=None, eligible=None, valid=None, original=None):
    """Kept indices of one sample."""
    score = torch.as_tensor(score, dtype=torch.float64)[None]
    everyone = torch.ones_like(score, dtype=torch.bool)
    chosen = [everyone if mask is None else torch.as_tensor(mask)[None] for mask in (eligible, valid)]
    guard = ~everyone if protected is None else torch.as_tensor(protected)[None]
    total = torch.tensor([score.shape[1] if original is None else original])
    return top_selection(score, budget, total, chosen[0], guard, chosen[1]).keep[0].tolist()


@pytest.mark.parametrize("seed", range(20))
def test_top_k_is_score_descending_then_index_ascending(seed):
    generator = torch.Generator().manual_seed(seed)
    score = torch.randint(0, 4, (17,), generator=generator).double()  # many ties
    for m in range(1, 18):
        expected = sorted(sorted(range(17), key=lambda i: (-score[i], i))[:m])
        assert select(score, Count(m)) == expected


def test_growing_budgets_are_nested():
    score = torch.rand(40, generator=torch.Generator().manual_seed(0))
    kept = [set(select(score, Count(m))) for m in range(1, 41)]
    assert all(smaller < larger for smaller, larger in zip(kept, kept[1:], strict=False))


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.25, 1 / 3, 0.5, 0.75, 0.999, 1.0])
def test_share_keeps_the_floor_and_at_least_one(ratio):
    for n in range(1, 60):
        assert len(select(torch.zeros(n), Share(ratio))) == max(1, math.floor(ratio * n))


def test_share_is_of_the_original_tokens():
    assert len(select(torch.zeros(10), Share(0.25), original=40)) == 10
    assert len(select(torch.zeros(30), Share(0.5), original=40)) == 20


def test_count_and_its_limits():
    assert select([3.0, 1.0, 2.0], Count(2)) == [0, 2]
    assert select([3.0, 1.0], Count(0)) == []
    with pytest.raises(ValueError, match=r"Count\(4\).*only 3"):
        select([1.0, 2.0, 3.0], Count(4))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 1.0])
def test_mass_keeps_the_fewest_that_hold_it(seed, p):
    score = torch.rand(25, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** 4
    kept = select(score, Mass(p))
    total = float(score.sum())
    assert float(score[kept].sum()) >= p * total * (1 - 1e-9)
    if len(kept) > 1:
        weakest = float(score[kept].min())
        assert float(score[kept].sum()) - weakest < p * total


def test_mass_of_nothing_keeps_everything_and_negative_scores_are_refused():
    assert select([0.0, 0.0], Mass(0.5)) == [0, 1]
    with pytest.raises(ValueError, match="not negative"):
        select([1.0, -0.5], Mass(0.5))


def test_protected_tokens_count_inside_the_budget():
    assert select([5.0, 4.0, 3.0, 2.0], Count(2), protected=[False, False, False, True]) == [0, 3]
    with pytest.raises(ValueError, match="1 tokens to keep, but 2 are protected"):
        select([5.0, 4.0, 3.0], Count(1), protected=[True, True, False])


def test_ineligible_tokens_stay_outside_the_budget_and_their_scores_are_not_read():
    nan = float("nan")
    assert select([nan, 1.0, 2.0, nan], Count(1), eligible=[False, True, True, False]) == [0, 2, 3]


def test_padding_is_never_kept():
    assert select([1.0, 2.0, 9.0], Count(2), valid=[True, True, False], original=2) == [0, 1]
    assert select([1.0, 2.0], Share(0.5), valid=[False, False], original=0) == []


def test_nan_scores_are_refused_by_name():
    with pytest.raises(ValueError, match="sample 0: the score has NaN at 1 of 2"):
        select([1.0, float("nan")], Count(1))


@pytest.mark.parametrize("keep", [1, 0, True, 25])
def test_a_bare_int_is_refused_with_both_ways_out(keep):
    with pytest.raises(ValueError, match=r"bare int.*Share.*Count"):
        as_budget(keep)


@pytest.mark.parametrize("keep", [0.0, -0.1, 1.01, float("nan"), float("inf")])
def test_ratios_outside_the_range_are_refused(keep):
    for make in (as_budget, Share, Mass):
        with pytest.raises(ValueError, match=r"expected a number in \(0, 1\]"):
            make(keep)


@pytest.mark.parametrize("n", [-1, 1.5, True, "3"])
def test_counts_are_whole(n):
    with pytest.raises(ValueError, match="whole number"):
        Count(n)


def test_texts_are_no_budget():
    with pytest.raises(ValueError, match="expected a float"):
        as_budget("0.5")


@pytest.mark.parametrize(
    ("cut", "word"),
    [
        (Cut(step=8), "step=8"),
        (Cut(step=-1), "step=-1"),
        (Cut(step=0, layer=1), "step=0"),
        (Cut(step=9, layer=1), "step=9"),
        (Cut(step=1, layer=4), "layer=4"),
        (Cut(step=1, layer=0), "layer=0"),
        (Cut(step=1, layer=2, until=2, lasting=False), "until=2"),
        (Cut(step=1, layer=2, until=5, lasting=False), "until=5"),
        (Cut(step=1, layer=2, until=3), "rejoin"),
        (Cut(step=1, lasting=False), "belong to a cut after a layer"),
    ],
)
def test_cuts_that_cannot_happen_are_refused(cut, word):
    with pytest.raises(ValueError, match=word):
        cut.check(steps=8, layers=4)


def test_cuts_that_can_happen_pass():
    for cut in (Cut(0), Cut(7), Cut(1, 1), Cut(8, 3), Cut(2, 1, until=4, lasting=False)):
        cut.check(steps=8, layers=4)


def test_pad_rows_pads_on_the_right():
    assert pad_rows([torch.tensor([1, 2]), torch.tensor([], dtype=torch.long)]).tolist() == [[1, 2], [-1, -1]]
