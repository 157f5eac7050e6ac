"""What a benchmark is: samples, the protocol they are answered under, and the registry of families.

A family draws *pages*. A page is one image with several queries; a `Sample` is a page with one of
them. Everything is a function of (family, split, seed, index), so a sample does not depend on how
many are asked for or in which order.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from PIL import Image

SPLITS = ("train", "dev", "test")
LETTERS = "ABCD"

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Protocol:
    """How an answer is decoded: response tokens, tokens a block, denoising steps in all."""

    length: int
    block_length: int
    steps: int


@dataclass(frozen=True)
class Query:
    """One question about a page.

    stem: the question itself; options: what A, B, C and D stand for, empty for an open question.
    evidence: pixel boxes (x0, y0, x1, y1), ends exclusive, that hold what the answer needs.
    kind: what has to be done for it ("read", "count", "relation", ...).
    subject, content: the concepts that are asked for and that the image gives (`concepts.CONCEPTS`);
    used to train, never to answer. content is None where it is spelled.
    """

    kind: str
    stem: str
    answer: str
    evidence: tuple[Box, ...]
    subject: str
    content: str | None = None
    options: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """The text of the question, options included."""
        return self.stem + self._choices

    @property
    def unasked(self) -> str:
        """The question without what it asks: a question mark, and the options where there are any."""
        return "?" + self._choices

    @property
    def _choices(self) -> str:
        return "".join(f"\n{letter}. {option}" for letter, option in zip(LETTERS, self.options))


@dataclass(frozen=True)
class Sample:
    """One question about one image; see `Query`. `image` is RGB. `others` are answers that are right, too."""

    family: str
    split: str
    seed: int
    index: int
    image: Image.Image
    kind: str
    question: str
    unasked: str
    answer: str
    evidence: tuple[Box, ...]
    others: tuple[str, ...] = ()

    @property
    def accepted(self) -> tuple[str, ...]:
        """All right answers."""
        return self.answer, *self.others


@dataclass(frozen=True)
class Page:
    """One drawn image with what can be asked about it.

    pixels: uint8 [H, W, 3]. queries: in drawing order. labels: int16 [7, H/8, W/8], what every
    8 x 8 cell shows (see `canvas.py`); used to train, never to answer.
    """

    pixels: np.ndarray
    queries: tuple[Query, ...]
    labels: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True)
class Benchmark:
    """A generated family.

    `draw(rng, size, accepts, count)` makes a page of `size` (width, height) with count[0] to count[1]
    things on it (the family's own range for None), whose contents all satisfy `accepts`: of a family
    with spelled answers every value, of the others the scene as a whole.
    mirrors: the public benchmark that it stands in for. metric: that one's own, by name.
    stop: texts that end a response beside the host's own.
    """

    name: str
    mirrors: str
    metric: str
    protocol: Protocol
    sizes: tuple[tuple[int, int], ...]
    draw: Callable[..., Page]
    stop: ClassVar[tuple[str, ...]] = ()

    def suffix(self, host: str) -> str:
        """What a host's own evaluation writes behind a question: nothing."""
        return ""

    def page(self, split: str, seed: int, index: int, size: tuple[int, int] | None = None,
             count: tuple[int, int] | None = None) -> Page:
        """Page `index` of a split. Training may fix the size (width, height) and bound the number of things."""
        _check_split(split)
        return self._page(_rng(self.name, split, seed, index), split, size, count)

    def sample(self, split: str, seed: int, index: int) -> Sample:
        """Sample `index` of a split, by random access: a kind of question, then one of that kind.

        Raises ValueError for an unknown split.
        """
        _check_split(split)
        rng = _rng(self.name, split, seed, index)
        page = self._page(rng, split)
        kinds = sorted({query.kind for query in page.queries})
        kind = kinds[int(rng.integers(len(kinds)))]
        able = [query for query in page.queries if query.kind == kind]
        query = able[int(rng.integers(len(able)))]
        return Sample(self.name, split, seed, index, Image.fromarray(page.pixels), kind,
                      query.question, query.unasked, query.answer, query.evidence)

    def samples(self, split: str, n: int, seed: int = 0) -> list[Sample]:
        """The first `n` samples of a split. Raises ValueError for n < 1 or an unknown split."""
        if n < 1:
            raise ValueError(f"n is {n}, expected at least 1")
        return [self.sample(split, seed, index) for index in range(n)]

    def _page(self, rng: np.random.Generator, split: str, size=None, count=None) -> Page:
        drawn = self.sizes[int(rng.integers(len(self.sizes)))]
        while True:
            page = self.draw(rng, size or drawn, lambda content: split_of(content) == split, count)
            if page.queries:
                return page


def split_of(content: str) -> str:
    """The split whose images may show this value or scene: one tenth dev, one tenth test, the rest train."""
    rest = zlib.crc32(content.encode()) % 10
    return "test" if rest == 0 else "dev" if rest == 1 else "train"


def multiple_choice(rng: np.random.Generator, kind: str, stem: str, right: str, others: list[str],
                    evidence: tuple[Box, ...], subject: str) -> Query:
    """A question with four options in random order: the right one and the first three of `others` that differ."""
    wrong = [option for option in dict.fromkeys(others) if option != right][:len(LETTERS) - 1]
    options = [right, *wrong]
    order = rng.permutation(len(options))
    shown = tuple(options[place] for place in order)
    return Query(kind, stem, LETTERS[shown.index(right)], evidence, subject, right, shown)


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


def unasked(sample: Sample) -> Sample:
    """The sample without its question: the image, and the options where there are any."""
    return replace(sample, question=sample.unasked)


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}, expected one of {', '.join(SPLITS)}")


def _rng(family: str, split: str, seed: int, index: int) -> np.random.Generator:
    words = [zlib.crc32(f"{family}/{split}".encode()), seed, index]
    return np.random.default_rng(np.random.SeedSequence(words))
