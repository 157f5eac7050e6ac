"""`choice`: multiple choice over all of it: scenes, diagrams and charts."""

from __future__ import annotations

import numpy as np

from analysis.benchmarks import chart, diagram, objects, scene
from analysis.benchmarks.base import Benchmark, Page, Protocol, Query, multiple_choice
from analysis.benchmarks.canvas import Canvas
from analysis.benchmarks.concepts import BAR, COLOURED_SHAPES, COLOURS, KEYS, NUMBERS


def draw(rng: np.random.Generator, size: tuple[int, int], accepts, count: tuple[int, int] | None = None) -> Page:
    """One page of `size` (width, height) pixels; `count` bounds the number of things on it."""
    kind = int(rng.integers(3))
    if kind == 0:
        shown = objects.place(rng, size, accepts, count)
        canvas = Canvas(rng, size)
        shown.draw(canvas)
        return canvas.finish([_with_options(rng, query, shown) for query in scene.open_questions(shown)])
    canvas = Canvas(rng, size)
    if kind == 1:
        pairs = diagram.parts(rng, canvas, size, accepts, *(count or diagram.PARTS))
        return canvas.finish(diagram.questions(rng, pairs))
    bars = chart.panels(rng, canvas, size, accepts, *(count or (2, chart.PANEL)))
    keys = [key for key, *_ in bars]
    queries = []
    for key, colour, _, evidence in bars:
        others = [*rng.permutation(keys), *rng.permutation(KEYS)]
        queries.append(multiple_choice(rng, "bar", f"Which label has the {colour} {BAR}?", key, others, evidence,
                                       f"{colour} {BAR}"))
    return canvas.finish(queries)


def _with_options(rng: np.random.Generator, query: Query, shown: objects.Scene) -> Query:
    """An open question with four options; what is on the page comes first among the wrong ones."""
    if query.kind == "count":
        others = list(rng.permutation(NUMBERS))
    elif query.kind == "colour":
        others = [*rng.permutation([thing.colour for thing in shown.things]), *rng.permutation(list(COLOURS))]
    else:
        others = [*rng.permutation([thing.name for thing in shown.things if thing.name != query.subject]),
                  *rng.permutation(COLOURED_SHAPES)]
    return multiple_choice(rng, query.kind, query.stem, query.answer, [str(each) for each in others], query.evidence,
                           query.subject)


BENCHMARK = Benchmark("choice", "MMBench", "exact_match", Protocol(2, 2, 2), objects.SIZES, draw)
