"""Caches beside pruning: exact match over the compute of the published shape, a line a cache, and the table."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from analysis import plots
from analysis.figures import rates
from analysis.figures.fewer import caption
from analysis.profiles import RunContext
from analysis.results import Result

LOOKS = {
    "none": plots.Look("no cache", plots.BLACK, "o", "-"),
    "none_blocks": plots.Look("no cache (blocks of 8)", plots.GREY, "x", ":"),
    "prefix": plots.Look("prefix-DLM", plots.BLUE, "s", "--"),
    "prefix_reencode": plots.Look("prefix-DLM re-encoded", plots.SKY, "D", (0, (5, 1))),
    "fast_dllm": plots.Look("Fast-dLLM prefix", plots.RED, "^", "-."),
    "fast_dllm_dual": plots.Look("Fast-dLLM dual (blocks of 8)", plots.ORANGE, "v", ":"),
    "dllm_cache": plots.Look("dLLM-Cache", plots.GREEN, "P", (0, (3, 1, 1, 1))),
}
BY = ("model", "family", "cache", "method", "keep")
KEEP = 0.25     # the ratio that the sentence tells
LITTLE = 0.2    # of a cached run's FLOPs: where pruning saves less, it adds little to the cache
LONG = "doc"    # its protocol, 32 tokens in 16 steps, is the one whose FLOPs the sentence tells


def frame(result: Result) -> pd.DataFrame:
    """A row for each model, family, cache and ratio; several seeds are pooled."""
    rows = pd.DataFrame(result.rows)
    hosts = dict(zip(rows["model"], rows["host"]))
    numbers = [name for name in rows if name.startswith(("difference", "from_unpruned"))]
    rows[numbers] = rows[numbers].astype(float)
    found = rates.pooled(rows, BY)
    return found.assign(host=found["model"].map(hosts))


def front(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that no other beats: none is as right for less compute, none more right for the same; cheapest first."""
    kept, best = [], -1.0
    ordered = rows.sort_values(["share_8b", "exact_match"], ascending=[True, False])
    for place, row in ordered.iterrows():
        if row["exact_match"] > best:
            kept.append(place)
            best = row["exact_match"]
    return rows.loc[kept]


def draw(result: Result, run: RunContext) -> Any:
    """Exact match with 95% intervals over the FLOPs of the published shape: a line of panels a model."""
    plots.use_style()
    rows = frame(result)
    models, families = (list(rows[name].unique()) for name in ("model", "family"))
    figure, axes = plt.subplots(len(models), len(families), sharex=True, sharey=True, squeeze=False,
                                figsize=(plots.WIDTH["page"], 1.2 + 2.2 * len(models)))  # fmt: skip
    for line, model in zip(axes, models):
        for axis, family in zip(line, families):
            _draw_panel(axis, rows[(rows["model"] == model) & (rows["family"] == family)])
            axis.set(title=f"{model}, {family}", ylim=(-0.03, 1.03))
        line[0].set_ylabel("exact match")
    for axis in axes[-1]:
        axis.set(xscale="log", xlabel="FLOPs at the 8B shape, share")
        axis.set_xticks((0.05, 0.1, 0.25, 0.5, 1), labels=("5%", "10%", "25%", "50%", "100%"))
        axis.minorticks_off()
    figure.legend(*rates.legend_of(axes.flat), loc="outside upper center", ncols=4, fontsize=7)
    note = ("a line joins RedVTP at r = 100% (filled), 50%, 25% and 10%; bars: 95% Wilson intervals; grey steps: the "
            "Pareto front; FLOPs: the published 8B shape, counted, relative to no cache and no pruning")  # fmt: skip
    plots.add_caption(figure, caption(run, result, note))
    return figure


def _draw_panel(axis: Any, rows: pd.DataFrame) -> None:
    best = front(rows)
    ends = [*best["share_8b"], rows["share_8b"].max()], [*best["exact_match"], best["exact_match"].iloc[-1]]
    axis.step(*ends, where="post", color="#CCCCCC", linewidth=4, zorder=1)
    for cache, look in LOOKS.items():
        part = rows[rows["cache"] == cache].sort_values("share_8b", ascending=False)
        if part.empty:
            continue
        axis.errorbar(part["share_8b"], part["exact_match"], yerr=rates.bars(part, "exact_match"), capsize=1.2,
                      elinewidth=0.5, linewidth=1.1, markersize=4, markerfacecolor="white", **look.line())  # fmt: skip
        full = part[part["keep"] == 1.0]
        axis.plot(full["share_8b"], full["exact_match"], color=look.color, marker=look.marker, markersize=4,
                  linestyle="", zorder=3)  # fmt: skip


def table(result: Result) -> pd.DataFrame:
    """A line a model, cache and ratio: a column a family, then the cost at the longest family's protocol.

    Scores are in percent. † marks those whose difference in exact match from the same ratio without a cache excludes
    zero, ‡ those whose difference from the same cache without pruning does.
    """
    rows = frame(result)
    families, lines = list(rows["family"].unique()), []
    for model in rows["model"].unique():
        of_model = rows[rows["model"] == model]
        for cache, keep in of_model[["cache", "keep"]].drop_duplicates().itertuples(index=False):
            part = of_model[(of_model["cache"] == cache) & (of_model["keep"] == keep)].set_index("family")
            cost = part.loc[LONG if LONG in part.index else part.index[0]]
            lines.append(
                {"model": model, "cache": LOOKS[cache].label, "r": f"{keep:.0%}"}
                | {name: _cell(part.loc[name]) if name in part.index else None for name in families}
                | {"tokens fed": cost["tokens_fed"], "8B TFLOPs": cost["tflops_8b"], "8B share": cost["share_8b"],
                   "saved by pruning": cost["saved_8b"], "CPU time": cost["seconds_ratio"]}
            )  # fmt: skip
    return pd.DataFrame(lines)


def _cell(row: pd.Series) -> str:
    marks = "".join(mark for mark, name in (("†", "difference"), ("‡", "from_unpruned")) if moved(row, name))
    return f"{100 * row['score']:.1f}{marks}"


def moved(row: pd.Series, name: str) -> bool:
    """Whether a paired difference excludes zero; one that is not defined does not."""
    return bool(row[f"{name}_low"] > 0 or row[f"{name}_high"] < 0)


def table_caption(run: RunContext, result: Result) -> str:
    """What the table's columns are."""
    return caption(
        run, result,
        "score: the family's own metric in percent; †: exact match differs from the same ratio without a cache, ‡: "
        "from the same cache without pruning (95% intervals of paired differences exclude zero, one by one); tokens "
        f"and costs: {LONG}; FLOPs: the published 8B shape, 32 tokens in 16 steps; CPU time: of the mini model beside "
        "other work, not for comparison",
    )  # fmt: skip


def sentence(result: Result) -> str:
    """What caches cost in answers, what pruning still saves beside each, and where it adds little."""
    rows = frame(result)
    return "\n\n".join(_of_model(rows[rows["model"] == model]) for model in rows["model"].unique())


def _of_model(rows: pd.DataFrame) -> str:
    model, long = rows["model"].iloc[0], rows[rows["family"] == LONG]
    full, pruned = (long[long["keep"] == keep].set_index("cache") for keep in (1.0, KEEP))
    cached = [cache for cache in LOOKS if cache in full.index and not cache.startswith("none")]

    def told(cache: str) -> str:
        return (f"{LOOKS[cache].label} {full.loc[cache, 'share_8b']:.0%}, {pruned.loc[cache, 'share_8b']:.0%} with "
                f"pruning ({pruned.loc[cache, 'saved_8b']:.0%} saved)")  # fmt: skip

    saved = pruned["saved_8b"]
    little = [LOOKS[cache].label for cache in cached if 0 <= saved[cache] < LITTLE]
    dearer = [LOOKS[cache].label for cache in cached if saved[cache] < 0]
    alone = pruned.loc["none", "share_8b"]
    below = [LOOKS[cache].label for cache in cached if full.loc[cache, "share_8b"] < alone]
    parts = [
        f"On {model} (n = {int(rows['n'].min())} a family), FLOPs of the published 8B shape at 32 tokens in 16 steps, "
        f"of the run without cache and pruning: RedVTP at {KEEP:.0%} alone {alone:.0%}; "
        f"{'; '.join(told(cache) for cache in cached)}.",
        f"Once the prompt is cached pruning adds little (less than {LITTLE:.0%} of what is left) with "
        f"{rates.listed(little, 'none of the caches')}: step 1 computes every visual token before the cut, and the "
        f"steps after it compute none."
        + (f" It makes {rates.listed(dearer)} dearer: the pruned prompt is encoded once more." if dearer else ""),
        f"The cache alone is cheaper than pruning alone with {rates.listed(below, 'none')}.",
    ]
    return " ".join(parts + [_losses(rows, cached)])


def _losses(rows: pd.DataFrame, cached: list[str]) -> str:
    """Which caches change answers by themselves, and where pruning with one loses more than the cache alone."""

    def named(name: str, keep: float) -> str:
        part = rows[(rows["keep"] == keep) & rows["cache"].isin(cached)]
        found = [f"{LOOKS[row['cache']].label} in {row['family']} ({100 * row[name]:+.0f} points)"
                 for _, row in part.iterrows() if moved(row, name)]  # fmt: skip
        return rates.listed(found, "none")

    return (
        f"Exact match differs from the same run without a cache (95% intervals of paired differences exclude zero, one "
        f"by one): unpruned {named('difference', 1.0)}; at {KEEP:.0%} {named('difference', KEEP)}. It differs from the "
        f"same cache unpruned, at {KEEP:.0%}: {named('from_unpruned', KEEP)}."
    )
