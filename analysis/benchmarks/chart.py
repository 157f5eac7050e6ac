"""`chart`: bar charts. A key, a coloured bar as long as its number, and the number, standing or lying.

A page holds one panel a crop. What is asked for is the number of a key or of a colour.
"""

from __future__ import annotations

import numpy as np

from analysis.benchmarks.base import Benchmark, Box, Page, Protocol, Query
from analysis.benchmarks.canvas import CELL, Canvas, bands
from analysis.benchmarks.concepts import BAR, COLOURS, KEYS, OBJECT_ID
from analysis.benchmarks.doc import SIZES
from analysis.benchmarks.glyphs import LINE, Face, draw_number, face, key_face

BARS = (2, 6)
PANEL = 3  # most bars in a panel
LABEL = 37  # room for a key left of a lying bar, in pixels


def draw(rng: np.random.Generator, size: tuple[int, int], accepts, count: tuple[int, int] | None = None) -> Page:
    """One page of panels of `size` (width, height) pixels; `count` bounds the number of bars."""
    canvas, queries = Canvas(rng, size), []
    for key, colour, number, evidence in panels(rng, canvas, size, accepts, *(count or BARS)):
        queries += [Query("label", f"What is {key}?", number, evidence, key),
                    Query("colour", f"What is the {colour} {BAR}?", number, evidence, f"{colour} {BAR}")]
    return canvas.finish(queries)


def panels(rng, canvas: Canvas, size, accepts, low: int, high: int) -> list[tuple[str, str, str, tuple[Box, ...]]]:
    """Draw the panels of a page; returns (key, colour, number, evidence) of every bar. Keys and colours are unique."""
    crops = [(across, down) for across in bands(size[0]) for down in bands(size[1])]
    total = min(int(rng.integers(low, high + 1)), PANEL * len(crops), len(COLOURS))
    share = np.full(len(crops), total // len(crops))
    share[rng.permutation(len(crops))[:total % len(crops)]] += 1
    label, mono = key_face(rng), face("mono")
    keys, colours = rng.permutation(KEYS), rng.permutation(list(COLOURS))
    bars, first = [], 0
    for (across, down), here in zip(crops, share):
        part = [(str(keys[i]), str(colours[i]), draw_number(rng, accepts)) for i in range(first, first + here)]
        first += int(here)
        if not part:
            continue
        fits = max(label.width(key) for key, _, _ in part) + 3 <= (across[1] - across[0]) // len(part)
        standing = fits and rng.random() < 0.5
        bars += (_standing if standing else _lying)(rng, canvas, across, down, part, label, mono)
    return bars


def _standing(rng, canvas: Canvas, across, down, part, label: Face, mono: Face):
    slot = (across[1] - across[0]) // len(part)
    base = down[1] - label.height - 1 - int(rng.integers(0, 3))
    tallest = base - down[0] - mono.height - 2 - int(rng.integers(0, 5))
    most = max(int(number) for _, _, number in part)
    for place, (key, colour, number) in enumerate(part):
        left, wide = across[0] + place * slot, int(rng.integers(10, 17))
        high = max(4, round(tallest * int(number) / most))
        name = max(label.width(key), mono.width(number), wide)
        middle = left + name // 2 + 1 + int(rng.integers(0, max(1, slot - name - 2)))
        bar = (middle - wide // 2, base - high, middle - wide // 2 + wide, base)
        what = KEYS.index(key), OBJECT_ID[f"{colour} {BAR}"]
        canvas.object(bar, f"{colour} {BAR}", what[0])
        start, pen = middle - mono.width(number) // 2, middle - label.width(key) // 2
        canvas.text(pen, base + 1, key, label, what[0], False, what[1])
        canvas.text(start, bar[1] - mono.height + 1, number, mono, what[0], True, what[1])
        x0 = max(across[0], min(pen, bar[0], start))
        x1 = min(across[1], max(pen + label.width(key), bar[2], start + mono.width(number) + CELL))
        yield key, colour, number, ((x0, bar[1] - mono.height + 1, x1, min(base + 1 + label.height, down[1])),)


def _lying(rng, canvas: Canvas, across, down, part, label: Face, mono: Face):
    slot = (down[1] - down[0]) // len(part)
    most = max(int(number) for _, _, number in part)
    for place, (key, colour, number) in enumerate(part):
        top = down[0] + place * slot + int(rng.integers(0, max(1, slot - LINE)))
        start = across[0] + LABEL + int(rng.integers(0, 3))
        room = across[1] - start - mono.width(number) - CELL - 3
        end = start + max(4, round(room * int(number) / most))
        bar = (start, top + 1, end, top + LINE - 2 - int(rng.integers(0, 3)))
        what = KEYS.index(key), OBJECT_ID[f"{colour} {BAR}"]
        canvas.object(bar, f"{colour} {BAR}", what[0])
        pen = start - label.width(key) - 2
        canvas.text(pen, top + mono.cap[1] - label.cap[1], key, label, what[0], False, what[1])
        after = canvas.text(end + 2, top, number, mono, what[0], True, what[1])
        yield key, colour, number, ((pen, top, min(after + CELL, across[1]), top + mono.height),)


BENCHMARK = Benchmark("chart", "ChartQA", "relaxed_accuracy", Protocol(16, 16, 16), SIZES, draw)
