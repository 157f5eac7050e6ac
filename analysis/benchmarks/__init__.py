"""The mini benchmarks: generated families with known evidence boxes, all giving the same `Sample`."""

from __future__ import annotations

from analysis.benchmarks import chart, choice, diagram, doc, info, perception, scene
from analysis.benchmarks.base import (
    SPLITS,
    Benchmark,
    Page,
    Protocol,
    Query,
    Sample,
    blank,
    data_hash,
    split_of,
    unasked,
)

FAMILIES = {module.BENCHMARK.name: module.BENCHMARK
            for module in (doc, info, chart, diagram, scene, perception, choice)}


def get(name: str) -> Benchmark:
    """A family by name. Raises ValueError, naming the known ones, for any other name."""
    if name not in FAMILIES:
        raise ValueError(f"unknown benchmark {name!r}, expected one of {', '.join(FAMILIES)}")
    return FAMILIES[name]


__all__ = ["FAMILIES", "SPLITS", "Benchmark", "Page", "Protocol", "Query", "Sample", "blank", "data_hash", "get",
           "split_of", "unasked"]
