"""The mini benchmarks: generated families with known evidence boxes, all giving the same `Sample`."""

from __future__ import annotations

from analysis.benchmarks import doc, info
from analysis.benchmarks.base import (
    SPLITS,
    Benchmark,
    Field,
    Page,
    Protocol,
    Sample,
    blank,
    data_hash,
    question,
    split_of,
)

FAMILIES = {benchmark.name: benchmark for benchmark in (doc.BENCHMARK, info.BENCHMARK)}


def get(name: str) -> Benchmark:
    """A family by name. Raises ValueError, naming the known ones, for any other name."""
    if name not in FAMILIES:
        raise ValueError(f"unknown benchmark {name!r}, expected one of {', '.join(FAMILIES)}")
    return FAMILIES[name]


__all__ = ["FAMILIES", "SPLITS", "Benchmark", "Field", "Page", "Protocol", "Sample", "blank", "data_hash", "get",
           "question", "split_of"]
