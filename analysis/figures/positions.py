"""Rotary positions of kept tokens: exact match with compact and original ones, a line of panels a model, the table."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from analysis import plots
from analysis.comparisons import difference, holm, sign_test
from analysis.figures import rates
from analysis.figures.fewer import caption, whole
from analysis.positions import METHODS, POSITIONS
from analysis.profiles import RunContext
from analysis.results import Result

ALPHA = 0.05
KEEP = 0.25  # the ratio that the sentence tells
BY = ("model", "family", "method", "positions", "keep")
ENDS = ("difference", "difference_low", "difference_high")
RATIOS = (10, 25, 50, 100)
FILLS = {"compact": "full", "original": "none"}
LINES = {"compact": "-", "original": "--"}


def frame(result: Result) -> pd.DataFrame:
    """A row for each model, family, method, kind of positions and ratio; several seeds are pooled.

    `p` is of the exact sign test of original against compact; `p_holm` is adjusted for all differences of the frame.
    """
    raw = pd.DataFrame(result.rows)
    numbers = [name for name in raw if name.startswith(("difference", "from_unpruned"))]
    raw[numbers] = raw[numbers].astype(float)
    rows = rates.pooled(raw, BY)
    changed = raw.groupby(list(BY), sort=False)[["gained", "lost"]].sum(min_count=1).reset_index()
    rows = rows.drop(columns=["gained", "lost"], errors="ignore").merge(changed, on=list(BY))
    told = rows["gained"].notna()
    counts = [(int(row.gained), int(row.lost), int(row.n)) for row in rows[told].itertuples()]
    for name, values in zip(ENDS, zip(*(difference(*one) for one in counts)), strict=True):
        rows.loc[told, name] = values
    rows.loc[told, "p"] = [sign_test(gained, lost) for gained, lost, _ in counts]
    rows.loc[told, "p_holm"] = holm(list(rows.loc[told, "p"]))
    return rows.assign(gained=whole(rows["gained"]), lost=whole(rows["lost"]))


def draw(result: Result, run: RunContext) -> Any:
    """Exact match with 95% intervals over the keep ratio: solid compact, dashed original positions."""
    plots.use_style()
    rows = frame(result)
    models, families = (list(rows[name].unique()) for name in ("model", "family"))
    figure, axes = plt.subplots(len(models), len(families), sharex=True, sharey=True, squeeze=False,
                                figsize=(plots.WIDTH["page"], 1.2 + 1.6 * len(models)))  # fmt: skip
    for line, model in zip(axes, models):
        for axis, family in zip(line, families):
            _draw_panel(axis, rows[(rows["model"] == model) & (rows["family"] == family)])
            axis.set_title(f"{model}, {family}", fontsize=8.5)
        line[0].set_ylabel("exact match")
    for axis in axes[-1]:
        axis.set_xlabel("visual tokens kept (%)")
    figure.legend(*rates.legend_of(axes.flat), loc="outside upper center", ncols=2 * len(METHODS), fontsize=7)
    note = ("solid, filled: positions re-numbered without gaps, as in the official code; dashed, hollow: left as they "
            "were; both keep the same tokens; bars: 95% Wilson intervals")  # fmt: skip
    plots.add_caption(figure, caption(run, result, note))
    return figure


def _draw_panel(axis: Any, rows: pd.DataFrame) -> None:
    for method in reversed(METHODS):
        look = plots.look(method)
        for positions in POSITIONS:
            part = rows[(rows["method"] == "none") | ((rows["method"] == method) & (rows["positions"] == positions))]
            part = part.sort_values("keep")
            axis.errorbar(100 * part["keep"], part["exact_match"], yerr=rates.bars(part, "exact_match"),
                          color=look.color, marker="o" if method == "redvtp" else "^", fillstyle=FILLS[positions],
                          linestyle=LINES[positions], label=f"{look.label}, {positions}", markersize=4, linewidth=1.2,
                          capsize=1.3, elinewidth=0.6)  # fmt: skip
    axis.set(xscale="log", ylim=(-0.04, 1.04))
    axis.set_xticks(RATIOS, labels=[str(ratio) for ratio in RATIOS])
    axis.minorticks_off()


def table(result: Result) -> pd.DataFrame:
    """A line a model, family, method and ratio; rates and points in percent, intervals beside them."""
    rows, lines = frame(result), []
    for (model, family), part in rows.groupby(["model", "family"], sort=False):
        unpruned = rates.row_of(part, method="none")
        pruned = part[part["method"] != "none"]
        for method, keep in pruned[["method", "keep"]].drop_duplicates().itertuples(index=False):
            compact, original = (
                rates.row_of(part, method=method, keep=keep, positions=positions) for positions in POSITIONS
            )
            lines.append(
                {"model": model, "family": family, "method": method, "r": f"{keep:.0%}", "n": int(compact["n"]),
                 "unpruned": _rate(unpruned), "compact": _rate(compact), "original": _rate(original),
                 "original - compact": _points(original, "difference"),
                 "gained": original["gained"], "lost": original["lost"], "p Holm": original["p_holm"],
                 "compact - unpruned": _points(compact, "from_unpruned"),
                 "original - unpruned": _points(original, "from_unpruned"),
                 "evidence recall": original["evidence_recall"]}
            )  # fmt: skip
    return pd.DataFrame(lines)


def _rate(row: pd.Series) -> str:
    """Exact match with its interval in percent."""
    return f"{row['exact_match']:.0%} [{100 * row['exact_match_low']:.0f}, {100 * row['exact_match_high']:.0f}]"


def _points(row: pd.Series, name: str) -> str:
    """A paired difference in points with its interval."""
    return f"{100 * row[name]:+.0f} [{100 * row[f'{name}_low']:.0f}, {100 * row[f'{name}_high']:.0f}]"


def table_caption(run: RunContext, result: Result) -> str:
    """What the table's columns are."""
    return caption(
        run, result,
        "exact match with compact (re-numbered) and original positions of the tokens that stay; differences are "
        "paired, in points; brackets: 95% intervals; gained, lost: answers that turn right or wrong with original "
        "positions; p Holm: exact sign test, adjusted for all lines",
    )  # fmt: skip


def sentence(result: Result) -> str:
    """What original positions change on each model at one ratio, and where the change is more than chance."""
    rows = frame(result)
    tested = rows[rows["p"].notna()]
    real = tested[tested["p_holm"] < ALPHA]
    guided = {method: real[real["method"] == method] for method in METHODS}
    told = [
        f"{plots.look(method).label} {int((part['difference'] > 0).sum())} better and "
        f"{int((part['difference'] < 0).sum())} worse of {int((tested['method'] == method).sum())}"
        for method, part in guided.items()
    ]
    return "\n\n".join([
        *(_of_model(rows[rows["model"] == model]) for model in rows["model"].unique()),
        f"Leaving positions as they were changes {len(real)} of {len(tested)} rates (exact sign test, {ALPHA:.0%}, "
        f"Holm-adjusted over all of them): {'; '.join(told)}. The same tokens are kept both ways, so such a change "
        "comes from the positions, not from the choice of tokens. Small models; an 8B model may behave otherwise.",
    ])  # fmt: skip


def _of_model(rows: pd.DataFrame) -> str:
    """RedVTP's loss from the unpruned run both ways, and where original positions are told apart from compact ones."""
    texts = []
    for family in rows["family"].unique():
        at = rows[(rows["family"] == family) & (rows["keep"] == KEEP) & (rows["method"] == METHODS[0])]
        compact, original = (rates.row_of(at, positions=positions) for positions in POSITIONS)
        texts.append(f"{_points(compact, 'from_unpruned')} against {_points(original, 'from_unpruned')} in {family}")
    real = rows[(rows["p_holm"] < ALPHA) & (rows["method"] == METHODS[0])]
    named = [
        f"{family} at {rates.listed(f'{row.keep:.0%} ({100 * row.difference:+.0f})' for row in part.itertuples())}"
        for family, part in real.groupby("family", sort=False)
    ]
    return (
        f"{rows['model'].iloc[0]} (n = {int(rows['n'].min())} a family): at {KEEP:.0%} RedVTP changes exact match by "
        f"{', '.join(texts)} points (compact against original positions; paired with the unpruned run, 95% intervals "
        f"in brackets). After adjustment, original positions differ from compact ones in "
        f"{rates.listed(named, 'no family')}."
    )
