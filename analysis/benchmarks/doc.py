"""`doc`: a form. Lines of KEY and VALUE, free rows, free start column and gap, dark or light paper."""

from __future__ import annotations

import numpy as np

from analysis.benchmarks.base import Benchmark, Field, Page, Protocol
from analysis.benchmarks.glyphs import CELL, KEYS, LINE, Canvas, bands, draw_value, face

LINES = (2, 6)


def draw(rng: np.random.Generator, size: tuple[int, int], accepts, count: tuple[int, int] = LINES) -> Page:
    """One form of `size` (width, height) pixels; `count` bounds the number of fields."""
    width, height = size
    spans = bands(height)
    slots = [band for band, (top, bottom) in enumerate(spans) for _ in range((bottom - top) // LINE)]
    number = min(int(rng.integers(count[0], count[1] + 1)), len(slots))
    chosen = rng.permutation(len(slots))[:number]
    tops = []
    for band, (top, bottom) in enumerate(spans):
        here = sum(slots[slot] == band for slot in chosen)
        offsets = np.sort(rng.integers(0, bottom - top - here * LINE + 1, here))
        tops += [top + int(offset) + LINE * place for place, offset in enumerate(offsets)]
    canvas, mono = Canvas(size), face("mono")
    label = face("sans" if rng.random() < 0.5 else "mono")
    fields = []
    for top, key in zip(tops, rng.permutation(len(KEYS))[:number]):
        word, value = KEYS[key], draw_value(rng, accepts)
        used = label.width(word) + mono.width(value) + CELL
        room = width - used - 1
        gap = int(rng.integers(10, max(11, min(room - 1, 28) + 1)))
        start = 1 + int(rng.integers(0, max(1, room - gap)))
        pen = canvas.text(start, top + mono.cap[1] - label.cap[1], word, label, int(key), False)
        end = canvas.text(pen + gap, top, value, mono, int(key), True)
        fields.append(Field(word, value, ((start, top, min(end + CELL, width), top + mono.height),)))
    return canvas.finish(rng, fields)


BENCHMARK = Benchmark("doc", Protocol(32, 32, 16),
                      ((128, 128), (128, 112), (128, 96), (192, 64), (256, 64)), draw)
