"""`doc`: a form. KEY and VALUE on one line, in one column or two, free rows, start and gap, dark or light paper."""

from __future__ import annotations

import numpy as np

from analysis.benchmarks.base import Benchmark, Page, Protocol, Query
from analysis.benchmarks.canvas import CELL, Canvas, bands
from analysis.benchmarks.concepts import KEYS
from analysis.benchmarks.glyphs import LINE, draw_value, face, key_face

LINES = (2, 8)
GAPS = (8, 24)  # pixels between key and value
SIZES = ((192, 64), (192, 80), (96, 144), (96, 176))


def draw(rng: np.random.Generator, size: tuple[int, int], accepts, count: tuple[int, int] | None = None) -> Page:
    """One form of `size` (width, height) pixels; `count` bounds the number of fields."""
    low, high = count or LINES
    crops = [(across, down) for across in bands(size[0]) for down in bands(size[1])]
    slots = np.repeat(np.arange(len(crops)), [(bottom - top) // LINE for _, (top, bottom) in crops])
    number = min(int(rng.integers(low, high + 1)), len(slots))
    chosen = rng.permutation(slots)[:number]
    canvas, mono, label = Canvas(rng, size), face("mono"), key_face(rng)
    keys, queries = iter(rng.permutation(len(KEYS))), []
    for crop, ((left, right), (top, bottom)) in enumerate(crops):
        here = int((chosen == crop).sum())
        offsets = np.sort(rng.integers(0, bottom - top - here * LINE + 1, here))
        for place, (offset, key) in enumerate(zip(offsets, keys)):
            y, word = top + int(offset) + LINE * place, KEYS[key]
            room = right - left - 1 - label.width(word) - CELL
            value = draw_value(rng, accepts, (room - GAPS[0]) // CELL)
            room -= mono.width(value)
            gap = int(rng.integers(GAPS[0], min(room, GAPS[1]) + 1))
            x = left + 1 + int(rng.integers(0, room - gap + 1))
            pen = canvas.text(x, y + mono.cap[1] - label.cap[1], word, label, int(key), False)
            end = canvas.text(pen + gap, y, value, mono, int(key), True)
            queries.append(read(word, value, (x, y, end + CELL, y + mono.height)))
    return canvas.finish(queries)


def read(key: str, value: str, *evidence) -> Query:
    """The question that asks for a key's value. The boxes span key, value, gap and the blank that ends it."""
    return Query("read", f"What is {key}?", value, evidence, key)


BENCHMARK = Benchmark("doc", "DocVQA", "anls", Protocol(32, 32, 16), SIZES, draw)
