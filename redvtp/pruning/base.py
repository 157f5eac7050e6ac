"""What a pruning method is, and the registry of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, TypeVar

import torch
from torch import LongTensor, Tensor

from redvtp.selection import (
    POSITIONS,
    Budget,
    Count,
    Cut,
    Needs,
    Rank,
    Selection,
    Share,
    View,
    as_budget,
    is_whole,
    top_selection,
)
from redvtp.sequence import THUMBNAIL, VISUAL, Layout

PROTECTABLE = ("newline", "thumbnail")


class Pruner(Protocol):
    """A method: where it cuts and what it selects. A frozen dataclass whose fields are its parameters."""

    name: ClassVar[str]
    positions: str

    def cuts(self, steps: int, layers: int) -> tuple[Cut, ...]:
        """Where the method cuts in a run of ``steps`` steps of an ``layers``-layer model."""

    def needs(self, cut: Cut) -> Needs:
        """What it must see there."""

    def select(self, view: View) -> Selection:
        """What it keeps."""


@dataclass(frozen=True)
class Scored:
    """A method that scores each visual token and keeps the best within a budget.

    Attributes:
        keep: a float in (0, 1] (share of the original visual tokens), Share, Count, Mass or Outliers.
        positions: "compact" re-numbers the tokens that stay (official), "original" leaves gaps.
        protect: "newline" and "thumbnail" tokens that are always kept, inside the budget.
        images: indices of the images that are pruned; None for all, ``(0,)`` is what the official code does.
            A share is then one of those images' tokens at the time of the cut.
    """

    name: ClassVar[str]
    ranks: ClassVar[bool] = False  # whether a budget by Rank is possible

    keep: float | Budget = field(default=0.5)
    positions: str = "compact"
    protect: tuple[str, ...] = ()
    images: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", as_budget(self.keep))
        if isinstance(self.keep, Rank) and not self.ranks:
            raise ValueError(f"keep={self.keep}: {self.name} has no attention by text token to take the rank of")
        if self.positions not in POSITIONS:
            raise ValueError(f"positions={self.positions!r}: expected one of {', '.join(POSITIONS)}")
        unknown = sorted(set(self.protect) - set(PROTECTABLE))
        if unknown or isinstance(self.protect, str):
            raise ValueError(f"protect={self.protect!r}: expected a tuple of {', '.join(PROTECTABLE)}")
        chosen = self.images
        if chosen is not None and not (
            isinstance(chosen, tuple) and chosen and all(is_whole(i) and i >= 0 for i in chosen)
        ):
            raise ValueError(f"images={chosen!r}: expected a tuple of image indices from 0, or None for all")

    def cuts(self, steps: int, layers: int) -> tuple[Cut, ...]:
        """One lasting cut after step 1; methods that cut elsewhere say so themselves."""
        return cut_after(1, steps)

    def needs(self, cut: Cut) -> Needs:
        """Nothing but the layout."""
        return Needs()

    def score(self, view: View) -> Tensor:
        """``[B, n]`` importance of each visual token; padding is ignored."""
        raise TypeError(f"{type(self).__name__} does not define score(view)")

    def select(self, view: View) -> Selection:
        """Budget and deterministic top-k over ``score``: score descending, index ascending."""
        return self.select_by(view, self.score(view))

    def select_by(self, view: View, score: Tensor) -> Selection:
        """The selection that ``score [B, n]`` leads to under this method's budget."""
        eligible, protected = self.roles(view.layout, view.visual)
        original = view.original if self.images is None else (eligible & view.valid).sum(1)
        return top_selection(score, self.budget(view.cut), original, eligible, protected, view.valid)

    def budget(self, cut: Cut) -> Budget:
        """What the cut leaves: the method's own budget, where the cut has none of its own."""
        return self.keep if cut.keep is None else cut.keep

    def roles(self, layout: Layout, visual: LongTensor) -> tuple[Tensor, Tensor]:
        """``[B, n]`` which visual tokens the budget is about, and which of them are always kept."""
        index = visual.clamp(min=0)
        image = layout.image.gather(1, index)
        eligible = visual >= 0
        if self.images is not None:
            eligible = eligible & torch.isin(image, torch.tensor(self.images, device=image.device, dtype=image.dtype))
        protected = torch.zeros_like(eligible)
        if "newline" in self.protect:
            protected = protected | layout.newline.gather(1, index)
        if "thumbnail" in self.protect:
            protected = protected | (layout.tile.gather(1, index) == THUMBNAIL)
        return eligible, protected & eligible

    def check(self, layout: Layout) -> None:
        """Refuse, before any forward, a budget that this batch cannot meet.

        Raises:
            ValueError: a count above the tokens of a sample, a budget below its protected ones, or images that
                no sample has.
        """
        visual = layout.columns_of(VISUAL)
        eligible, protected = self.roles(layout, visual)
        if bool((visual >= 0).any()) and not bool(eligible.any()):
            last = int(layout.image.max())
            raise ValueError(f"images={self.images!r}: no sample has such an image; indices go from 0 to {last}")
        for total, guarded in zip(eligible.sum(1).tolist(), protected.sum(1).tolist()):
            if not total or not isinstance(self.keep, (Share, Count)):
                continue
            count = self.keep.count(total, protected)
            if guarded > count:
                raise ValueError(f"{self.keep}: {count} of {total} tokens to keep, but {guarded} are protected")

    @property
    def keeps_all(self) -> bool:
        """True where the budget is all tokens, so that no cut can change anything."""
        return isinstance(self.keep, Share) and self.keep.ratio == 1


@dataclass(frozen=True)
class AfterStep(Scored):
    """A method that cuts after ``step``'s transfer (0: before the first forward), which needs no forward."""

    step: int = 1

    def cuts(self, steps: int, layers: int) -> tuple[Cut, ...]:
        """One lasting cut."""
        return cut_after(self.step, steps)


def cut_after(step: int, steps: int) -> tuple[Cut, ...]:
    """A lasting cut after ``step``'s transfer; none in a run of one step, where nothing is left to speed up."""
    return () if step == steps == 1 else (Cut(step=step),)


METHODS: dict[str, type] = {}
M = TypeVar("M", bound=type)


def register(method: M) -> M:
    """Class decorator that puts a method into the registry under its ``name``."""
    METHODS[method.name] = method
    return method


def get(name: str) -> type:
    """The method of that name; ValueError names the ones there are."""
    if name not in METHODS:
        raise ValueError(f"unknown pruning method {name!r}: expected one of {', '.join(sorted(METHODS))}")
    return METHODS[name]


def seeded_uniform(seeds: Sequence[int], counts: Sequence[int]) -> Iterator[Tensor]:
    """For each sample ``[count]`` uniform draws from a generator of its own."""
    for seed, count in zip(seeds, counts, strict=True):
        yield torch.rand(int(count), generator=torch.Generator().manual_seed(int(seed)), dtype=torch.float64)
