"""`scene`: objects, relations and counting, answered in one word."""

from __future__ import annotations

import numpy as np

from analysis.benchmarks import objects
from analysis.benchmarks.base import Benchmark, Page, Protocol, Query
from analysis.benchmarks.canvas import Canvas
from analysis.benchmarks.concepts import plural


def draw(rng: np.random.Generator, size: tuple[int, int], accepts, count: tuple[int, int] | None = None) -> Page:
    """One scene of `size` (width, height) pixels; `count` bounds the number of objects."""
    scene = objects.place(rng, size, accepts, count)
    canvas = Canvas(rng, size)
    scene.draw(canvas)
    return canvas.finish(open_questions(scene))


def open_questions(scene: objects.Scene) -> list[Query]:
    """Every question about colour, number and place that the scene answers in one word."""
    queries = []
    for shape, number in scene.shapes.items():
        same = scene.of_shape(shape)
        boxes = tuple(thing.box for thing in same)
        queries.append(Query("count", f"How many {plural(shape)} are there?", str(number), boxes, shape, str(number)))
        if number == 1:
            colour = same[0].colour
            queries.append(Query("colour", f"What colour is the {shape}?", colour, boxes, shape, colour))
    for thing in scene.things:
        for where, other in (("left of", scene.left_of(thing)), ("above", scene.above(thing))):
            if other:
                queries.append(Query("relation", f"What is {where} the {thing.name}?", other.name,
                                     (thing.box, other.box), thing.name, other.name))
    return queries


BENCHMARK = Benchmark("scene", "RealWorldQA", "exact_match", Protocol(2, 2, 2), objects.SIZES, draw)
