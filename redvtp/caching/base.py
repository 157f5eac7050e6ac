"""What a cache is to the denoising loop, and the registry of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol, TypeVar

from redvtp.models.base import Span
from redvtp.selection import is_whole


@dataclass(frozen=True)
class Moment:
    """Where one sample stands before a step.

    Attributes:
        step: steps taken, from 0.
        index: steps taken within the block, from 0.
        start, stop: response rows of the block.
        rows: of response and suffix together.
        cut: whether visual tokens were dropped since the last step.
    """

    step: int
    index: int
    start: int
    stop: int
    rows: int
    cut: bool = False

    @property
    def everything(self) -> Span:
        """A forward over all columns, which fills the cache anew."""
        return Span(0, self.rows, prompt=True)


class CachePolicy(Protocol):
    """Which columns each step computes. A frozen dataclass whose fields are its parameters.

    Attributes:
        alone: columns before the response see only each other.
        keeps_parts: spans with a share are asked for, so that what each layer adds has to be kept.
    """

    name: ClassVar[str]
    alone: ClassVar[bool]
    keeps_parts: ClassVar[bool]

    def span(self, moment: Moment) -> Span:
        """What the step computes for that sample.

        The loop asks for everything where this is not enough: in the first step, for a cut inside a step, and
        for a cut after it that needs attention of rows which the span leaves out.
        """


@dataclass(frozen=True)
class KeyValueCache:
    """A cache that is filled in the first step, and sliced with the sequence when visual tokens are cut.

    The keys and values of the tokens that stay have then seen the dropped ones.

    Attributes:
        reencode: compute everything once more in the step after a cut, from the shorter sequence.
    """

    name: ClassVar[str]
    alone: ClassVar[bool] = False
    keeps_parts: ClassVar[bool] = False

    reencode: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.reencode, bool):
            raise ValueError(f"reencode={self.reencode!r}: expected True or False")

    def span(self, moment: Moment) -> Span:
        """Everything in the first step and where a cut is to be re-encoded, else what ``between`` says."""
        if moment.step == 0 or moment.cut and self.reencode:
            return moment.everything
        return self.between(moment)

    def between(self, moment: Moment) -> Span:
        """What a later step computes."""
        raise TypeError(f"{type(self).__name__} does not define between(moment)")


CACHES: dict[str, type] = {}
C = TypeVar("C", bound=type)


def register(cache: C) -> C:
    """Class decorator that puts a cache into the registry under its ``name``."""
    CACHES[cache.name] = cache
    return cache


def get(name: str) -> type:
    """The cache of that name; ValueError names the ones there are."""
    if name not in CACHES:
        raise ValueError(f"unknown cache {name!r}: expected one of {', '.join(sorted(CACHES))}")
    return CACHES[name]


def check_interval(name: str, value: int) -> None:
    """Refuse what cannot be a number of steps."""
    if not is_whole(value) or value < 1:
        raise ValueError(f"{name}={value!r}: expected a whole number of steps, 1 or more")
