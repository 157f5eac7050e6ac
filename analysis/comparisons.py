"""Rates of right answers with their intervals, paired comparisons, and many of them at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from scipy import optimize, stats

from redvtp.metrics import wilson_interval

RESAMPLES = 2000  # of a bootstrap

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


def paired(before: Sequence[bool], after: Sequence[bool]) -> Interval:
    """`difference` of the same samples' answers."""
    return difference(*turned(before, after), len(before))


def difference(gained: int, lost: int, n: int, confidence: float = 0.95) -> Interval:
    """The mean difference of `n` pairs of right and wrong answers with Tango's score interval.

    It depends only on how many turned right (`gained`) and wrong (`lost`). A bootstrap would have no width where no
    answer turned, and too little where few did; the score interval keeps its coverage there (Tango 1998, Statistics
    in Medicine 17, eq. 10).
    """
    wide = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (gained - lost) / n

    def score(at: float) -> float:
        """How far the counts lie from a true difference of `at`, in standard errors."""
        linear = (2 * n - gained + lost) * at - gained - lost
        root = math.sqrt(max(linear**2 + 8 * n * lost * at * (1 - at), 0.0))
        variance = n * ((root - linear) / (2 * n) + at * (1 - at))
        off = gained - lost - n * at
        return off / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, off) if off else 0.0

    def end(outer: float, sign: float) -> float:
        inner = outer + (middle - outer) * 1e-12  # at the outermost difference the score has no value
        if middle == outer:
            return outer
        return float(optimize.brentq(lambda at: max(-1e9, min(1e9, score(at))) - sign * wide, inner, middle))

    return middle, end(-1.0, 1.0), end(1.0, -1.0)


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
