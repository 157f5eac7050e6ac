"""FastV in every step: drop visual tokens after an early layer, for the rest of that step only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from redvtp.pruning.base import Scored, register
from redvtp.pruning.redvtp import guided_mean
from redvtp.selection import Cut, Needs, View


@register
@dataclass(frozen=True)
class FastV(Scored):
    """Rank by the attention that the masked rows pay in one early layer; nothing is carried to the next step.

    Source: arXiv 2403.06764 (K = 2), applied to each denoising step as arXiv 2511.15098 does.

    Attributes:
        layer: cut after this decoder layer, 1..L-1.
    """

    name: ClassVar[str] = "fastv"

    layer: int = 2

    def cuts(self, steps: int, layers: int) -> tuple[Cut, ...]:
        """Inside every step, for the step only."""
        return tuple(Cut(step=k, layer=self.layer, lasting=False) for k in range(1, steps + 1))

    def needs(self, cut: Cut) -> Needs:
        """The response rows' attention in the layer of the cut."""
        return Needs(attention=frozenset({"response"}))

    def score(self, view: View) -> Tensor:
        """``[B, n]`` mean over the rows that are masked before the step."""
        return guided_mean(view, "masked")
