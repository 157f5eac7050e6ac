"""ZipVL: keep as many visual tokens as hold a given share of the attention, so an easy question keeps fewer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from redvtp.pruning.base import Scored, cut_after, register
from redvtp.pruning.redvtp import guided_mean
from redvtp.selection import Budget, Cut, Mass, Needs, View


@register
@dataclass(frozen=True)
class ZipVL(Scored):
    """Rank by the normalised attention that a column receives, and keep the fewest tokens that hold most of it.

    Source: arXiv 2410.08584: the number of important tokens is the smallest whose accumulated attention reaches a
    share of all of it, and tokens are ranked by attention over the number of rows that see them; where all rows see
    all columns the two orders are one. The paper does this in each layer and lets dropped tokens go on without
    attention; here it is done once, on the mean over the layers of one step, and lasts, as one sequence needs one set.
    Its probe rows are the last tokens and random ones: here the text, prompt and response, which stands at the end.

    Attributes:
        keep: a Mass, of what the visual tokens receive; a float sets the number of tokens instead, for comparisons
            at one ratio.
        step: cut after this step's transfer.
    """

    name: ClassVar[str] = "zipvl"

    keep: float | Budget = field(default=Mass(0.975))
    step: int = 1

    def cuts(self, steps: int, layers: int) -> tuple[Cut, ...]:
        """One lasting cut."""
        return cut_after(self.step, steps)

    def needs(self, cut: Cut) -> Needs:
        """Attention of all text rows in all layers."""
        return Needs(attention=frozenset({"prompt", "response"}))

    def score(self, view: View) -> Tensor:
        """``[B, n]`` mean over the rows of prompt and response."""
        return guided_mean(view, "prompt+response")
