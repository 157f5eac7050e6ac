"""What a check says about the rows of a result: cases with their numbers, intervals and outcomes.

Intervals are combined by their ends: a mean has the mean of the ends, a difference the widest that the two allow. So
they are never too narrow, whether or not two numbers stand on the same samples, and a difference is beyond a bound
only where the two intervals are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from analysis.results import Result, Row
from analysis.verdicts.rules import COMPLEMENT, Bound, Check, Quantity, RuleError, Where
from redvtp.metrics import wilson_interval

HOLDS, FAILS, OPEN, LEFT_OUT, KNOWN = "holds", "does not hold", "not decided", "left out", "measured"
EMPTY = "nothing to lose"
SEED = "seed"


class Lacking(LookupError):
    """A result has no row of the kind that a check asks for; the message says which."""


@dataclass(frozen=True)
class Number:
    """An estimate and its 95% interval. `rows` are what it was made of, `n` their smallest number of samples."""

    value: float
    low: float
    high: float
    n: int | None = None
    rows: tuple[Row, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Case:
    """One case of a check.

    Attributes:
        names: the fields of `each` that it is for; at: those of `every` or `any` that decided it.
        number: of the deciding rows.
        outcome: HOLDS, FAILS, OPEN, LEFT_OUT, EMPTY, or KNOWN for a quantity without bound.
        of: how many sub-cases there were.
    """

    names: dict[str, Any]
    at: dict[str, Any]
    number: Number
    outcome: str
    of: int = 1


def cases(one: Quantity, result: Result) -> list[Case]:
    """The cases of a check or quantity; rows whose value is undefined (None) do not count.

    A case that `given` leaves out counts all the same where it is on the wrong side: then it could show the claim. With
    `strict` it does not count there either: then nothing was there to lose.

    Raises Lacking without the rows, or without a value that the rule lists; RuleError for fields that are not there.
    """
    given = one.given if isinstance(one, Check) else None
    for asked in (one, given) if given else (one,):
        _refuse_unknown(asked, result)
    beside = _defined(given, result) if given else None
    result = _defined(one, result)
    chosen = _matching(result.rows, one.where)
    if not chosen:
        raise Lacking(f"{result.measurement} has no {one.column} with {_said(one.where)}")
    for name, wanted in one.where.items():
        listed = wanted if isinstance(wanted, tuple) and name not in one.any else ()
        if absent := [value for value in listed if not _matching(chosen, {name: value})]:
            raise Lacking(f"{result.measurement} has no {one.column} with {_said({name: absent[0]})}")
    found = []
    for key in _keys(chosen, one.each):
        names = dict(zip(one.each, key))
        case = _case(one, names, result)
        if given and (one.strict or case.outcome != FAILS):
            known = _case(given, names, beside).outcome
            if known != HOLDS:
                case = replace(case, outcome=LEFT_OUT if not one.strict else EMPTY if known == FAILS else OPEN)
        found.append(case)
    return found


def _defined(one: Quantity, result: Result) -> Result:
    """The rows whose value is there."""
    return replace(result, rows=[row for row in result.rows if row.get(one.column) is not None])


def _case(one: Quantity, names: dict[str, Any], result: Result) -> Case:
    inner = one.every or one.any
    rows = _matching(result.rows, {**one.where, **names})
    if not rows:
        raise Lacking(f"{result.measurement} has no row with {_said({**one.where, **names})}")
    subs = [dict(zip(inner, key)) for key in _keys(rows, inner)]
    numbers = [_number(one, {**names, **sub}, result) for sub in subs]
    if not isinstance(one, Check):
        return Case(names, subs[0], numbers[0], KNOWN, len(subs))
    outcomes = [outcome(number, one.holds, one.interval == "exact") for number in numbers]
    # The worst decides where every one must hold, the best where one is enough.
    order = (FAILS, OPEN, HOLDS)
    towards = 1 if one.holds.sign == ">" else -1
    ranks = [(order.index(found), towards * number.value) for found, number in zip(outcomes, numbers)]
    place = ranks.index(max(ranks) if one.any else min(ranks))
    return Case(names, subs[place], numbers[place], outcomes[place], len(subs))


def outcome(number: Number, bound: Bound, exact: bool = False) -> str:
    """Whether the interval lies on the right side of a bound, on the wrong one, or reaches over it.

    A number that is exact cannot reach over it: equal to the bound it is on the wrong side.
    """
    towards = 1 if bound.sign == ">" else -1
    near, far = sorted((towards * (number.low - bound.threshold), towards * (number.high - bound.threshold)))
    if near > 0:
        return HOLDS
    return FAILS if far < 0 or exact else OPEN


def _number(one: Quantity, names: Mapping[str, Any], result: Result) -> Number:
    """The quantity of the rows with these names."""
    first = _mean(one, {**one.where, **names}, result)
    if one.baseline is None:
        return first
    other = _mean(one, {**one.where, **names, **one.baseline}, result, like=first)
    counts = [n for n in (first.n, other.n) if n is not None]
    about = {"n": min(counts, default=None), "rows": first.rows + other.rows}
    if one.minus is not None:
        return Number(first.value - other.value, first.low - other.high, first.high - other.low, **about)
    if other.low <= 0:
        raise Lacking(f"{result.measurement}: {one.value} is too near 0 with {_said({**names, **one.baseline})}")
    ends = [a / b for a, b in itertools.product((first.low, first.high), (other.low, other.high))]
    return Number(first.value / other.value, min(ends), max(ends), **about)


def _mean(one: Quantity, where: Where, result: Result, like: Number | None = None) -> Number:
    """The mean of all rows with these fields, which may differ only in seed and in what the mean is over.

    Args:
        like: rows that these are compared with: they must be of the same seeds and of the same fields of the mean.
    """
    rows = _matching(result.rows, where)
    if not rows:
        raise Lacking(f"{result.measurement} has no row with {_said(where)}")
    free = {*one.mean, SEED}
    for name in result.by:
        if name not in free and len({row.get(name) for row in rows}) > 1:
            raise RuleError(f"rows with {_said(where)} differ in {name}: name it in where, each, every, any or mean")
    if like is not None:
        for name in sorted(free - set(one.baseline or {})):
            if {row.get(name) for row in rows} != {row.get(name) for row in like.rows}:
                raise Lacking(f"{result.measurement}: rows with {_said(where)} are not of the same {name}")
    numbers = [_read(one, row) for row in rows]
    values, lows, highs = zip(*numbers)
    counts = [row["n"] for row in rows if isinstance(row.get("n"), int)]
    return Number(*(sum(part) / len(rows) for part in (values, lows, highs)), min(counts, default=None), tuple(rows))


def _read(one: Quantity, row: Row) -> tuple[float, float, float]:
    """Value, low and high of one row."""
    value = row[one.column]
    if isinstance(value, str):
        raise RuleError(f"{one.column} is not a number: {value!r}")
    if one.interval == "exact":
        low = high = value
    elif one.interval == "wilson":
        # Numbers between 0 and 1 scatter most where each is 0 or 1, so this is never too narrow.
        low, high = _wilson(float(value), row["n"])
    else:
        low, high = row[f"{one.column}_low"], row[f"{one.column}_high"]
    if low is None or high is None:
        raise Lacking(f"a row has no interval for {one.column}")
    return (1 - value, 1 - high, 1 - low) if one.value.startswith(COMPLEMENT) else (value, low, high)


def _wilson(rate: float, n: int) -> tuple[float, float]:
    """Wilson's interval of a rate whose hits need not be whole: between those of the whole numbers around them."""
    hits = min(max(rate, 0.0), 1.0) * n
    below = int(hits)
    above = min(below + 1, n)
    share = hits - below
    ends = (wilson_interval(below, n), wilson_interval(above, n))
    return tuple((1 - share) * a + share * b for a, b in zip(*ends))


def _keys(rows: Sequence[Row], names: Sequence[str]) -> list[tuple]:
    return list(dict.fromkeys(tuple(row.get(name) for name in names) for row in rows))


def _matching(rows: Sequence[Row], where: Where) -> list[Row]:
    return [row for row in rows if all(_is(row.get(name), wanted) for name, wanted in where.items())]


def _is(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, tuple):
        return any(_is(value, one) for one in wanted)
    return value == wanted and isinstance(value, bool) == isinstance(wanted, bool)


def _refuse_unknown(one: Quantity, result: Result) -> None:
    """Raises RuleError for fields that no row has."""
    there = {name for row in result.rows for name in row}
    needed = one.known | {one.column}
    needed |= {f"{one.column}_low", f"{one.column}_high"} if one.interval == "rows" else set()
    needed |= {"n"} if one.interval == "wilson" else set()
    unknown = sorted(needed - there)
    if unknown and result.rows:
        raise RuleError(f"{result.measurement} has no field {', '.join(unknown)}; it has {', '.join(sorted(there))}")


def _said(where: Where) -> str:
    return ", ".join(f"{name} {value}" for name, value in where.items()) or "any fields"


def flat(found: Sequence[Case]) -> Iterator[dict[str, Any]]:
    """Cases as plain rows, for JSON and tables."""
    for case in found:
        number = case.number
        yield {**case.names, **case.at} | {
            "value": number.value, "low": number.low, "high": number.high, "n": number.n, "outcome": case.outcome,
            "of": case.of,
        }  # fmt: skip
