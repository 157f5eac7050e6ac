"""How a run compares with the committed reference, and how a run becomes the reference.

Rows are matched by the fields that tell them apart. Of a matched pair,
- counts, strings and flags must be equal,
- a rate with an interval (`x` beside `x_low` and `x_high`) must lie inside the reference's interval,
- other numbers must be equal within 1e-6 relative, or the measurement's own tolerance.
Where the two rows stand on different numbers of samples (the field `n`), only rates with an interval are
compared, and then their intervals must overlap: a smaller sample scatters more than the reference's interval
is wide.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis import paths, storage
from analysis.profiles import RunContext
from analysis.results import Result, Row, identity, load_result, read_result

RELATIVE = 1e-6
SIZE = "n"


@dataclass(frozen=True)
class Agreement:
    """One measurement against its reference: numbers of rows, and a line for each number that differs.

    `reference` is False where nothing is committed. `resized` matched rows stand on another n.
    `unmatched` rows of the run have no like in the reference; `unmeasured` rows of the reference have none in
    the run, as in a run with fewer seeds.
    """

    measurement: str
    reference: bool
    agree: int = 0
    differ: int = 0
    resized: int = 0
    unmatched: int = 0
    unmeasured: int = 0
    differences: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        if not self.reference:
            return "no reference"
        if self.differ:
            return "differs"
        if self.unmatched:
            return "has rows without reference"
        return "agrees" if self.agree else "nothing to compare"


def agreement(name: str, run: RunContext) -> Agreement:
    """Compares this run's result `name` with the reference. Raises FileNotFoundError without a result."""
    mine = load_result(name, run)
    path = run.reference / f"{name}.json"
    if not path.is_file():
        return Agreement(name, reference=False)
    return compare(mine, read_result(path))


def compare(mine: Result, reference: Result) -> Agreement:
    """As `agreement`, of two results. The fields and tolerances that count are those of `mine`."""
    by = mine.by
    committed = {identity(row, by): row for row in reference.rows if all(field in row for field in by)}
    agree = differ = resized = unmatched = 0
    lines: list[str] = []
    for row in mine.rows:
        like = committed.pop(identity(row, by), None)
        if like is None:
            unmatched += 1
            continue
        resized += row.get(SIZE) != like.get(SIZE)
        found = [text for field in row if field not in by for text in _difference(field, row, like, mine)]
        agree, differ = (agree, differ + 1) if found else (agree + 1, differ)
        where = " ".join(f"{field}={row[field]}" for field in by)
        lines += [f"{where}: {text}" for text in found]
    return Agreement(
        mine.measurement, True, agree, differ, resized, unmatched, len(committed), tuple(lines)
    )


def _difference(field: str, row: Row, like: Row, mine: Result) -> Iterable[str]:
    """A line saying how `field` differs, or nothing."""
    value, tolerance = row[field], mine.tolerances.get(field, RELATIVE)
    bounds = _bounds(field, like)
    same_size = row.get(SIZE) == like.get(SIZE)
    is_bound = any(field == f"{base}{end}" for base in row for end in ("_low", "_high"))
    if tolerance is None or is_bound:
        return
    if field not in like:
        yield f"{field} is not in the reference"
    elif bounds is not None and isinstance(value, int | float):
        low, high = bounds
        mine_low, mine_high = (value, value) if same_size else _bounds(field, row) or (value, value)
        if mine_high < low or mine_low > high:
            yield f"{field} {value:.6g}, reference {like[field]:.6g} [{low:.6g}, {high:.6g}]"
    elif same_size and not _equal(value, like[field], tolerance):
        yield f"{field} {_text(value)}, reference {_text(like[field])}"


def _bounds(field: str, row: Row) -> tuple[float, float] | None:
    low, high = row.get(f"{field}_low"), row.get(f"{field}_high")
    return None if low is None or high is None or row.get(field) is None else (low, high)


def _equal(value: object, like: object, tolerance: float) -> bool:
    if isinstance(value, float) or isinstance(like, float):
        numbers = isinstance(value, int | float) and isinstance(like, int | float)
        return numbers and math.isclose(value, like, rel_tol=tolerance, abs_tol=1e-12)
    return value == like and isinstance(value, bool) == isinstance(like, bool)


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def agreement_table(found: Sequence[Agreement], examples: int = 5) -> str:
    """The table that ends a run, with the first few differences of each measurement below it."""
    head = ("measurement", "agree", "differ", "other n", "no reference", "not measured", "verdict")
    body = [
        (
            one.measurement,
            *(str(number) if one.reference else "-" for number in (
                one.agree, one.differ, one.resized, one.unmatched, one.unmeasured)),
            one.verdict,
        )
        for one in found
    ]
    widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
             for line in (head, *body)]
    for one in found:
        lines += [f"  {one.measurement}: {text}" for text in one.differences[:examples]]
        if len(one.differences) > examples:
            lines.append(f"  {one.measurement}: and {len(one.differences) - examples} more")
    return "\n".join(lines)


def accept(
    run: RunContext, names: Iterable[str] | None = None, figures: Iterable[Path] | None = None
) -> list[Path]:
    """Makes a run the reference: copies results `names` and files `figures` (by default all of the run's) to
    data/results/<profile>/ and figures/reference/<profile>/. Returns the files written.

    Raises ValueError for a quick run, which is never a reference, and FileNotFoundError for a missing result.
    """
    if run.quick or run.source != "run":
        raise ValueError(f"a {'quick run' if run.quick else 'drawing from the reference'} cannot be accepted")
    if names is None:
        names = sorted(path.stem for path in run.results.glob("*.json"))
    if figures is None:
        figures = sorted(path for path in run.figures.glob("*") if path.is_file())
    results = [run.results / f"{name}.json" for name in names]
    for path in results:
        read_result(path)  # all must be there and readable before the first is copied
    written = []
    for source, folder in [(path, run.reference) for path in results] + [
        (path, paths.REFERENCE_FIGURES / run.profile.name) for path in figures
    ]:
        storage.write_bytes(folder / source.name, source.read_bytes())
        written.append(folder / source.name)
    return written
