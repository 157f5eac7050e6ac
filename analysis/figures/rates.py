"""Rates with intervals, and panels by family: what the figures of several families share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from analysis import plots
from analysis.results import Result
from redvtp.metrics import wilson_interval

COLUMNS = 3
RATIOS = (5, 10, 25, 50, 100)


def pooled(rows: pd.DataFrame, by: Sequence[str], rates: Sequence[str] = ("exact_match",)) -> pd.DataFrame:
    """A row for each value of `by`: rates from the pooled hits with their Wilson intervals (95%), means of the rest."""
    hits = rows[list(rates)].mul(rows["n"], axis=0).round().astype(int)
    rows = rows.assign(**{f"{name}_hits": hits[name] for name in rates})
    groups = rows.groupby(list(by), sort=False, dropna=False)
    out = groups.mean(numeric_only=True)
    out["n"] = groups["n"].sum()
    for name in rates:
        total = groups[f"{name}_hits"].sum()
        bounds = [wilson_interval(int(hit), int(n)) for hit, n in zip(total, out["n"])]
        out[name] = total / out["n"]
        out[f"{name}_low"], out[f"{name}_high"] = zip(*bounds)
    return out.drop(columns=[f"{name}_hits" for name in rates]).reset_index()


def of_first_model(result: Result) -> pd.DataFrame:
    """The rows of the first model that the result has."""
    rows = pd.DataFrame(result.rows)
    return rows[rows["model"] == rows["model"].iloc[0]]


def row_of(rows: pd.DataFrame, **fields: Any) -> pd.Series:
    """The one row with these fields. Raises ValueError where there is none, or more than one."""
    found = rows
    for name, value in fields.items():
        found = found[found[name] == value]
    if len(found) != 1:
        raise ValueError(f"{len(found)} rows with {fields}, expected one")
    return found.iloc[0]


def above(one: pd.Series, other: pd.Series) -> bool:
    """Whether a rate of exact match is higher beyond both intervals."""
    return one["exact_match_low"] > other["exact_match_high"]


def equal(one: pd.Series, other: pd.Series) -> bool:
    """Whether the intervals of two rates of exact match overlap."""
    return not above(one, other) and not above(other, one)


def bars(part: pd.DataFrame, rate: str) -> list[pd.Series]:
    """The lengths of error bars, as `Axes.errorbar` takes them."""
    low, high = (part[f"{rate}_{end}"].astype(float) for end in ("low", "high"))
    middle = part[rate].astype(float)
    return [(middle - low).clip(lower=0), (high - middle).clip(lower=0)]


def percent(row: Mapping[str, Any], mark: str = "") -> str:
    """Exact match in percent, a mark, and its interval."""
    value, low, high = (100 * row[f"exact_match{end}"] for end in ("", "_low", "_high"))
    return f"{value:.0f}{mark} [{low:.0f}, {high:.0f}]"


def points(row: Mapping[str, Any], name: str, mark: str = "") -> str:
    """A difference in points, a mark, and its interval."""
    value, low, high = (100 * row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{round(value) + 0:+d}{mark} [{low:.0f}, {high:.0f}]"


def listed(words: Iterable[str], empty: str = "no family") -> str:
    """Words with commas between and "and" before the last."""
    words = list(words)
    if len(words) < 2:
        return words[0] if words else empty
    return f"{', '.join(words[:-1])} and {words[-1]}"


def panels(families: Sequence[str], label: str, height: float = 1.9) -> tuple[Any, dict[str, Any], Any]:
    """A small panel for each family, and room for the legend: (figure, {family: axes}, axes of the legend)."""
    lines = math.ceil((len(families) + 1) / COLUMNS)
    figure, axes = plt.subplots(
        lines, COLUMNS, figsize=(plots.WIDTH["page"], height * lines + 0.3), sharex=True, sharey=True, squeeze=False
    )
    shown = dict(zip(families, axes.flat))
    for place, axis in enumerate(axes.flat):
        if place >= len(families):
            axis.axis("off")
            continue
        axis.set(title=families[place], ylim=(-0.03, 1.03))
        if place % COLUMNS == 0:
            axis.set_ylabel(label)
        if place + COLUMNS >= len(families):
            axis.tick_params(labelbottom=True)
            axis.set_xlabel("visual tokens kept (%)")
        ratio_axis(axis)
    return figure, shown, axes.flat[len(families)]


def legend_of(axes: Iterable[Any]) -> tuple[list[Any], list[str]]:
    """Handles and labels of all axes, each label once, methods in the order of plots.METHODS before the rest."""
    found = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels())}
    known = [look.label for look in plots.METHODS.values()]
    labels = sorted(found, key=lambda label: known.index(label) if label in known else len(known))
    return [found[label] for label in labels], labels


def draw_method(axis: Any, part: pd.DataFrame, method: str) -> None:
    """Exact match of one method over `share` with its intervals; RedVTP lies on top."""
    axis.errorbar(part["share"], part["exact_match"], yerr=bars(part, "exact_match"), capsize=1.5, elinewidth=0.6,
                  markersize=4, linewidth=1.3, zorder=3 if method == "redvtp" else 2, **plots.look(method).line())


def draw_thin(axis: Any, part: pd.DataFrame, what: str, model: str) -> None:
    """RedVTP on a model after the first, over `share`; its right end is that model unpruned."""
    look = plots.look("redvtp")
    axis.plot(part["share"], part[what], color=look.color, alpha=0.55, linewidth=0.9, marker=look.marker,
              markersize=2.5, label=f"{look.label}, {model}")


def ratio_axis(axis: Any) -> None:
    """Keep ratios from left to right, on a logarithmic scale."""
    axis.set_xscale("log")
    axis.set_xticks(RATIOS, labels=[str(ratio) for ratio in RATIOS])
    axis.minorticks_off()
