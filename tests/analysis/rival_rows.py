"""Made-up answers of the rivals' study."""

from __future__ import annotations

from analysis import rivals

LAYERS = 6  # as the mini models have


def answered(right: int, n: int = 40, **fields) -> list[dict]:
    """Rows of `n` answers, the first `right` of them right."""
    row = {"host": "llada_v", "model": "llada_v", "origin": "from_scratch", "family": "doc", "split": "test",
           "seed": 0, "steps": 16, "after": 0, "flops": 8, **rivals.UNPRUNED, **fields}  # fmt: skip
    means = dict.fromkeys(rivals.MEANS, 0.5)
    return [row | means | {"index": i, "exact_match": i < right} for i in range(n)]


def ordering(rates: dict[str, float], origin: str = "from_scratch") -> list[dict]:
    """Answers of one family from the first step at 25%, with these rates."""
    rows = answered(40, origin=origin)
    for method, rate in rates.items():
        rows += answered(round(40 * rate), method=method, keep=0.25, start="first", origin=origin)
    return rows
