"""RedVTP Figure 4 and its table: Sim_k over the steps."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from analysis import plots
from analysis.profiles import RunContext
from analysis.results import Result

PAPER_BOUND = 0.95  # "every Sim_k > 0.95": RedVTP, caption of Figure 4
GROUPS = {
    "all": ("all layers", plots.BLUE, "o", "-"),
    "early": ("first third of layers", plots.SKY, "^", "--"),
    "middle": ("second third", plots.ORANGE, "s", "-."),
    "late": ("last third", plots.RED, "v", ":"),
}
FAMILY_LOOKS = (("o", "-"), ("s", "--"), ("^", "-."), ("D", ":"))


def draw(result: Result, run: RunContext) -> Any:
    """Left: all layers, by family, with and without the stop rule. Right: by layer group, mean of the families.

    Several seeds are drawn as the mean of their curves and of their interval ends.
    """
    plots.use_style()
    rows = pd.DataFrame(result.rows)
    figure, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH["page"], 3.1), sharey=True)
    for (family, shown), (marker, line) in zip(rows.groupby("family", sort=False), FAMILY_LOOKS):
        for rule, color in (("none", plots.BLUE), ("stop", plots.GREY)):
            part = shown[(shown["layers"] == "all") & (shown["rule"] == rule)].groupby("step").mean(numeric_only=True)
            label = f"{family}, {'all 16 steps' if rule == 'none' else 'until the stop text'}"
            left.plot(part.index, part["similarity"], color=color, marker=marker, linestyle=line, label=label)
            low, high = part["similarity_low"], part["similarity_high"]
            left.fill_between(part.index, low, high, color=color, alpha=0.15, linewidth=0)
    for group, (label, color, marker, line) in GROUPS.items():
        part = rows[(rows["layers"] == group) & (rows["rule"] == "none")].groupby("step").mean(numeric_only=True)
        right.plot(part.index, part["similarity"], color=color, marker=marker, linestyle=line, label=label)
    for axes, title in ((left, "All layers, by family"), (right, "By layers, mean of families")):
        axes.axhline(PAPER_BOUND, color=plots.BLACK, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.text(15, PAPER_BOUND + 0.03, "paper, on LLaDA-V 8B: above 0.95", fontsize=7, ha="right")
        axes.set(title=title, xlabel="step k", xticks=range(2, 16, 2), ylim=(min(0.0, rows["similarity"].min()), 1.02))
        axes.legend(loc="lower left")
    left.set_ylabel("Sim$_k$: cosine of S$_1$ and S$_k$")
    plots.add_caption(figure, plots.caption(run, result.provenance, "bands: 95% bootstrap intervals"))
    return figure


def table(result: Result) -> pd.DataFrame:
    """Sim_k with its interval and n, all layers."""
    rows = pd.DataFrame(result.rows)
    return rows[rows["layers"] == "all"][
        ["family", "seed", "rule", "step", "n", "undefined", "similarity", "similarity_low", "similarity_high"]
    ]


def sentence(result: Result) -> str:
    """What the figure shows, in numbers."""
    rows = pd.DataFrame(result.rows)
    rows = rows[(rows["layers"] == "all") & (rows["rule"] == "none")]
    mean = rows.groupby("step")["similarity"].mean()
    below = mean[mean <= PAPER_BOUND]
    fate = f"stays above {PAPER_BOUND}"
    if len(below):
        fate = f"falls to {PAPER_BOUND} or below from step {below.index[0]} on"
    return (
        f"On the mini model Sim_k is {mean.iloc[0]:.3f} at k = {mean.index[0]} and {mean.iloc[-1]:.3f} at "
        f"k = {mean.index[-1]} (mean of {rows['family'].nunique()} families); it {fate}. "
        "The paper reports above 0.95 up to k = 15 on LLaDA-V 8B, which this result cannot decide."
    )
