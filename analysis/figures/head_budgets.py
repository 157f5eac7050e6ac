"""MaskKV's budgets by head and layer beside one set of tokens for all heads, at as many cached keys and values."""

from __future__ import annotations

import pandas as pd

from analysis.comparisons import difference, holm, named, rate, sign_test
from analysis.figures import rates
from analysis.figures.fewer import caption
from analysis.head_budgets import BASE
from analysis.profiles import RunContext
from analysis.results import Result

ALPHA = 0.05
ALL = "all"
NAMES = {
    "redvtp": "RedVTP",
    BASE: "RedVTP, original positions",
    "maskkv": "MaskKV, one set",
    "maskkv_heads": "MaskKV, by head",
    "maskkv_heads_layers": "MaskKV, by head and layer",
}


def frame(result: Result) -> pd.DataFrame:
    """A row for each model, family, method and ratio, and one for each model's families together (`all`); several seeds
    are pooled. `p_holm` is the exact sign test's of the difference to RedVTP with original positions, adjusted for all
    differences of the same kind: all families by themselves, or all models."""
    raw = pd.DataFrame(result.rows)
    found = []
    for family in [*dict.fromkeys(raw["family"]), ALL]:
        rows = raw if family == ALL else raw[raw["family"] == family]
        for (model, method, keep), part in rows.groupby(["model", "method", "keep"], sort=False):
            n, hits = int(part["n"].sum()), round(float((part["exact_match"] * part["n"]).sum()))
            row = {"model": model, "family": family, "method": method, "keep": keep, "n": n}
            row |= named("exact_match", rate(hits, n))
            row |= {name: float(part[name].mean()) for name in ("held", "flops_ratio")}
            if part["gained"].notna().all():
                gained, lost = int(part["gained"].sum()), int(part["lost"].sum())
                row |= named("from_original", difference(gained, lost, n)) | {"p": sign_test(gained, lost)}
            found.append(row)
    made = pd.DataFrame(found)
    made["p_holm"] = float("nan")
    for kind in (made["family"] == ALL, made["family"] != ALL):
        tested = made.index[kind & made["p"].notna() & (made["method"] != "none")]
        made.loc[tested, "p_holm"] = holm(list(made.loc[tested, "p"]))
    return made


def table(result: Result) -> pd.DataFrame:
    """A line a model, family and ratio: exact match in percent, a column a method; † where it differs from RedVTP with
    original positions."""
    rows, lines = frame(result), []
    for (model, family), part in rows.groupby(["model", "family"], sort=False):
        full = rates.row_of(part, method="none")
        for keep in dict.fromkeys(part.loc[part["method"] != "none", "keep"]):
            at = part[part["keep"] == keep]
            line = {"model": model, "family": family, "keys and values": f"{keep:.0%}", "n": int(full["n"])}
            line |= {"unpruned": f"{full['exact_match']:.0%}"}
            lines.append(line | {name: _cell(rates.row_of(at, method=method)) for method, name in NAMES.items()})
    return pd.DataFrame(lines)


def _cell(row: pd.Series) -> str:
    return rates.percent(row, _mark(row))


def table_caption(run: RunContext, result: Result) -> str:
    """What the table's columns are."""
    return caption(
        run, result,
        "exact match in percent with Fast-dLLM's prefix cache, at as many cached keys and values of visual tokens; "
        "brackets: 95% Wilson intervals; †: differs from RedVTP with original positions (exact sign test on the same "
        f"samples, p below {ALPHA} after Holm's adjustment)",
    )  # fmt: skip


def sentence(result: Result) -> str:
    """What budgets by head add at the smallest share."""
    rows = frame(result)
    keep = rows["keep"].min()
    rows, told = rows[(rows["family"] == ALL) & (rows["keep"] == keep)], []
    for method in ("maskkv", "maskkv_heads", "maskkv_heads_layers"):
        texts = [f"{row['model']} {_points(row)}" for _, row in rows[rows["method"] == method].iterrows()]
        told.append(f"{NAMES[method]} {rates.listed(texts)}")
    return (
        f"With {keep:.0%} of the visual tokens' keys and values in Fast-dLLM's prefix cache, beside RedVTP with "
        f"original positions: {'; '.join(told)}. Points of exact match over all families, paired, 95% intervals in "
        "brackets; † where the exact sign test, Holm-adjusted, tells them apart. The cache stays dense here: budgets "
        "by head save memory on paper only. Small models."
    )


def _points(row: pd.Series) -> str:
    return rates.points(row, "from_original", _mark(row))


def _mark(row: pd.Series) -> str:
    return "†" if row["p_holm"] < ALPHA else ""
