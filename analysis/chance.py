"""What can be answered without the image: the commonest training answer, overall and by kind of question.

A family's chance is the best exact match of someone who knows what kind of question comes and nothing else: the
commonest answer of its kind, every time. It is counted on training pages, as samples are drawn from them: each kind
on a page weighs the same, and within it each question.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from analysis import benchmarks
from analysis.command import command
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row

BY = ("family", "kind")
ANY = "any"
QUERIES = 20_000  # at least, of whole pages; fewer would make a rare kind's commonest answer look commoner than it is
SPLIT, SEED = "train", 0


def compute(family: str) -> Iterator[Row]:
    """For every kind of question, and for any: how often it is asked, its commonest answer, and that one's share."""
    weights: dict[str, Counter] = defaultdict(Counter)
    counts: Counter = Counter()
    pages = 0
    while counts[ANY] < QUERIES:
        queries = benchmarks.get(family).page(SPLIT, SEED, pages).queries
        pages += 1
        kinds = Counter(query.kind for query in queries)
        for query in queries:
            for kind in (query.kind, ANY):
                weights[kind][query.answer] += 1 / (len(kinds) * kinds[query.kind])
                counts[kind] += 1
    for kind in sorted(weights, key=lambda kind: (kind != ANY, kind)):
        answer = min(weights[kind], key=lambda answer: (-weights[kind][answer], answer))
        asked = weights[kind].total()
        yield {
            "family": family,
            "kind": kind,
            "queries": counts[kind],
            "asked": asked / pages,
            "answer": answer,
            "share": weights[kind][answer] / asked,
        }


def levels(rows: Sequence[Row]) -> dict[str, float]:
    """Chance of every family: the share of questions that the commonest answer of their kind gets right."""
    found: dict[str, float] = {}
    for row in rows:
        if row["kind"] != ANY:
            found[row["family"]] = found.get(row["family"], 0.0) + row["asked"] * row["share"]
    return found


def commonest(rows: Sequence[Row]) -> dict[tuple[str, str], str]:
    """``{(family, kind): answer}``, kind `ANY` included."""
    return {(row["family"], row["kind"]): row["answer"] for row in rows}


def measure(run: RunContext) -> Result:
    """The commonest answers of the profile's families; the same whatever the run's size."""
    with Measurement(
        "chance", run, by=BY, link="mini", params={"queries": QUERIES, "split": SPLIT, "seed": SEED}
    ) as m:
        m.each([{"family": family} for family in run.profile.families], lambda cell: compute(**cell))
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("chance", measure, __doc__))
