"""`perception`: yes or no, about existence, number and colour; each answer half of the time."""

from __future__ import annotations

import numpy as np

from analysis.benchmarks import objects
from analysis.benchmarks.base import Benchmark, Page, Protocol, Query
from analysis.benchmarks.canvas import Canvas
from analysis.benchmarks.concepts import COLOURS, NO, NUMBERS, YES, plural

EXISTENCE = 6  # questions about existence a page


def draw(rng: np.random.Generator, size: tuple[int, int], accepts, count: tuple[int, int] | None = None) -> Page:
    """One scene of `size` (width, height) pixels; `count` bounds the number of objects."""
    scene = objects.place(rng, size, accepts, count)
    canvas = Canvas(rng, size)
    scene.draw(canvas)
    return canvas.finish([*existence(rng, scene), *attributes(rng, scene)])


def existence(rng: np.random.Generator, scene: objects.Scene):
    """"Is there a ...?" An absent object shares its shape with one that is there, where it can its colour with another.

    The evidence of a "no" is all that has its shape or its colour.
    """
    names = {thing.name for thing in scene.things}
    here = sorted({thing.colour for thing in scene.things})
    absent = ([f"{colour} {shape}" for shape in scene.shapes for colour in here if f"{colour} {shape}" not in names]
              or [f"{colour} {shape}" for shape in scene.shapes for colour in COLOURS if colour not in here])
    for _ in range(EXISTENCE):
        if rng.random() < 0.5:
            name, answer = absent[int(rng.integers(len(absent)))], NO
            near = [t for t in scene.things if t.colour == name.split(" ")[0] or t.shape == name.split(" ")[1]]
        else:
            thing = scene.things[int(rng.integers(len(scene.things)))]
            name, answer, near = thing.name, YES, [thing]
        yield Query("existence", f"Is there a {name}?", answer, tuple(thing.box for thing in near), name, answer)


def attributes(rng: np.random.Generator, scene: objects.Scene):
    """"Is the circle red?" of shapes that are there once; "Are there 3 circles?" of all."""
    for shape, number in scene.shapes.items():
        same = scene.of_shape(shape)
        boxes = tuple(thing.box for thing in same)
        asked, answer = _said(rng, str(number), NUMBERS)
        verb, what = ("Is", shape) if asked == "1" else ("Are", plural(shape))
        yield Query("count", f"{verb} there {asked} {what}?", answer, boxes, shape, str(number))
        if number == 1:
            asked, answer = _said(rng, same[0].colour, tuple(COLOURS))
            yield Query("colour", f"Is the {shape} {asked}?", answer, boxes, shape, same[0].colour)


def _said(rng: np.random.Generator, true: str, all_of: tuple[str, ...]) -> tuple[str, str]:
    if rng.random() < 0.5:
        return true, YES
    wrong = [each for each in all_of if each != true]
    return wrong[int(rng.integers(len(wrong)))], NO


BENCHMARK = Benchmark("perception", "MME", "exact_match", Protocol(2, 2, 2), objects.SIZES, draw)
