"""The study itself: every notebook runs in quick mode, and the committed figures are those of the committed results."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis import registry

REPOSITORY = Path(__file__).resolve().parents[1]
COMMITTED = REPOSITORY / "figures" / "reference" / "mini"
DRAWING = ("matplotlib", "numpy", "pandas", "seaborn", "pillow", "torch")
TOLERANCE = 2  # root mean square, of 255
QUICK_ROOM = 3600  # seconds after which a run counts as stuck


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the project without results of its own."""
    root = tmp_path_factory.mktemp("a b") / "redvtp"
    ignored = shutil.ignore_patterns("__pycache__", "runs", ".ipynb_checkpoints")
    for name in ("analysis", "redvtp", "notebooks", "data", "figures/reference"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=ignored)
    shutil.copy(REPOSITORY / "pyproject.toml", root)
    return root


def reproduce(checkout: Path, *arguments: str) -> str:
    """Runs the study there, in a process of its own; what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "analysis.reproduce", *arguments]
    done = subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=QUICK_ROOM
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def pinned() -> bool:
    """Whether figures are drawn here by the very versions, on the kind of machine, that drew the committed ones."""
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    here = {name: importlib.metadata.version(name).partition("+")[0] for name in DRAWING}
    same = {name: version == pins[name] for name, version in here.items()}
    return all(same.values()) and (platform.system(), platform.machine()) == ("Linux", "x86_64")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=float)


@pytest.fixture(scope="module")
def redrawn(checkout) -> Path:
    reproduce(checkout, "--from-reference")
    return checkout / "figures" / "mini"


def test_every_committed_figure_is_redrawn(redrawn):
    assert {path.name for path in COMMITTED.iterdir()} == {path.name for path in redrawn.iterdir()}


@pytest.mark.parametrize("name", sorted(path.name for path in COMMITTED.glob("*.png")))
def test_figures_are_drawn_from_the_committed_results(redrawn, name):
    if pinned():
        assert (redrawn / name).read_bytes() == (COMMITTED / name).read_bytes(), f"{name} is not the committed one"
        return
    ours, theirs = pixels(redrawn / name), pixels(COMMITTED / name)
    assert ours.shape == theirs.shape
    assert np.sqrt(np.mean((ours - theirs) ** 2)) <= TOLERANCE


def test_every_notebook_runs_in_quick_mode(checkout):
    said = reproduce(checkout, "--quick")
    for notebook in registry.NOTEBOOKS:
        assert f"] {notebook.name} " in said
    drawn = {path.name for path in (checkout / "figures" / "mini-quick").glob("*.png")}
    assert {path.name for path in COMMITTED.glob("*.png")} <= drawn
