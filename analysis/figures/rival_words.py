"""What the study of rival methods shows, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.figures import rates
from analysis.figures.rival_rows import frame, label, models_of, plain
from analysis.results import Result
from analysis.rival_arms import DIVERSE, EARLY, EQUAL, HIDDEN, KEEP, LONG, NO_ANSWERS, ORIGINAL

ORIGINS = {"from_scratch": "from scratch", "autoregressive": "from an autoregressive model"}


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
