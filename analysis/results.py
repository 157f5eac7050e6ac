"""Results: flat rows with where they come from, computed cell by cell and reused while nothing they stand on
has changed.

    with Measurement("accuracy", run, by=("family", "method", "keep", "seed"), link="mini",
                     params={"steps": 16}, inputs={"weights": files_hash(paths.MINI)}) as m:
        m.each(cells, compute)      # compute(cell) -> rows; finished cells are on disk at once
    m.result.rows

A cell is what is computed, kept and resumed as one: a small dict of parameters. It may give many rows, for
instance all ratios and methods that share a first step. Where a cell takes long it is made of pieces, such as samples,
which are kept one by one (`each_piece`). Under torchrun the processes share cells or pieces out (see analysis.spread).
"""

from __future__ import annotations

import math
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis import paths, provenance, sources, spread, storage
from analysis.profiles import LINKS, RunContext

SCHEMA = 1

Row = dict[str, str | int | float | bool | None]
Cell = Mapping[str, Any]
Compute = Callable[[], Iterable[Mapping[str, Any]]]
Rows = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Result:
    """What a result file holds.

    `by` are the fields that tell rows apart. `tolerances` are how far numbers may lie from the reference,
    relative, where they have no interval: None for those that are not compared, such as seconds.
    """

    measurement: str
    rows: list[Row]
    provenance: dict[str, Any]
    by: tuple[str, ...] = ()
    tolerances: dict[str, float | None] = field(default_factory=dict)

    @property
    def link(self) -> str:
        """The kind of evidence."""
        return self.provenance["link"]


def read_result(path: Path) -> Result:
    """Reads a result file. Raises FileNotFoundError or ValueError naming it."""
    if not path.is_file():
        raise FileNotFoundError(f"{paths.shown(path)} is missing")
    content = storage.read_json(path)
    if content.get("schema") != SCHEMA:
        raise ValueError(f"{paths.shown(path)} has schema {content.get('schema')!r}, expected {SCHEMA}")
    comparison = content["comparison"]
    return Result(
        content["measurement"], content["rows"], content["provenance"],
        tuple(comparison["by"]), comparison["tolerances"],
    )


def load_result(name: str, run: RunContext) -> Result:
    """The result `name` as `run.source` says: this run's, or the committed reference.

    Raises FileNotFoundError saying how to make it.
    """
    folder = run.reference if run.source == "reference" else run.results
    path = folder / f"{name}.json"
    if not path.is_file():
        how = "run ./reproduce.sh --full --accept" if run.source == "reference" else "run ./reproduce.sh"
        raise FileNotFoundError(f"no result {paths.shown(path)}: {how} first")
    return read_result(path)


def reference_rows(name: str, profile: str) -> list[Row]:
    """The committed rows of a measurement. Raises FileNotFoundError where there is no reference."""
    return read_result(paths.RESULTS / profile / f"{name}.json").rows


def measured(name: str, run: RunContext, measure: Callable[[RunContext], object]) -> Result:
    """What a notebook starts with: computes what is missing, or only reads where `run.source` is the
    reference."""
    if run.source == "run":
        measure(run)
    return load_result(name, run)


def flat_row(row: Mapping[str, Any]) -> Row:
    """`row` as it is stored, with numpy and torch scalars as plain numbers.

    Raises ValueError naming the field that is not a scalar, or not finite: undefined is None.
    """
    if not isinstance(row, Mapping):
        raise ValueError(f"a row must be a mapping of fields, not {type(row).__name__}")
    plain: Row = {}
    for name, value in row.items():
        if not isinstance(value, str | int | float | bool | None) and getattr(value, "ndim", None) == 0:
            value = value.item()
        if not isinstance(value, str | int | float | bool | None):
            raise ValueError(f"field {name!r} holds a {type(value).__name__}, expected a string or a number")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"field {name!r} is {value}, expected a finite number or None")
        plain[name] = value
    return plain


class Measurement:
    """Computes the cells of one result, keeps each as it is finished, and writes the result at the end.

    A cell is computed once for the same parameters, size (n and seeds), profile, hashes of inputs, torch and
    transformers versions and source files: those that `module` imports inside the project (by default
    `analysis.<name>`). For the link "speed" the device's model counts too.

    Parameters: `by`: fields that tell rows apart. `link`: the kind of evidence. `params`: whatever all cells
    share. `inputs`: hashes of weights and data. `tolerances`: see `Result`. `device`: as torch names it.

    Raises ValueError for bad words before anything is computed; StorageError where the disk is full.
    """

    def __init__(
        self,
        name: str,
        run: RunContext,
        *,
        by: Sequence[str],
        link: str,
        params: Mapping[str, Any] | None = None,
        inputs: Mapping[str, str] | None = None,
        tolerances: Mapping[str, float | None] | None = None,
        device: str = "cpu",
        module: str | None = None,
    ) -> None:
        if link not in LINKS:
            raise ValueError(f"unknown link {link!r}, expected one of: {', '.join(LINKS)}")
        if run.source != "run":
            raise ValueError(f"cannot measure {name!r} with source {run.source!r}: use load_result")
        self.name, self.run, self.by, self.link = name, run, tuple(by), link
        self.params, self.inputs = dict(params or {}), dict(inputs or {})
        self.tolerances = dict(tolerances or {})
        self.device, self.device_model = device, provenance.device_model(device)
        stands_on = self._stands_on(module or f"analysis.{name}")
        self.key = storage.digest(stands_on)
        # A piece stands on its own cell's model and data, not on which others are measured.
        self._log = spread.Log(
            run.results / "pieces", name,
            storage.digest({name: value for name, value in stands_on.items() if name not in ("models", "inputs")}),
        )  # fmt: skip
        self.path = run.results / f"{name}.json"
        self.cells_path = run.results / "cells" / f"{name}.json"
        self.computed = self.reused = 0
        self._seconds = 0.0
        self._identities: set[tuple[Any, ...]] = set()
        self._kept: dict[str, dict[str, Any]] = {}
        self._order: list[str] = []
        self._noted: list[Row] = []
        self._result: Result | None = None

    def _stands_on(self, module: str) -> dict[str, Any]:
        found = {
            "schema": SCHEMA,
            "measurement": self.name,
            "profile": self.run.profile.name,
            "models": self.run.profile.models,
            "by": self.by,
            "params": self.params,
            "inputs": self.inputs,
            "versions": [provenance.version("torch"), provenance.version("transformers")],
            "sources": sources.sources_hash([module]),
        }
        return found | ({"device": self.device_model} if self.link == "speed" else {})

    @property
    def rows(self) -> list[Row]:
        """Rows of the cells so far, in the order in which the cells were asked for, and those noted."""
        return [row for key in self._order for row in self._kept[key]["rows"]] + self._noted

    @property
    def result(self) -> Result:
        """The finished result; there after the `with` block."""
        if self._result is None:
            raise RuntimeError(f"{self.name} is not finished: read .result after its with block")
        return self._result

    def __enter__(self) -> Measurement:
        self._kept = spread.from_first(self._read_kept)
        return self

    def _read_kept(self) -> dict[str, dict[str, Any]]:
        if self.run.force:  # what is there is gone, so that an interrupted --force goes on without it, too
            self._log.forget()
            self.cells_path.unlink(missing_ok=True)
        elif self.cells_path.is_file():
            kept = storage.read_json(self.cells_path)
            if kept.get("key") == self.key:
                return kept["cells"]
        return {}

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._finish()

    def each(self, cells: Iterable[Cell], compute: Callable[[Any], Rows]) -> list[Row]:
        """`cell` for all of `cells`, with `compute(cell)`; progress shows how many are left.

        Several processes share the cells out, and all of them have all rows.
        """
        if spread.process().world > 1:
            return self.each_piece(
                cells,
                lambda cell: {f"all, {self.run.size}": None},
                lambda cell, _: self._flat(cell, compute(cell)),
                lambda cell, values: values[0],
            )
        cells = list(cells)
        missing = sum(self._cell_key(cell) not in self._kept for cell in cells)
        if missing < len(cells):
            self._say(f"{len(cells) - missing} of {len(cells)} cells are there already")
        return [row for cell in cells for row in self.cell(cell, lambda cell=cell: compute(cell), missing)]

    def each_piece(
        self,
        cells: Iterable[Cell],
        pieces: Callable[[Any], Mapping[str, Any]],
        compute: Callable[[Any, Any], Any],
        summarise: Callable[[Any, list[Any]], Rows],
    ) -> list[Row]:
        """As `each`, of cells made of pieces: each is kept when it is finished, and any process may compute it.

        Args:
            pieces: ``{name: content}`` of a cell, in order; the name says all that the content depends on beside the
                cell, the inputs and the parameters.
            compute: ``compute(cell, content)`` gives what JSON holds.
            summarise: a cell's rows from its pieces' values, as JSON gives them back, in the order of `pieces`.
        """
        cells = list(cells)
        missing = [cell for cell in cells if self._cell_key(cell) not in self._kept]
        if len(missing) < len(cells):
            self._say(f"{len(cells) - len(missing)} of {len(cells)} cells are there already")
        parts = [
            {self._piece_key(cell, name): (name, content) for name, content in pieces(cell).items()} for cell in missing
        ]
        owner = {key: (cell, *part) for cell, found in zip(missing, parts) for key, part in found.items()}
        values = spread.work(
            self._log,
            {key: f"{_words(cell)}  {textwrap.shorten(name, 40)}" for key, (cell, name, _) in owner.items()},
            lambda key: compute(owner[key][0], owner[key][2]),
            self._say,
        )
        summed = {self._cell_key(cell): [values[key] for key in found] for cell, found in zip(missing, parts)}
        rows = []
        for cell in cells:
            found = summed.get(self._cell_key(cell), [])
            rows += self.cell(
                cell,
                lambda cell=cell, found=found: summarise(cell, [one["value"] for one in found]),
                len(missing),
                sum(one["seconds"] for one in found),
            )
        return rows

    def cell(self, cell: Cell, compute: Compute, total: int | None = None, before: float = 0.0) -> list[Row]:
        """The rows of one cell: read back where they are stored under the same key, else from `compute()`.

        `before` are seconds that were spent on it already.

        Raises ValueError for a cell asked for twice and for rows that are not flat, lack a field of `by`,
        or cannot be told apart by them.
        """
        key = self._cell_key(cell)
        if key in self._order:
            raise ValueError(f"{self.name}: cell {_words(cell)} was asked for twice")
        if key in self._kept:
            self._tell_apart(cell, self._kept[key]["rows"])
            self.reused += 1
        else:
            started = time.perf_counter()
            rows = self._flat(cell, compute())
            seconds = time.perf_counter() - started
            self._tell_apart(cell, rows)
            self._kept[key] = {"rows": rows, "seconds": round(seconds + before, 3)}
            self.computed += 1
            self._seconds += seconds
            self._keep()
            self._say(f"{self._progress(total)}  {_words(cell)}  {seconds:.1f} s{self._left(total)}")
        self._order.append(key)
        return self._kept[key]["rows"]

    def has(self, cell: Cell) -> bool:
        """Whether the cell is there already, so that asking for it computes nothing."""
        return self._cell_key(cell) in self._kept

    def save(self) -> None:
        """Writes the result as far as it is, for who may be stopped before its end."""
        self._write()

    def note(self, cell: Cell, rows: Iterable[Mapping[str, Any]]) -> list[Row]:
        """Rows that say what could not be measured, and why: they stand in the result, and the next run tries again."""
        flat = self._flat(cell, rows)
        self._tell_apart(cell, flat)
        self._noted += flat
        return flat

    def _cell_key(self, cell: Cell) -> str:
        # The size is part of each cell, so that a default run and a full one keep both their cells.
        return storage.digest([dict(cell), *self.run.size])

    def _piece_key(self, cell: Cell, name: str) -> str:
        words, inputs = {Path(str(value)).name for value in cell.values()}, dict(self.inputs)
        for kind in ("weights", "data"):
            others = [given for given in inputs if given.startswith(f"{kind} ")]
            own = [given for given in others if given.removeprefix(f"{kind} ") in words]
            for given in set(others) - set(own) if own else ():  # a cell that names none may stand on all
                del inputs[given]
        return storage.digest([dict(cell), name, inputs])

    def _flat(self, cell: Cell, rows: Iterable[Mapping[str, Any]]) -> list[Row]:
        if rows is None or isinstance(rows, Mapping):
            raise ValueError(f"{self.name}: cell {_words(cell)} gave {type(rows).__name__}, expected rows")
        try:
            return [flat_row(row) for row in rows]
        except ValueError as error:
            raise ValueError(f"{self.name}: cell {_words(cell)}: {error}") from None

    def _tell_apart(self, cell: Cell, rows: Sequence[Row]) -> None:
        """Refuses rows that could not be matched with the reference."""
        lacking = sorted({name for row in rows for name in self.by if name not in row})
        if lacking:
            raise ValueError(f"{self.name}: cell {_words(cell)}: rows lack {', '.join(lacking)}")
        for row in rows:
            if identity(row, self.by) in self._identities:
                fields = _words({name: row[name] for name in self.by})
                raise ValueError(f"{self.name}: two rows have the same {fields}")
            self._identities.add(identity(row, self.by))

    def _keep(self) -> None:
        if not spread.process().first:
            return
        storage.write_json(self.cells_path, {"key": self.key, "cells": self._kept, "last": self._counts()})

    def _counts(self) -> dict[str, int]:
        return {"computed": self.computed, "reused": self.reused}

    def _finish(self) -> None:
        self._result = spread.from_first(self._stored)
        self._say(f"{len(self.rows)} rows, {self.computed} cells computed, {self.reused} reused")

    def _stored(self) -> Result:
        """The result as its file holds it, which is written unless it is there."""
        self._keep()
        stored = read_result(self.path) if self.path.is_file() else None
        if stored is None or not self._is(stored):
            self._write()
        return read_result(self.path)

    def _is(self, stored: Result) -> bool:
        """Whether the file on disk holds this very computation; then its provenance stays as it was."""
        same = (stored.provenance.get("key"), stored.rows) == (self.key, self.rows)
        return same and self.computed == 0 and stored.tolerances == self.tolerances

    def _write(self) -> None:
        seconds = sum(self._kept[key]["seconds"] for key in self._order)
        content = {
            "schema": SCHEMA,
            "measurement": self.name,
            "provenance": {
                "link": self.link,
                "profile": self.run.profile.name,
                "mode": self.run.mode,
                "n": self.run.n,
                "seeds": list(self.run.seeds),
                **({"draw": self._draw()} if self.run.draw else {}),
                "params": self.params,
                "inputs": self.inputs,
                **provenance.commit(),
                "versions": provenance.versions(),
                "device": self.device_model,
                "threads": provenance.threads(),
                **({"processes": spread.process().world} if spread.process().world > 1 else {}),
                "seconds": round(seconds, 1),
                "key": self.key,
            },
            "comparison": {"by": list(self.by), "tolerances": self.tolerances},
            "rows": self.rows,
        }
        storage.write_json(self.path, content)

    def _draw(self) -> dict[str, Any]:
        """Which share of the data sets was drawn; what they are is among the inputs. A folder is not named."""
        draw = self.run.draw
        return {"from": "folder" if draw.data else "hub", "fraction": draw.fraction, "seed": draw.seed}

    def _progress(self, total: int | None) -> str:
        return f"{self.computed}/{total}" if total else f"{self.computed}"

    def _left(self, total: int | None) -> str:
        """How long the cells still missing will take, if they are like those computed."""
        if not total or self.computed >= total:
            return ""
        seconds = self._seconds / self.computed * (total - self.computed)
        return f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"

    def _say(self, text: str) -> None:
        spread.say(f"{self.name}  {text}")


def identity(row: Mapping[str, Any], by: Sequence[str]) -> tuple[Any, ...]:
    """The fields that tell `row` apart, to match it with its like. Numbers match by value; True is not 1."""
    return tuple((isinstance(row[name], bool), row[name]) for name in by)


def _words(fields: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in fields.items()) or "(no parameters)"
