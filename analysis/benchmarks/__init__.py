"""The benchmarks: generated families with known evidence boxes, and published data sets; all give the same `Sample`."""

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
from analysis.benchmarks.published import PUBLISHED, PublishedSet

FAMILIES = {module.BENCHMARK.name: module.BENCHMARK
            for module in (doc, info, chart, diagram, scene, perception, choice)}


def get(name: str) -> Benchmark | PublishedSet:
    """A generated family or a published data set by name. Raises ValueError, naming the known ones, for any other."""
    known = FAMILIES | PUBLISHED
    if name not in known:
        raise ValueError(f"unknown benchmark {name!r}, expected one of {', '.join(known)}")
    return known[name]


__all__ = ["FAMILIES", "PUBLISHED", "SPLITS", "Benchmark", "Page", "Protocol", "PublishedSet", "Query", "Sample",
           "blank", "data_hash", "get", "split_of", "unasked"]
