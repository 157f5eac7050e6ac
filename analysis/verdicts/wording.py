"""Rules in words, made from the rules themselves."""

from __future__ import annotations

from typing import Any

from analysis.verdicts.rules import Check, Quantity, Where

ERRORS = {"rows": "95% interval", "wilson": "Wilson interval (95%)", "exact": "exact"}


def words(one: Quantity) -> str:
    """The quantity, or the check, in a line."""
    parts = [f"{one.value} in {one.result}"]
    if one.where:
        parts.append(f"where {_fields(one.where)}")
    if one.mean:
        parts.append(f"mean over {_listed(one.mean)}")
    if one.baseline is not None:
        how = "less" if one.minus is not None else "divided by"
        parts.append(f"{how} the same with {_fields(one.baseline)}")
    if one.every or one.any:
        parts.append(f"{'every' if one.every else 'any'} {_listed(one.every or one.any)}")
    if one.each:
        parts.append(f"a case for each {_listed(one.each)}")
    if isinstance(one, Check):
        parts.append(f"holds if {one.holds}")
        if one.given:
            parts.append(f"a case counts only where {_compared(one.given)} is {one.given.holds}")
    parts.append(ERRORS[one.interval])
    return "; ".join(parts)


def _compared(one: Quantity) -> str:
    """The quantity without its cases."""
    text = f"{one.value} with {_fields(one.where)}"
    if one.baseline is None:
        return text
    return f"{text} {'less' if one.minus is not None else 'divided by'} the same with {_fields(one.baseline)}"


def _fields(where: Where) -> str:
    def said(value: Any) -> str:
        if isinstance(value, tuple):
            whole = len(value) > 2 and all(isinstance(one, int) for one in value)
            if whole and value == tuple(range(value[0], value[-1] + 1)):
                return f"{value[0]} to {value[-1]}"
            return " or ".join(map(said, value))
        return "none" if value is None else str(value)

    return ", ".join(f"{name} = {said(value)}" for name, value in where.items())


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
