"""The cells that a published study prints, as data/papers/reported.csv has them: the visual-redundancy study's tables.

Table 1 (LLaDA-V) and Table 2 (LaViDa-Dream) prune from the first step on, at three ratios; Table 3 begins at a quarter,
half or three quarters of the steps. Its columns are read as where pruning begins, for times fall as they rise.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from analysis import paths

PAPER = "Visual Token Redundancy (arXiv 2511.15098)"
AVERAGE = "AVG_relative"
UNPRUNED = "baseline (no pruning)"
METHODS = {
    UNPRUNED: "none", "ToMe": "tome", "FastV": "fastv", "TRIM": "trim_projector", "SparseVLM": "sparsevlm",
    "DivPrune": "divprune", "VTW": "vtw",
}  # fmt: skip
"""Names of methods in the file, and here."""

STARTS = {"'25%'": "quarter", "'50%'": "half", "'75%'": "three quarters"}
MODELS = {"LLaDA-V": "from_scratch", "LaViDa-Dream": "autoregressive"}
"""The study's models, and where they come from."""

MIRRORS = {
    "DocVQA": "doc", "InfoVQA": "info", "ChartQA": "chart", "MME": "perception", "MMBench": "choice",
}  # fmt: skip
"""The study's benchmarks, and the generated families that stand in for them."""


@dataclass(frozen=True)
class Score:
    """A printed score.

    Attributes:
        origin: of the model (see MODELS). benchmark: or AVERAGE, in percent of unpruned.
        method, keep: as rows of our own name them; VTW keeps 0. start: first, quarter, half, three quarters, or None
            without pruning.
        share: of the unpruned score on the same benchmark. faster: percent of time saved, where told.
    """

    model: str
    origin: str
    benchmark: str
    method: str
    keep: float
    start: str | None
    score: float
    share: float
    faster: float | None = None


@functools.cache
def scores() -> tuple[Score, ...]:
    """All scores of Tables 1 to 3.

    Raises:
        ValueError: a cell that is there twice with different numbers.
    """
    cells: dict[tuple, dict[str, float]] = {}
    for row in _rows():
        start = None if row["method"] == UNPRUNED else _start(row["item"])
        keep = 0.0 if row["method"] == "VTW" else float(row["retention_ratio"].rstrip("%")) / 100
        where = (row["model"], row["benchmark"], METHODS[row["method"]], keep, start)
        told, value = cells.setdefault(where, {}), float(row["value"])
        if told.setdefault(row["metric"], value) != value:
            raise ValueError(f"reported.csv: {where} has {row['metric']} {told[row['metric']]} and {value}")
    full = {where[:2]: told["score"] for where, told in cells.items() if where[2] == "none"}
    return tuple(
        Score(model, MODELS[model], benchmark, method, keep, start, told["score"],
              told["score"] / full[model, benchmark], told.get(FASTER))
        for (model, benchmark, method, keep, start), told in cells.items()
    )  # fmt: skip


FASTER = "time_reduction (+ faster / - slower)"


def _rows() -> Iterator[dict[str, str]]:
    with (paths.PAPERS / "reported.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["paper"] == PAPER and row["method"] in METHODS and row["item"].startswith("Table"):
                yield row


def _start(item: str) -> str:
    return next((start for column, start in STARTS.items() if column in item), "first")


def expected() -> set[tuple]:
    """(model, benchmark, method, keep, start) of every cell of the three tables."""
    short = ("MME", "ScienceQA", "GQA", "POPE", "MMBench", "TextVQA", "ChartQA", "MMMU-Pro-vision", AVERAGE)
    found = {(model, name, "none", 1.0, None) for model, name in product(MODELS, (*short, "InfoVQA", "DocVQA"))}
    found |= {("LLaDA-V", name, "none", 1.0, None) for name in ("VideoMME", "VideoDetailCaption")}
    for model, name in product(MODELS, short):
        found |= {(model, name, method, keep, "first") for method, keep in
                  product(("tome", "fastv", "trim_projector", "sparsevlm", "divprune"), (0.5, 0.25, 0.1))}  # fmt: skip
        found.add((model, name, "vtw", 0.0, "first"))
    late = {"LLaDA-V": ("fastv", "vtw", "sparsevlm", "divprune"), "LaViDa-Dream": ("vtw", "divprune")}
    once = {"LLaDA-V": ("MME", "POPE", "VideoMME"), "LaViDa-Dream": ("MME", "POPE")}
    often = {"LLaDA-V": ("InfoVQA", "DocVQA", "VideoDetailCaption"), "LaViDa-Dream": ("InfoVQA", "DocVQA")}
    for model, methods in late.items():
        for method in methods:
            keep = 0.0 if method == "vtw" else 0.25
            found |= {(model, name, method, keep, "half") for name in once[model]}
            found |= {(model, name, method, keep, start) for name, start in product(often[model], STARTS.values())}
    return found


def missing() -> set[tuple]:
    """Cells of the tables that the file lacks."""
    return expected() - {(one.model, one.benchmark, one.method, one.keep, one.start) for one in scores()}
