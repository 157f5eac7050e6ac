"""How far two runs of the harness lie apart: the same ratios of two result folders, and the largest difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from analysis.results import Result, identity, read_result
from analysis.speed.measure import NAME

LIMIT = 0.10
RATIOS = ("decoding_speedup", "speedup", "over_uncached", "ours_speedup", "memory_ratio", "ours_memory_ratio")
"""Medians of ratios, which two runs of one machine should share; seconds need not agree where clocks move."""


@dataclass(frozen=True)
class Difference:
    """One ratio in two runs."""

    where: str
    name: str
    one: float
    other: float

    @property
    def relative(self) -> float:
        """Of the larger to the smaller, less one."""
        low, high = sorted((self.one, self.other))
        return high / low - 1 if low > 0 else float("inf")


def results_in(folder: Path) -> list[Result]:
    """The harness's results of runs in a folder.

    Raises:
        ValueError: there is none.
    """
    found = [path for path in sorted(folder.glob(f"{NAME}*.json")) if not path.stem.endswith("_stages")]
    if not found:
        raise ValueError(f"{folder}: no {NAME}*.json in it")
    return [read_result(path) for path in found]


def differences(one: Path, other: Path) -> Iterator[Difference]:
    """Every ratio that both folders have.

    Raises:
        ValueError: a folder without results.
    """
    twins = {result.measurement: result for result in results_in(other)}
    for result in results_in(one):
        twin = twins.get(result.measurement)
        if twin is None:
            continue
        rows = {identity(row, twin.by): row for row in twin.rows}
        for row in result.rows:
            like = rows.get(identity(row, result.by), {})
            where = " ".join(str(row[name]) for name in result.by)
            for name in RATIOS:
                if row.get(name) is not None and like.get(name) is not None:
                    yield Difference(where, name, row[name], like[name])


def report(one: Path, other: Path) -> int:
    """Print every ratio beyond the limit, and the largest difference; 0 where none is beyond, 1 where one is.

    Raises:
        ValueError: a folder without results, or nothing that both have.
    """
    found = sorted(differences(one, other), key=lambda item: -item.relative)
    if not found:
        raise ValueError(f"{one} and {other}: no ratio that both measured")
    beyond = [item for item in found if item.relative > LIMIT]
    for item in beyond:
        print(f"{item.name} of {item.where}: {item.one:.4g} and {item.other:.4g}, {item.relative:.1%} apart")
    most = found[0]
    print(
        f"{len(found)} ratios, {len(beyond)} more than {LIMIT:.0%} apart; the largest difference is "
        f"{most.relative:.1%} ({most.name} of {most.where})"
    )
    return 1 if beyond else 0
