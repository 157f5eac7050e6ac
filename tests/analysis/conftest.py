"""A project folder of its own for tests that compute, draw or run notebooks."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from analysis import paths
from tests.analysis import claims_world

REPOSITORY = paths.ROOT


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`analysis.paths` points into an empty project with one measurement module, analysis/tiny.py."""
    for name in ("ROOT", "NOTEBOOKS", "DATA", "PAPERS", "MINI", "RESULTS", "RUNS", "FIGURES", "REFERENCE_FIGURES"):
        inside = getattr(paths, name).relative_to(REPOSITORY)
        monkeypatch.setattr(paths, name, tmp_path / inside)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    for package in ("analysis", "redvtp"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "analysis" / "tiny.py").write_text("from redvtp import helper\n")
    (tmp_path / "redvtp" / "helper.py").write_text("FACTOR = 2\n")
    return tmp_path


@pytest.fixture
def furnished(project):
    """A project in which claims can be read."""
    claims_world.furnish()
    return project


@pytest.fixture
def full(furnished):
    """The same with results in which every claim holds."""
    claims_world.write_results()
    return furnished
