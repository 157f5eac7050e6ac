"""Can a family answered by two tokens in two steps show a loss at all?

One of the two tokens is committed in step 1, before a method that cuts after that step has cut anything. Where it is
the answer's own token, nothing such a method does can change it, only the token behind it. So the samples are split
by the step in which the unpruned run committed the answer's token (`committed`). LLaDA-FastV cuts inside step 1: for
it every answer is open.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from analysis import answers, benchmarks
from analysis.command import command
from analysis.comparisons import named, rate
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row

BY = ("host", "model", "family", "split", "seed", "method", "params", "keep", "committed")
METHODS = ("none", "redvtp", "llada_fastv", "random", "oracle")
RATES = ("exact_match", "changed", "lost", "gained")


def families(run: RunContext) -> list[str]:
    """The profile's families that are answered in two steps."""
    return [family for family in run.profile.families if benchmarks.get(family).protocol.steps == 2]


def outcome(row: Row, full: Row) -> dict[str, bool]:
    """What a method did to one sample, beside the unpruned run of the same.

    changed: another text than unpruned. lost, gained: right turned wrong, wrong turned right.
    """
    right, was_right = row["exact_match"], full["exact_match"]
    return {
        "exact_match": right,
        "changed": row["prediction"] != full["prediction"],
        "lost": was_right and not right,
        "gained": right and not was_right,
    }


def summarise(rows: Sequence[Row]) -> list[Row]:
    """One row for each method, ratio and step of the answer, from one model's answers to one family and seed."""
    full = {row["index"]: row for row in rows if row["method"] == "none"}
    groups: dict[tuple, list[dict[str, bool]]] = defaultdict(list)
    for row in rows:
        if row["method"] in METHODS:
            unpruned = full[row["index"]]
            committed = "step 1" if unpruned["answer_step"] == 1 else "step 2"
            key = (*(row[name] for name in BY[:-1]), committed)
            groups[key].append(outcome(row, unpruned))
    return [dict(zip(BY, key, strict=True)) | {"n": len(found)} | _rates(found) for key, found in groups.items()]


def _rates(found: Sequence[dict[str, bool]]) -> Row:
    """The share of each outcome, with its Wilson interval (95%)."""
    row: Row = {}
    for name in RATES:
        row |= named(name, rate(sum(one[name] for one in found), len(found)))
    return row


def measure(run: RunContext) -> Result:
    """What pruning did to the two-step families; the answers are computed where they are missing."""
    each = answers.measure(run)
    with Measurement(
        "two_tokens",
        run,
        by=BY,
        link="mini",
        params=each.provenance["params"],
        inputs=answers.inputs(each),
    ) as m:
        m.each(
            answers.groups(run, families(run)),
            lambda cell: summarise(answers.having(each.rows, cell)),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("two_tokens", measure, __doc__))
