"""Every directory of the project, named once. Other modules read these at call time, as `paths.RUNS`."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

NOTEBOOKS = ROOT / "notebooks"

DATA = ROOT / "data"
PAPERS = DATA / "papers"        # reported numbers and claims.yaml
MINI = DATA / "mini"            # weights and tokenizers of the small models
RESULTS = DATA / "results"      # <profile>/NAME.json, committed: the reference
RUNS = DATA / "runs"            # <profile>[-quick]/NAME.json, ignored by git: your run

FIGURES = ROOT / "figures"                  # <profile>[-quick]/NAME.png, ignored by git: your run
REFERENCE_FIGURES = FIGURES / "reference"   # <profile>/NAME.png, committed


def shown(path: Path) -> str:
    """`path` as messages name it: relative to the project where it lies inside, so that no machine's
    folders appear in results and logs."""
    try:
        return path.relative_to(ROOT).as_posix()
    except ValueError:
        return str(path)
