"""`diagram`: parts with labels, an arrow from each label to its part; multiple choice."""

from __future__ import annotations

import numpy as np

from analysis.benchmarks.base import Benchmark, Box, Page, Protocol, Query, multiple_choice
from analysis.benchmarks.canvas import Canvas
from analysis.benchmarks.concepts import COLOURED_SHAPES, KEYS, OBJECT_ID
from analysis.benchmarks.glyphs import key_face
from analysis.benchmarks.objects import SIZES

PART = 13  # side of a part, in pixels
ARROW = 9  # length of an arrow
PARTS = (3, 6)
ROW, COLUMN = 16, 36  # least height of a lying pair and least width of a standing one
WIDE = 36 + ARROW + PART + 4
TALL = 10 + ARROW + PART + 2


def draw(rng: np.random.Generator, size: tuple[int, int], accepts, count: tuple[int, int] | None = None) -> Page:
    """One diagram of `size` (width, height) pixels; `count` bounds the number of parts."""
    canvas = Canvas(rng, size)
    pairs = parts(rng, canvas, size, accepts, *(count or PARTS))
    return canvas.finish(questions(rng, pairs))


def questions(rng: np.random.Generator, pairs: list[tuple[str, str, Box]]) -> list[Query]:
    """For every (key, part, box): which label points to the part, and what the label points to."""
    keys, names = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    queries = []
    for key, name, box in pairs:
        others = [*rng.permutation(keys), *rng.permutation(KEYS)]
        queries.append(multiple_choice(rng, "label", f"Which label points to the {name}?", key, others, (box,), name))
        others = [*rng.permutation(names), *rng.permutation(COLOURED_SHAPES)]
        queries.append(multiple_choice(rng, "part", f"What does {key} point to?", name, others, (box,), key))
    return queries


def parts(rng, canvas: Canvas, size, accepts, low: int, high: int) -> list[tuple[str, str, Box]]:
    """Draw the parts of a page; returns (key, part, box around both) of each. Keys and parts are unique."""
    width, height = size
    label = key_face(rng)
    standing = height >= 2 * TALL and rng.random() < 0.5
    columns, rows = (width // COLUMN, height // TALL) if standing else (1, height // ROW)
    while True:
        number = min(int(rng.integers(low, high + 1)), columns * rows)
        keys = [str(key) for key in rng.permutation(KEYS)[:number]]
        names = [str(name) for name in rng.permutation(COLOURED_SHAPES)[:number]]
        slots = rng.permutation(columns * rows)[:number]
        shifts, flips = rng.random((number, 2)), rng.random(number) < 0.5
        if accepts(repr((size, standing, keys, names, slots.tolist(), flips.tolist()))):
            break
    wide, tall = width // columns, height // rows
    pairs = []
    for key, name, slot, (right, down), flip in zip(keys, names, slots, shifts, flips):
        row, column = divmod(int(slot), columns)
        long = label.width(key)
        broad, deep = (max(long, PART), TALL) if standing else (long + ARROW + PART + 4, max(PART, label.height))
        x = column * wide + int(right * max(1, wide - broad))
        y = row * tall + int(down * max(1, tall - deep))
        field = KEYS.index(key)
        if standing:
            middle = x + broad // 2
            text_y = y if not flip else y + PART + ARROW + 2
            part_y = y + label.height - 2 + ARROW + 2 if not flip else y
            part = (middle - PART // 2, part_y, middle - PART // 2 + PART, part_y + PART)
            edges = (y + label.height - 2, part_y - 1) if not flip else (text_y, part_y + PART + 1)
            canvas.arrow((middle - 1, edges[0]), (middle - 1, edges[1]))
            canvas.text(middle - long // 2, text_y, key, label, field, False, OBJECT_ID[name])
        else:
            text_x = x if not flip else x + PART + ARROW + 4
            part_x = x + long + ARROW + 4 if not flip else x
            part = (part_x, y, part_x + PART, y + PART)
            edges = (x + long + 2, part_x - 1) if not flip else (text_x - 2, part_x + PART + 1)
            canvas.arrow((edges[0], y + PART // 2), (edges[1], y + PART // 2))
            canvas.text(text_x, y + PART // 2 - (label.cap[0] + label.cap[1]) // 2, key, label, field, False,
                        OBJECT_ID[name])
        canvas.object(part, name, field)
        pairs.append((key, name, (x, y, min(x + broad + 1, width), min(y + deep, height))))
    return pairs


BENCHMARK = Benchmark("diagram", "AI2D", "exact_match", Protocol(2, 2, 2), SIZES, draw)
