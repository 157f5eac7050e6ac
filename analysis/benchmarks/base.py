"""What a benchmark is: samples, the protocol they are answered under, and the registry of families.

A family draws *pages*. A page is one image with several fields (a key and its value); a
`Sample` is a page with one question. Everything is a function of (family, split, seed, index),
so a sample does not depend on how many are asked for or in which order.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

SPLITS = ("train", "dev", "test")

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Protocol:
    """How an answer is decoded: response tokens, tokens a block, denoising steps in all."""

    length: int
    block_length: int
    steps: int


@dataclass(frozen=True)
class Sample:
    """One question about one image.

    `image` is RGB; `evidence` holds pixel boxes (x0, y0, x1, y1), ends exclusive, which together
    span the key, the value, the gap between them and the blank that ends the value.
    """

    family: str
    split: str
    seed: int
    index: int
    image: Image.Image
    question: str
    answer: str
    evidence: tuple[Box, ...]


@dataclass(frozen=True)
class Field:
    """A key and its value as drawn: the evidence boxes are those of `Sample`."""

    key: str
    value: str
    evidence: tuple[Box, ...]


@dataclass(frozen=True)
class Page:
    """One drawn image with what stands in it.

    pixels: uint8 [H, W, 3]. fields: in drawing order. labels: int16 [3, H/8, W/8], for every
    8 x 8 cell the glyph class, the index in the value and the field (see `glyphs.py` for the
    classes); used to train, never to answer.
    """

    pixels: np.ndarray
    fields: tuple[Field, ...]
    labels: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True)
class Benchmark:
    """A generated family. `draw(rng, accepts)` makes a page whose values all satisfy `accepts`."""

    name: str
    protocol: Protocol
    sizes: tuple[tuple[int, int], ...]
    draw: Callable[..., Page]

    def page(self, split: str, seed: int, index: int, size: tuple[int, int] | None = None,
             fields: tuple[int, int] | None = None) -> Page:
        """Page `index` of a split. Training may fix the size (width, height) and bound the number of fields."""
        _check_split(split)
        return self._page(_rng(self.name, split, seed, index), split, size, fields)

    def sample(self, split: str, seed: int, index: int) -> Sample:
        """Sample `index` of a split, by random access. Raises ValueError for an unknown split."""
        _check_split(split)
        rng = _rng(self.name, split, seed, index)
        page = self._page(rng, split)
        field = page.fields[int(rng.integers(len(page.fields)))]
        return Sample(self.name, split, seed, index, Image.fromarray(page.pixels),
                      question(field.key), field.value, field.evidence)

    def samples(self, split: str, n: int, seed: int = 0) -> list[Sample]:
        """The first `n` samples of a split. Raises ValueError for n < 1 or an unknown split."""
        if n < 1:
            raise ValueError(f"n is {n}, expected at least 1")
        return [self.sample(split, seed, index) for index in range(n)]

    def _page(self, rng: np.random.Generator, split: str, size=None, fields=None) -> Page:
        drawn = self.sizes[int(rng.integers(len(self.sizes)))]
        bounds = {} if fields is None else {"count": fields}
        return self.draw(rng, size or drawn, lambda value: split_of(value) == split, **bounds)


def question(key: str) -> str:
    """The text that asks for a key's value."""
    return f"What is {key}?"


def split_of(value: str) -> str:
    """The split whose images may show this value: one tenth dev, one tenth test, the rest train."""
    rest = zlib.crc32(value.encode()) % 10
    return "test" if rest == 0 else "dev" if rest == 1 else "train"


def data_hash(samples: Iterable[Sample]) -> str:
    """sha256 over the pixels, question, answer and evidence of every sample, as hex digits."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(repr((sample.image.size, sample.question, sample.answer, sample.evidence)).encode())
        digest.update(np.asarray(sample.image).tobytes())
    return digest.hexdigest()


def blank(sample: Sample) -> Sample:
    """The sample with nothing to see: the image's mean colour everywhere."""
    mean = sample.image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    return replace(sample, image=Image.new("RGB", sample.image.size, mean))


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}, expected one of {', '.join(SPLITS)}")


def _rng(family: str, split: str, seed: int, index: int) -> np.random.Generator:
    words = [zlib.crc32(f"{family}/{split}".encode()), seed, index]
    return np.random.default_rng(np.random.SeedSequence(words))
