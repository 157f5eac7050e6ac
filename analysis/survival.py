"""Which right answers stay right when tokens are pruned: the samples at risk, and what is known of each.

At risk is a sample that the model answers rightly without pruning and whose answer a method's cut can still change. In
families answered in two steps an answer committed in step 1 is beyond a cut after that step, but not beyond
LLaDA-FastV's, which comes inside it; so there LLaDA-FastV has more samples at risk than the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from analysis import benchmarks
from analysis.answers import inside_step_one, is_long
from analysis.results import Row

LONG, SHORT = "long answers", "two-token answers"
"""All families answered in more than two steps, and those answered in two."""


@dataclass(frozen=True)
class Case:
    """One sample at risk under one method and ratio.

    Attributes:
        right: whether the answer is still right.
        recall: share of the evidence's area that the kept tile tokens cover.
        things: what is on the page that a question could be about (distinct evidence boxes).
        length: letters of the right answer.
    """

    model: str
    family: str
    seed: int
    index: int
    kind: str
    method: str
    keep: float
    right: bool
    recall: float
    things: int
    visual_tokens: int
    length: int


@cache
def things(family: str, split: str, seed: int, index: int) -> int:
    """Distinct evidence boxes of all questions about a sample's page: fields, bars, parts or objects."""
    page = benchmarks.get(family).page(split, seed, index)
    return len({box for query in page.queries for box in query.evidence})


def cuts_inside_step_one(method: str) -> bool:
    """Whether a method drops tokens before step 1 has committed anything."""
    return method in {name for name, _ in inside_step_one()}


def at_risk(rows: Iterable[Row], method: str) -> set[tuple]:
    """(model, family, seed, index) of a method's samples at risk, from answers with the unpruned ones among them."""
    whole = cuts_inside_step_one(method)
    return {
        identity(row)
        for row in rows
        if row["method"] == "none" and row["exact_match"]
        and (whole or is_long(row["family"]) or row["answer_step"] != 1)
    }  # fmt: skip


def identity(row: Row) -> tuple:
    """What tells the samples of all models apart."""
    return row["model"], row["family"], row["seed"], row["index"]


def cases(rows: Sequence[Row], methods: Sequence[str]) -> Iterator[Case]:
    """Every method's samples at risk, under every ratio."""
    risk = {method: at_risk(rows, method) for method in methods}
    for row in rows:
        if identity(row) in risk.get(row["method"], ()):
            yield Case(
                *identity(row),
                kind=row["kind"],
                method=row["method"],
                keep=row["keep"],
                right=bool(row["exact_match"]),
                recall=row["evidence_recall"],
                things=things(row["family"], row["split"], row["seed"], row["index"]),
                visual_tokens=row["visual_tokens"],
                length=len(row["answer"]),
            )


def sets(found: Sequence[Case]) -> dict[str, list[Case]]:
    """Cases of each family, and of all long and all short ones; sets without a case are left out."""
    families = dict.fromkeys(case.family for case in found)
    made = {family: [case for case in found if case.family == family] for family in families}
    made |= {name: [case for case in found if is_long(case.family) == flag] for name, flag in ((LONG, 1), (SHORT, 0))}
    return {name: part for name, part in made.items() if part}


def by_method(found: Iterable[Case]) -> dict[tuple[str, float], list[Case]]:
    """Cases of each (method, ratio), in the order they came."""
    groups: dict[tuple[str, float], list[Case]] = {}
    for case in found:
        groups.setdefault((case.method, case.keep), []).append(case)
    return groups
