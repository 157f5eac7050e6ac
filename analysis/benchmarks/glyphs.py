"""Letters as pixels: fonts rendered once, and the values that are spelled with them.

Text is DejaVu Sans / DejaVu Sans Mono as matplotlib ships them, laid out by FreeType alone
(`Layout.BASIC`), so a page has the same pixels everywhere. Values are set in Sans Mono at 13 px,
an advance of 8 px: one glyph for one 8 px patch, off the patch grid. Keys are smaller.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from analysis.benchmarks.concepts import KEYS

CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
VALUE_ALPHABET = "ACEFHJKLMNPRTUVWXY234679"  # no look-alikes: 24 characters
VALUE_LENGTHS = (4, 6)
LINE = 15  # smallest distance between two lines of text, in pixels

_FONTS = {"sans": ("DejaVuSans.ttf", 10), "small": ("DejaVuSansMono.ttf", 11), "mono": ("DejaVuSansMono.ttf", 13)}


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
    """A rendered face by name: "sans" or "small" for keys, "mono" for values."""
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


def key_face(rng: np.random.Generator) -> Face:
    """One of the two faces for the keys of a page."""
    return face("sans" if rng.random() < 0.5 else "small")


def draw_value(rng: np.random.Generator, accepts, longest: int = VALUE_LENGTHS[1]) -> str:
    """A random value of 4 to 6 characters, at most `longest`, no key, for which `accepts(value)` holds."""
    while True:
        length = int(rng.integers(VALUE_LENGTHS[0], min(longest, VALUE_LENGTHS[1]) + 1))
        value = "".join(VALUE_ALPHABET[i] for i in rng.integers(0, len(VALUE_ALPHABET), length))
        if accepts(value) and value not in KEYS:
            return value


def draw_number(rng: np.random.Generator, accepts) -> str:
    """A random whole number of two or three digits for which `accepts(number)` holds."""
    while True:
        number = str(int(rng.integers(10, 100) if rng.random() < 0.4 else rng.integers(100, 1000)))
        if accepts(number):
            return number
