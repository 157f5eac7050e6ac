"""V-norm: tokens whose values are long get little attention, so the shortest values are kept, without any attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from redvtp.pruning.base import Scored, register
from redvtp.selection import Cut, Needs, View


@register
@dataclass(frozen=True)
class VNorm(Scored):
    """Rank by the length of the value vectors in one early layer (all heads as one vector), shortest first.

    Source: FlashU, arXiv 2603.15271 (V-norm proxy: length at layer 2, the longest are dropped, for the length and the
    attention received go against each other), applied inside step 1 and lasting. Works with any attention kernel.

    Attributes:
        layer: cut after this decoder layer, 1..L-1, by its values.
        longest: keep the longest instead.
    """

    name: ClassVar[str] = "vnorm"

    layer: int = 2
    longest: bool = False

    def cuts(self, steps: int, layers: int) -> tuple[Cut, ...]:
        """Inside step 1, lasting."""
        return (Cut(step=1, layer=self.layer),)

    def needs(self, cut: Cut) -> Needs:
        """The values' lengths in the layer of the cut."""
        return Needs(values=True)

    def score(self, view: View) -> Tensor:
        """``[B, n]`` minus the length, or the length."""
        return view.values if self.longest else -view.values
