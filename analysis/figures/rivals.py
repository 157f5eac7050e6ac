"""Rival methods and schedules: exact match over the compute of the published shape, and the study's tables in kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from analysis import plots, published
from analysis.comparisons import difference, holm, named, rate, sign_test
from analysis.figures import rates
from analysis.figures.fewer import caption
from analysis.profiles import RunContext
from analysis.results import Result
from analysis.rival_arms import DIVERSE, EARLY, EQUAL, HIDDEN, KEEP, LAST, LONG, NO_ANSWERS, ORIGINAL, STARTS

GROUPS = {
    "masked rows rate": {
        "redvtp": plots.METHODS["redvtp"],
        "staged": plots.Look("staged, as chosen", plots.RED, "*", ""),
        "llada_fastv": plots.Look("LLaDA-FastV", plots.GREEN, "s", "--"),
        "fastv": plots.Look("FastV, once", plots.ORANGE, "D", "-."),
        "fastv_each": plots.Look("FastV, each step", plots.SKY, "d", ":"),
        "maskkv": plots.Look("MaskKV (one set)", plots.PINK, "p", ":"),
    },
    "text or a guide rates": {
        "sparsevlm": plots.Look("SparseVLM, once", plots.GREEN, "s", "-."),
        "sparsevlm_each": plots.Look("SparseVLM, each step", plots.BLUE, "v", ":"),
        "pyramiddrop": plots.Look("PyramidDrop", plots.ORANGE, "^", ":"),
        "zipvl": plots.Look("ZipVL", plots.PINK, "h", "-."),
        "trim_projector": plots.Look("TRIM (projector)", plots.RED, "d", ":"),
        "sgl": plots.Look("SGL (AR guide)", plots.SKY, "P", "--"),
    },
    "likeness or norms": {
        "divprune": plots.Look("DivPrune", plots.PINK, "D", "--"),
        "tome": plots.Look("ToMe (projector)", plots.SKY, "v", "--"),
        "d3tom": plots.Look("D3ToM", plots.GREEN, "P", ":"),
        "vnorm": plots.Look("V-norm", plots.ORANGE, "<", ":"),
    },
    "controls, schedules": {
        "random": plots.Look("random", plots.GREY, "<", ":"),
        "uniform": plots.METHODS["uniform"],
        "oracle": plots.METHODS["oracle"],
        "vtw": plots.Look("VTW, once", plots.BLACK, "X", ":"),
        "vtw_each": plots.Look("VTW, each step", plots.PINK, "P", ":"),
        "late": plots.Look("late, half of the steps", plots.RED, "o", ":"),
        "layer_skipping": plots.Look("layer skipping", plots.ORANGE, "s", ":"),
    },
}
"""Methods as figures show them: in a column a group, told apart within it."""

LOOKS = {name: look for group in GROUPS.values() for name, look in group.items()} | {"none": plots.METHODS["none"]}
KEY = ("origin", "model", "family", "method", "keep", "start", "change", "steps", "comparison")
MEANS = ("score", "evidence_recall", "open", "tokens_fed", "flops_ratio", "tflops_8b", "share_8b", "after")
ORDER = ("first", *STARTS, LAST)
ALPHA = 0.05
ORIGINS = {"from_scratch": "from scratch", "autoregressive": "from an autoregressive model"}


def label(method: str) -> str:
    """A method as tables and figures name it."""
    return LOOKS.get(method, plots.look(method)).label


def frame(result: Result) -> pd.DataFrame:
    """A row for each model, family and arm; several seeds are pooled, intervals from the pooled answers.

    `share` is of unpruned exact match in as many steps; `p_holm` is the exact sign test's p of the difference, adjusted
    by Holm for all differences of the model at once (`tests`).
    """
    rows = pd.DataFrame(result.rows)
    rows = rows.assign(start=rows["start"].fillna("none"))
    found = []
    for key, part in rows.groupby(list(KEY), sort=False):
        n, hits = int(part["n"].sum()), round(float((part["exact_match"] * part["n"]).sum()))
        told = dict(zip(KEY, key)) | {"n": n} | named("exact_match", rate(hits, n))
        told |= {name: pd.to_numeric(part[name]).mean() for name in MEANS}
        if part["gained"].isna().all():
            apart = dict.fromkeys(("difference", "difference_low", "difference_high", "gained", "lost", "p"))
        else:
            gained, lost = int(part["gained"].sum()), int(part["lost"].sum())
            apart = named("difference", difference(gained, lost, n))
            apart |= {"gained": gained, "lost": lost, "p": sign_test(gained, lost)}
        found.append(told | apart)
    made = pd.DataFrame(found)
    numbers = ["difference", "difference_low", "difference_high", "p"]
    made[numbers] = made[numbers].astype(float)
    full = made[(made["method"] == "none") & (made["start"] == "none")].set_index(["model", "family", "steps"])
    whole = [full.loc[place, "exact_match"] for place in zip(made["model"], made["family"], made["steps"])]
    made["share"] = [own / all_ if all_ else float("nan") for own, all_ in zip(made["exact_match"], whole)]
    made["p_holm"], made["tests"] = float("nan"), 0
    for model in made["model"].unique():
        tested = made[(made["model"] == model) & made["p"].notna()].index
        made.loc[tested, "p_holm"] = holm(list(made.loc[tested, "p"]))
        made.loc[tested, "tests"] = len(tested)
    return made


def plain(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the study's tables: no intervention, no comparison, the family's own number of steps."""
    own = rows[(rows["change"] == "none") & (rows["comparison"] == "none")]
    most = own.groupby("family")["steps"].transform("max")
    return own[own["steps"] == most]


def models_of(rows: pd.DataFrame) -> list[str]:
    """Models in the result's order."""
    return list(dict.fromkeys(rows["model"]))


# figure


def draw(result: Result, run: RunContext) -> Any:
    """Exact match with its interval over the FLOPs of the same answers: a line of panels a model, a column a group of
    methods; RedVTP in grey in all of them. Long answers together: the families of many steps that all methods have."""
    plots.use_style()
    rows = frame(result)
    shown = rows[rows["family"].isin(rows.loc[rows["method"] == "redvtp", "family"].unique())]
    shown = shown if len(shown) else rows
    long = shown[shown.groupby("family")["steps"].transform("max") > 2]
    shown = _together(long if len(long) else shown)
    models = models_of(shown)
    groups = {name: looks for name, looks in GROUPS.items() if shown["method"].isin(looks).any()}
    figure, axes = plt.subplots(len(models), len(groups), sharex=True, sharey=True, squeeze=False,
                                figsize=(plots.WIDTH["page"], 2.2 + 1.9 * len(models)))  # fmt: skip
    for line, model in zip(axes, models):
        for axis, looks in zip(line, groups.values()):
            own = shown[shown["model"] == model]
            _draw_panel(axis, own, looks)
            axis.set_title(model, fontsize=8.5)
            axis.set(ylim=(-0.03, 1.05), xscale="log", xlim=(0.13, 1.2))
            axis.set_xticks((0.15, 0.25, 0.5, 1), labels=("15%", "25%", "50%", "100%"))
            axis.minorticks_off()
        line[0].set_ylabel("exact match")
    for axis, (name, looks) in zip(axes[0], groups.items()):
        handles, labels = _legend(axes.flat, looks)
        axis.legend(handles, labels, title=name, title_fontsize=7.5, loc="lower center", bbox_to_anchor=(0.5, 1.12),
                    fontsize=6.5, handlelength=2.2)  # fmt: skip
    for axis in axes[-1]:
        axis.set_xlabel("FLOPs, of unpruned")
    names = rates.listed(dict.fromkeys(long["family"] if len(long) else rows["family"]))
    note = (
        f"{names} together (late, layer skipping: {rates.listed(LONG)}); line: no pruning, grey: RedVTP; filled: as "
        "early as the method can, a line joins its ratios; hollow: the same at 25% (VTW: 0%) from a quarter, half or "
        "three quarters of the steps, or the last step; bars: 95% Wilson intervals; FLOPs of these answers by this "
        "model, counted; SGL's guide comes on top; all steps are taken"
    )
    plots.add_caption(figure, caption(run, result, note))
    return figure


def _together(rows: pd.DataFrame) -> pd.DataFrame:
    """Families pooled: hits with their interval, means of FLOPs. Arms that not all families have are left out, but for
    late pruning and layer skipping, which have families of their own."""
    most = rows.groupby("family")["steps"].transform("max")
    rows, found = rows[rows["steps"] == most], []
    by = ["origin", "model", "method", "keep", "start", "change", "comparison"]
    count = rows.groupby("model")["family"].nunique()
    for key, part in rows.groupby(by, sort=False):
        told = dict(zip(by, key))
        if part["family"].nunique() == count[told["model"]] or told["comparison"] == EQUAL:
            n, hits = int(part["n"].sum()), round(float((part["exact_match"] * part["n"]).sum()))
            told |= {"n": n, "flops_ratio": float(part["flops_ratio"].mean())}
            found.append(told | named("exact_match", rate(hits, n)))
    return pd.DataFrame(found)


def _draw_panel(axis: Any, rows: pd.DataFrame, looks: dict[str, plots.Look]) -> None:
    common = {"capsize": 1.2, "elinewidth": 0.5, "linewidth": 1.0, "markersize": 4}
    plain = rows[(rows["change"] == "none") & (rows["comparison"] == "none")]
    whole = plain[(plain["method"] == "none") & (plain["start"] == "none")]
    axis.axhline(whole["exact_match"].iloc[0], color=plots.BLACK, linewidth=0.8)
    base = plain[(plain["method"] == "redvtp") & (plain["start"] == "first")].sort_values("flops_ratio")
    if "redvtp" not in looks:
        axis.plot(base["flops_ratio"], base["exact_match"], color=plots.GREY, linewidth=2.2, alpha=0.45, marker=".")
    for method, look in looks.items():
        own = plain[(plain["method"] == method) & (plain["start"] != "none")]
        is_early = own["start"] == "first"
        early, late = own[is_early].sort_values("flops_ratio"), own[~is_early]
        if len(early):
            axis.errorbar(early["flops_ratio"], early["exact_match"], yerr=rates.bars(early, "exact_match"),
                          **common, **look.line())  # fmt: skip
        hollow = pd.concat([late, rows[(rows["comparison"] == "equal compute") & (rows["method"] == method)]])
        if len(hollow):
            line = look.line() | {"linestyle": "", "label": look.label if early.empty else None}
            axis.errorbar(hollow["flops_ratio"], hollow["exact_match"], yerr=rates.bars(hollow, "exact_match"),
                          markerfacecolor="white", **common, **line)  # fmt: skip


def _legend(axes: Any, looks: dict[str, plots.Look]) -> tuple[list[Any], list[str]]:
    found = {name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels())}
    labels = [look.label for look in looks.values() if look.label in found]
    return [found[label] for label in labels], labels


# tables


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
    mark = "†" if row["p_holm"] < ALPHA else ""
    value, low, high = (100 * row[f"exact_match{end}"] for end in ("", "_low", "_high"))
    return f"{value:.0f}{mark} [{low:.0f}, {high:.0f}]"


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


# sentences


def sentence(result: Result) -> str:
    """What each model shows: the methods from the first step, late starts, interventions, equal compute."""
    rows = frame(result)
    told = [" ".join(_of_model(rows[rows["model"] == model])) for model in models_of(rows)]
    return "\n\n".join(told) + _skipped(result)


def _skipped(result: Result) -> str:
    missing = result.provenance["params"].get("skipped") or []
    return f"\n\nNot run, for its folder is not there: {rates.listed(missing)}." if missing else ""


def _of_model(rows: pd.DataFrame) -> Iterator[str]:
    long = rows[rows["family"].isin(LONG)]
    own = plain(long)
    yield (
        f"**{rows['model'].iloc[0]}** ({ORIGINS[rows['origin'].iloc[0]]}, n = {int(rows['n'].min())} a family, "
        f"{rates.listed(dict.fromkeys(long['family']))}):"
    )
    first = own[(own["start"] == "first") & (own["keep"] == KEEP)]
    if len(first):
        ranked = first.groupby("method", sort=False)["share"].mean().sort_values(ascending=False)
        told = rates.listed(f"{label(method)} {share:.0%}" for method, share in ranked.items())
        yield (
            f"with {KEEP:.0%} of the visual tokens, pruned as early as each method can, these shares of the unpruned "
            f"rate of right answers are left: {told}."
        )
    stay = long[long["comparison"] == ORIGINAL]
    if len(stay):
        ranked = stay.groupby("method", sort=False)["share"].mean().sort_values(ascending=False)
        told = rates.listed(f"{label(method)} {share:.0%}" for method, share in ranked.items())
        yield f"With tokens left at their positions instead of re-numbered: {told}."
    half = own[own["start"] == "half"]
    if len(half):
        shares = half.groupby("method", sort=False)["share"].mean()
        told = rates.listed(f"{label(method)} {share:.0%}" for method, share in shares.items())
        masked = half["open"].mean()
        yield (
            f"Pruned from half of the steps on: {told}. Then {masked:.0%} of the answer's tokens are still masked"
            + (": the answer is written last, so for it a late start is none." if masked > 0.99 else ".")
        )
    yield from _causes(long)
    yield from _equal_compute(long)
    few = long[(long["method"] == "vtw") & (long["change"] == "none") & (long["start"] == "half")]
    if few["steps"].nunique() > 1:
        shares = few.groupby("steps")["share"].mean()
        told = rates.listed(f"{share:.0%} in {steps} steps" for steps, share in shares.items())
        yield f"With VTW from half of them on, {told} of the unpruned rate are left."


EQUAL_COMPUTE = {
    EQUAL: "ranked by masked rows",
    DIVERSE: "with DivPrune's choice",
    EARLY: "ranked by masked rows after the first layer",
}


def _equal_compute(long: pd.DataFrame) -> Iterator[str]:
    told = []
    for comparison, how in EQUAL_COMPUTE.items():
        rates_of = long[long["comparison"] == comparison].groupby("method")["exact_match"].mean()
        if {"late", "layer_skipping"} <= set(rates_of.index):
            told.append(f"{how} {rates_of['late']:.0%} against {rates_of['layer_skipping']:.0%}")
    if told:
        yield f"At about equal FLOPs late pruning is right, against layer skipping: {rates.listed(told)}."


def _causes(long: pd.DataFrame) -> Iterator[str]:
    bases = {"vtw": "with visual tokens withdrawn as well", "none": "with all visual tokens there"}
    for change in (NO_ANSWERS, HIDDEN):
        changed = long[long["change"] == change]
        told = [f"{base} {rates.listed(_points(row) for row in changed[changed['method'] == method].itertuples())}"
                for method, base in bases.items()]  # fmt: skip
        if len(changed):
            yield f"{change.capitalize()} from half of the steps on changes exact match, {'; '.join(told)}."
    floor = long[(long["method"] == "vtw") & (long["change"] == "none") & (long["start"] == "half")]
    if len(floor) and bool((floor["exact_match_high"] < 0.2).all()):
        yield "With visual tokens withdrawn hardly an answer is right already, so no further loss could show."


def _points(row: Any) -> str:
    low, high = 100 * row.difference_low, 100 * row.difference_high
    return f"in {row.family} by {100 * row.difference:+.0f} points [{low:.0f}, {high:.0f}]"


def order_sentence(order: Result) -> str:
    """Whether the methods' order is the study's."""
    if not order.rows:
        return "The order of methods is compared with the study's where both sides have at least three: here nowhere."
    told = []
    for row in order.rows:
        beside = f"{row['model']} beside {row['published']}, {row['start']} at {row['keep']:.0%}"
        if row["among"] == "shared":
            told.append(f"{beside}, {row['methods']} methods: {_tau(row)}")
        elif row["methods"] < max(one["methods"] for one in order.rows if _same_column(one, row)):
            told[-1] += f"; the {row['methods']} of the same algorithm: {_tau(row)}"
    return (
        "Kendall's tau of the methods' order with the published 8B one (95% bootstrap over the study's benchmarks and "
        f"our samples): {'. '.join(told)}. With so few methods only a tau near 1 is more than chance."
    )


def _same_column(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[name] == other[name] for name in ("model", "published", "start", "keep"))


def _tau(row: dict[str, Any]) -> str:
    if row["kendall"] is None:
        return "none, all values of one side are equal"
    low, high = row["kendall_low"], row["kendall_high"]
    return f"{row['kendall']:+.2f} [{low:+.2f}, {high:+.2f}], which {row['chance']:.0%} of random orders reach"


# cost of scoring

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
