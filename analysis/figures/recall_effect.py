"""Does evidence recall tell which right answers stay right? Survival over it, and AUC."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from analysis import plots
from analysis.figures import rates
from analysis.figures.fewer import whole
from analysis.profiles import RunContext
from analysis.recall_effect import MINIMUM
from analysis.results import Result
from analysis.survival import LONG, SHORT

METHODS = ("redvtp", "random")
SETS = (LONG, SHORT)
ALPHA = 0.05


def draw_recall(result: Result, run: RunContext) -> Any:
    """Share that stays right over evidence recall: long answers above, two tokens below, a column a ratio."""
    plots.use_style()
    rows = rates.of_first_model(result)
    rows = rows[rows["group"] == "evidence recall"]
    ratios = sorted(rows["keep"].unique(), reverse=True)
    figure, axes = plt.subplots(len(SETS), len(ratios), figsize=(plots.WIDTH["page"], 3.6), sharex=True, sharey=True,
                                squeeze=False)  # fmt: skip
    for line, family in zip(axes, SETS):
        line[0].set_ylabel(f"{family}:\nstill right")
        for axis, keep in zip(line, ratios):
            for method in METHODS:
                part = rows[(rows["family"] == family) & (rows["keep"] == keep) & (rows["method"] == method)]
                axis.errorbar(part["recall"], part["survived"], yerr=rates.bars(part, "survived"), capsize=1.5,
                              elinewidth=0.6, markersize=4, linewidth=1.1, **plots.look(method).line())  # fmt: skip
            axis.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), xticks=(0, 0.5, 1))
    for axis, keep in zip(axes[0], ratios):
        axis.set_title(f"r = {keep:.0%}")
    figure.supxlabel("")
    axes[-1][len(ratios) // 2].set_xlabel("evidence recall (share of the evidence's area kept), mean of each bin")
    figure.legend(*rates.legend_of(axes.flat), loc="outside upper center", ncols=len(METHODS))
    note = f"model {rows['model'].iloc[0]}; samples right without pruning and open after step 1; bars: 95% Wilson"
    plots.add_caption(figure, plots.caption(run, result.provenance, note))
    return figure


def draw_auc(effect: Result, run: RunContext) -> Any:
    """How well evidence recall tells survivors apart, a column a ratio, a line a set of samples.

    No bar where an interval is not defined.
    """
    plots.use_style()
    rows = rates.of_first_model(effect)
    ratios, names = sorted(rows["keep"].unique(), reverse=True), list(dict.fromkeys(rows["family"]))[::-1]
    figure, axes = plt.subplots(1, len(ratios), figsize=(plots.WIDTH["page"], 0.9 + 0.24 * len(names)), sharex=True,
                                sharey=True, squeeze=False)  # fmt: skip
    for axis, keep in zip(axes[0], ratios):
        for method, shift in zip(METHODS, (0.13, -0.13)):
            part = rows[(rows["keep"] == keep) & (rows["method"] == method)].dropna(subset=["auc"])
            look = plots.look(method)
            axis.errorbar(part["auc"].astype(float), [names.index(name) + shift for name in part["family"]],
                          xerr=rates.bars(part, "auc"), linestyle="", marker=look.marker, color=look.color,
                          markersize=4, elinewidth=0.8, capsize=1.5, label=look.label)  # fmt: skip
        axis.axvline(0.5, color=plots.BLACK, linewidth=0.7, linestyle=(0, (1, 2)))
        axis.set(title=f"r = {keep:.0%}", xlim=(-0.04, 1.04), ylim=(-0.6, len(names) - 0.4), xticks=(0, 0.5, 1))
        axis.set_yticks(range(len(names)), names)
    axes[0][len(ratios) // 2].set_xlabel("AUC of evidence recall (0.5: tells nothing)")
    figure.legend(*rates.legend_of(axes.flat), loc="outside upper center", ncols=len(METHODS))
    note = (
        f"model {rows['model'].iloc[0]}; samples right without pruning and open after step 1; bars: 95% score "
        f"intervals after Hanley and McNeil, each alone; sets with fewer than {MINIMUM} of an outcome left out"
    )
    plots.add_caption(figure, plots.caption(run, effect.provenance, note))
    return figure


def table(effect: Result) -> pd.DataFrame:
    """AUC and Mann-Whitney's p, odds ratio for a tenth more of the evidence and its p, and the correlation."""
    rows = pd.DataFrame(effect.rows)
    rows = rows.assign(tests=whole(rows["tests"]))
    return rows[["model", "family", "method", "keep", "n", "right", "auc", "auc_low", "auc_high", "p", "p_holm",
                 "tests", "odds", "odds_low", "odds_high", "odds_p", "correlation"]].dropna(subset=["auc"])  # fmt: skip


def verdict(rows: pd.DataFrame) -> str:
    """Where evidence recall differs between answers that stay right and those that turn wrong, method by method."""
    return " ".join(_told(rows[rows["method"] == method], plots.look(method).label) for method in METHODS)


def _told(rows: pd.DataFrame, label: str) -> str:
    """One method's families after the adjustment, and all long answers."""
    tested = rows[rows["p_holm"].notna() & ~rows["family"].isin(SETS)]
    if tested.empty:
        return (
            f"Under {label} no pair of family and ratio has {MINIMUM} answers that stay right and {MINIMUM} that turn "
            "wrong, so nothing is said of evidence recall."
        )
    real = tested[tested["p_holm"] < ALPHA]
    higher, lower = real[real["auc"] > 0.5], real[real["auc"] < 0.5]
    pooled = rows[(rows["family"] == LONG) & rows["auc_low"].notna()]
    aucs = rates.listed(f"{row.auc:.2f} [{row.auc_low:.2f}, {row.auc_high:.2f}] at {row.keep:.0%}"
                        for row in pooled.itertuples())  # fmt: skip
    return (
        f"Under {label} evidence recall is significantly higher for answers that stay right than for those that turn "
        f"wrong in {len(higher)} of the {len(tested)} pairs of family and ratio with at least {MINIMUM} of both "
        f"(Mann-Whitney, p below {ALPHA} after Holm's adjustment)"
        + (f": {_named(higher)}" if len(higher) else "")
        + f"; lower in {len(lower)}"
        + (f": {_named(lower)}" if len(lower) else "")
        + "."
        + (f" Over all {LONG} its AUC (95% interval) is {aucs}." if len(pooled) else "")
    )


def _named(rows: pd.DataFrame) -> str:
    return rates.listed(f"{row.family} at {row.keep:.0%} (AUC {row.auc:.2f})" for row in rows.itertuples())
