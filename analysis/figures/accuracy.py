"""The accuracy table and its figures: exact match and evidence recall over the keep ratio, by family and method."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis import plots
from analysis.figures import rates
from analysis.profiles import RunContext
from analysis.results import Result

KEEP = 0.25  # the ratio that the sentence is about


def frame(result: Result) -> pd.DataFrame:
    """A row for each model, family, method and ratio; several seeds are pooled, intervals from the pooled hits."""
    return rates.pooled(pd.DataFrame(result.rows), ("model", "family", "method", "keep"))


def curves(rows: pd.DataFrame) -> list[str]:
    """The methods that were measured at several ratios."""
    ratios = rows.groupby("method", sort=False)["keep"].nunique()
    return list(ratios[ratios > 1].index)


def curve(rows: pd.DataFrame, model: str, family: str, method: str) -> pd.DataFrame:
    """One method over the ratios, the unpruned run at its right end; `share` is in percent."""
    shown = rows[(rows["model"] == model) & (rows["family"] == family) & rows["method"].isin([method, "none"])]
    return shown.sort_values("keep").assign(share=lambda part: part["keep"].astype(float) * 100)


def draw(result: Result, run: RunContext) -> Any:
    """Exact match with 95% intervals, a panel a family: the first model's methods, and RedVTP on the others."""
    plots.use_style()
    rows = frame(result)
    first, *others = rows["model"].unique()
    figure, axes, legend = rates.panels(list(rows["family"].unique()), "exact match")
    for family, axis in axes.items():
        for method in curves(rows):
            rates.draw_method(axis, curve(rows, first, family, method), method)
        for model in others:
            rates.draw_thin(axis, curve(rows, model, family, "redvtp"), "exact_match", model)
        for method, keep in (("shuffled", KEEP), ("blank", 1.0)):
            point = rates.row_of(rows, model=first, family=family, method=method, keep=keep)
            look = plots.look(method)
            axis.plot([100 * keep], [point["exact_match"]], linestyle="", marker=look.marker, color=look.color,
                      label=look.label, markersize=6)
        axis.axhline(point["chance"], color=plots.BLACK, linewidth=0.7, linestyle=(0, (1, 2)),
                     label="chance, without the image")
    legend.legend(*rates.legend_of(axes.values()), loc="center left", fontsize=7.5)
    note = f"model {first}; bars: 95% Wilson intervals" + ("; thin: a second training seed" if others else "")
    plots.add_caption(figure, plots.caption(run, result.provenance, note))
    return figure


def draw_recall(result: Result, run: RunContext) -> Any:
    """Evidence recall, a panel a family, as `draw`."""
    plots.use_style()
    rows = frame(result)
    first, *others = rows["model"].unique()
    figure, axes, legend = rates.panels(list(rows["family"].unique()), "evidence recall", 1.6)
    for family, axis in axes.items():
        for method in curves(rows):
            part = curve(rows, first, family, method)
            axis.plot(part["share"], part["evidence_recall"], markersize=4, linewidth=1.3, **plots.look(method).line())
        for model in others:
            rates.draw_thin(axis, curve(rows, model, family, "redvtp"), "evidence_recall", model)
    legend.legend(*rates.legend_of(axes.values()), loc="center left", fontsize=7.5)
    note = f"model {first}; evidence recall: share of the evidence's area that kept tokens cover"
    plots.add_caption(figure, plots.caption(run, result.provenance, note))
    return figure


def table(result: Result) -> pd.DataFrame:
    """The rows as they are, with the columns a reader needs."""
    return pd.DataFrame(result.rows)[
        ["model", "family", "seed", "method", "keep", "step", "layer", "positions", "n", "exact_match",
         "exact_match_low", "exact_match_high", "chance", "score", "evidence_recall", "kept", "tokens_fed",
         "flops_ratio"]
    ]  # fmt: skip


def verdicts(rows: pd.DataFrame, model: str) -> pd.DataFrame:
    """For each family what the sentence says: flags, and the rates at `KEEP` that they stand on."""
    found = {}
    for family in rows["family"].unique():
        def at(method: str, keep: float = KEEP, family=family) -> pd.Series:
            return rates.row_of(rows, model=model, family=family, method=method, keep=keep)

        full, pruned, random, blank = at("none", 1.0), at("redvtp"), at("random"), at("blank", 1.0)
        found[family] = {
            "beats": rates.above(pruned, random),
            "falls": rates.above(full, pruned),
            "shuffled": rates.equal(at("shuffled"), random),
            "blank": blank["exact_match_low"] > blank["chance"],
            "full rate": full["exact_match"],
            "pruned rate": pruned["exact_match"],
            "random rate": random["exact_match"],
            "shuffled rate": at("shuffled")["exact_match"],
            "blank rate": blank["exact_match"],
            "chance": blank["chance"],
        }
    return pd.DataFrame.from_dict(found, orient="index")


def sentence(result: Result) -> str:
    """What the table shows at r = 25%, in numbers, with what does not hold said as plainly."""
    rows = frame(result)
    first, *others = rows["model"].unique()
    mine = verdicts(rows, first)

    def against(flag: bool, name: str, one: str, other: str) -> list[str]:
        chosen = mine[mine[name] == flag]
        return [f"{family} ({row[one]:.0%} against {row[other]:.0%})" for family, row in chosen.iterrows()]

    shuffled = against(False, "shuffled", "shuffled rate", "random rate")
    parts = [
        f"On the mini model {first}, at {KEEP:.0%} of the visual tokens, RedVTP's exact match is above random's beyond "
        f"the intervals in {rates.listed(against(True, 'beats', 'pruned rate', 'random rate'))}, "
        f"and not in {rates.listed(against(False, 'beats', 'pruned rate', 'random rate'))}.",
        f"It is below unpruned beyond the intervals in "
        f"{rates.listed(against(True, 'falls', 'pruned rate', 'full rate'))}.",
        f"Shuffled scores DO NOT equal random in {rates.listed(shuffled)}." if shuffled
        else "Shuffled scores equal random in every family.",
        f"A blank image is above chance in {rates.listed(against(True, 'blank', 'blank rate', 'chance'))}.",
    ]  # fmt: skip
    for model in others:
        theirs = verdicts(rows, model)
        differ = [
            f"{words} in {rates.listed(theirs.index[theirs[flag] != mine[flag]])}"
            for flag, words in (("beats", "RedVTP against random"), ("falls", "RedVTP against unpruned"),
                                ("shuffled", "shuffled against random"), ("blank", "blank against chance"))
            if (theirs[flag] != mine[flag]).any()
        ]  # fmt: skip
        parts.append(f"{model} differs: {'; '.join(differ)}." if differ else f"{model} agrees on each of these.")
    return " ".join([*parts, "An 8B model may behave otherwise."])
