"""PyramidDrop: fewer visual tokens from stage to stage of the layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from redvtp.pruning.base import Scored, register
from redvtp.pruning.redvtp import INSIDE, guided_mean, kinds_of
from redvtp.pruning.stages import falling_shares, staged_cuts
from redvtp.selection import Cut, Needs, Share, View

STAGES = 4


@register
@dataclass(frozen=True)
class PyramidDrop(Scored):
    """At the end of each stage of layers a part of the visual tokens is dropped, ranked by attention in that layer.

    Source: arXiv 2410.17247: four stages, the shares 1, 0.5, 0.25, 0.125, stages that end after layers 8, 16, 24 of
    32, ranked by the attention of the last instruction token, from which the answer is read. Here the answer is read
    from the masked rows, which take its place, and it is done in every denoising step.

    Attributes:
        keep: the share of visual tokens that the layers see on average. The first stage, which sees all, is a quarter
            of the layers or the layers that half of the budget pays for, rounded, whichever is less, and at least one;
            the other stages share the rest evenly. The shares are 1, f, f^2, f^3, with f such that the mean is
            ``keep``: 47% gives f = 0.5 and the paper's layers.
        rows: guide rows, as in RedVTP: "masked", "prompt", "prompt+masked" or "prompt+response".
    """

    name: ClassVar[str] = "pyramiddrop"

    rows: str = "masked"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.keep, Share):
            raise ValueError(f"keep={self.keep}: pyramiddrop spreads a mean share over layers; give a float")
        if self.rows not in INSIDE:
            raise ValueError(f"rows={self.rows!r}: expected one of {', '.join(INSIDE)}")

    def cuts(self, steps: int, layers: int) -> tuple[Cut, ...]:
        """The ends of the stages but the last, in every step, for the step only.

        Raises:
            ValueError: a share that the first layer uses up.
        """
        if self.keeps_all:
            return ()
        ends = stage_ends(self.keep.ratio, layers)
        return staged_cuts(steps, ends, falling_shares(self.keep.ratio, ends, layers))

    def needs(self, cut: Cut) -> Needs:
        """The guide rows' attention in the layer of the cut."""
        return Needs(attention=kinds_of(self.rows))

    def score(self, view: View) -> Tensor:
        """``[B, n]`` mean over the guide rows."""
        return guided_mean(view, self.rows)


def stage_ends(keep: float, layers: int) -> list[int]:
    """The layers after which the stages end, but the last; fewer than three where there are too few layers."""
    first = max(1, min(layers // STAGES, math.floor(keep * layers / 2 + 0.5)))
    width = (layers - first) / (STAGES - 1)
    return sorted({end for i in range(STAGES - 1) if (end := round(first + i * width)) < layers})
