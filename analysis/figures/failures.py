"""Failures: which right answers turn wrong when pruned, by question, page and answer; and the notebook's sentence."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from analysis import plots
from analysis.figures import method_differences, rates, recall_effect
from analysis.figures.recall_effect import METHODS, SETS
from analysis.profiles import RunContext
from analysis.results import Result
from analysis.survival import LONG

RATIOS = (0.25, 0.1, 0.05)  # of the groups and of the table
KEEP = 0.25
PANELS = {"things": "things on the page", "visual tokens": "visual tokens", "answer length": "letters of the answer"}
SHADES = {0.25: plots.BLUE, 0.1: plots.SKY, 0.05: plots.ORANGE}
FEWEST = 10  # samples of each method, below which a bin of evidence recall is not compared


def draw_groups(result: Result, run: RunContext) -> Any:
    """RedVTP's survivors by kind of question, things on the page, visual tokens and letters of the answer."""
    plots.use_style()
    rows = rates.of_first_model(result)
    rows = rows[rows["method"] == "redvtp"]
    figure = plt.figure(figsize=(plots.WIDTH["page"], 5.6))
    kinds = rows[(rows["group"] == "kind")]
    grid = figure.add_gridspec(3, 2, width_ratios=(1, 1.15))
    for place, (group, title) in enumerate(PANELS.items()):
        axis = figure.add_subplot(grid[place, 0])
        _draw_group(axis, rows[(rows["group"] == group) & (rows["family"] == LONG)])
        axis.set(title=f"{LONG}: {title}", ylabel="still right", ylim=(-0.05, 1.05))
    axis = figure.add_subplot(grid[:, 1])
    names = list(dict.fromkeys(zip(kinds["family"], kinds["value"])))[::-1]
    for keep, shift in zip(RATIOS, (0.22, 0, -0.22)):
        part = kinds[kinds["keep"] == keep]
        place = [names.index(key) + shift for key in zip(part["family"], part["value"])]
        axis.errorbar(part["survived"], place, xerr=rates.bars(part, "survived"), linestyle="", marker="o",
                      markersize=3.5, elinewidth=0.8, color=SHADES[keep], label=f"r = {keep:.0%}")  # fmt: skip
    counts = kinds[kinds["keep"] == KEEP].set_index(["family", "value"])["n"]
    axis.set_yticks(range(len(names)), [f"{family}, {kind} (n = {counts.get((family, kind), 0)})"
                                        for family, kind in names], fontsize=7)  # fmt: skip
    axis.set(title="kind of question", xlabel="still right", xlim=(-0.05, 1.05), ylim=(-0.6, len(names) - 0.4))
    figure.legend(*rates.legend_of([axis]), loc="outside upper center", ncols=3)
    note = f"model {rows['model'].iloc[0]}; RedVTP; of samples right without pruning and open after step 1; 95% Wilson"
    plots.add_caption(figure, plots.caption(run, result.provenance, note))
    return figure


def _draw_group(axis: Any, rows: pd.DataFrame) -> None:
    """Survival over the bins of one group, a line a ratio; n below the bins."""
    order = rows.drop_duplicates("value").sort_values("place")["value"].tolist()
    for keep, shift in zip(RATIOS, (-0.08, 0.0, 0.08)):
        part = rows[rows["keep"] == keep]
        place = [order.index(value) + shift for value in part["value"]]
        axis.errorbar(place, part["survived"], yerr=rates.bars(part, "survived"), marker="o", markersize=3.5,
                      linewidth=1.1, elinewidth=0.6, capsize=1.5, color=SHADES[keep])  # fmt: skip
    counts = rows[rows["keep"] == KEEP].set_index("value")["n"]
    axis.set_xticks(range(len(order)), [f"{value}\n({counts.get(value, 0)})" for value in order], fontsize=7)


def table(result: Result) -> pd.DataFrame:
    """Survival by group under RedVTP and random, at the ratios of the figure."""
    rows = pd.DataFrame(result.rows)
    rows = rows[rows["method"].isin(METHODS) & rows["keep"].isin(RATIOS)]
    return rows[["model", "family", "group", "value", "method", "keep", "n", "survived", "survived_low",
                 "survived_high", "recall"]]  # fmt: skip


def sentence(result: Result, effect: Result, differences: Result, grid: Result) -> str:
    """What the figures show, in numbers."""
    rows = rates.of_first_model(result)
    parts = [
        f"On the mini model {rows['model'].iloc[0]}, right without pruning and still open at the cut: "
        f"{'; '.join(_survivors(rows))}.",
        recall_effect.verdict(rates.of_first_model(effect)),
        _same_recall(rows),
        method_differences.verdict(rates.of_first_model(differences), grid),
    ]
    return " ".join(part for part in parts if part)


def _survivors(rows: pd.DataFrame) -> list[str]:
    """For both sorts of answers how many stay right at the ratios of the figure."""
    found = []
    for family in SETS:
        shown = rows[(rows["family"] == family) & (rows["group"] == "all") & rows["keep"].isin(RATIOS)]
        if shown.empty:
            continue
        said = [
            f"{plots.look(method).label} {rates.listed(f'{row.survived:.0%}' for row in part.itertuples())}"
            for method in METHODS
            if len(part := shown[shown["method"] == method].sort_values("keep", ascending=False))
        ]
        ratios = rates.listed(f"{keep:.0%}" for keep in sorted(shown["keep"].unique(), reverse=True))
        n = shown["n"].iloc[0]
        found.append(f"of {n} {family} at risk, at {ratios}, {' and '.join(said)} stay right")
    return found


def _same_recall(rows: pd.DataFrame) -> str:
    """Survival of both methods at the same ratio and in the same bin of evidence recall, the highest both reach."""
    shown = rows[(rows["family"] == LONG) & (rows["group"] == "evidence recall") & (rows["n"] >= FEWEST)]
    compared = []
    for keep in sorted(shown["keep"].unique(), reverse=True):
        at = shown[(shown["keep"] == keep) & shown["method"].isin(METHODS)]
        both = at[at.groupby("value")["method"].transform("nunique") == len(METHODS)]
        if both.empty:
            continue
        best = both[both["place"] == both["place"].max()]
        said = (_bin(rates.row_of(best, method=method), plots.look(method).label) for method in METHODS)
        compared.append(f"at {keep:.0%}, {_covered(best['value'].iloc[0])}, {rates.listed(said)}")
    labels = rates.listed(plots.look(method).label for method in METHODS)
    if not compared:
        return f"At no ratio do {labels} have {FEWEST} {LONG} each in the same bin of evidence recall."
    return (
        f"Of {LONG} at risk at the same ratio, in the highest bin of evidence recall that {labels} share there with at "
        f"least {FEWEST} samples each, these stay right: {'; '.join(compared)}. A method's samples in a bin are not "
        "the other's, and which other tokens are kept differs, too."
    )


def _covered(value: str) -> str:
    """A bin of evidence recall; what keeps all of the evidence has a bin of its own."""
    return f"recall {'100%' if value == 'all' else value.replace(' to ', ' to below ')}"


def _bin(row: pd.Series, label: str) -> str:
    return (
        f"{label} {row['survived']:.0%} [{row['survived_low']:.0%}, {row['survived_high']:.0%}] (n = {row['n']}, mean "
        f"recall {row['recall']:.0%})"
    )
