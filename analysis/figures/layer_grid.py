"""LLaDA-FastV's grid: exact match over the layer of the cut, a line a ratio, FastV beside."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from analysis import plots
from analysis.comparisons import rate
from analysis.figures import rates
from analysis.figures.fewer import caption, whole
from analysis.profiles import RunContext
from analysis.results import Result

KEEP = 0.25   # the ratio that the sentence tells layer by layer
KEPT = 0.95   # of the unpruned average: what the paper's best configuration keeps
LOOKS = ((plots.BLACK, "v", "-"), (plots.BLUE, "o", "-"), (plots.RED, "s", "--"), (plots.ORANGE, "D", "-."))
BY = ("model", "family", "method", "layer", "keep")


def frame(result: Result) -> pd.DataFrame:
    """A row for each family and cut; several seeds are pooled, intervals from the pooled hits."""
    return rates.pooled(pd.DataFrame(result.rows), BY)


def draw(result: Result, run: RunContext) -> Any:
    """Exact match with 95% intervals over the layer of the cut, a panel a family; FastV's points are hollow."""
    plots.use_style()
    rows = frame(result)
    families = list(rows["family"].unique())
    figure, axes = plt.subplots(1, len(families), figsize=(plots.WIDTH["page"], 2.9), sharey=True, squeeze=False)
    for axis, family in zip(axes[0], families):
        _draw_family(axis, rows[rows["family"] == family])
        axis.set(title=family, xlabel="layer of the cut", ylim=(-0.03, 1.03))
    axes[0, 0].set_ylabel("exact match")
    figure.legend(*rates.legend_of(axes.flat), loc="outside upper center", ncols=5, fontsize=7)
    note = f"model {rows['model'].iloc[0]}; bars: 95% Wilson intervals; LLaDA-FastV: lines, a cut inside step 1; "
    plots.add_caption(figure, caption(run, result, note + "FastV: inside every step"))
    return figure


def _draw_family(axis: Any, rows: pd.DataFrame) -> None:
    ratios = sorted(rows[rows["method"] == "llada_fastv"]["keep"].unique(), reverse=True)
    for place, (ratio, (color, marker, line)) in enumerate(zip(ratios, LOOKS)):
        shift = 0.06 * (place - len(ratios) / 2)
        bars = {"color": color, "marker": marker, "capsize": 1.5, "elinewidth": 0.6, "markersize": 4}
        part = rows[(rows["method"] == "llada_fastv") & (rows["keep"] == ratio)].sort_values("layer")
        axis.errorbar(part["layer"] + shift, part["exact_match"], yerr=rates.bars(part, "exact_match"), linestyle=line,
                      linewidth=1.3, label=f"LLaDA-FastV, {ratio:.0%}", **bars)
        part = rows[(rows["method"] == "fastv") & (rows["keep"] == ratio)]
        axis.errorbar(part["layer"] - 0.3 + shift, part["exact_match"], yerr=rates.bars(part, "exact_match"),
                      linestyle="", markerfacecolor="white", label=f"FastV, {ratio:.0%}", **bars)
    full = rows[rows["method"] == "none"]["exact_match"].iloc[0]
    axis.axhline(full, color=plots.BLACK, linewidth=0.8, linestyle=(0, (1, 2)), label="no pruning")
    layers = rows["layer"].dropna().astype(int)
    axis.set_xticks(range(layers.min(), layers.max() + 1))


def table(result: Result) -> pd.DataFrame:
    """The rows as they are, with the columns a reader needs."""
    rows = pd.DataFrame(result.rows)
    return rows.assign(layer=whole(rows["layer"]))[
        ["model", "family", "seed", "method", "layer", "keep", "n", "exact_match", "exact_match_low",
         "exact_match_high", "score", "evidence_recall", "kept", "tokens_fed", "flops_ratio"]
    ]  # fmt: skip


def averages(result: Result) -> pd.DataFrame:
    """A row for each cut: exact match and FLOPs as means of the families; `share` is of the unpruned exact match."""
    rows = frame(result)
    found = rows.groupby(["method", "layer", "keep"], dropna=False, sort=False)[["exact_match", "flops_ratio"]].mean()
    found = found.reset_index()
    full = found[found["method"] == "none"]["exact_match"].iloc[0]
    return found.assign(share=found["exact_match"] / full if full else float("nan"))


def scope(result: Result) -> str:
    """What the averages are over."""
    rows = frame(result)
    return f"mean of {rates.listed(rows['family'].unique())}, n = {rows['n'].max():.0f} each"


def at_one_ratio(result: Result) -> pd.DataFrame:
    """LLaDA-FastV's averages at KEEP, a row for each layer."""
    found = averages(result)
    return found[(found["method"] == "llada_fastv") & (found["keep"] == KEEP)].sort_values("layer")


def sentence(result: Result) -> str:
    """The layers at one ratio, and the cheapest cut that keeps what the paper's best one keeps."""
    rows, found = frame(result), averages(result)
    model = rows["model"].iloc[0]
    lasting, each = (found[found["method"] == method] for method in ("llada_fastv", "fastv"))
    at = at_one_ratio(result)
    layers = ", ".join(f"{row.exact_match:.0%} after layer {row.layer:.0f}" for row in at.itertuples())
    early = rates.row_of(each, keep=KEEP)
    shallow, deep = at[at["layer"] <= at["layer"].median() - 1], at[at["layer"] >= at["layer"].median()]
    return " ".join([
        f"On {model}, {scope(result)}, at {KEEP:.0%} of the visual tokens "
        f"LLaDA-FastV's exact match is {layers}, at {at['flops_ratio'].min():.0%} to {at['flops_ratio'].max():.0%} of "
        f"the unpruned FLOPs: {shallow['exact_match'].mean():.0%} up to layer "
        f"{shallow['layer'].max():.0f}, {deep['exact_match'].mean():.0%} from layer {deep['layer'].min():.0f} on.",
        f"FastV, after layer {early['layer']:.0f} of every step, has {early['exact_match']:.0%} at the same ratio, and "
        f"spends {early['flops_ratio']:.0%}.",
        f"{_cheapest(lasting, rows, 'LLaDA-FastV')} {_cheapest(each, rows, 'FastV')}",
        "Both are picked on the samples that they are scored on, so these shares are optimistic.",
        "Training read layers 2 and 4 through auxiliary heads, so which layers rank well here says little about an 8B "
        "model's.",
    ])  # fmt: skip


def _cheapest(cuts: pd.DataFrame, rows: pd.DataFrame, label: str) -> str:
    """The cheapest of a method's `cuts` that keeps KEPT, or the best; `rows` have its hits in each family."""
    kept = cuts[cuts["share"] >= KEPT]
    enough = len(kept) > 0
    best = cuts.loc[kept["flops_ratio"].idxmin()] if enough else cuts.loc[cuts["share"].idxmax()]
    theirs = rows[(rows[["method", "layer", "keep"]] == best[["method", "layer", "keep"]]).all(axis=1)]
    place = f"after layer {best['layer']:.0f} at {best['keep']:.0%}"
    numbers = f"{_pooled(theirs)} right, unpruned {_pooled(rows[rows['method'] == 'none'])}"
    if not enough:
        return (
            f"None of the {len(cuts)} {label} cuts keeps {KEPT:.0%} of the unpruned average, the best keeps "
            f"{best['share']:.0%} ({place}: {numbers})."
        )
    return (
        f"The cheapest of the {len(cuts)} {label} cuts that keeps {KEPT:.0%} of the unpruned average is {place}, with "
        f"{1 - best['flops_ratio']:.0%} less FLOPs ({numbers})."
    )


def _pooled(rows: pd.DataFrame) -> str:
    """The rate over all families' samples, with its 95% Wilson interval."""
    n = int(rows["n"].sum())
    middle, low, high = rate(round((rows["exact_match"] * rows["n"]).sum()), n)
    return f"{middle:.0%} [{low:.0%}, {high:.0%}] of {n}"
