"""Reads claims and discrepancies from their files, and refuses what cannot be meant, by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

from analysis.profiles import LINKS
from analysis.verdicts.rules import INTERVALS, Bound, Check, Claim, Discrepancy, Paper, Quantity, RuleError

IN_GIVEN = {"where", "value", "minus", "over", "holds", "interval"}
"""What `given` may say otherwise than its check."""


def read_claims(path: Path) -> tuple[Paper, ...]:
    """The papers and their claims. Raises RuleError naming the claim."""
    papers = tuple(
        Paper(key, entry["paper"], tuple(_claim(one, key) for one in entry["claims"]))
        for key, entry in _yaml(path).items()
    )
    ids = [claim.id for paper in papers for claim in paper.claims]
    for one in ids:
        if ids.count(one) > 1:
            raise RuleError(f"claim {one} is there {ids.count(one)} times")
    return papers


def read_discrepancies(path: Path) -> tuple[Discrepancy, ...]:
    """The list of disagreements. Raises RuleError naming the entry."""
    found = []
    for entry in _yaml(path)["discrepancies"]:
        name = f"discrepancy {entry.get('id')}"
        measured = tuple(_made(Quantity, one, name) for one in entry.get("measured", ()))
        found.append(_made(Discrepancy, entry | {"measured": measured}, name))
        if not measured and not found[-1].later:
            raise RuleError(f"{name}: neither measured, nor does `later` say why not")
    return tuple(found)


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it is there
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)


def _claim(entry: Mapping[str, Any], paper: str) -> Claim:
    name = f"claim {entry.get('id')}"
    rule = entry.get("rule") or {}
    if not rule:
        raise RuleError(f"{name}: no rule")
    if set(rule) != set(entry.get("decided_by", ())):
        raise RuleError(f"{name}: rules for {_names(rule)}, but it is decided by {_names(entry.get('decided_by', ()))}")
    unknown = set(rule) - set(LINKS)
    if unknown:
        raise RuleError(f"{name}: unknown link {_names(unknown)}, expected one of: {', '.join(LINKS)}")
    checks = {link: tuple(_check(one, f"{name}, {link}") for one in listed) for link, listed in rule.items()}
    for link, made in checks.items():
        if not made:
            raise RuleError(f"{name}, {link}: no check")
    return _made(Claim, dict(entry) | {"paper": paper, "rule": checks}, name)


def _check(entry: Mapping[str, Any], name: str) -> Check:
    made = _made(Check, {key: value for key, value in entry.items() if key != "given"}, name)
    if "given" not in entry:
        return made
    differs = dict(entry["given"])
    if set(differs) - IN_GIVEN:
        unknown = _names(set(differs) - IN_GIVEN)
        raise RuleError(f"{name}, given: unknown field {unknown}, expected {_names(IN_GIVEN)}")
    differs["where"] = {**made.where, **differs.get("where", {})}
    base = replace(made, minus=None, over=None) if {"minus", "over"} & set(differs) else made
    known = {one.name for one in fields(Check)} - {"holds", "given", "strict", "bounds"}
    same = {one.name: getattr(base, one.name) for one in fields(Check) if one.name in known}
    return replace(made, given=_made(Check, same | {"holds": str(made.holds)} | differs, f"{name}, given"))


def _made(kind: type, entry: Mapping[str, Any], name: str) -> Any:
    """An object of `kind` from a mapping, with lists as tuples. Refuses unknown, missing and senseless fields."""
    known = {one.name: one for one in fields(kind)}
    unknown = set(entry) - set(known)
    if unknown:
        raise RuleError(f"{name}: unknown field {_names(unknown)}, expected {_names(known)}")
    lacking = [
        one.name for one in known.values()
        if one.default is MISSING and one.default_factory is MISSING and one.name not in entry
    ]
    if lacking:
        raise RuleError(f"{name}: lacks {_names(lacking)}")
    values = {key: _frozen(value) for key, value in entry.items()}
    if issubclass(kind, Quantity):
        _refuse_senseless(values, name)
    if "holds" in values:
        values["holds"] = _bound(values["holds"], name)
    return kind(**values)


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, Mapping):
        return {key: tuple(one) if isinstance(one, list) else one for key, one in value.items()}
    return value


def _refuse_senseless(values: Mapping[str, Any], name: str) -> None:
    for one in ("each", "every", "any", "mean"):
        if not isinstance(values.get(one, ()), tuple):
            raise RuleError(f"{name}: {one} is {values[one]!r}, expected a list of fields")
    for one in ("where", "minus", "over"):
        if not isinstance(values.get(one) or {}, Mapping):
            raise RuleError(f"{name}: {one} is {values[one]!r}, expected fields and their values")
    for one, other in (("every", "any"), ("minus", "over")):
        if values.get(one) and values.get(other):
            raise RuleError(f"{name}: {one} and {other} at once")
    if values.get("interval", "rows") not in INTERVALS:
        raise RuleError(f"{name}: unknown interval {values['interval']!r}, expected one of: {', '.join(INTERVALS)}")


def _bound(text: Any, name: str) -> Bound:
    found = re.fullmatch(r"([<>]) (-?\d+(?:\.\d+)?)", str(text))
    if not found:
        raise RuleError(f"{name}: holds is {text!r}, expected \"> NUMBER\" or \"< NUMBER\"")
    return Bound(found[1], float(found[2]))


def _names(words: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, words))) or "nothing"
