"""Rates of right answers with their intervals, paired comparisons, and many of them at once."""

from __future__ import annotations

from collections.abc import Sequence

from scipy import stats

from redvtp.metrics import paired_bootstrap, wilson_interval

RESAMPLES = 2000

Interval = tuple[float, float, float]  # value, low, high


def named(name: str, values: Interval) -> dict[str, float]:
    """A value and its interval as fields of a row."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), values))


def rate(hits: int, n: int) -> Interval:
    """`hits` of `n` with Wilson's interval (95%)."""
    return hits / n, *wilson_interval(hits, n)


def turned(before: Sequence[bool], after: Sequence[bool]) -> tuple[int, int]:
    """How many of the same samples turned right, and how many wrong: (gained, lost)."""
    pairs = list(zip(before, after, strict=True))
    return sum(new and not old for old, new in pairs), sum(old and not new for old, new in pairs)


def difference(gained: int, lost: int, n: int) -> Interval:
    """The mean difference of `n` pairs of answers and its paired bootstrap interval (95%): (difference, low, high).

    It depends only on how many turned right (`gained`) and wrong (`lost`). Where all pairs are alike a bootstrap has
    no width: there the ends are Wilson's bound on what n pairs did not show.
    """
    unseen = wilson_interval(0, n)[1]
    if not gained + lost:
        return 0.0, -unseen, unseen
    if n in (gained, lost):
        return (1.0, 1 - unseen, 1.0) if gained else (-1.0, -1.0, unseen - 1)
    changes = [1.0] * gained + [-1.0] * lost + [0.0] * (n - gained - lost)
    return paired_bootstrap([0.0] * n, changes, resamples=RESAMPLES)


def sign_test(gained: int, lost: int) -> float:
    """Two-sided exact p value of answers being gained as easily as lost (McNemar's test); 1 where none changed."""
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def holm(values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order of `values`.

    Calling those up to alpha real keeps the chance of one false finding among them at alpha or below.
    """
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = largest
    return adjusted
