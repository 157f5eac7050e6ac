"""Coloured shapes on a loose grid: the scenes that `scene`, `perception` and `choice` ask about.

Each shape stands inside a block of two by two cells, so that each is seen by four patches of the
mini models: off that grid, shapes took one to four patches, and counting was not learned.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.benchmarks.base import Box
from analysis.benchmarks.canvas import CELL, NO_OBJECT, Canvas
from analysis.benchmarks.concepts import COLOURS, NUMBERS, OBJECT_ID, SHAPES

SIZES = ((96, 80), (80, 96), (96, 64))
THINGS = (3, 8)
SLOT = 24  # side of a place in the grid, in pixels: the block and a cell to spare


@dataclass(frozen=True)
class Thing:
    """One object: its shape and colour, its place in the grid and its box in pixels."""

    shape: str
    colour: str
    column: int
    row: int
    box: Box

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """The objects of a page; no two have the same shape and colour."""

    things: tuple[Thing, ...]

    @cached_property
    def at(self) -> dict[tuple[int, int], Thing]:
        """The objects by (column, row)."""
        return {(thing.column, thing.row): thing for thing in self.things}

    @cached_property
    def shapes(self) -> Counter[str]:
        """How many there are of each shape."""
        return Counter(thing.shape for thing in self.things)

    def left_of(self, thing: Thing) -> Thing | None:
        """The object in the place directly left."""
        return self.at.get((thing.column - 1, thing.row))

    def above(self, thing: Thing) -> Thing | None:
        """The object in the place directly above."""
        return self.at.get((thing.column, thing.row - 1))

    def of_shape(self, shape: str) -> list[Thing]:
        return [thing for thing in self.things if thing.shape == shape]

    def draw(self, canvas: Canvas) -> None:
        """Paint every object, with labels of its neighbours and of how many share its shape."""
        for thing in self.things:
            left, above = self.left_of(thing), self.above(thing)
            canvas.object(thing.box, thing.name, left=OBJECT_ID[left.name] if left else NO_OBJECT,
                          above=OBJECT_ID[above.name] if above else NO_OBJECT,
                          count=NUMBERS.index(str(self.shapes[thing.shape])))


def place(rng: np.random.Generator, size: tuple[int, int], accepts, count: tuple[int, int] | None = None) -> Scene:
    """A scene for which `accepts` holds. How many share a shape is 1 to 4, each as likely before the page is full."""
    low, high = count or THINGS
    columns, rows = size[0] // SLOT, size[1] // SLOT
    corner = [CELL * int(rng.integers(0, side % SLOT // CELL + 1)) for side in size]
    while True:
        kinds = []
        for shape in rng.permutation(SHAPES):
            colours = rng.permutation(list(COLOURS))[:int(rng.integers(1, len(NUMBERS) + 1))]
            if len(kinds) + len(colours) <= high:
                kinds += [(str(shape), str(colour)) for colour in colours]
            if len(kinds) >= low and rng.random() < 0.4:
                break
        if len(kinds) < low:
            continue
        slots = rng.permutation(columns * rows)[:len(kinds)]
        sides = rng.integers(12, 15, len(kinds))
        blocks = CELL * rng.integers(0, 2, (len(kinds), 2))
        jitter = rng.random((len(kinds), 2))
        things = []
        for (shape, colour), slot, side, block, shift in zip(kinds, slots.tolist(), sides.tolist(), blocks, jitter):
            row, column = divmod(slot, columns)
            x, y = (corner[axis] + SLOT * place + int(block[axis]) + 1 + int(shift[axis] * (2 * CELL - side - 1))
                    for axis, place in enumerate((column, row)))
            things.append(Thing(shape, colour, column, row, (x, y, x + side, y + side)))
        if accepts(repr((size, things))):
            return Scene(tuple(things))
