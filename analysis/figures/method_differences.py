"""Paired differences between methods, with what is left of them after the adjustment for their number."""

from __future__ import annotations

import pandas as pd

from analysis.results import Result

ALPHA = 0.05


def table(differences: Result) -> pd.DataFrame:
    """Paired differences in exact match, with p values before and after Holm's adjustment."""
    return pd.DataFrame(differences.rows)[
        ["model", "family", "first", "second", "keep", "n", "gained", "lost", "difference", "difference_low",
         "difference_high", "p", "p_holm", "tests"]
    ]  # fmt: skip


def verdict(pairs: pd.DataFrame) -> str:
    """Which paired differences are left after the adjustment."""
    def count(first: str, second: str, sign: int) -> str:
        part = pairs[(pairs["first"] == first) & (pairs["second"] == second)]
        real = part[(part["p_holm"] < ALPHA) & (sign * part["difference"] > 0)]
        return f"{len(real)} of {len(part)}"

    return (
        f"Of {len(pairs)} paired differences in exact match, taken as one set of tests, these are below p = {ALPHA} "
        f"after Holm's adjustment (exact sign tests): RedVTP above random in {count('random', 'redvtp', 1)}, above "
        f"LLaDA-FastV in {count('llada_fastv', 'redvtp', 1)} and below it in {count('llada_fastv', 'redvtp', -1)}, "
        f"below unpruned in {count('none', 'redvtp', -1)} and above it in {count('none', 'redvtp', 1)}, below evidence "
        f"first in {count('redvtp', 'oracle', 1)}; shuffled scores above random in "
        f"{count('random', 'shuffled', 1)} and below it in {count('random', 'shuffled', -1)}."
    )
