"""Paired differences between methods, with what is left of them after the adjustment for their number."""

from __future__ import annotations

import pandas as pd

from analysis.figures import layer_grid, rates
from analysis.figures.fewer import whole
from analysis.results import Result

ALPHA = 0.05


def table(differences: Result) -> pd.DataFrame:
    """Paired differences in exact match, with p values before and after Holm's adjustment."""
    return pd.DataFrame(differences.rows)[
        ["model", "family", "first", "second", "layer", "keep", "n", "gained", "lost", "difference", "difference_low",
         "difference_high", "p", "p_holm", "tests"]
    ].assign(layer=lambda rows: whole(rows["layer"]))  # fmt: skip


def verdict(pairs: pd.DataFrame, grid: Result) -> str:
    """Which paired differences are left after the adjustment; `grid` tells LLaDA-FastV's other layers."""
    def count(first: str, second: str, sign: int) -> str:
        part = pairs[(pairs["first"] == first) & (pairs["second"] == second)]
        real = part[(part["p_holm"] < ALPHA) & (sign * part["difference"] > 0)]
        return f"{len(real)} of {len(part)}"

    return (
        f"Of {len(pairs)} paired differences in exact match, taken as one set of tests, these are significant after "
        f"Holm's adjustment (exact sign tests, p below {ALPHA}): RedVTP above random in "
        f"{count('random', 'redvtp', 1)}, above LLaDA-FastV in {count('llada_fastv', 'redvtp', 1)} and below it in "
        f"{count('llada_fastv', 'redvtp', -1)}, below unpruned in {count('none', 'redvtp', -1)} and above it in "
        f"{count('none', 'redvtp', 1)}, below evidence first in {count('redvtp', 'oracle', 1)}; shuffled scores above "
        f"random in {count('random', 'shuffled', 1)} and below it in {count('random', 'shuffled', -1)}. "
        f"{_layer(pairs[pairs['first'] == 'llada_fastv'], grid)}"
    )


def _layer(pairs: pd.DataFrame, grid: Result) -> str:
    """Which layer LLaDA-FastV cuts after in these pairs, and whether the grid has better ones."""
    layer = int(pairs["layer"].iloc[0])
    cuts = layer_grid.at_one_ratio(grid)
    here = rates.row_of(cuts, layer=layer)["exact_match"]
    better = cuts[cuts["exact_match"] > here]
    told = rates.listed(f"{row.layer:.0f} ({row.exact_match:.0%})" for row in better.itertuples())
    ranked = (
        f"and higher after layer{'s' * (len(better) > 1)} {told}, so these differences say nothing of LLaDA-FastV at "
        "its best layer"
        if len(better) else "and not higher after any other"
    )  # fmt: skip
    return (
        f"LLaDA-FastV cuts after layer {layer} here, its default, the middle of the model. In the layer grid "
        f"(layer_grid: {layer_grid.scope(grid)}) its exact match at {layer_grid.KEEP:.0%} is {here:.0%} after that "
        f"layer {ranked}."
    )
