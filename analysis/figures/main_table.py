"""RedVTP's main LLaDA-V table in kind, and the differences to the unpruned run as a figure."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from analysis import plots
from analysis.figures import rates
from analysis.profiles import RunContext
from analysis.results import Result

METHODS = ("redvtp", "llada_fastv", "random", "uniform", "oracle")
DRAWN = ("redvtp", "llada_fastv", "random")
KEEP = 0.25
SETTING = (32, 16)  # of the column of FLOPs: DocVQA and InfoVQA


def draw(result: Result, run: RunContext) -> Any:
    """Difference in score to the unpruned run with 95% intervals: a column a ratio, a line a family."""
    plots.use_style()
    rows = rates.of_first_model(result)
    rows = rows[rows["method"].isin(DRAWN)]
    ratios, families = sorted(rows["keep"].unique(), reverse=True), list(dict.fromkeys(rows["family"]))[::-1]
    figure, axes = plt.subplots(1, len(ratios), figsize=(plots.WIDTH["page"], 0.9 + 0.34 * len(families)), sharex=True,
                                sharey=True, squeeze=False)  # fmt: skip
    for axis, keep in zip(axes[0], ratios):
        for method, shift in zip(DRAWN, (0.22, 0.0, -0.22)):
            part = rows[(rows["keep"] == keep) & (rows["method"] == method)]
            look = plots.look(method)
            axis.errorbar(part["difference"], [families.index(name) + shift for name in part["family"]],
                          xerr=rates.bars(part, "difference"), linestyle="", marker=look.marker, color=look.color,
                          markersize=3.5, elinewidth=0.8, capsize=1.2, label=look.label)  # fmt: skip
        axis.axvline(0, color=plots.BLACK, linewidth=0.7)
        axis.set(title=f"r = {keep:.0%}", xlim=(-1.05, 0.4), ylim=(-0.6, len(families) - 0.4), xticks=(-1, -0.5, 0))
        axis.set_yticks(range(len(families)), families)
    axes[0][len(ratios) // 2].set_xlabel("score minus the unpruned run's, same samples")
    figure.legend(*rates.legend_of(axes.flat), loc="outside upper center", ncols=len(DRAWN))
    note = f"model {rows['model'].iloc[0]}; score: the family's own metric; bars: 95% intervals"
    plots.add_caption(figure, plots.caption(run, result.provenance, note))
    return figure


def table(result: Result) -> pd.DataFrame:
    """As a paper prints it: a line a method and ratio, a column a family, their mean, and FLOPs of the 8B shape.

    Scores are in percent with their interval; a dagger marks those whose difference to unpruned excludes zero.
    """
    rows = rates.of_first_model(result)
    lines = []
    order = [("none", 1.0)] + [
        (method, keep)
        for method in METHODS
        for keep in sorted(rows[rows["method"] == method]["keep"].unique(), reverse=True)
    ]
    for method, keep in order:
        part = rows[(rows["method"] == method) & (rows["keep"] == keep)].set_index("family")
        cost = part[(part["response"] == SETTING[0]) & (part["steps"] == SETTING[1])]
        lines.append(
            {"method": plots.look(method).label, "keep": f"{keep:.0%}"}
            | {name: _cell(part.loc[name]) for name in dict.fromkeys(rows["family"])}
            | {"mean": 100 * part["score"].mean(), "evidence recall": part["evidence_recall"].mean(),
               "tokens fed": part["tokens_fed"].mean(),
               f"8B TFLOPs, {SETTING[0]} / {SETTING[1]}": cost["tflops_8b"].iloc[0] if len(cost) else None,
               f"8B share, {SETTING[0]} / {SETTING[1]}": cost["share_8b"].iloc[0] if len(cost) else None,
               "8B share, 2 / 2": _short_share(part)}
        )  # fmt: skip
    return pd.DataFrame(lines)


def _cell(row: pd.Series) -> str:
    moved = row["difference_low"] > 0 or row["difference_high"] < 0
    return (
        f"{100 * row['score']:.1f}{'†' if moved else ''} [{100 * row['score_low']:.0f}, {100 * row['score_high']:.0f}]"
    )


def _short_share(part: pd.DataFrame) -> float | None:
    short = part[(part["response"] == 2) & (part["steps"] == 2)]
    return short["share_8b"].iloc[0] if len(short) else None


def long_table(result: Result) -> pd.DataFrame:
    """Every number: score, difference, evidence recall, tokens fed, and FLOPs of the 8B shape at its own setting."""
    return pd.DataFrame(result.rows)[
        ["model", "family", "metric", "method", "keep", "n", "score", "score_low", "score_high", "difference",
         "difference_low", "difference_high", "exact_match", "evidence_recall", "tokens_fed", "response", "steps",
         "tflops_8b", "share_8b"]
    ]  # fmt: skip


def sentence(result: Result) -> str:
    """What the table shows, in numbers, and what it is not."""
    rows = rates.of_first_model(result)

    def moved(method: str, keep: float, sign: int) -> list[str]:
        part = rows[(rows["method"] == method) & (rows["keep"] == keep)]
        gone = part[part["difference_high"] < 0] if sign < 0 else part[part["difference_low"] > 0]
        return [f"{row.family} ({100 * row.difference:+.1f} points)" for row in gone.itertuples()]

    parts = []
    for keep in sorted(rows[rows["method"] == "redvtp"]["keep"].unique(), reverse=True):
        here = rows[(rows["method"] == "redvtp") & (rows["keep"] == keep)]
        cost = here[here["steps"] == SETTING[1]]["share_8b"]
        share = f" (at the 8B shape {cost.iloc[0]:.0%} of the FLOPs at 32 tokens in 16 steps)" if len(cost) else ""
        gains = moved("redvtp", keep, 1)
        up = f", above in {rates.listed(gains)}" if gains else ""
        parts.append(f"{keep:.0%}{share} below unpruned in {rates.listed(moved('redvtp', keep, -1))}{up}")
    n = f"n = {int(rows['n'].min())} a family"
    return (
        f"On the mini model {rows['model'].iloc[0]} ({n}), differences in the family's own metric whose 95% intervals "
        f"exclude zero, one by one and not adjusted for their number: RedVTP at {'; at '.join(parts)}. "
        "FLOPs are exact for the published 8B shape at 3699 visual tokens, scores are the mini model's: the two do not "
        "come from one run. The cells of the paper's five tables are not known to us, so this table stands beside none "
        "of them; an 8B model may behave otherwise."
    )
