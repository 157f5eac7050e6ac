"""FastV in every step: drop visual tokens after an early layer, for the rest of that step only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from redvtp.pruning.base import Scored, register
from redvtp.pruning.redvtp import INSIDE, guided_mean, kinds_of
from redvtp.selection import Cut, Needs, View


@register
@dataclass(frozen=True)
class FastV(Scored):
    """Rank by the attention that the masked rows pay in one early layer; nothing is carried to the next step.

    Source: arXiv 2403.06764 (K = 2; a token's score is the mean attention that it receives), applied to each
    denoising step. The paper's code reads the row of the last token, from which the answer comes; here that is the
    masked rows. It leaves tokens at their positions, which is ``positions="original"``. arXiv 2511.15098 cuts in one
    step, for good: ``Scheduled(FastV(...), start=0.0, lasting=True)``; its code sums the rows of all tokens, visual
    ones included, of head-averaged logits, and leaves kept tokens in the order of their scores; neither is done here.

    Attributes:
        keep: the share left after the cut; with the layers before it, which see all, the mean over L layers is
            (layer + keep (L - layer)) / L.
        layer: cut after this decoder layer, 1..L-1.
        rows: guide rows, as in RedVTP: "masked", "prompt", "prompt+masked" or "prompt+response".
    """

    name: ClassVar[str] = "fastv"

    layer: int = 2
    rows: str = "masked"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rows not in INSIDE:
            raise ValueError(f"rows={self.rows!r}: expected one of {', '.join(INSIDE)}")

    def cuts(self, steps: int, layers: int) -> tuple[Cut, ...]:
        """Inside every step, for the step only."""
        return tuple(Cut(step=k, layer=self.layer, lasting=False) for k in range(1, steps + 1))

    def needs(self, cut: Cut) -> Needs:
        """The guide rows' attention in the layer of the cut."""
        return Needs(attention=kinds_of(self.rows))

    def score(self, view: View) -> Tensor:
        """``[B, n]`` mean over the guide rows; masked ones are those before the step."""
        return guided_mean(view, self.rows)
