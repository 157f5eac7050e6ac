"""The redundancy study's tables in kind, its published cells beside ours, and what selecting costs."""

from __future__ import annotations

import json

import pandas as pd

from analysis import published
from analysis.figures import rates
from analysis.figures.fewer import caption
from analysis.figures.rival_rows import ALPHA, KEY, MEANS, frame, label, models_of, plain
from analysis.profiles import RunContext
from analysis.results import Result
from analysis.rival_arms import LAST, LONG, ORIGINAL, STARTS

ORDER = ("first", *STARTS, LAST)


def table(result: Result) -> pd.DataFrame:
    """Tables 1 and 2 in kind: pruned as early as each method can. A line a model, method and ratio.

    A column a family: exact match in percent, † where its difference to unpruned is significant after Holm. Then the
    mean share of the unpruned rate over these families, the study's mean share over its benchmarks, and FLOPs.
    """
    every = frame(result)
    rows = plain(every)
    rows = rows[rows["start"].isin(["none", "first"])]
    wide = list(dict.fromkeys(rows.loc[rows["start"] == "first", "family"]))
    lines = []
    for model in models_of(rows):
        of_model = rows[(rows["model"] == model) & rows["family"].isin(wide)]
        for method, keep in of_model[["method", "keep"]].drop_duplicates().itertuples(index=False):
            part = of_model[(of_model["method"] == method) & (of_model["keep"] == keep)].set_index("family")
            cost = part.loc[LONG[0] if LONG[0] in part.index else part.index[0]]
            lines.append(
                {"model": model, "method": label(method), "r": f"{keep:.0%}"}
                | {family: _cell(part.loc[family]) if family in part.index else None for family in wide}
                | {"share of unpruned": f"{part['share'].mean():.0%}",
                   "8B study": _printed_average(part["origin"].iloc[0], method, keep),
                   "FLOPs": f"{cost['flops_ratio']:.0%}", "8B TFLOPs": cost["tflops_8b"], "8B share": cost["share_8b"]}
            )  # fmt: skip
    return pd.DataFrame(lines)


def _cell(row: pd.Series) -> str:
    return rates.percent(row, "†" if row["p_holm"] < ALPHA else "")


def _printed_average(origin: str, method: str, keep: float) -> str | None:
    wanted = (origin, published.AVERAGE, method, keep)
    found = [one.share for one in published.scores() if (one.origin, one.benchmark, one.method, one.keep) == wanted]
    return f"{found[0]:.0%}" if found else None


def late_table(result: Result) -> pd.DataFrame:
    """Table 3 in kind: a line a model, family and method, a column a start; shares of unpruned, the study's beside.

    The first line of each family tells how much of the answer is still masked when pruning begins.
    """
    rows = plain(frame(result))
    late = rows[~rows["start"].isin(["none", "first"])]
    lines = []
    for (model, family), part in late.groupby(["model", "family"], sort=False):
        starts = [start for start in ORDER[1:] if start in set(part["start"])]
        early = rows[(rows["model"] == model) & (rows["family"] == family) & (rows["start"] == "first")]
        masked = {start: part.loc[part["start"] == start, "open"].iloc[0] for start in starts}
        told = {start: None if pd.isna(share) else f"{share:.0%}" for start, share in masked.items()}
        lines.append({"model": model, "family": family, "method": "(answer still masked)"} | told)
        for method in dict.fromkeys(part["method"]):
            own = part[part["method"] == method].set_index("start")
            keep = own["keep"].iloc[0]
            first = early[(early["method"] == method) & (early["keep"] == keep)]
            line = {"model": model, "family": family, "method": f"{label(method)} {keep:.0%}"}
            line["first"] = _share(first.iloc[0]) if len(first) else None
            for start in starts:
                line[start] = _share(own.loc[start]) if start in own.index else None
                line[f"8B {start}"] = _printed(own["origin"].iloc[0], family, method, keep, start)
            lines.append(line)
    starts = [name for start in ORDER for name in (start, f"8B {start}")]
    found = pd.DataFrame(lines, columns=["model", "family", "method", *starts])
    return found.dropna(axis=1, how="all")


def _share(row: pd.Series) -> str:
    return f"{row['share']:.0%}{'†' if row['p_holm'] < ALPHA else ''}"


def _printed(origin: str, family: str, method: str, keep: float, start: str) -> str | None:
    wanted = (origin, method, keep, start, family)
    found = [one for one in published.scores()
             if (one.origin, one.method, one.keep, one.start, published.MIRRORS.get(one.benchmark)) == wanted]
    return f"{found[0].share:.0%} ({found[0].score:g})" if found else None


def causes_table(result: Result) -> pd.DataFrame:
    """Interventions, fewer steps, and equal compute: exact match and its paired difference, a line each."""
    rows = frame(result)
    most = rows.groupby("family")["steps"].transform("max")
    rows = rows[rows["family"].isin(LONG)]
    own = rows["start"].isin(["none", "half"]) & rows["method"].isin(["none", "vtw"])
    apart = (rows["change"] != "none") | (rows["comparison"] != "none") | (rows["steps"] < most[rows.index])
    chosen = rows[apart | own]
    chosen = chosen.assign(arm=[label(method) for method in chosen["method"]])
    return chosen[["model", "family", "arm", "keep", "start", "change", "steps", "comparison", "n", "exact_match",
                   "exact_match_low", "exact_match_high", "difference", "difference_low", "difference_high", "p_holm",
                   "open", "flops_ratio", "share_8b"]]  # fmt: skip


def positions_table(result: Result) -> pd.DataFrame:
    """The five methods at 25% with tokens re-numbered and left where they were: exact match in percent, differences
    to unpruned in points; where the run has it."""
    rows, lines = frame(result), []
    for row in rows[rows["comparison"] == ORIGINAL].itertuples():
        like = plain(rows)
        like = like[(like["model"] == row.model) & (like["family"] == row.family) & (like["method"] == row.method)
                    & (like["keep"] == row.keep) & (like["start"] == row.start)].iloc[0]  # fmt: skip
        own = rows.loc[row.Index]
        lines.append(
            {"model": row.model, "family": row.family, "method": label(row.method), "r": f"{row.keep:.0%}",
             "compact": _cell(like), "original": _cell(own),
             "compact - unpruned": f"{100 * like['difference']:+.0f}",
             "original - unpruned": f"{100 * own['difference']:+.0f}"}
        )  # fmt: skip
    columns = ["model", "family", "method", "r", "compact", "original", "compact - unpruned", "original - unpruned"]
    return pd.DataFrame(lines, columns=columns)


def published_table(result: Result) -> pd.DataFrame:
    """Each cell of the study whose benchmark has a family that mirrors it, beside ours: shares of unpruned."""
    rows = plain(frame(result))
    lines = []
    for one in published.scores():
        family = published.MIRRORS.get(one.benchmark)
        ours = rows[(rows["origin"] == one.origin) & (rows["family"] == family) & (rows["method"] == one.method)
                    & (rows["keep"] == one.keep) & (rows["start"] == (one.start or "none"))]  # fmt: skip
        for row in ours.itertuples():
            lines.append(
                {"8B model": one.model, "benchmark": one.benchmark, "method": label(one.method), "r": f"{one.keep:.0%}",
                 "start": one.start, "8B score": one.score, "8B share": one.share, "8B time saved (%)": one.faster,
                 "mini model": row.model, "family": family, "exact match": row.exact_match,
                 "low": row.exact_match_low, "high": row.exact_match_high, "mini share": row.share}
            )  # fmt: skip
    return pd.DataFrame(lines)


def order_table(order: Result) -> pd.DataFrame:
    """Kendall's tau of the methods' order, ours and the study's."""
    columns = ["model", "published", "start", "keep", "among", "methods", "n", "kendall", "kendall_low", "kendall_high",
               "chance", "order", "published_order"]  # fmt: skip
    return pd.DataFrame(order.rows, columns=None if order.rows else columns)[columns]


def long_table(result: Result) -> pd.DataFrame:
    """Every number."""
    columns = [*KEY, "n", "exact_match", "exact_match_low", "exact_match_high", "difference", "difference_low",
               "difference_high", "gained", "lost", "p", "p_holm", "tests", *MEANS]  # fmt: skip
    return frame(result)[columns]


def table_caption(run: RunContext, result: Result, note: str) -> str:
    """What a table's numbers are, after ``note``."""
    mark = (f"†: the paired difference to unpruned is significant (exact sign test, p below {ALPHA} after Holm's "
            "adjustment for all differences of the model)")  # fmt: skip
    return caption(run, result, f"{note}; {mark}")


PARTS = ("probe", "select", "apply", "total")


def scoring_table(run: RunContext) -> pd.DataFrame | None:
    """What selecting costs as a share of one forward, as `python -m analysis.scoring_cost --json` printed it.

    It is read from scoring_cost.jsonl beside the committed results, never measured here; None where there is none.
    """
    path = run.reference / "scoring_cost.jsonl"
    if not path.is_file():
        return None
    rows = pd.DataFrame([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()])
    rows = rows.sort_values("share", kind="stable")
    told = {"method": [label(method) for method in rows["method"]], "reads attention": rows["reads_attention"]}
    told |= {f"{part} (ms)": 1000 * rows[part] for part in PARTS}
    told |= {"share of a forward": rows["share"], "limit": rows["limit"], "within": rows["within"]}
    return pd.DataFrame(told)
