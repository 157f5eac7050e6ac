"""Does the evidence that is left tell which right answers stay right? Survival over it, and AUC."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from analysis import plots
from analysis.figures import rates
from analysis.profiles import RunContext
from analysis.results import Result
from analysis.survival import LONG, SHORT

METHODS = ("redvtp", "random")
SETS = (LONG, SHORT)


def draw_recall(result: Result, run: RunContext) -> Any:
    """Share that stays right over the evidence left: long answers above, two tokens below, a column a ratio."""
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
    axes[-1][len(ratios) // 2].set_xlabel("share of the evidence's area that is kept, mean of each bin")
    figure.legend(*rates.legend_of(axes.flat), loc="outside upper center", ncols=len(METHODS))
    note = f"model {rows['model'].iloc[0]}; samples right without pruning and open after step 1; bars: 95% Wilson"
    plots.add_caption(figure, plots.caption(run, result.provenance, note))
    return figure


def draw_auc(effect: Result, run: RunContext) -> Any:
    """How well the evidence left tells survivors apart, a column a ratio, a line a set of samples."""
    plots.use_style()
    rows = rates.of_first_model(effect)
    ratios, names = sorted(rows["keep"].unique(), reverse=True), list(dict.fromkeys(rows["family"]))[::-1]
    figure, axes = plt.subplots(1, len(ratios), figsize=(plots.WIDTH["page"], 0.9 + 0.24 * len(names)), sharex=True,
                                sharey=True, squeeze=False)  # fmt: skip
    for axis, keep in zip(axes[0], ratios):
        for method, shift in zip(METHODS, (0.13, -0.13)):
            part = rows[(rows["keep"] == keep) & (rows["method"] == method)].dropna(subset=["auc"])
            part = part.assign(auc_low=part["auc_low"].fillna(part["auc"]),
                               auc_high=part["auc_high"].fillna(part["auc"]))  # fmt: skip
            look = plots.look(method)
            axis.errorbar(part["auc"].astype(float), [names.index(name) + shift for name in part["family"]],
                          xerr=rates.bars(part, "auc"), linestyle="", marker=look.marker, color=look.color,
                          markersize=4, elinewidth=0.8, capsize=1.5, label=look.label)  # fmt: skip
        axis.axvline(0.5, color=plots.BLACK, linewidth=0.7, linestyle=(0, (1, 2)))
        axis.set(title=f"r = {keep:.0%}", xlim=(-0.04, 1.04), ylim=(-0.6, len(names) - 0.4), xticks=(0, 0.5, 1))
        axis.set_yticks(range(len(names)), names)
    axes[0][len(ratios) // 2].set_xlabel("AUC of the evidence left (0.5: tells nothing)")
    figure.legend(*rates.legend_of(axes.flat), loc="outside upper center", ncols=len(METHODS))
    note = f"model {rows['model'].iloc[0]}; 95% bootstrap intervals; sets with fewer than 5 of an outcome left out"
    plots.add_caption(figure, plots.caption(run, effect.provenance, note))
    return figure


def table(effect: Result) -> pd.DataFrame:
    """AUC, odds ratio for a tenth more of the evidence, its p value, and the correlation."""
    rows = pd.DataFrame(effect.rows)
    return rows[["model", "family", "method", "keep", "n", "right", "auc", "auc_low", "auc_high", "odds", "odds_low",
                 "odds_high", "p", "correlation"]].dropna(subset=["auc"])  # fmt: skip


def verdict(rows: pd.DataFrame) -> str:
    """In how many families and ratios more evidence goes with staying right, under RedVTP."""
    pooled = rows[(rows["method"] == "redvtp") & (rows["family"] == LONG)].dropna(subset=["auc_low"])
    tellable = rows[(rows["method"] == "redvtp") & rows["auc_low"].notna() & ~rows["family"].isin(SETS)]
    above = tellable[tellable["auc_low"] > 0.5]
    below = tellable[tellable["auc_high"] < 0.5]
    if tellable.empty:
        return "Under RedVTP no family and ratio has enough of both outcomes to tell whether the evidence left matters."
    return (
        f"Under RedVTP more of the evidence left goes with staying right (AUC's interval above 0.5) in {len(above)} of "
        f"the {len(tellable)} pairs of family and ratio with enough of both outcomes"
        + (f" ({_named(above)})" if len(above) else "")
        + f", with turning wrong in {len(below)}."
        + "".join(
            f" Over all {LONG} at {row.keep:.0%} the AUC is {row.auc:.2f} [{row.auc_low:.2f}, {row.auc_high:.2f}]."
            for row in pooled.itertuples()
        )
    )


def _named(rows: pd.DataFrame) -> str:
    return rates.listed(f"{row.family} at {row.keep:.0%}, {row.auc:.2f}" for row in rows.itertuples())
