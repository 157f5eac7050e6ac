"""`info`: an infographic. Cards with the key above the value, scattered without overlap."""

from __future__ import annotations

import numpy as np

from analysis.benchmarks.base import Benchmark, Page, Protocol
from analysis.benchmarks.canvas import CELL, Canvas, bands
from analysis.benchmarks.concepts import KEYS
from analysis.benchmarks.doc import SIZES, read
from analysis.benchmarks.glyphs import draw_value, face, key_face

CARDS = (2, 7)
TRIES = 15  # places tried for a card before it is given up


def draw(rng: np.random.Generator, size: tuple[int, int], accepts, count: tuple[int, int] | None = None) -> Page:
    """One page of cards of `size` (width, height) pixels; `count` bounds the number of fields.

    A card that finds no free place is left out, so crowded pages hold fewer than drawn, never
    fewer than the least.
    """
    low, high = count or CARDS
    mono, label = face("mono"), key_face(rng)
    number = int(rng.integers(low, high + 1))
    columns, rows = bands(size[0]), bands(size[1])
    tall = label.height + mono.height
    placed: list = []
    while len(placed) < low:
        placed = []
        for key in rng.permutation(len(KEYS))[:number]:
            value = draw_value(rng, accepts)
            wide = max(label.width(KEYS[key]), mono.width(value)) + CELL
            for _ in range(TRIES):
                left, right = columns[int(rng.integers(len(columns)))]
                top, bottom = rows[int(rng.integers(len(rows)))]
                x = left + 1 + int(rng.integers(0, right - left - wide))
                y = top + int(rng.integers(0, bottom - top - tall + 1))
                if all(x >= box[2] or box[0] >= x + wide or y >= box[3] + 1 or box[1] >= y + tall + 1
                       for _, _, box in placed):
                    placed.append((int(key), value, (x, y, x + wide, y + tall)))
                    break
    canvas, queries = Canvas(rng, size), []
    for key, value, box in placed:
        canvas.text(box[0], box[1], KEYS[key], label, key, False)
        canvas.text(box[0], box[1] + label.height, value, mono, key, True)
        queries.append(read(KEYS[key], value, box))
    return canvas.finish(queries)


BENCHMARK = Benchmark("info", "InfoVQA", "anls", Protocol(32, 32, 16), SIZES, draw)
