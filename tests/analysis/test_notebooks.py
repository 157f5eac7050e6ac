from __future__ import annotations

import json

import pytest

from analysis import notebooks, storage
from analysis.notebooks import NotebookError, Stamp, check_parameters, declared_parameters, imported_modules
from analysis.profiles import run_context
from analysis.registry import Notebook

PARAMETERS = "profile = 'mini'\nmode: str = 'default'\nforce = False\nsource = 'run'"


def write(path, *codes, tags=("parameters",)):
    cells = [
        {"cell_type": "code", "source": code, "metadata": {"tags": list(tags) if i == 0 else []}}
        for i, code in enumerate(codes)
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"cells": cells}))
    return path


def test_parameters_are_read_from_the_tagged_cell(tmp_path):
    path = write(tmp_path / "a.ipynb", PARAMETERS, "other = 1")
    assert declared_parameters(path) == ("profile", "mode", "force", "source")
    check_parameters(path, ["profile", "mode"])


def test_an_unknown_parameter_is_refused_with_the_valid_ones(tmp_path):
    path = write(tmp_path / "a.ipynb", "profile = 'mini'\nmode = 'default'")
    with pytest.raises(NotebookError, match="does not take force, source; its parameters are: profile, mode"):
        check_parameters(path, ["profile", "mode", "force", "source"])


def test_a_notebook_that_cannot_be_run_is_refused(tmp_path):
    with pytest.raises(NotebookError, match="a.ipynb is missing"):
        declared_parameters(tmp_path / "a.ipynb")
    with pytest.raises(NotebookError, match="has 0 cells tagged 'parameters'"):
        declared_parameters(write(tmp_path / "a.ipynb", "x = 1", tags=()))
    (tmp_path / "a.ipynb").write_text("no")
    with pytest.raises(NotebookError, match="a.ipynb is not a notebook"):
        declared_parameters(tmp_path / "a.ipynb")


def test_imports_are_found_between_magics(project):
    path = write(project / "a.ipynb", PARAMETERS, "%matplotlib inline\nfrom analysis import tiny\n!ls")
    assert imported_modules(path) == ["analysis", "analysis.tiny"]


@pytest.fixture
def stamped(project):
    """A notebook that has been run through: (notebook, run, figure)."""
    notebook, run = Notebook("one", "one.ipynb", ("tiny",), "a figure"), run_context()
    write(project / "notebooks" / "one.ipynb", PARAMETERS, "from analysis import tiny")
    storage.write_text(run.figures / "one.png", "drawn")
    storage.write_text(run.results / "tiny.json", "{}")
    key = notebooks.stamp_key(notebook, run, "data")
    outputs = {"figures/mini/one.png": storage.file_hash(run.figures / "one.png")}
    storage.write_json(notebooks.stamp_path(notebook, run), {"key": key, "outputs": outputs})
    return notebook, run, run.figures / "one.png"


def test_an_unchanged_notebook_is_up_to_date(stamped):
    notebook, run, figure = stamped
    stamp = notebooks.valid_stamp(notebook, run, "data")
    assert isinstance(stamp, Stamp) and stamp.figures() == [figure]


@pytest.mark.parametrize(
    "change",
    ["figure gone", "figure edited", "notebook", "source", "result", "result gone", "data", "mode", "stamp"],
)
def test_a_change_makes_it_run_again(stamped, project, change):
    notebook, run, figure = stamped
    data = "data"
    match change:
        case "figure gone":
            figure.unlink()
        case "figure edited":
            figure.write_text("painted over")
        case "notebook":
            write(notebook.path, PARAMETERS, "from analysis import tiny\nx = 1")
        case "source":
            (project / "redvtp" / "helper.py").write_text("FACTOR = 3")
        case "result":
            (run.results / "tiny.json").write_text("{ }")
        case "result gone":
            (run.results / "tiny.json").unlink()
        case "data":
            data = "other"
        case "mode":
            run = run_context(mode="full")
        case "stamp":
            notebooks.stamp_path(notebook, run).write_text("{}")
    assert notebooks.valid_stamp(notebook, run, data) is None
