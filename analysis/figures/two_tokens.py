"""Answers of two tokens in two steps: what a cut after step 1 could still change, and what it did change."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from analysis import plots, two_tokens
from analysis.figures import rates
from analysis.profiles import RunContext
from analysis.results import Result
from analysis.survival import cuts_inside_step_one
from redvtp.metrics import wilson_interval

KEEP = 0.25  # the ratio that the sentence is about
SHOWS = 0.1  # a family whose largest possible loss is smaller can hardly show one
CELL = ("model", "family", "method", "keep")
COMMITTED = ("step 2", "step 1")
ENDS = ("", "_low", "_high")


def frame(result: Result, by: tuple[str, ...] = CELL) -> pd.DataFrame:
    """A row for each value of `by`; steps of the answer and seeds that it does not name are pooled."""
    return rates.pooled(pd.DataFrame(result.rows), by, two_tokens.RATES)


def table(result: Result) -> pd.DataFrame:
    """For each model, family, method and ratio, with 95% intervals:

    first: share of the samples whose answer was committed in step 1, without pruning. at_risk: share that was right
    without pruning and whose answer was still open at the cut, which is the largest loss that could have shown while
    the token behind a committed answer stays. lost, gained: right turned wrong and wrong turned right.
    changed_1, changed_2: of the answers committed in step 1 and in step 2 the share that another text came of.
    """
    whole, split = frame(result), frame(result, (*CELL, "committed"))
    halves = {key: part.set_index("committed") for key, part in split.groupby(list(CELL))}
    out = []
    for _, row in whole.iterrows():
        half = halves[tuple(row[name] for name in CELL)]
        unpruned = halves[row["model"], row["family"], "none", 1.0]
        right = unpruned["exact_match"] * unpruned["n"]
        open_ = right if cuts_inside_step_one(row["method"]) else right.drop("step 1", errors="ignore")
        out.append(
            {name: row[name] for name in (*CELL, "n")}
            | _share("first", unpruned["n"].get("step 1", 0), row["n"])
            | _share("at_risk", open_.sum(), row["n"])
            | {name + end: row[name + end] for name in ("exact_match", "lost", "gained") for end in ENDS}
            | {f"changed_{step}": half["changed"].get(f"step {step}") for step in (1, 2)}
        )
    return pd.DataFrame(out)


def _share(name: str, hits: float, n: int) -> dict[str, float]:
    values = (hits / n, *wilson_interval(round(hits), int(n)))
    return {name + end: value for end, value in zip(ENDS, values)}


def draw(result: Result, run: RunContext) -> Any:
    """Exact match over the keep ratio, a column a family: above, answers committed in step 2; below, in step 1."""
    plots.use_style()
    rows = frame(result, (*CELL, "committed"))
    first, *others = rows["model"].unique()
    families = list(rows["family"].unique())
    figure, axes = plt.subplots(2, len(families), figsize=(plots.WIDTH["page"], 4.2), sharex=True, sharey=True,
                                squeeze=False)
    for line, committed in zip(axes, COMMITTED):
        line[0].set_ylabel(f"exact match where the\nanswer came in {committed}")
        for axis, family in zip(line, families):
            shown = rows[(rows["family"] == family) & (rows["committed"] == committed)]
            _draw_panel(axis, shown, first, others)
            count = shown[(shown["model"] == first) & (shown["method"] == "none")]["n"].sum()
            axis.set(title=f"{family}, n = {int(count)}", ylim=(-0.03, 1.03))
            rates.ratio_axis(axis)
    for axis in axes[-1]:
        axis.set_xlabel("visual tokens kept (%)")
    figure.legend(*rates.legend_of(axes.flat), loc="outside upper center", ncols=5, fontsize=7.5)
    note = f"model {first}; bars: 95% Wilson intervals; split by the unpruned run; RedVTP, random and evidence first "
    plots.add_caption(figure, plots.caption(run, result.provenance, note + "cut after step 1, LLaDA-FastV inside it"))
    return figure


def _draw_panel(axis: Any, shown: pd.DataFrame, first: str, others: list[str]) -> None:
    """Exact match of one group of samples: the first model's methods, and RedVTP on the others."""
    for model in (first, *others):
        methods = [method for method in two_tokens.METHODS if method != "none"] if model == first else ["redvtp"]
        for method in methods:
            part = shown[(shown["model"] == model) & shown["method"].isin([method, "none"])].sort_values("keep")
            part = part.assign(share=part["keep"].astype(float) * 100)
            if part.empty:
                continue
            if model == first:
                rates.draw_method(axis, part, method)
            else:
                rates.draw_thin(axis, part, "exact_match", model)


def sentence(result: Result) -> str:
    """Whether two-token families can show a loss, and what they showed, in numbers."""
    rows = table(result)
    return " ".join(_verdict(rows[rows["model"] == model], model) for model in rows["model"].unique())


def _verdict(rows: pd.DataFrame, model: str) -> str:
    families = list(rows["family"].unique())

    def numbers(what: str, method: str = "redvtp") -> str:
        found = (rates.row_of(rows, family=family, method=method, keep=KEEP)[what] for family in families)
        return rates.listed("-" if pd.isna(value) else f"{value:.0%}" for value in found)

    mute = [family for family in families if rates.row_of(rows, family=family, method="none")["at_risk"] < SHOWS]
    shows = f"could not have shown in {rates.listed(mute)}" if mute else "could have shown in every family"
    return (
        f"On {model}, in {rates.listed(families)}, the answer's token was committed in step 1, before RedVTP cuts, for "
        f"{numbers('first')} of the samples; right and still open were {numbers('at_risk')}. "
        f"At {KEEP:.0%} RedVTP turned {numbers('lost')} from right to wrong, random {numbers('lost', 'random')}, "
        f"LLaDA-FastV, which cuts inside step 1, {numbers('lost', 'llada_fastv')}; of the answers committed in step 1 "
        f"RedVTP changed {numbers('changed_1')}, by the token behind. A loss of {SHOWS:.0%} {shows}."
    )
