"""Whether the mini models put the methods in the order in which the published study puts them on 8B models.

Each row compares one column of the study's tables: methods at one ratio from the first step on (Tables 1 and 2), or at
25% from a later start (Table 3). On each side a method's value is the mean share of the unpruned score: of the study's
benchmarks, of our families (exact match). `kendall` is Kendall's tau-b of the two lists; `low` and `high` are the ends
of a percentile bootstrap (95%) in which the study's benchmarks and our samples, family by family, are drawn anew with
replacement, both each time. It says how far the number hangs on the choice of benchmarks and samples; `undefined` is
the share of draws in which all of one side's values were equal. With few methods no order is far from chance:
`chance` is how often our values, dealt out to the methods at random, have a tau as large or larger.

`among`: all methods that both sides have (`shared`), or those that run the same algorithm on both (`alike`): ToMe and
TRIM work in the projector's space here, in the study in the vision tower and in a text tower.

Origins are compared with their like: from-scratch models with LLaDA-V, autoregressive ones with LaViDa-Dream.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from scipy import stats

from analysis import answers, paths, published, rival_arms, rivals, storage
from analysis.command import command
from analysis.comparisons import RESAMPLES
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row

BY = ("model", "published", "start", "keep", "among")
AMONG = {"shared": None, "alike": ("fastv", "sparsevlm", "divprune", "vtw")}
LEAST = 3  # methods; two have an order, but no correlation
SEED = 0

Table = dict[str, dict[str, np.ndarray]]
"""``{method: {family: right or wrong, by sample}}`` of ours, ``{method: {benchmark: one share}}`` of the study's."""


def columns(rows: Sequence[Row]) -> Iterator[tuple[str, float]]:
    """(start, ratio) of what our rows have under pruning."""
    found = dict.fromkeys((row["start"], row["keep"]) for row in rows if _plain(row) and row["method"] != "none")
    return ((start, keep) for start, keep in found if keep > 0)


def _plain(row: Row) -> bool:
    """Whether a row belongs to the tables, and to no intervention or comparison."""
    return row["change"] == row["comparison"] == "none" and row["steps"] != rival_arms.FEW


def ours(rows: Sequence[Row], start: str, keep: float) -> Table:
    """Our side of a column; VTW, which keeps none, belongs to each ratio of a late start."""
    found: dict[str, dict[str, dict]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        ratio = row["keep"] or (keep if start != "first" else 0.0)
        if _plain(row) and (row["method"] == "none" or (row["start"], ratio) == (start, keep)):
            found[row["method"]][row["family"]][row["seed"], row["index"]] = bool(row["exact_match"])
    return {
        method: {family: np.array([right[one] for one in sorted(right)], float) for family, right in own.items()}
        for method, own in found.items()
    }


def theirs(origin: str, start: str, keep: float) -> Table:
    """The study's side."""
    found: Table = defaultdict(dict)
    for one in published.scores():
        ratio = one.keep or (keep if start != "first" else 0.0)
        if (one.origin, one.start, ratio) == (origin, start, keep) and one.benchmark != published.AVERAGE:
            found[one.method][one.benchmark] = np.array([one.share])
    return found


def complete(table: Table, methods: Sequence[str]) -> list[str]:
    """The families or benchmarks that all of the methods have."""
    return [name for name in table[methods[0]] if all(name in table[method] for method in methods)]


def compare(rows: Sequence[Row], start: str, keep: float, among: str = "shared") -> Row | None:
    """The row of one column from one model's answers; None where the two sides share too few methods."""
    origin = rows[0]["origin"]
    own, other = ours(rows, start, keep), theirs(origin, start, keep)
    methods = [method for method in own if method in other and method in (AMONG[among] or own)]
    if len(methods) < LEAST:
        return None
    families, benchmarks = complete(own, ["none", *methods]), complete(other, methods)
    full = {family: own["none"][family].mean() for family in families}
    families = [family for family in families if full[family] > 0]
    random = np.random.default_rng(SEED)

    def mine(draws: dict[str, np.ndarray] | None = None) -> list[float]:
        def share(method: str, family: str) -> float:
            pruned, whole = own[method][family], own["none"][family]
            if draws is not None:
                pruned, whole = pruned[draws[family]], whole[draws[family]]
            return pruned.mean() / whole.mean() if whole.any() else 0.0

        return [float(np.mean([share(method, family) for family in families])) for method in methods]

    def printed(draw: Sequence[str]) -> list[float]:
        return [float(np.mean([other[method][name][0] for name in draw])) for method in methods]

    taus = []
    for _ in range(RESAMPLES):
        sizes = {family: len(own["none"][family]) for family in families}
        draws = {family: random.integers(size, size=size) for family, size in sizes.items()}
        taus.append(tau(mine(draws), printed(random.choice(benchmarks, len(benchmarks)))))
    known = [one for one in taus if one is not None]
    value = tau(mine(), printed(benchmarks))
    low, high = map(float, np.percentile(known, (2.5, 97.5))) if known else (None, None)
    model = next(name for name, kind in published.MODELS.items() if kind == origin)
    return {
        "model": rows[0]["model"], "origin": origin, "published": model, "start": start, "keep": keep,
        "among": among, "methods": len(methods), "n": min(len(own["none"][family]) for family in families),
        "families": ", ".join(families), "benchmarks": ", ".join(benchmarks),
        "order": ordered(methods, mine()), "published_order": ordered(methods, printed(benchmarks)),
        "kendall": value, "kendall_low": low, "kendall_high": high, "undefined": 1 - len(known) / len(taus),
        "chance": None if value is None else chance(tuple(mine()), tuple(printed(benchmarks))),
    }  # fmt: skip


def tau(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Kendall's tau-b; None where all values of a side are equal."""
    if len(set(one)) < 2 or len(set(other)) < 2:
        return None
    return round(float(stats.kendalltau(one, other).statistic), 12)


@cache
def chance(own: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The share of orders of our values whose tau with the study's is at least that of the order they came in."""
    value, taus = tau(own, other), [tau(order, other) for order in itertools.permutations(own)]
    return sum(one >= value - 1e-6 for one in taus) / len(taus)


def ordered(methods: Sequence[str], values: Sequence[float]) -> str:
    """Methods with their values, the best first: "tome 91%, divprune 90%"."""
    ranked = sorted(zip(values, methods), key=lambda pair: -pair[0])
    return ", ".join(f"{method} {value:.0%}" for value, method in ranked)


def compare_all(rows: Sequence[Row]) -> list[Row]:
    """All columns of one model's answers."""
    found = [compare(rows, start, keep, among) for start, keep in columns(rows) for among in AMONG]
    return [row for row in found if row is not None]


def measure(run: RunContext) -> Result:
    """The order of methods in this run's answers, which are computed where they are missing, beside the study's."""
    each = rivals.all_answers(run)
    inputs = {f"answers {answers.folder(name)}": storage.digest(one.rows) for name, one in each.items()}
    inputs["published"] = storage.files_hash(paths.PAPERS / "reported.csv")
    with Measurement(
        "rival_order",
        run,
        by=BY,
        link="mini",
        params=rivals.parameters(run) | {"resamples": RESAMPLES},
        inputs=inputs,
        # Orders of few methods jump where two are about as good; tau has its interval.
        tolerances=dict.fromkeys(("undefined", "chance", "order")),
    ) as m:
        m.each([{"model": answers.folder(name)} for name in each],
               lambda cell: compare_all(next(one.rows for one in each.values()
                                             if one.rows[0]["model"] == cell["model"])))  # fmt: skip
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("rival_order", measure, __doc__))
