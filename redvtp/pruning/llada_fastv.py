"""LLaDA-FastV: prune inside the first step at a middle-to-late layer, and keep the shorter sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from redvtp.pruning.base import Scored, register
from redvtp.pruning.redvtp import guided_mean
from redvtp.selection import Cut, Needs, View


@register
@dataclass(frozen=True)
class LladaFastV(Scored):
    """Rank by the attention that response rows pay in one layer of step 1; later steps stay short.

    Source: arXiv 2601.20168. The paper's best layer is not known to us; the default is the middle one,
    where its analysis sees cross-modal attention begin to gather (about 16 of 32). Rows are the response's,
    all masked at that point.

    Attributes:
        layer: cut after this decoder layer, 1..L-1; None for the middle one.
    """

    name: ClassVar[str] = "llada_fastv"

    layer: int | None = None

    def cuts(self, steps: int, layers: int) -> tuple[Cut, ...]:
        """Inside step 1, lasting."""
        return (Cut(step=1, layer=max(1, layers // 2) if self.layer is None else self.layer),)

    def needs(self, cut: Cut) -> Needs:
        """The response rows' attention in the layer of the cut."""
        return Needs(attention=frozenset({"response"}))

    def score(self, view: View) -> Tensor:
        """``[B, n]`` mean over the masked response rows."""
        return guided_mean(view, "masked")
