"""Runs one notebook through papermill on this very interpreter, whatever kernels the user has."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from analysis import paths, storage
from analysis.notebooks import Stamp, run_parameters, stamp_key, stamp_path
from analysis.profiles import RunContext
from analysis.registry import Notebook

KERNEL = "redvtp-run"
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Outcome:
    """How one notebook ended. `error` is one line, empty where it succeeded."""

    notebook: Notebook
    seconds: float
    computed: int = 0
    reused: int = 0
    figures: tuple[Path, ...] = ()
    error: str = ""


@contextlib.contextmanager
def own_kernel() -> Iterator[str]:
    """A kernel that is this interpreter, found before any other, without the user's IPython profile.

    A `python3` kernel that the user installed may belong to another environment, and a notebook may name a
    kernel that this machine has not.
    """
    with tempfile.TemporaryDirectory(prefix="redvtp-kernel-") as folder:
        spec = Path(folder) / "kernels" / KERNEL / "kernel.json"
        spec.parent.mkdir(parents=True)
        python_path = os.pathsep.join(filter(None, [str(paths.ROOT), os.environ.get("PYTHONPATH")]))
        kernel = {
            # Below errors the kernel only warns about its own transport, on the user's terminal.
            "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=40"],
            "display_name": "redvtp",
            "language": "python",
            "env": {"PYTHONPATH": python_path, "IPYTHONDIR": str(Path(folder) / "ipython")},
        }
        spec.write_text(json.dumps(kernel))
        before = os.environ.get("JUPYTER_PATH")
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [folder, before]))
        try:
            yield KERNEL
        finally:
            if before is None:
                del os.environ["JUPYTER_PATH"]
            else:
                os.environ["JUPYTER_PATH"] = before


def log_path(notebook: Notebook, run: RunContext) -> Path:
    return run.results / "notebooks" / f"{notebook.name}.log"


def run_notebook(
    notebook: Notebook,
    run: RunContext,
    kernel: str,
    data: str,
    progress: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Runs a notebook, keeps the executed copy and a log under the run's folder, and stamps it when it went
    through. `progress` is given the last line that it printed. Failures are in the outcome, not raised;
    KeyboardInterrupt is raised, also where it ended the notebook alone."""
    started = time.perf_counter()
    stamp_path(notebook, run).unlink(missing_ok=True)
    drawn_before = _drawn(run)
    counted_before = _count_times(notebook, run)
    try:
        log = log_path(notebook, run)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as file:
            _execute(notebook, run, kernel, _Tee(file, progress))
        changed = {path: state for path, state in _drawn(run).items() if drawn_before.get(path) != state}
        outputs = {paths.shown(path): storage.file_hash(path) for path in sorted(changed)}
        stamp = Stamp(stamp_key(notebook, run, data), outputs)
        storage.write_json(stamp_path(notebook, run), {"key": stamp.key, "outputs": stamp.outputs})
    except Exception as error:
        if getattr(error, "ename", "") == "KeyboardInterrupt":
            raise KeyboardInterrupt from error  # Ctrl-C reaches the kernel too, and it may be the first to tell
        return Outcome(notebook, time.perf_counter() - started, error=_one_line(error))
    counts = _counts(notebook, run, counted_before)
    return Outcome(notebook, time.perf_counter() - started, *counts, tuple(sorted(changed)))


def _execute(notebook: Notebook, run: RunContext, kernel: str, log: _Tee) -> None:
    import papermill  # a second of imports that a run with nothing to do should not pay

    from analysis.notebook_engine import ENGINE

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")   # of the notebook libraries, about notebook formats
        try:
            papermill.execute_notebook(
                str(notebook.path),
                str(run.results / "notebooks" / notebook.file),
                parameters=run_parameters(run),
                engine_name=ENGINE,
                kernel_name=kernel,
                language="python",
                cwd=str(paths.ROOT),
                progress_bar=False,
                start_timeout=300,
                stdout_file=log,
                stderr_file=log,
            )
        except Exception as error:
            log.write("\n" + ANSI.sub("", str(error)) + "\n")
            raise


class _Tee:
    """A text file for papermill that also shows the last line written."""

    def __init__(self, file: TextIO, progress: Callable[[str], None]) -> None:
        self._file, self._progress = file, progress

    def write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()
        lines = [line for line in text.splitlines() if line.strip()]
        if lines:
            self._progress(lines[-1])

    def flush(self) -> None:
        self._file.flush()


def _one_line(error: Exception) -> str:
    """`ZeroDivisionError: division by zero` from papermill's report of a failed cell, or the error itself."""
    name, value = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", str(error))
    return ANSI.sub("", f"{name}: {value}".strip().splitlines()[0])


def _drawn(run: RunContext) -> dict[Path, tuple[int, int]]:
    """The run's figure files with what changes when one is written again."""
    files = [path for path in run.figures.glob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}


def _cell_files(notebook: Notebook, run: RunContext) -> list[Path]:
    paths_ = [run.results / "cells" / f"{name}.json" for name in notebook.measurements]
    return [path for path in paths_ if path.is_file()]


def _count_times(notebook: Notebook, run: RunContext) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in _cell_files(notebook, run)}


def _counts(notebook: Notebook, run: RunContext, before: dict[Path, int]) -> tuple[int, int]:
    """Cells computed and reused by the measurements that were finished since `before`."""
    fresh = [path for path in _cell_files(notebook, run) if before.get(path) != path.stat().st_mtime_ns]
    last = [storage.read_json(path)["last"] for path in fresh]
    return sum(one["computed"] for one in last), sum(one["reused"] for one in last)
