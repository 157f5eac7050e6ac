"""Which right answers turn wrong when tokens are pruned: by kind of question, page, answer, and evidence recall.

Of the samples at risk (see analysis.survival) the share that stays right, `survived`, with its Wilson interval (95%),
in groups: kind of question; things on the page; visual tokens; letters of the answer; share of the evidence's area
that the kept tokens cover. Seeds are pooled. `family` is one family, or "long answers" or "two-token answers" for all
of a sort; `value` is a bin's name and `place` its order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from analysis import answers
from analysis.command import command
from analysis.comparisons import named, rate
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row
from analysis.survival import LONG, SHORT, Case, by_method, cases, sets

BY = ("model", "family", "method", "keep", "group", "value")
METHODS = ("redvtp", "random", "uniform", "llada_fastv", "oracle")
THINGS = ((1, 3), (4, 5), (6, None))
RECALL = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Lower ends of the bins of evidence recall; the last holds those that keep it all, but for rounding."""
WHOLE = 1 - 1e-9

Bin = tuple[int, str]  # order and name


def thing_bin(case: Case) -> Bin:
    """Few, some or many things."""
    for place, (low, high) in enumerate(THINGS):
        if case.things >= low and (high is None or case.things <= high):
            return place, f"{low} or more" if high is None else f"{low} to {high}" if low > 1 else f"up to {high}"
    raise ValueError(f"{case.things} things on the page of {case.family} {case.index}, expected at least 1")


def recall_bin(case: Case) -> Bin:
    """A quarter of the evidence, or all of it."""
    place = len(RECALL) - 1 if case.recall >= WHOLE else sum(case.recall >= low for low in RECALL[:-1]) - 1
    if place == len(RECALL) - 1:
        return place, "all"
    return place, f"{RECALL[place]:.0%} to {RECALL[place + 1]:.0%}"


GROUPS: dict[str, Callable[[Case], Bin]] = {
    "all": lambda case: (0, "all"),
    "kind": lambda case: (0, case.kind),
    "things": thing_bin,
    "visual tokens": lambda case: (case.visual_tokens, str(case.visual_tokens)),
    "answer length": lambda case: (case.length, str(case.length)),
    "evidence recall": recall_bin,
}


def summarise(found: Sequence[Case]) -> Iterator[Row]:
    """Rows of every set, method, ratio and group, from one model's cases."""
    for family, part in sets(found).items():
        for (method, keep), here in by_method(part).items():
            for group, bin_of in GROUPS.items():
                if group == "kind" and family in (LONG, SHORT):
                    continue
                bins = defaultdict(list)
                for case in here:
                    bins[bin_of(case)].append(case)
                for (place, value), members in sorted(bins.items()):
                    hits = sum(case.right for case in members)
                    yield {
                        "model": here[0].model, "family": family, "method": method, "keep": keep, "group": group,
                        "value": value, "place": place, "n": len(members),
                        **named("survived", rate(hits, len(members))),
                        "recall": sum(case.recall for case in members) / len(members),
                    }  # fmt: skip


def of_model(rows: Sequence[Row], model: str, methods: Sequence[str] = METHODS) -> list[Case]:
    """One model's cases."""
    return list(cases(answers.having(rows, {"model": model}), methods))


def measure(run: RunContext) -> Result:
    """Survival in this run's answers, which are computed where they are missing."""
    each = answers.measure(run)
    with Measurement(
        "failures",
        run,
        by=BY,
        link="mini",
        params=each.provenance["params"],
        inputs=answers.inputs(each),
        tolerances={"recall": 0.05},
    ) as m:
        m.each(answers.models(run), lambda cell: summarise(of_model(each.rows, cell["model"])))
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("failures", measure, __doc__))
