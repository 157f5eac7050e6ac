"""From cases to verdicts: of each check, of each kind of evidence, and of each claim.

A claim needs all of its evidence of the kinds mini and flops: without one of them there is no evidence. Where there
are times on the true shapes (speed) they count, too, and replace what FLOPs allow. Published checkpoints (paper)
decide alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from analysis.verdicts import cases
from analysis.verdicts.cases import Case, Lacking
from analysis.verdicts.evidence import SOURCES, Found
from analysis.verdicts.rules import Check, Claim, Discrepancy, Paper, Quantity, RuleError

HOLDS, PART, FAILS = "holds", "holds in part", "does not hold"
BOUNDED, OPEN, NONE = "bounded", "not decided here", "no evidence"
VERDICTS = (HOLDS, PART, FAILS, BOUNDED, OPEN, NONE)

MEANINGS = {
    HOLDS: "every case lies on the claim's side of the bound, with its whole interval",
    PART: "some cases do, others do not or cannot be told",
    FAILS: "cases lie on the other side with their whole interval, and none on the claim's",
    BOUNDED: "the FLOPs allow it; whether time follows them is not measured",
    OPEN: "the intervals reach over the bound, or no case could show it",
    NONE: "a result that would decide it is not there",
}
"""What each verdict means."""

SCOPES = {
    "mini": "on the mini model",
    "flops": "by exact FLOPs of the true shapes",
    "speed": "on the true shapes with random weights",
    "paper": "on the published checkpoints",
    "parity": "against the official code's recordings",
}
"""What a kind of evidence is about; it is part of every verdict."""

Find = Callable[[str, str | None], Found]
"""Name of a result and kind of evidence to what was found; see evidence.find."""


@dataclass(frozen=True)
class Checked:
    """A check with its cases, or why there are none. `verdict` is of its cases alone."""

    check: Quantity
    found: Found | None = None
    cases: tuple[Case, ...] = ()
    lacking: str = ""

    @property
    def verdict(self) -> str:
        if self.found is None:
            return NONE
        if isinstance(self.check, Check) and self.check.bounds:
            # What FLOPs do not allow, time could still do: they leave out what time is spent on beside them.
            return summed(BOUNDED if case.outcome == HOLDS else cases.OPEN for case in self.cases)
        return summed(case.outcome for case in self.cases)


@dataclass(frozen=True)
class Evidence:
    """What one kind of evidence says about a claim."""

    link: str
    checks: tuple[Checked, ...]

    @property
    def verdict(self) -> str:
        if any(one.verdict == NONE for one in self.checks):
            return NONE
        return combined([one.verdict for one in self.checks])

    @property
    def bounds(self) -> bool:
        """Whether all that it can say is what FLOPs allow."""
        return all(isinstance(one.check, Check) and one.check.bounds for one in self.checks)

    @property
    def reason(self) -> str:
        """The verdict in a line: what is missing, or how many cases came out how."""
        lacking = list(dict.fromkeys(one.lacking for one in self.checks if one.lacking))
        if lacking:
            return "; ".join(lacking)
        found = [case for one in self.checks for case in one.cases]
        models = ", ".join(dict.fromkeys(str(case.names["model"]) for case in found if "model" in case.names))
        return f"{SCOPES[self.link]}{f' ({models})' if models else ''}: {counted(found)}"


@dataclass(frozen=True)
class Decided:
    """A claim with its verdict; `scope` says on what that stands, and is "" without evidence."""

    claim: Claim
    evidence: tuple[Evidence, ...]
    verdict: str
    scope: str

    @property
    def words(self) -> str:
        """The verdict as it is told, never without its scope."""
        tail = " (the FLOPs allow it)" if self.verdict == BOUNDED else f", {self.scope}" if self.scope else ""
        return self.verdict + tail

    @property
    def reason(self) -> str:
        """Why it is so, of the evidence that counts; of that which is missing where there is no verdict."""
        return "; ".join(one.reason for one in counting(self.evidence))


def counted(found: Iterable[Case]) -> str:
    """How many cases came out how: "12 of 14 cases hold, 2 do not"."""
    outcomes = Counter(case.outcome for case in found)
    total = sum(outcomes.values()) - outcomes[cases.LEFT_OUT] - outcomes[cases.EMPTY]
    parts = [f"{outcomes[cases.HOLDS]} of {total} case{'s' if total != 1 else ''} hold{'s' if total == 1 else ''}"]
    for outcome, said in ((cases.FAILS, "do not"), (cases.OPEN, "are not decided"),
                          (cases.LEFT_OUT, "left out (chance does as well there)"),
                          (cases.EMPTY, "left out (nothing there to lose)")):
        if outcomes[outcome]:
            parts.append(f"{outcomes[outcome]} {said}")
    return ", ".join(parts)


def summed(outcomes: Iterable[str]) -> str:
    """The verdict of one check from the outcomes of its cases."""
    found = {outcome for outcome in outcomes if outcome not in (cases.LEFT_OUT, cases.EMPTY)}
    return combined([OPEN if outcome == cases.OPEN else outcome for outcome in found])


def combined(verdicts: Sequence[str]) -> str:
    """One verdict from several that must all hold."""
    found = set(verdicts)
    if len(found) == 1:
        return found.pop()
    if found & {HOLDS, PART}:
        return PART
    if FAILS in found:
        return FAILS
    return OPEN


def checked(check: Quantity, link: str | None, find: Find, name: str) -> Checked:
    """A check on the result that it names. Raises RuleError, with the claim's name, for a rule that does not fit it."""
    if check.result not in SOURCES:
        raise RuleError(f"{name}: unknown result {check.result!r}, expected one of: {', '.join(SOURCES)}")
    promised = SOURCES[check.result].fields
    unknown = sorted((check.known | {check.column}) - set(promised)) if promised else []
    if unknown:
        raise RuleError(f"{name}: {check.result} will have no field {', '.join(unknown)}: {', '.join(promised)}")
    try:
        found = find(check.result, link)
        return Checked(check, found, tuple(cases.cases(check, found.result)))
    except Lacking as why:
        return Checked(check, lacking=str(why))
    except RuleError as error:
        raise RuleError(f"{name}: {error}") from None


def decide(claim: Claim, find: Find) -> Decided:
    """The verdict on one claim."""
    evidence = tuple(
        Evidence(link, tuple(checked(check, link, find, f"claim {claim.id}, {link}") for check in claim.rule[link]))
        for link in claim.decided_by
    )
    parts = counting(evidence)
    if any(one.verdict == NONE for one in parts):
        return Decided(claim, evidence, NONE, "")
    scope = " and ".join(SCOPES[one.link] for one in parts)
    return Decided(claim, evidence, combined([one.verdict for one in parts]), scope)


def counting(evidence: Sequence[Evidence]) -> list[Evidence]:
    """The kinds of evidence that a verdict is made of, there or not (see the module)."""
    there = {one.link: one for one in evidence if one.verdict != NONE}
    if "paper" in there:
        return [there["paper"]]
    timed = "speed" in there
    parts = [one for one in evidence if one.link not in ("speed", "paper") and not (timed and one.bounds)]
    return parts + ([there["speed"]] if timed else []) or list(evidence)


def decide_all(papers: Sequence[Paper], find: Find) -> list[Decided]:
    """The verdicts on all claims, in the papers' order."""
    return [decide(claim, find) for paper in papers for claim in paper.claims]


def measured(one: Discrepancy, find: Find) -> tuple[Checked, ...]:
    """The numbers of a discrepancy."""
    return tuple(checked(quantity, None, find, f"discrepancy {one.id}") for quantity in one.measured)
