"""The numbers of a check in the report: a table of its cases with intervals drawn, and the files they are from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from analysis import paths
from analysis.profiles import RunContext
from analysis.verdicts import cases, texts
from analysis.verdicts.cases import Case
from analysis.verdicts.decide import Checked
from analysis.verdicts.evidence import Found
from analysis.verdicts.markup import Markup, join, tag
from analysis.verdicts.rules import Bound, Check
from analysis.verdicts.wording import words

OUTCOMES = {cases.HOLDS: "holds", cases.FAILS: "fails", cases.OPEN: "open", cases.LEFT_OUT: "none",
            cases.EMPTY: "none", cases.KNOWN: "part"}  # fmt: skip
WIDTH, HEIGHT = 176, 18
MANY = 8  # cases; more are folded away


def checked(one: Checked, run: RunContext) -> Markup:
    """A check: question, rule, numbers, sources; or what is missing."""
    parts = [tag("p", one.check.asks), tag("p", words(one.check), class_="rule")]
    if one.found is None:
        return join([*parts, tag("p", f"No evidence: {one.lacking}.")])
    table = _table(one)
    if len(one.cases) > MANY:
        table = tag("details", tag("summary", f"{len(one.cases)} cases"), table)
    origin = tag("p", provenance_line(one.found), " ", source_links(one.found, run), class_="quiet")
    return join([*parts, table, origin])


def _table(one: Checked) -> Markup:
    columns = list(_columns(one))
    head = tag("tr", *(tag("th", text, scope="col") for text, _ in columns))
    rows = [tag("tr", [cell(case) for _, cell in columns]) for case in one.cases]
    table = tag("table", tag("thead", head), tag("tbody", rows))
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=f"Numbers: {one.check.asks}")


def _columns(one: Checked) -> Iterator[tuple[str, Callable[[Case], Markup]]]:
    """Heads with what makes their cells: fields of the case, number, outcome, drawing, n; what is not there is not
    shown."""
    bound = one.check.holds if isinstance(one.check, Check) else None
    for name in dict.fromkeys(name for case in one.cases for name in case.names):
        yield name, lambda case, name=name: _plain(case.names.get(name))
    for name in dict.fromkeys(name for case in one.cases for name in case.at):
        which = "worst" if one.check.every else "best"
        yield f"{name} ({which} of {one.cases[0].of})", lambda case, name=name: _plain(case.at.get(name))
    yield _head(one), lambda case: tag("td", texts.number(case.number), class_="number")
    if bound:
        yield "outcome", lambda case: tag("td", case.outcome, class_=f"number {OUTCOMES[case.outcome]}")
    if bound or one.check.interval != "exact":
        ends = _ends(one)
        yield f"drawn, bound {bound}" if bound else "drawn", lambda case: tag("td", interval(case, ends, bound))
    if any(case.number.n is not None for case in one.cases):
        yield "n", lambda case: _plain(case.number.n)


def _head(one: Checked) -> str:
    """What the numbers are."""
    how = " (difference)" if one.check.minus is not None else " (ratio)" if one.check.over is not None else ""
    return f"{one.check.value}{how}{'' if one.check.interval == 'exact' else ' [95%]'}"


def _plain(value: object) -> Markup:
    return tag("td", "-" if value is None else str(value))


def _ends(one: Checked) -> tuple[float, float]:
    """What the drawn axis spans: all intervals, and the bound or 0."""
    values = [end for case in one.cases for end in (case.number.low, case.number.high)]
    values.append(one.check.holds.threshold if isinstance(one.check, Check) else 0.0)
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.5
    return low - room, high + room


def interval(case: Case, ends: tuple[float, float], bound: Bound | None) -> Markup:
    """The number on an axis with its interval and the bound, or 0; for eyes only, as the table has it in words."""

    def place(value: float) -> float:
        return round(WIDTH * (value - ends[0]) / (ends[1] - ends[0]), 1)

    number, middle, at = case.number, HEIGHT / 2, place(bound.threshold if bound else 0.0)
    marks = (
        tag("line", class_="axis", x1=0, x2=WIDTH, y1=middle, y2=middle),
        tag("line", class_="bound" if bound else "axis", x1=at, x2=at, y1=0, y2=HEIGHT),
        tag("line", class_="span", x1=place(number.low), x2=place(number.high), y1=middle, y2=middle),
        tag("circle", class_="dot", cx=place(number.value), cy=middle, r=4),
    )
    return tag("svg", marks, class_=f"interval {OUTCOMES[case.outcome]}", viewBox=f"0 0 {WIDTH} {HEIGHT}",
               aria_hidden="true")  # fmt: skip


def provenance_line(one: Found) -> str:
    """n, seeds, commit and device in a line."""
    about = one.result.provenance
    sampled = any("family" in row or "benchmark" in row for row in one.result.rows)
    n = max((row["n"] for row in one.result.rows if isinstance(row.get("n"), int)), default=about.get("n"))
    seeds = sorted({row["seed"] for row in one.result.rows if "seed" in row}) or about.get("seeds", ())
    size = f"n = {n} a family at most, seed {', '.join(map(str, seeds))}"
    parts = [size] if sampled else ["counted"] if about["link"] == "flops" else []
    parts += [f"commit {(about.get('commit') or 'none')[:10]}", str(about.get("device"))]
    return f"From result {one.name} ({'; '.join(parts)}):"


def source_links(one: Found, run: RunContext) -> Markup:
    """The result file and its notebook, relative to where the report lies, here or among the committed figures."""
    kept = paths.RESULTS / one.profile / one.path.name
    links = [_link(one.path.name, one.path, kept, run)]
    if one.notebook:
        notebook = paths.NOTEBOOKS / one.notebook
        links += [", ", _link(one.notebook, notebook, notebook, run)]
    return join(links)


def _link(text: str, path: Path, committed: Path, run: RunContext) -> Markup:
    deeper = paths.REFERENCE_FIGURES / run.profile.name
    href = {"href": _relative(path, run.figures), "data-committed": _relative(committed, deeper)}
    return tag("a", text, **href)


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path, folder).replace(os.sep, "/")
