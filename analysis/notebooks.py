"""Reads notebook files, and knows whether what a notebook wrote is still what it would write."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis import paths, provenance, sources, storage
from analysis.profiles import RunContext
from analysis.registry import Notebook

LIBRARIES = ("torch", "transformers", "matplotlib", "seaborn", "pandas")
"""What numbers and drawings depend on beside the project's own sources."""


class NotebookError(ValueError):
    """A notebook file that cannot be run as it is."""


def run_parameters(run: RunContext) -> dict[str, Any]:
    """The parameters that every notebook is given; `run_context(**parameters)` turns them back into a run."""
    return {"profile": run.profile.name, "mode": run.mode, "force": run.force, "source": run.source}


def declared_parameters(path: Path) -> tuple[str, ...]:
    """The names that a notebook's cell tagged `parameters` assigns.

    Raises NotebookError where the file is missing, does not parse or has no such cell.
    """
    cells = [cell for cell in _code_cells(path) if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if len(cells) != 1:
        raise NotebookError(f"{paths.shown(path)} has {len(cells)} cells tagged 'parameters', expected one")
    names = []
    for node in _parsed(path, cells[0]).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names += [target.id for target in targets if isinstance(target, ast.Name)]
    return tuple(names)


def check_parameters(path: Path, given: Iterable[str]) -> None:
    """Refuses a notebook that does not take every name in `given`: papermill would only warn, and the cell's
    own values would stay in force."""
    known = declared_parameters(path)
    unknown = [name for name in given if name not in known]
    if unknown:
        raise NotebookError(
            f"{paths.shown(path)} does not take {', '.join(unknown)}; its parameters are: {', '.join(known)}"
        )


def imported_modules(path: Path) -> list[str]:
    """The project's modules that a notebook imports directly."""
    found: set[str] = set()
    for cell in _code_cells(path):
        found |= sources.imported(_parsed(path, cell))
    return sorted(found)


def _code_cells(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise NotebookError(f"{paths.shown(path)} is missing")
    try:
        return [cell for cell in storage.read_json(path)["cells"] if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError) as error:
        raise NotebookError(f"{paths.shown(path)} is not a notebook: {error}") from error


def _parsed(path: Path, cell: Mapping[str, Any]) -> ast.Module:
    lines = "".join(cell["source"]).splitlines()
    code = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in lines)
    try:
        return ast.parse(code)
    except SyntaxError as error:
        raise NotebookError(f"{paths.shown(path)} has a cell that is not Python: {error.msg}") from error


@dataclass(frozen=True)
class Stamp:
    """What a notebook stood on when it was last run through, and the files it drew, by path and hash."""

    key: str
    outputs: dict[str, str]

    def figures(self) -> list[Path]:
        return [paths.ROOT / name for name in self.outputs]


def stamp_path(notebook: Notebook, run: RunContext) -> Path:
    return run.results / "notebooks" / f"{notebook.name}.stamp.json"


def stamp_key(notebook: Notebook, run: RunContext, data: str) -> str:
    """A hash of everything a notebook's figures stand on: its text, parameters, the sources it imports,
    library versions, `data` (see `data_hash`) and the results it reads or writes."""
    parameters = {name: value for name, value in run_parameters(run).items() if name != "force"}
    folder = run.reference if run.source == "reference" else run.results
    results = [folder / f"{name}.json" for name in notebook.measurements]
    return storage.digest(
        {
            "notebook": storage.file_hash(notebook.path),
            "parameters": parameters,
            "sources": sources.sources_hash(imported_modules(notebook.path), without=frozenset()),
            "versions": [provenance.version(name) for name in LIBRARIES],
            "data": data,
            "results": [storage.file_hash(path) if path.is_file() else None for path in results],
        }
    )


def data_hash(run: RunContext) -> str:
    """A hash of the shipped inputs of a profile; those that are absent count as absent."""
    present = [path for name in run.profile.data if (path := paths.ROOT / name).exists()]
    return storage.files_hash(*present)


def valid_stamp(notebook: Notebook, run: RunContext, data: str) -> Stamp | None:
    """The stamp of the last run, if that stood on the same and its figures are untouched, else None."""
    path = stamp_path(notebook, run)
    if not path.is_file():
        return None
    try:
        stamp = Stamp(**storage.read_json(path))
    except (ValueError, TypeError):
        return None  # a stamp of another version: run the notebook again
    drawn = all(
        figure.is_file() and storage.file_hash(figure) == stamp.outputs[paths.shown(figure)]
        for figure in stamp.figures()
    )
    return stamp if drawn and stamp.key == stamp_key(notebook, run, data) else None
