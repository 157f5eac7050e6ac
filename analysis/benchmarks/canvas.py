"""A page being drawn: paint and ink, and what every cell of it shows.

Labels are int16 [7, rows, columns], one plane each for: the glyph (0 blank, 1.. characters, then the
blank that ends a value), the index in the value, the field (a key, also of what the key labels), the
object (also of what labels the object), the object left of it, the object above it, and how many of
its shape there are. IGNORE marks cells that show too little to say.
"""

from __future__ import annotations

import functools

import numpy as np

from analysis.benchmarks.base import Box, Page, Query
from analysis.benchmarks.concepts import BAR, COLOURS, KEYS, NUMBERS, OBJECT_ID, OBJECTS
from analysis.benchmarks.glyphs import CHARACTERS, Face

CELL = 8  # the patch of the mini models, in pixels
CROP = 96  # their crop; nothing that belongs together crosses the edge of a crop
BLANK, END = 0, len(CHARACTERS) + 1
INDICES = 34  # index classes: 0..31 place in the value, IN_KEY, NO_INDEX
IN_KEY, NO_INDEX = 32, 33
NO_FIELD, NO_OBJECT, NO_COUNT = len(KEYS), len(OBJECTS), len(NUMBERS)
IGNORE = -100
GLYPH, INDEX, FIELD, OBJECT, LEFT, ABOVE, COUNT = range(7)
PLANES = {"glyph": END + 1, "index": INDICES, "field": NO_FIELD + 1, "object": NO_OBJECT + 1, "left": NO_OBJECT + 1,
          "above": NO_OBJECT + 1, "count": NO_COUNT + 1}
"""Name and number of classes of every plane of labels, in order."""

_EMPTY = (BLANK, NO_INDEX, NO_FIELD, NO_OBJECT, NO_OBJECT, NO_OBJECT, NO_COUNT)


@functools.cache
def _noise() -> np.ndarray:
    return np.random.default_rng(20).standard_normal((1024, 512)).astype(np.float32)


@functools.cache
def shape_mask(shape: str, size: int) -> np.ndarray:
    """uint8 [size, size], 255 where the shape is, its edges smoothed by four samples a side."""
    fine = 4
    axis = (np.arange(size * fine) + 0.5) / (size * fine) * 2 - 1
    x, y = np.meshgrid(axis, axis)
    radius = np.hypot(x, y)
    inside = {
        "circle": radius <= 1,
        "ring": (radius <= 1) & (radius >= 0.52),
        "square": np.maximum(abs(x), abs(y)) <= 0.9,
        "diamond": abs(x) + abs(y) <= 1,
        "triangle": (y <= 0.9) & (abs(x) <= (y + 1) / 2),
        "cross": (np.minimum(abs(x), abs(y)) <= 0.33) & (np.maximum(abs(x), abs(y)) <= 0.97),
        BAR: np.ones_like(radius, bool),
    }[shape]
    return (inside.reshape(size, fine, size, fine).mean((1, 3)) * 255).astype(np.uint8)


class Canvas:
    """A page of `size` (width, height) pixels, multiples of 8, on dark or light paper, each half of the time."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]):
        width, height = size
        self.rng = rng
        paper, self.pen = 255 - rng.integers(0, 60, 3), rng.integers(0, 80, 3)
        if rng.random() < 0.5:
            paper, self.pen = self.pen, paper
        self.paint = np.empty((height, width, 3), np.float32)
        self.paint[:] = paper
        self.ink = np.zeros((height, width), np.uint8)
        shape = (height // CELL, width // CELL)
        self.labels = np.empty((len(PLANES), *shape), np.int16)
        self.labels[:] = np.reshape(_EMPTY, (-1, 1, 1))
        self._overlap = np.zeros(shape, np.int16)

    def text(self, x: int, y: int, text: str, font: Face, field: int, value: bool, obj: int = NO_OBJECT) -> int:
        """Draw `text` with its top row at y; returns the pen's x after it. A value is labelled with its end."""
        for index, character in enumerate(text):
            bitmap, advance = font.glyphs[character]
            left = max(x - 1, 0)
            part = bitmap[:, left - (x - 1):]
            target = self.ink[y:y + font.height, left:x + advance + 1]
            np.maximum(target, part[:target.shape[0], :target.shape[1]], out=target)
            place = index if value else IN_KEY
            self._label_glyph(x, advance, y, font, (1 + CHARACTERS.index(character), place, field, obj))
            x += advance
        if value:
            self._label_glyph(x, CELL, y, font, (END, len(text), field, obj))
        return x

    def object(self, box: Box, name: str, field: int = NO_FIELD, left: int = NO_OBJECT, above: int = NO_OBJECT,
               count: int = NO_COUNT) -> None:
        """Paint the object called `name` ("red circle") into its box and label the cells that show it."""
        x0, y0, x1, y1 = box
        colour, shape = name.split(" ")
        tone = np.clip(np.array(COLOURS[colour]) + self.rng.integers(-18, 19, 3), 0, 255).astype(np.float32)
        target = self.paint[y0:y1, x0:x1]
        if shape == BAR:
            target[:] = tone
        else:
            cover = shape_mask(shape, x1 - x0).astype(np.float32)[:, :, None] / 255
            target += cover * (tone - target)
        self._label_box(box, (BLANK, NO_INDEX, field, OBJECT_ID[name], left, above, count))

    def arrow(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        """A line of two pixels with a head at `end`, along one axis."""
        (x0, y0), (x1, y1) = start, end
        if y0 == y1:
            self.ink[y0:y0 + 2, min(x0, x1):max(x0, x1)] = 255
            step = 1 if x1 > x0 else -1
            for back in range(4):
                x = x1 - step * (back + 1)
                self.ink[max(y0 - back, 0):y0 + 2 + back, x:x + 1] = 255
        else:
            self.ink[min(y0, y1):max(y0, y1), x0:x0 + 2] = 255
            step = 1 if y1 > y0 else -1
            for back in range(4):
                y = y1 - step * (back + 1)
                self.ink[y:y + 1, max(x0 - back, 0):x0 + 2 + back] = 255

    def _label_glyph(self, x: int, advance: int, y: int, font: Face, what: tuple[int, int, int, int]) -> None:
        column = (2 * x + advance) // 2 // CELL
        if column >= self.labels.shape[2]:
            return
        top, bottom = y + font.cap[0], y + font.cap[1]
        for row in range(top // CELL, min((bottom - 1) // CELL + 1, self.labels.shape[1])):
            overlap = min(bottom, (row + 1) * CELL) - max(top, row * CELL)
            seen = self._overlap[row, column]
            if self.labels[GLYPH, row, column] == END and what[GLYPH] != END:
                seen = 0  # the blank after a value gives way to a letter
            if overlap <= seen or what[GLYPH] == END and seen:
                continue
            self._overlap[row, column] = overlap
            if overlap >= 3:
                self.labels[:OBJECT + 1, row, column] = what
                self.labels[OBJECT + 1:, row, column] = _EMPTY[OBJECT + 1:]
            else:
                self.labels[:, row, column] = IGNORE

    def _label_box(self, box: Box, what: tuple[int, ...]) -> None:
        x0, y0, x1, y1 = box
        rows, columns = range(y0 // CELL, (y1 - 1) // CELL + 1), range(x0 // CELL, (x1 - 1) // CELL + 1)
        high = [min(y1, (row + 1) * CELL) - max(y0, row * CELL) for row in rows]
        wide = [min(x1, (column + 1) * CELL) - max(x0, column * CELL) for column in columns]
        most = max(high) * max(wide)
        for row, tall in zip(rows, high):
            for column, broad in zip(columns, wide):
                area = tall * broad
                if area >= 25 or area == most:
                    self.labels[:, row, column] = what
                elif area > 6 and self.labels[GLYPH, row, column] == BLANK \
                        and self.labels[OBJECT, row, column] == NO_OBJECT:
                    self.labels[:, row, column] = IGNORE

    def finish(self, queries: list[Query]) -> Page:
        """Ink over paint, noise over both."""
        height, width = self.ink.shape
        row, column = self.rng.integers(0, 1024 - height), self.rng.integers(0, 512 - width)
        noise = _noise()[row:row + height, column:column + width] * np.float32(self.rng.uniform(0, 10))
        cover = self.ink.astype(np.float32)[:, :, None] / 255
        tone = self.paint + cover * (self.pen.astype(np.float32) - self.paint)
        tone += noise[:, :, None]
        return Page(np.clip(tone, 0, 255, out=tone).astype(np.uint8), tuple(queries), self.labels)


def bands(length: int) -> list[tuple[int, int]]:
    """The (first, last + 1) pixels between the crop edges along a side of an image, centred on its tiles."""
    tiles = -(-length // CROP)
    pad = (tiles * CROP - length) // 2
    edges = [0] + [tile * CROP - pad for tile in range(1, tiles)] + [length]
    return list(zip(edges[:-1], edges[1:]))
