"""Letters as pixels: fonts rendered once, pages drawn by copying, and the dense labels of a page.

Text is DejaVu Sans / DejaVu Sans Mono as matplotlib ships them, laid out by FreeType alone
(`Layout.BASIC`), so a page has the same pixels everywhere. Values are set in Sans Mono at 13 px,
an advance of 8 px: one glyph for one 8 px patch, off the patch grid.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from analysis.benchmarks.base import Page

CELL = 8  # the patch of the mini models, in pixels
CROP = 64  # their crop; lines of text do not cross a horizontal crop edge
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
VALUE_ALPHABET = "ACEFHJKLMNPRTUVWXY234679"  # no look-alikes: 24 characters
KEYS = ("TOTAL", "DATE", "NAME", "CITY", "CODE", "ITEM", "UNIT", "RATE", "PAGE", "ROOM", "SEAT", "GATE",
        "TEAM", "PLAN", "TYPE", "SIZE", "COST", "TAX", "FEE", "SUM", "NET", "DUE", "BANK", "REF",
        "ZIP", "TEL", "FAX", "LOT", "NOTE", "DESK")
BLANK, END = 0, len(CHARACTERS) + 1  # glyph classes: 0 blank, 1.. characters, then the blank that ends a value
GLYPHS = END + 1
INDICES = 34  # index classes: 0..31 place in the value, IN_KEY, NO_INDEX
IN_KEY, NO_INDEX = 32, 33
FIELDS = len(KEYS) + 1  # field classes: KEYS, then none
IGNORE = -100
VALUE_LENGTHS = (4, 7)
LINE = 15  # smallest distance between two lines of text, in pixels

_FONTS = {"sans": ("DejaVuSans.ttf", 12), "mono": ("DejaVuSansMono.ttf", 13)}


@dataclass(frozen=True)
class Face:
    """A font at one size. glyphs: {character: (uint8 [height, advance + 2], advance)}, drawn from x - 1.

    Rows run from one pixel above the capitals to three below the baseline; `cap` is (first, last + 1)
    row of the capitals inside that.
    """

    glyphs: dict[str, tuple[np.ndarray, int]]
    height: int
    cap: tuple[int, int]

    def width(self, text: str) -> int:
        """Pixels from the pen's start to its end."""
        return sum(self.glyphs[character][1] for character in text)


@functools.cache
def face(name: str) -> Face:
    """A rendered face by name: "sans" (keys) or "mono" (values, and some keys)."""
    file, size = _FONTS[name]
    path = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", file)
    font = ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
    top, bottom = (font.getbbox("H", anchor="ls")[side] for side in (1, 3))
    height = bottom - top + 4
    glyphs = {}
    for character in CHARACTERS:
        advance = round(font.getlength(character))
        canvas = Image.new("L", (advance + 2, height))
        ImageDraw.Draw(canvas).text((1, 1 - top), character, fill=255, font=font, anchor="ls")
        glyphs[character] = (np.asarray(canvas).copy(), advance)
    return Face(glyphs, height, (1, 1 + bottom - top))


@functools.cache
def _noise() -> np.ndarray:
    return np.random.default_rng(20).standard_normal((1024, 512)).astype(np.float32)


class Canvas:
    """A page being drawn: coverage of the ink and the labels of the cells.

    size is (width, height) in pixels, both multiples of 8.
    """

    def __init__(self, size: tuple[int, int]):
        width, height = size
        self.ink = np.zeros((height, width), np.uint8)
        shape = (height // CELL, width // CELL)
        self.labels = np.empty((3, *shape), np.int16)
        self.labels[0], self.labels[1], self.labels[2] = BLANK, NO_INDEX, len(KEYS)
        self._overlap = np.zeros(shape, np.int16)

    def text(self, x: int, y: int, text: str, font: Face, field: int, value: bool) -> int:
        """Draw `text` with its top row at y; returns the pen's x after it. A value is labelled with its end."""
        for index, character in enumerate(text):
            bitmap, advance = font.glyphs[character]
            left = max(x - 1, 0)
            part = bitmap[:, left - (x - 1):]
            target = self.ink[y:y + font.height, left:x + advance + 1]
            np.maximum(target, part[:, :target.shape[1]], out=target)
            self._label(x, advance, y, font, 1 + CHARACTERS.index(character), index if value else IN_KEY, field)
            x += advance
        if value:
            self._label(x, CELL, y, font, END, len(text), field)
        return x

    def _label(self, x: int, advance: int, y: int, font: Face, glyph: int, index: int, field: int) -> None:
        column = (2 * x + advance) // 2 // CELL
        if column >= self.labels.shape[2]:
            return
        top, bottom = y + font.cap[0], y + font.cap[1]
        for row in range(top // CELL, (bottom - 1) // CELL + 1):
            overlap = min(bottom, (row + 1) * CELL) - max(top, row * CELL)
            if overlap <= self._overlap[row, column]:
                continue
            self._overlap[row, column] = overlap
            self.labels[:, row, column] = (glyph, index, field) if overlap >= 3 else IGNORE

    def finish(self, rng: np.random.Generator, fields) -> Page:
        """Tones, noise and inversion: dark on light or light on dark, each half of the time."""
        paper = 255 - rng.integers(0, 60, 3)
        pen = rng.integers(0, 80, 3)
        if rng.random() < 0.5:
            paper, pen = pen, paper
        height, width = self.ink.shape
        row, column = rng.integers(0, 1024 - height), rng.integers(0, 512 - width)
        noise = _noise()[row:row + height, column:column + width] * rng.uniform(0, 10)
        cover = self.ink.astype(np.float32) / 255
        pixels = np.empty((height, width, 3), np.uint8)
        for channel in range(3):
            tone = float(paper[channel]) + cover * float(pen[channel] - paper[channel]) + noise
            np.clip(tone, 0, 255, out=tone)
            pixels[:, :, channel] = tone
        return Page(pixels, tuple(fields), self.labels)


def draw_value(rng: np.random.Generator, accepts) -> str:
    """A random value of 4 to 7 characters for which `accepts(value)` holds."""
    while True:
        length = int(rng.integers(VALUE_LENGTHS[0], VALUE_LENGTHS[1] + 1))
        value = "".join(VALUE_ALPHABET[i] for i in rng.integers(0, len(VALUE_ALPHABET), length))
        if accepts(value):
            return value


def bands(height: int) -> list[tuple[int, int]]:
    """The (first, last + 1) pixel rows between horizontal crop edges of an image, centred on its tiles."""
    tiles = -(-height // CROP)
    pad = (tiles * CROP - height) // 2
    edges = [0] + [tile * CROP - pad for tile in range(1, tiles)] + [height]
    return list(zip(edges[:-1], edges[1:]))
