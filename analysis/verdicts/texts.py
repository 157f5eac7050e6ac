"""The report as JSON and as Markdown, and numbers as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analysis import plots
from analysis.verdicts import cases
from analysis.verdicts.cases import Case, Number
from analysis.verdicts.decide import MEANINGS, SCOPES, VERDICTS, Checked, Decided
from analysis.verdicts.report import Report
from analysis.verdicts.rules import Claim
from analysis.verdicts.wording import words

SCHEMA = 1
PROVENANCE = ("link", "profile", "mode", "n", "seeds", "commit", "dirty", "versions", "device", "threads", "seconds")


def digits(value: float) -> str:
    """Three decimals, or three significant digits where the number is large."""
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.3g}"


def number(one: Number) -> str:
    """``0.570 [0.472, 0.663]``, without brackets where it is exact."""
    exact = one.low == one.high == one.value
    return digits(one.value) if exact else f"{digits(one.value)} [{digits(one.low)}, {digits(one.high)}]"


def named(fields: Mapping[str, Any]) -> str:
    """``family doc, keep 0.25``."""
    return ", ".join(f"{name} {'none' if value is None else value}" for name, value in fields.items())


def case(one: Case, every: bool) -> str:
    """A case in a line, with what decided it."""
    parts = [named(one.names)] if one.names else []
    if one.at:
        parts.append(f"{'worst' if every else 'best'} of {one.of}: {named(one.at)}")
    return f"{'; '.join(parts)}{': ' if parts else ''}{number(one.number)}, {one.outcome}"


def expected(claim: Claim) -> str:
    """The number that the paper gives, or ""."""
    return "" if claim.expect is None else f"{claim.expect} {claim.unit}".strip()


def lines(found: Report) -> list[dict[str, str]]:
    """A row for each claim: what it says, its verdict, and why."""
    return [
        {
            "claim": one.claim.id,
            "paper": found.title(one.claim.paper).partition(" (")[0],
            "says": one.claim.says,
            "verdict": one.words,
            "why": one.reason,
        }
        for one in found.decided
    ]


def sentence(found: Report, committed: Mapping[str, str]) -> str:
    """How many claims came out how, and which differ from the committed verdicts."""
    counted = ", ".join(f"{verdict} {count}" for verdict, count in found.counts.items() if count)
    text = f"Of {len(found.decided)} claims: {counted}. A verdict on the mini model is about the mini model."
    changed = [
        f"{one.claim.id} (committed: {committed[one.claim.id]})"
        for one in found.decided
        if committed.get(one.claim.id, one.verdict) != one.verdict
    ]
    return f"{text} Other than committed: {', '.join(changed)}." if changed else text


def as_json(found: Report) -> dict[str, Any]:
    """Everything that the report says, for programs."""
    return {
        "schema": SCHEMA,
        "profile": found.run.profile.name,
        "mode": found.run.mode,
        "claims": [_claim(one) for one in found.decided],
        "discrepancies": [
            {"id": one.id, "about": one.about, "later": one.later, "measured": [_checked(part) for part in numbers]}
            for one, numbers in found.discrepancies
        ],
        "results": [
            {"result": one.name} | {name: one.result.provenance.get(name) for name in PROVENANCE}
            for one in found.results()
        ],
    }


def _claim(one: Decided) -> dict[str, Any]:
    claim = one.claim
    return {
        "id": claim.id, "paper": claim.paper, "where": claim.where, "says": claim.says, "expect": expected(claim),
        "blind": claim.blind, "verdict": one.verdict, "scope": one.scope, "reason": one.reason,
        "evidence": [
            {
                "link": part.link, "verdict": part.verdict, "reason": part.reason,
                "checks": [_checked(check) for check in part.checks],
            }
            for part in one.evidence
        ],
    }  # fmt: skip


def _checked(one: Checked) -> dict[str, Any]:
    return {
        "asks": one.check.asks, "rule": words(one.check), "result": one.check.result, "verdict": one.verdict,
        "lacking": one.lacking, "cases": list(cases.flat(one.cases)),
    }  # fmt: skip


def markdown(found: Report) -> str:
    """The verdict table, then every claim, then the discrepancies."""
    return "\n".join(_markdown(found)) + "\n"


def _markdown(found: Report) -> Iterator[str]:
    import pandas as pd

    run = found.run
    yield "# Claims of the papers\n"
    if run.quick:
        yield f"**Quick run, n = {run.n}: not for quoting.**\n"
    yield f"{sentence(found, {})} Written by `python -m analysis.claims`; rules: `data/papers/claims.yaml`.\n"
    yield plots.markdown(pd.DataFrame(lines(found))[["claim", "says", "verdict"]])
    yield "\n" + "\n".join(f"- **{verdict}**: {MEANINGS[verdict]}" for verdict in VERDICTS)
    for one in found.decided:
        claim = one.claim
        yield f"\n## {claim.id}: {claim.says}\n"
        yield f"{found.title(claim.paper)}, {claim.where}" + (f"; {expected(claim)}" if expected(claim) else "") + "."
        yield f"**{one.words}**: {one.reason}."
        if claim.remark:
            yield f"Note: {claim.remark}"
        for part in one.evidence:
            yield f"\n- {part.link}, {SCOPES[part.link]}: **{part.verdict}**"
            for check in part.checks:
                yield f"  - {check.check.asks} ({words(check.check)})"
                yield from (f"    - {line}" for line in _told(check))
    yield "\n## Where papers, released code and behaviour disagree"
    for one, numbers in found.discrepancies:
        yield f"\n### {one.id}: {one.about}\n"
        yield f"- paper: {one.paper}\n- released code: {one.code}\n- when it is run: {one.behaviour}"
        if one.later:
            yield f"- not measured: {one.later}"
        for check in numbers:
            yield f"- {check.check.asks} ({check.check.result})"
            yield from (f"  - {line}" for line in _told(check))
        yield f"- sources: {'; '.join(one.sources)}"


def _told(check: Checked) -> list[str]:
    if check.lacking:
        return [check.lacking]
    return [case(one, bool(check.check.every)) for one in check.cases]
