"""The accuracy table and its figure: exact match and evidence recall over the keep ratio, by method."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from analysis import plots
from analysis.profiles import RunContext
from analysis.results import Result
from redvtp.metrics import wilson_interval


def frame(result: Result) -> pd.DataFrame:
    """A row for each family, method and ratio; several seeds are pooled, intervals from the pooled hits."""
    rows = pd.DataFrame(result.rows)
    rows["hits"] = (rows["exact_match"] * rows["n"]).round().astype(int)
    groups = rows.groupby(["family", "method", "keep"], sort=False)
    pooled = groups.mean(numeric_only=True)
    pooled[["hits", "n"]] = groups[["hits", "n"]].sum()
    bounds = [wilson_interval(int(hits), int(n)) for hits, n in zip(pooled["hits"], pooled["n"])]
    pooled["exact_match"] = pooled["hits"] / pooled["n"]
    pooled["exact_match_low"], pooled["exact_match_high"] = zip(*bounds)
    return pooled.reset_index()


def curves(rows: pd.DataFrame) -> list[str]:
    """The methods that were measured at several ratios."""
    ratios = rows.groupby("method", sort=False)["keep"].nunique()
    return list(ratios[ratios > 1].index)


def draw(result: Result, run: RunContext) -> Any:
    """Above: exact match with 95% intervals; below: evidence recall; a column for each family."""
    plots.use_style()
    rows = frame(result)
    families = list(rows["family"].unique())
    figure, axes = plt.subplots(
        2, len(families), figsize=(plots.WIDTH["page"], 4.6), sharex=True, sharey="row", squeeze=False
    )
    for column, family in enumerate(families):
        shown = rows[rows["family"] == family]
        full = shown[shown["method"] == "none"].iloc[0]
        for method in curves(rows):
            part = pd.concat([shown[shown["method"] == method], full.to_frame().T]).sort_values("keep")
            share = part["keep"].astype(float) * 100
            error = [
                (part["exact_match"] - part["exact_match_low"]).astype(float).clip(lower=0),
                (part["exact_match_high"] - part["exact_match"]).astype(float).clip(lower=0),
            ]
            axes[0, column].errorbar(share, part["exact_match"].astype(float), yerr=error, capsize=2, elinewidth=0.8,
                                     **plots.look(method).line())
            axes[1, column].plot(share, part["evidence_recall"].astype(float), **plots.look(method).line())
        for method in ("shuffled", "blank"):
            point, look = shown[shown["method"] == method].iloc[0], plots.look(method)
            share = 100 * (point["keep"] if method == "shuffled" else 1.0)
            axes[0, column].plot([share], [point["exact_match"]], linestyle="", marker=look.marker, color=look.color,
                                 label=look.label, markersize=7)
        axes[0, column].set(title=family, ylim=(-0.03, 1.03))
        axes[1, column].set(xlabel="visual tokens kept (%)", xscale="log", ylim=(-0.03, 1.03))
        axes[1, column].set_xticks([5, 10, 25, 50, 75, 100], labels=["5", "10", "25", "50", "75", "100"])
        axes[1, column].minorticks_off()
    axes[0, 0].set_ylabel("exact match")
    axes[1, 0].set_ylabel("evidence recall")
    axes[0, 0].legend(loc="upper left", fontsize=7)
    plots.add_caption(figure, plots.caption(run, result.provenance, "bars: 95% Wilson intervals"))
    return figure


def table(result: Result) -> pd.DataFrame:
    """The rows as they are, with the columns a reader needs."""
    return pd.DataFrame(result.rows)[
        ["family", "seed", "method", "keep", "step", "layer", "positions", "n", "exact_match", "exact_match_low",
         "exact_match_high", "anls", "evidence_recall", "kept", "tokens_fed", "flops_ratio"]
    ]  # fmt: skip


def sentence(result: Result) -> str:
    """What the table shows at r = 25%, in numbers, with what does not hold said as plainly."""
    rows = frame(result)
    parts = []
    for family, shown in rows.groupby("family", sort=False):
        def at(method: str, keep: float, shown=shown) -> pd.Series:
            return shown[(shown["method"] == method) & (shown["keep"] == keep)].iloc[0]

        full, pruned = at("none", 1.0), at("redvtp", 0.25)
        beaten = [m for m in ("random", "uniform") if pruned["exact_match_low"] > at(m, 0.25)["exact_match_high"]]
        verdict = f"above {' and '.join(beaten)} beyond the intervals" if beaten else "not above random or uniform"
        shuffled, random = at("shuffled", 0.25), at("random", 0.25)
        equal = (
            shuffled["exact_match_low"] <= random["exact_match_high"]
            and random["exact_match_low"] <= shuffled["exact_match_high"]
        )
        parts.append(
            f"{family}: {full['exact_match']:.0%} unpruned, {pruned['exact_match']:.0%} with RedVTP at 25% "
            f"({verdict}), {at('random', 0.25)['exact_match']:.0%} random, {at('blank', 1.0)['exact_match']:.0%} "
            f"with a blank image; shuffled scores {'equal' if equal else 'DO NOT equal'} random"
        )
    return "On the mini model, exact match: " + "; ".join(parts) + ". An 8B model may behave otherwise."
