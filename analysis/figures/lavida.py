"""The small LaViDa: its main table, and its two states side by side."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis import plots
from analysis.figures import rates
from analysis.figures.fewer import caption
from analysis.profiles import RunContext
from analysis.results import Result

BY = ("model", "family", "state", "method", "keep")
LOOKS = {
    ("repaired", "redvtp"): plots.Look("repaired, RedVTP", plots.BLUE, "o", "-"),
    ("repaired", "random"): plots.Look("repaired, random", plots.GREY, "^", ":"),
    ("published", "redvtp"): plots.Look("as published\n(without the prompt), RedVTP", plots.RED, "s", "--"),
}
KEEP = 0.25     # the ratio that the sentence tells


def frame(result: Result) -> pd.DataFrame:
    """A row for each family, state and ratio; several seeds are pooled."""
    rows = pd.DataFrame(result.rows)
    numbers = [name for name in rows if name.startswith(("difference", "from_unpruned", "changed"))]
    rows[numbers] = rows[numbers].astype(float)
    whole = rates.pooled(rows[rows["method"] == "none"], BY, ("changed",))
    changed = ["changed", "changed_low", "changed_high"]
    return rates.pooled(rows.drop(columns=changed), BY).merge(whole[[*BY, *changed]], "left", list(BY))


def draw(result: Result, run: RunContext) -> Any:
    """Exact match with 95% intervals over the keep ratio: a panel a family."""
    plots.use_style()
    rows = frame(result)
    figure, axes, key = rates.panels(list(rows["family"].unique()), "exact match")
    for family, axis in axes.items():
        for (state, method), look in LOOKS.items():
            ran = (rows["state"] == state) & rows["method"].isin(("none", method))
            part = rows[(rows["family"] == family) & ran].sort_values("keep")
            axis.errorbar(100 * part["keep"], part["exact_match"], yerr=rates.bars(part, "exact_match"), capsize=1.5,
                          elinewidth=0.7, **look.line())  # fmt: skip
    key.legend(*rates.legend_of(axes.values()), loc="center left")
    note = f"model {rows['model'].iloc[0]}; bars: 95% Wilson intervals"
    plots.add_caption(figure, caption(run, result, note))
    return figure


def table(result: Result) -> pd.DataFrame:
    """A line a family, state, method and ratio; intervals in percent beside their rates."""
    lines = []
    for _, row in frame(result).iterrows():
        lines.append(
            {"family": row["family"], "state": row["state"], "method": row["method"], "r": f"{row['keep']:.0%}",
             "n": int(row["n"]),
             "score": 100 * row["score"], "exact match": _rate(row, "exact_match"),
             "to repaired": _points(row, "difference"), "to unpruned": _points(row, "from_unpruned"),
             "changed": _rate(row, "changed"), "evidence recall": row["evidence_recall"],
             "tokens fed": row["tokens_fed"], "8B TFLOPs": row["tflops_8b"], "8B share": row["share_8b"]}
        )  # fmt: skip
    return pd.DataFrame(lines)


def _rate(row: pd.Series, name: str) -> str | None:
    """A rate with its interval in percent; None where it was not asked for."""
    if pd.isna(row[name]):
        return None
    return f"{row[name]:.0%} [{100 * row[f'{name}_low']:.0f}, {100 * row[f'{name}_high']:.0f}]"


def _points(row: pd.Series, name: str) -> str | None:
    """A paired difference in points; None where the row is what it would be compared with."""
    if pd.isna(row[name]):
        return None
    return f"{100 * row[name]:+.0f} [{100 * row[f'{name}_low']:.0f}, {100 * row[f'{name}_high']:.0f}]"


def table_caption(run: RunContext, result: Result) -> str:
    """What the table's columns are."""
    return caption(
        run, result,
        "score: the family's own metric in percent; to repaired, to unpruned: paired differences in exact match, in "
        "points; changed: unpruned answers that change with another image; brackets: 95% intervals; FLOPs: the "
        "published 8B shape at the family's protocol, counted as this package runs it, one forward a step",
    )  # fmt: skip


def sentence(result: Result) -> str:
    """What pruning does to the repaired model, and what the published state answers from."""
    rows = frame(result)
    whole = rows[rows["keep"] == 1.0]

    def told(part: pd.DataFrame, name: str) -> str:
        return rates.listed(f"{_rate(row, name)} in {row['family']}" for _, row in part.iterrows())

    def losses(method: str) -> str:
        pruned = rows[(rows["state"] == "repaired") & (rows["method"] == method) & (rows["keep"] == KEEP)]
        return rates.listed(f"{_points(row, 'from_unpruned')} in {row['family']}" for _, row in pruned.iterrows())

    repaired, published = (whole[whole["state"] == state] for state in ("repaired", "published"))
    first = rows["family"].iloc[0]
    shares = rows[(rows["family"] == first) & rows["method"].isin(("none", "redvtp"))].drop_duplicates("keep")
    costs = ", ".join(f"{row['share_8b']:.0%} at {row['keep']:.0%}" for _, row in shares.iterrows() if row["keep"] < 1)
    return (
        f"On the mini model {rows['model'].iloc[0]} (n = {int(rows['n'].min())} a family; 95% intervals in brackets), "
        f"the repaired state is right in {told(repaired, 'exact_match')}. At {KEEP:.0%} that changes by "
        f"{losses('redvtp')} points with RedVTP, and by {losses('random')} with random pruning (paired differences). "
        f"At LaViDa's 8B shape {first} then costs {costs} of the unpruned FLOPs. "
        f"The published state, which sees neither image nor question, is right in "
        f"{told(published, 'exact_match')}; another image changes "
        f"{told(published, 'changed')} of its answers, and {told(repaired, 'changed')} of the repaired one's. "
        f"What the published code scores on public benchmarks cannot be told from this."
    )
