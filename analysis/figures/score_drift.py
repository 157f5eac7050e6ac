"""Why Sim_k falls: rows that leave the mean, answer tokens left, spelling; and what it does to the kept tokens."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from analysis import plots
from analysis.figures import fewer
from analysis.profiles import RunContext
from analysis.results import Result

MARKERS = ("o", "s", "^", "D", "v")
PANELS = (
    ("similarity", "step", "Sim$_k$: all rows still masked"),
    ("same_rows", "step", "the same rows in step 1 and step k"),
    ("similarity", "left", "Sim$_k$, by what is left of the answer"),
    ("agreement", "step", "of the tokens kept at 25% by S$_1$, by S$_k$ too"),
)
ENDS = ("", "_low", "_high")
FEWEST = 5  # samples, below which a point is neither drawn nor told


def frame(result: Result, against: str) -> pd.DataFrame:
    """Rows against the step or the answer tokens left, means over seeds, and whether answers are one token long.

    Rows of fewer than FEWEST samples are left out: a bootstrap over one or two of them shows no width.
    """
    rows = pd.DataFrame(result.rows)
    rows = rows[(rows["against"] == against) & (rows["n"] >= FEWEST)]
    found = rows.groupby(["family", "at"], sort=False).mean(numeric_only=True).reset_index()
    return found.assign(one_token=found["answer_tokens"] < 1.5)


def draw(result: Result, run: RunContext) -> Any:
    """Four panels (PANELS), a line a family; blue where answers are spelled a glyph a token, red where in one."""
    plots.use_style()
    figure, grid = plt.subplots(2, 2, figsize=(plots.WIDTH["page"], 5.2), sharey=True)
    for axes, (value, against, title) in zip(grid.flat, PANELS):
        rows = frame(result, against)
        for (family, part), marker in zip(rows.groupby("family", sort=False), MARKERS):
            one = bool(part["one_token"].iloc[0])
            color, line = (plots.RED, "--") if one else (plots.BLUE, "-")
            label = f"{family}, {'one token' if one else 'a glyph a token'}"
            axes.plot(part["at"], part[value], color=color, marker=marker, linestyle=line, label=label)
            axes.fill_between(
                part["at"], part[f"{value}_low"], part[f"{value}_high"], color=color, alpha=0.12, linewidth=0
            )
        axes.set(title=title, xlabel="step k" if against == "step" else "answer tokens still masked", ylim=(0, 1.02))
        if against == "left":
            axes.invert_xaxis()
        else:
            axes.set_xticks(range(2, 16, 2))
    grid[0, 0].set_ylabel("cosine")
    grid[1, 0].set_ylabel("cosine, share of kept tokens")
    grid[0, 1].legend(loc="lower left")
    note = (
        "all families answered in 32 tokens, 16 steps; bands: 95% bootstrap intervals over samples; points of fewer "
        f"than {FEWEST} samples are left out"
    )
    plots.add_caption(figure, fewer.caption(run, result, note))
    return figure


def table(result: Result) -> pd.DataFrame:
    """All values by step and by answer tokens left, few samples or many; `right` is this protocol's exact match."""
    rows = pd.DataFrame(result.rows)
    values = [f"{name}{end}" for name in ("similarity", "same_rows", "rank", "agreement") for end in ENDS]
    return rows[["family", "seed", "against", "at", "n", "answer_tokens", "right", *values]]


def sentence(result: Result) -> str:
    """What the figure shows, in numbers."""
    rows = frame(result, "step")
    last = rows[rows["at"] == rows["at"].max()]

    def told(part: pd.DataFrame, value: str) -> str:
        return f"{part[value].min():.2f} to {part[value].max():.2f}" if len(part) > 1 else f"{part[value].mean():.2f}"

    spelled, whole = last[~last["one_token"]], last[last["one_token"]]
    parts = []
    for name, part in (("spelled a glyph a token", spelled), ("of one token", whole)):
        if len(part):
            parts.append(f"with answers {name} Sim_k is {told(part, 'similarity')}, on the same rows "
                         f"{told(part, 'same_rows')}")  # fmt: skip
    return (
        f"After step {int(last['at'].iloc[0])}, {'; '.join(parts)}. Sim_k compares the mean attention of the rows then "
        "still masked with that of all rows masked after step 1, so both attention and rows may differ; the second "
        "cosine compares the rows then still masked with the same rows in step 1, so only attention may differ. At 25% "
        f"S_k would by then keep {told(last, 'agreement')} of the tokens that S_1 keeps."
    )
