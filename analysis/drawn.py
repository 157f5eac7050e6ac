"""The samples that a run draws from the published data sets, and what they stand on."""

from __future__ import annotations

from functools import cache

from analysis import spread
from analysis.benchmarks import PUBLISHED, parquet
from analysis.benchmarks.parquet import DataError
from analysis.benchmarks.published import Drawn, draw
from analysis.profiles import RunContext


def families(run: RunContext) -> list[str]:
    """The profile's families that are published data sets."""
    return [family for family in run.profile.families if family in PUBLISHED]


def samples(run: RunContext, chosen: tuple[str, ...] | None = None) -> dict[tuple[str, int], Drawn]:
    """``{(family, seed): samples}`` of the run's draw, of all its data sets or of the `chosen` ones.

    Samples are read when they are asked for. Raises DataError, before any is read, naming the data sets that are not
    there.
    """
    wanted = [family for family in families(run) if chosen is None or family in chosen]
    files, seed = _files(run.draw.data, tuple(wanted)), run.draw.seed
    found = {}
    for family in wanted:
        table = PUBLISHED[family].table(files[family])
        indices = draw(family, len(table), run.draw.fraction, seed, run.n)
        found[family, seed] = Drawn(PUBLISHED[family], table, indices, seed)
    return found


def inputs(drawn: dict[tuple[str, int], Drawn]) -> dict[str, str]:
    """Repository and commit, or a hash of the files, of each data set, as inputs of a measurement."""
    return {f"data {family}": _content(tuple(samples.table.files)) for (family, _), samples in drawn.items()}


@cache
def _files(data: str | None, wanted: tuple[str, ...]) -> dict[str, list[str]]:
    return spread.from_first(lambda: _found(data, wanted))


@cache
def _content(files: tuple[str, ...]) -> str:
    return spread.from_first(lambda: parquet.content_of(files))


def _found(data: str | None, wanted: tuple[str, ...]) -> dict[str, list[str]]:
    found, lacking = {}, []
    for family in wanted:
        try:
            found[family] = PUBLISHED[family].files(data)
        except DataError as error:
            lacking.append(str(error))
    if lacking:
        rest = f" (--families {' '.join(found)} goes without)" if found else ""
        raise DataError("\n".join(lacking) + rest)
    return found
