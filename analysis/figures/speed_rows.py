"""Rows of the speed harness as tables: which were measured, which were not and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis import plots
from analysis.profiles import RunContext
from analysis.results import Result

HOSTS = {"llada_v": "LLaDA-V", "lavida": "LaViDa"}
RATIOS = {1.0: plots.BLACK, 0.75: plots.SKY, 0.5: plots.BLUE, 0.25: plots.RED, 0.1: plots.ORANGE}
MARKERS = {1.0: "D", 0.75: "v", 0.5: "o", 0.25: "s", 0.1: "^"}
PLAIN = {"variant": "plain", "cache": "none"}
UNPRUNED = {"method": "none", "attention": "none"}
OURS = {"method": "redvtp", "attention": "probe", "start": "after step 1"}


def frame(result: Result) -> pd.DataFrame:
    """The rows; those of stages that a harness could not measure have no numbers."""
    return pd.DataFrame(result.rows)


def pick(rows: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """The rows with these values."""
    for name, value in where.items():
        rows = rows[rows[name] == value]
    return rows


def one(rows: pd.DataFrame, **where: Any) -> Mapping[str, Any] | None:
    """The measured row with these values, or None."""
    found = pick(rows, **where)
    found = found[found["measured"].astype(bool)]
    return None if found.empty else found.iloc[0]


def main_image(rows: pd.DataFrame) -> str:
    """The image of most rows."""
    return rows["image"].mode().iloc[0]


def pruning(keep: float) -> dict[str, Any]:
    """Fields of our loop at a ratio."""
    return (UNPRUNED if keep == 1 else OURS) | {"keep": keep}


def caption(run: RunContext, result: Result, note: str = "") -> str:
    """How the numbers were taken, on what, and what they stand on."""
    about = result.provenance
    params = about["params"]
    parts = [
        f"{params['words']}, random weights, {params['dtype']}, fixed transfer schedule",
        f"medians of {params['rounds']} rounds after a warm-up, sides in turns, 95% intervals",
        f"{about['device']}, torch {about['versions']['torch']}" + (
            f", {about['threads']} threads" if about["link"] != "speed" else ""
        ),
        f"profile {run.profile.name}",
    ]
    return "; ".join(parts + [note] if note else parts)


def not_measured(axes: Any, place: float, words: str = "not measured") -> None:
    """Says so where a point or bar would stand."""
    axes.text(place, 0.03, words, rotation=90, fontsize=6.5, color=plots.GREY, ha="center", va="bottom",
              transform=axes.get_xaxis_transform())  # fmt: skip


def empty(axes: Any, bare: bool = True) -> None:
    """An axis none of whose rows were measured; ``bare`` takes its ticks away, which a shared axis needs."""
    if bare:
        axes.set(xticks=(), yticks=())
    axes.text(0.5, 0.5, "not measured", color=plots.GREY, ha="center", va="center", transform=axes.transAxes)


def table(result: Result) -> pd.DataFrame:
    """A line for each run, measured or not, in the order in which they were to be measured."""
    lines = []
    for row in result.rows:
        how = [row["method"], row["start"] if row["start"] not in ("none", "after step 1") else "",
               "maps written" if row["attention"] == "maps" and row["method"] != "official" else ""]  # fmt: skip
        lines.append(
            {
                "host": HOSTS.get(row["host"], row["host"]), "tokens / steps": f"{row['response']} / {row['steps']}",
                "image": row["image"], "batch": row["batch"], "variant": row["variant"], "cache": row["cache"],
                "method": ", ".join(part for part in how if part), "r": f"{row['keep']:.0%}",
                "loop, s": spread(row, "decoding_seconds", "decoding_iqr"),
                "latency, s": number(row["latency_seconds"]),
                "tokens/s": number(row["tokens_per_second"] or row["decoding_tokens_per_second"]),
                "speed-up of the loop": ranged(row, "decoding_speedup"),
                "latency cut, %": ranged(row, "latency_cut"),
                "FLOPs allow, %": number(row["bound_cut"]),
                "of the product's rate": percent(row["of_product"]),
                "peak, GB": number(None if row["peak_bytes"] is None else row["peak_bytes"] / 1e9),
                "break-even K": number(row["break_even_steps"]),
                "ours is": times(row["ours_speedup"]),
                "note": row["why"] if not row["measured"] else "composed" if row["composed"] else "",
            }
        )  # fmt: skip
    return pd.DataFrame(lines)


def stage_table(result: Result) -> pd.DataFrame:
    """A line for each stage."""
    return pd.DataFrame(
        {
            "host": HOSTS.get(row["host"], row["host"]), "stage": row["stage"], "r": f"{row['keep']:.0%}",
            "ms": number(None if row["seconds"] is None else 1e3 * row["seconds"]),
            "95% interval, ms": interval(row), "TFLOP/s": number(scaled(row.get("flops_per_second"), 1e-12)),
            "of the product's rate": percent(row.get("of_product")),
            "peak, GB": number(scaled(row.get("peak_bytes"), 1e-9)),
            "composed, s": number(row.get("composed_seconds")), "note": row["why"],
        }
        for row in result.rows
    )  # fmt: skip


def scaled(value: float | None, factor: float) -> float | None:
    """The product, or None."""
    return None if value is None else value * factor


def number(value: float | None) -> str:
    """Three digits, or that it was not measured."""
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def percent(value: float | None) -> str:
    """A share."""
    return "-" if value is None else f"{value:.0%}"


def times(value: float | None) -> str:
    """A factor."""
    return "-" if value is None else f"{value:.2f}x as fast"


def spread(row: Mapping[str, Any], value: str, iqr: str) -> str:
    """Median and IQR."""
    return "-" if row[value] is None else f"{row[value]:.3g} (IQR {row[iqr]:.2g})"


def ranged(row: Mapping[str, Any], value: str) -> str:
    """Median and interval."""
    if row[value] is None:
        return "-"
    return f"{row[value]:.3g} [{row[f'{value}_low']:.3g}, {row[f'{value}_high']:.3g}]"


def interval(row: Mapping[str, Any]) -> str:
    """Of a stage's milliseconds."""
    if row.get("seconds_low") is None:
        return "-"
    return f"{1e3 * row['seconds_low']:.3g} to {1e3 * row['seconds_high']:.3g}"
