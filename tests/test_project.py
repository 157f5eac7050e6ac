"""The files around the code: pins agree, notebooks are clean, nothing is missing."""

from __future__ import annotations

import importlib
import json
import os
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from analysis import registry
from analysis.notebooks import check_parameters, run_parameters
from analysis.profiles import run_context

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))  # explore.ipynb is not of the run


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pinned(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    parts = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normal(package): version for package, version in parts}


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    return pinned("constraints.txt")


def requirements(project: dict) -> list[Requirement]:
    """Of the project's own environment; the lmms-eval plug-in has one of its own."""
    extras = [line for name, group in project["optional-dependencies"].items() if name != "lmms" for line in group]
    return [Requirement(line) for line in project["dependencies"] + extras]


def test_every_direct_dependency_is_pinned_inside_its_range(project, pins):
    for requirement in requirements(project):
        assert normal(requirement.name) in pins, f"{requirement.name} has no pin in constraints.txt"
        assert requirement.specifier.contains(pins[normal(requirement.name)]), requirement


def test_every_pin_is_a_direct_dependency(project, pins):
    assert set(pins) == {normal(requirement.name) for requirement in requirements(project)}


def test_the_plug_ins_environment_agrees_with_the_projects(project, pins):
    own = pinned("constraints-lmms.txt")
    for requirement in map(Requirement, project["optional-dependencies"]["lmms"]):
        assert requirement.specifier.contains(own[normal(requirement.name)])
    assert all(version == pins.get(name, version) for name, version in own.items())
    assert "torchvision" not in own


def test_the_plug_in_is_an_entry_point(project):
    module, _, name = project["entry-points"]["lmms_eval.models"]["redvtp"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_the_conda_environment_has_the_same_pins_without_the_further_extras(project, pins):
    extras = {name: project["optional-dependencies"][name] for name in ("notebooks", "dev")}
    wanted = {normal(one.name) for one in requirements(project | {"optional-dependencies": extras})}
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip[-1] == "-e .[notebooks,dev]"
    assert {normal(name): version for name, version in (line.split("==") for line in pip[:-1])} == {
        name: version for name, version in pins.items() if name in wanted
    }


def test_torchvision_stays_out(pins):
    assert "torchvision" not in pins


@pytest.mark.parametrize("name", ["reproduce.sh", ".ci/run"])
def test_scripts_can_be_run(name):
    assert os.access(ROOT / name, os.X_OK)
    assert (ROOT / name).read_text().startswith("#!/usr/bin/env bash\n")


@pytest.mark.parametrize("name", ["LICENSE", "CITATION.cff", "redvtp/py.typed", ".gitignore"])
def test_file_is_there(name):
    assert (ROOT / name).is_file()


def test_the_citation_names_this_version(project):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (str(citation["version"]), citation["license"]) == (project["version"], project["license"])


def test_every_notebook_is_registered_and_there():
    assert [path.name for path in NOTEBOOKS] == sorted(notebook.file for notebook in registry.NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_clean_and_takes_the_parameters(path):
    check_parameters(path, run_parameters(run_context()))
    cells = json.loads(path.read_text())["cells"]
    used = [i for i, cell in enumerate(cells) if cell.get("outputs") or cell.get("execution_count")]
    assert not used, f"cells {used} of {path.name} have outputs"
