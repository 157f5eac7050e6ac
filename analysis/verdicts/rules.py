"""The rule of each claim, as data/papers/claims.yaml states it.

A claim has one rule for each kind of evidence that could decide it; a rule is a list of checks:

    asks: is every Sim_k above 0.95?              the check in words
    result: step_similarity                       a result file, by name
    where: {rule: none, layers: all}              rows: fields and the value, or the list of values, that they have
    value: similarity                             a field, or "1 - FIELD"
    each: [model, family]                         a case, with an outcome of its own, for each of these
    every: [step]     (or any: [step])            within a case all of these must hold (or one is enough)
    mean: [layer]                                 within a case the mean over these
    minus: {method: random}  (or over: {...})     less (or divided by) the value of the rows that differ in this
    holds: "> 0.95"                               the bound
    given: {where: {method: random}, holds: "< 0.5"}  what must hold for a case to count at all, where it differs
    strict: true                                  where that does not hold, a case counts on neither side
    interval: exact                               numbers without error; wilson: means of `n` numbers from 0 to 1;
                                                  by default the interval is in fields VALUE_low and VALUE_high
    bounds: true                                  what holds here only allows the claim

Rows that differ in `seed` alone are averaged, and so are the ends of their intervals, which makes these no narrower.
Every other field that tells rows apart must be named, and every value that a list in `where` names must be there,
unless one of them is enough (`any`). Rules are written before their measurement is run; a claim of which this is not
so says `blind: false`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

INTERVALS = ("rows", "wilson", "exact")
COMPLEMENT = "1 - "

Value = str | int | float | bool | None
Where = Mapping[str, Value | tuple[Value, ...]]


class RuleError(ValueError):
    """A rule that cannot be meant; the message names the claim."""


@dataclass(frozen=True)
class Bound:
    """``> threshold`` or ``< threshold``."""

    sign: str
    threshold: float

    def __str__(self) -> str:
        return f"{self.sign} {self.threshold:g}"


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """Numbers of a result; see the module. Fields mean what they mean there."""

    asks: str
    result: str
    value: str
    where: Where = field(default_factory=dict)
    each: tuple[str, ...] = ()
    every: tuple[str, ...] = ()
    any: tuple[str, ...] = ()
    mean: tuple[str, ...] = ()
    minus: Where | None = None
    over: Where | None = None
    interval: str = "rows"

    @property
    def column(self) -> str:
        """The field that is read."""
        return self.value.removeprefix(COMPLEMENT)

    @property
    def baseline(self) -> Where | None:
        """How the rows compared with differ from the rows chosen."""
        return self.minus if self.minus is not None else self.over

    @property
    def known(self) -> set[str]:
        """All fields of rows that are named, besides the value's."""
        return {*self.where, *self.each, *self.every, *self.any, *self.mean, *(self.baseline or {})}


@dataclass(frozen=True, kw_only=True)
class Check(Quantity):
    """A quantity with the bound that it must keep."""

    holds: Bound
    given: Check | None = None
    strict: bool = False
    bounds: bool = False


@dataclass(frozen=True)
class Claim:
    """What a paper says, and what decides it.

    Attributes:
        where: place in the paper. expect: its number, or what it says in numbers; with `unit`.
        decided_by: kinds of evidence, and the keys of `rule`.
        figures: names of files, `*` allowed. note: what a reader must know beside the verdict.
        blind: whether the rule was written before any result that it reads was known.
    """

    id: str
    paper: str
    says: str
    where: str
    decided_by: tuple[str, ...]
    rule: dict[str, tuple[Check, ...]]
    expect: str | float | None = None
    unit: str = ""
    note: str = ""
    figures: tuple[str, ...] = ()
    blind: bool = True

    @property
    def remark(self) -> str:
        """The note, and that the rule was not written blind."""
        known = "" if self.blind else "The rule was written, or changed, when first results were known."
        return " ".join(part for part in (self.note, known) if part)


@dataclass(frozen=True)
class Paper:
    """A paper and its claims."""

    key: str
    title: str
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class Discrepancy:
    """Where a paper, its released code, and what that code does differ.

    Attributes:
        sources: places in the papers and the code. claims: ids of claims that it touches.
        measured: what the difference is, in numbers; `later` says why there are none, or none yet.
    """

    id: str
    about: str
    paper: str
    code: str
    behaviour: str
    sources: tuple[str, ...]
    claims: tuple[str, ...] = ()
    measured: tuple[Quantity, ...] = ()
    later: str = ""
