from __future__ import annotations

import json
import os
import platform
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from analysis import paths, provenance, storage
from analysis.profiles import run_context
from analysis.results import Measurement, load_result, measured, read_result, reference_rows

CELLS = [{"family": family, "keep": keep} for family in ("doc", "info") for keep in (0.5, 0.25)]


def measure(run, calls, cells=CELLS, fail_at=None, **options):
    """A measurement of `cells` that notes in `calls` what it computes."""

    def compute(cell):
        if len(calls) == fail_at:
            raise RuntimeError("stopped")
        calls.append(cell)
        return [{**cell, "n": run.n, "right": np.int64(3), "rate": np.float32(0.5), "undefined": None}]

    options = {"by": ("family", "keep"), "link": "mini", **options}
    with Measurement("tiny", run, **options) as m:
        m.each(cells, compute)
    return m


def test_rows_are_flat_in_the_order_asked_for(project):
    run = run_context()
    m = measure(run, [])
    stored = json.loads(m.path.read_text())
    assert m.path == paths.RUNS / "mini" / "tiny.json"
    assert (stored["schema"], stored["measurement"], stored["rows"]) == (1, "tiny", m.result.rows)
    assert [(row["family"], row["keep"]) for row in load_result("tiny", run).rows] == [
        ("doc", 0.5), ("doc", 0.25), ("info", 0.5), ("info", 0.25)
    ]
    assert stored["rows"][0] == {
        "family": "doc", "keep": 0.5, "n": 100, "right": 3, "rate": 0.5, "undefined": None
    }


def test_provenance_says_what_ran_and_not_where(project):
    m = measure(run_context(mode="quick"), [], params={"steps": 16}, inputs={"weights": "abc"})
    found, text = m.result.provenance, m.path.read_text()
    assert found["versions"]["python"] == platform.python_version()
    assert found["versions"]["torch"] == provenance.version("torch")
    assert (found["params"], found["inputs"]) == ({"steps": 16}, {"weights": "abc"})
    assert (found["link"], found["mode"], found["n"], found["seeds"]) == ("mini", "quick", 16, [0])
    assert found["device"] and found["threads"] >= 1 and found["seconds"] >= 0
    assert found["commit"] is None   # the project folder of this test is no repository
    assert str(project) not in text and socket.gethostname() not in text


def test_unchanged_is_reused_and_left_untouched(project):
    run, calls = run_context(), []
    path = measure(run, calls).path
    before = path.stat().st_mtime_ns
    again = measure(run, calls)
    assert len(calls) == 4 and (again.computed, again.reused) == (0, 4)
    assert path.stat().st_mtime_ns == before


def test_a_default_run_keeps_its_cells_beside_a_full_one(project):
    calls = []
    for mode in ("default", "full", "default"):
        m = measure(run_context(mode=mode), calls)
    assert len(calls) == 8 and m.result.provenance["n"] == 100 and m.result.rows[0]["n"] == 100


def test_a_cell_more_computes_only_that_cell(project):
    run, calls = run_context(), []
    measure(run, calls)
    extra = {"family": "doc", "keep": 0.1}
    assert len(measure(run, calls, [extra, *CELLS]).result.rows) == 5
    assert calls[4:] == [extra]


@pytest.mark.parametrize(
    "options",
    [{"params": {"steps": 8}}, {"inputs": {"weights": "new"}}, {"by": ("family", "keep", "n")}],
    ids=["params", "inputs", "by"],
)
def test_a_changed_key_computes_again(project, options):
    run, calls = run_context(), []
    measure(run, calls, params={"steps": 16}, inputs={"weights": "old"})
    measure(run, calls, **{"params": {"steps": 16}, "inputs": {"weights": "old"}, **options})
    assert len(calls) == 8


def test_force_computes_again(project):
    calls = []
    for force in (False, True):
        measure(run_context(force=force), calls)
    assert len(calls) == 8


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_another_library_version_computes_again(project, monkeypatch, package):
    run, calls = run_context(), []
    measure(run, calls)
    real = provenance.version
    monkeypatch.setattr(provenance, "version", lambda name: "0.0" if name == package else real(name))
    measure(run, calls)
    assert len(calls) == 8


def test_changed_source_computes_again_but_not_comments(project):
    run, calls, helper = run_context(), [], project / "redvtp" / "helper.py"
    measure(run, calls)
    helper.write_text('"""What it does."""\n\nFACTOR = 2  # twice\n')
    measure(run, calls)
    assert len(calls) == 4
    helper.write_text("FACTOR = 3\n")
    measure(run, calls)
    assert len(calls) == 8


def test_another_device_counts_for_speed_alone(project, monkeypatch):
    def keys():
        return {link: Measurement("tiny", run_context(), by=(), link=link).key for link in ("mini", "speed")}

    here = keys()
    monkeypatch.setattr(provenance, "device_model", lambda device: "another")
    assert keys()["mini"] == here["mini"] and keys()["speed"] != here["speed"]


def test_resumes_inside_a_measurement_after_an_error(project, capsys):
    run, calls = run_context(), []
    with pytest.raises(RuntimeError, match="stopped"):
        measure(run, calls, fail_at=2)
    assert not (paths.RUNS / "mini" / "tiny.json").exists()
    m = measure(run, calls)
    assert calls == CELLS and (m.computed, m.reused) == (2, 2)
    assert "2 of 4 cells are there already" in capsys.readouterr().err


KILLED = """
import os, signal
from pathlib import Path
from analysis import paths
paths.ROOT, paths.RUNS = Path({project!r}), Path({project!r}) / "data" / "runs"
from analysis.profiles import run_context
from analysis.results import Measurement
with Measurement("tiny", run_context(), by=("family", "keep"), link="mini") as m:
    m.cell({cell!r}, lambda: [{cell!r}])
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_resumes_inside_a_measurement_after_a_kill(project):
    script = KILLED.format(project=str(project), cell=CELLS[0])
    repository = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=repository, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    calls = []
    assert measure(run_context(), calls).reused == 1 and calls == CELLS[1:]


def test_a_full_disk_says_so_and_loses_nothing(project, monkeypatch):
    run, calls = run_context(), []
    measure(run, calls, CELLS[:2])
    stored = (paths.RUNS / "mini" / "tiny.json").read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(storage.StorageError) as caught:
            measure(run, calls)
    message = str(caught.value)
    assert message.startswith("no space left to write data/runs/mini/cells/tiny.json") and "\n" not in message
    files = sorted(path.name for path in (paths.RUNS / "mini").rglob("*") if path.is_file())
    assert files == ["tiny.json", "tiny.json"]   # result and cells, no temporary file
    assert (paths.RUNS / "mini" / "tiny.json").read_bytes() == stored
    assert measure(run, calls).reused == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"family": "doc"}, "rows lack keep"),
        ({"family": "doc", "keep": 0.5, "x": [1]}, "field 'x' holds a list"),
        ({"family": "doc", "keep": 0.5, "x": float("nan")}, "field 'x' is nan"),
        ("text", "a row must be a mapping of fields, not str"),
    ],
)
def test_bad_rows_are_refused(project, row, message):
    with pytest.raises(ValueError, match=message), Measurement(
        "tiny", run_context(), by=("family", "keep"), link="mini"
    ) as m:
        m.cell({"family": "doc"}, lambda: [row])


def test_rows_that_cannot_be_told_apart_are_refused(project):
    with pytest.raises(ValueError, match="two rows have the same family=doc"):
        measure(run_context(), [], by=("family",))


def test_a_cell_asked_for_twice_is_refused(project):
    with pytest.raises(ValueError, match="family=doc keep=0.5 was asked for twice"):
        measure(run_context(), [], CELLS[:1] * 2)


def test_wrong_words_are_refused_before_anything_runs(project):
    with pytest.raises(ValueError, match="unknown link 'mail', expected one of: mini, flops"):
        measure(run_context(), [], link="mail")
    with pytest.raises(ValueError, match="no source file for module 'analysis.nothing'"):
        measure(run_context(), [], module="analysis.nothing")
    with pytest.raises(ValueError, match="unknown profile 'huge', expected one of: mini, speed, paper"):
        run_context("huge")
    with pytest.raises(ValueError, match="mode must be 'default', not 'full'"):
        run_context(mode="full", source="reference")


def test_reading_the_reference_measures_nothing(project):
    run = run_context(source="reference")
    with pytest.raises(FileNotFoundError, match="no result data/results/mini/tiny.json: run"):
        measured("tiny", run, pytest.fail)
    measure(run_context(), [])
    run.reference.mkdir(parents=True)
    (paths.RUNS / "mini" / "tiny.json").rename(run.reference / "tiny.json")
    assert measured("tiny", run, pytest.fail).rows == reference_rows("tiny", "mini")


def test_a_file_of_another_schema_is_refused(project):
    path = measure(run_context(), []).path
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 9'))
    with pytest.raises(ValueError, match="tiny.json has schema 9, expected 1"):
        read_result(path)
