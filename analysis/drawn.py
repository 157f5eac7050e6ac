"""The samples that a run draws from the published data sets, and what they stand on."""

from __future__ import annotations

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
    files, seed = spread.from_first(lambda: _found(run.draw.data, wanted)), run.draw.seed
    found = {}
    for family in wanted:
        table = PUBLISHED[family].table(files[family])
        indices = draw(family, len(table), run.draw.fraction, seed, run.n)
        found[family, seed] = Drawn(PUBLISHED[family], table, indices, seed)
    return found


def inputs(drawn: dict[tuple[str, int], Drawn]) -> dict[str, str]:
    """Repository and commit, or a hash of the files, of each data set, as inputs of a measurement."""
    files = {f"data {family}": samples.table.files for (family, _), samples in drawn.items()}
    return spread.from_first(lambda: {name: parquet.content_of(found) for name, found in files.items()})


def _found(data: str | None, wanted: list[str]) -> dict[str, list[str]]:
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
