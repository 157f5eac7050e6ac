"""`info`: an infographic. Cards with the key above the value, scattered without overlap."""

from __future__ import annotations

import numpy as np

from analysis.benchmarks.base import Benchmark, Field, Page, Protocol
from analysis.benchmarks.glyphs import CELL, KEYS, Canvas, bands, draw_value, face

CARDS = (2, 6)
TRIES = 12  # places tried for a card before it is given up


def draw(rng: np.random.Generator, size: tuple[int, int], accepts, count: tuple[int, int] = CARDS) -> Page:
    """One page of cards of `size` (width, height) pixels; `count` bounds the number of fields.

    A card that finds no free place is left out, so crowded pages hold fewer than drawn, never
    fewer than `count[0]`.
    """
    width, height = size
    mono, label = face("mono"), face("sans" if rng.random() < 0.5 else "mono")
    number = int(rng.integers(count[0], count[1] + 1))
    spans = bands(height)
    tall = label.height + mono.height
    placed = []
    while len(placed) < count[0]:
        placed = []
        for key in rng.permutation(len(KEYS))[:number]:
            value = draw_value(rng, accepts)
            wide = max(label.width(KEYS[key]), mono.width(value)) + CELL
            for _ in range(TRIES):
                top, bottom = spans[int(rng.integers(len(spans)))]
                x = 1 + int(rng.integers(0, width - wide))
                y = top + int(rng.integers(0, bottom - top - tall + 1))
                if all(x >= box[2] or box[0] >= x + wide or y >= box[3] + 1 or box[1] >= y + tall + 1
                       for _, _, box in placed):
                    placed.append((int(key), value, (x, y, x + wide, y + tall)))
                    break
    canvas, fields = Canvas(size), []
    for key, value, (x, y, right, bottom) in placed:
        canvas.text(x, y, KEYS[key], label, key, False)
        canvas.text(x, y + label.height, value, mono, key, True)
        fields.append(Field(KEYS[key], value, ((x, y, right, bottom),)))
    return canvas.finish(rng, fields)


BENCHMARK = Benchmark("info", Protocol(32, 32, 16),
                      ((128, 128), (128, 112), (128, 96), (192, 64)), draw)
