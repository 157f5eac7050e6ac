"""What the tests of claims share: the verdicts of a run, and small checks, results and rows."""

from __future__ import annotations

import yaml

from analysis import claims
from analysis.profiles import run_context
from analysis.results import Result
from analysis.verdicts import cases, decide
from analysis.verdicts.rules import Bound, Check

IDS = [f"R{i}" for i in range(1, 13)] + [f"F{i}" for i in range(1, 6)] + [f"D{i}" for i in range(1, 7)]
BASE = {"asks": "is it?", "result": "accuracy", "value": "exact_match", "holds": "> 0.5"}


def verdicts(source: str = "run") -> dict[str, decide.Decided]:
    return {one.claim.id: one for one in claims.report(run_context(source=source)).decided}


def check(**fields) -> Check:
    common = {"asks": "?", "result": "accuracy", "value": "rate", "holds": Bound(">", 0.5)}
    return Check(**common | fields)


def result(*rows: dict, by: tuple[str, ...] = ("family", "method", "keep", "seed")) -> Result:
    return Result("accuracy", [dict(row) for row in rows], {"link": "mini"}, by)


def row(value: float, wide: float = 0.1, **fields) -> dict:
    return {"rate": value, "rate_low": value - wide, "rate_high": value + wide, **fields}


def outcomes(one: Check, *rows: dict, **kwargs) -> list[str]:
    return [case.outcome for case in cases.cases(one, result(*rows, **kwargs))]


def written(folder, rule: dict, **fields):
    claim = {"id": "C7", "where": "a", "says": "b", "decided_by": list(rule), "rule": rule} | fields
    path = folder / "claims.yaml"
    path.write_text(yaml.safe_dump({"p": {"paper": "P", "claims": [claim]}}))
    return path
