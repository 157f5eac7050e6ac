"""SGL: what a small model attends to in all of its layers decides what the large one keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from redvtp.pruning.base import Scored, register
from redvtp.selection import Cut, Needs, View

DEPTH = 0.4  # of the layers, where the official scripts cut


@register
@dataclass(frozen=True)
class SGL(Scored):
    """Rank by scores that come from another model, given as the extra "guide" (see redvtp.guidance.guide_scores).

    Source: arXiv 2412.03324 (small-VLM-guided pruning; its early exit is not part of this), official script
    ``textvqa2B-26B.sh`` (the large model prunes at 0.4 of its layers). What the guide costs is not in this model's
    FLOPs; `guide_scores` counts it.

    Attributes:
        layer: cut inside step 1 after this decoder layer, 1..L-1; None for 0.4 of them; 0 for a cut before the first
            forward, which is possible because nothing of this model is looked at.
    """

    name: ClassVar[str] = "sgl"

    layer: int | None = None

    def cuts(self, steps: int, layers: int) -> tuple[Cut, ...]:
        """One lasting cut, in or before step 1."""
        layer = max(1, int(DEPTH * layers)) if self.layer is None else self.layer
        return (Cut(step=1, layer=layer),) if layer else (Cut(step=0),)

    def needs(self, cut: Cut) -> Needs:
        """The guide's scores."""
        return Needs(extras=("guide",))

    def score(self, view: View) -> Tensor:
        """``[B, n]`` the guide's scores of the tokens that are there."""
        return of_originals(view, "guide")


def of_originals(view: View, name: str) -> Tensor:
    """``[B, n]`` an extra that has a number for each original visual token, at the tokens that are there.

    Raises:
        ValueError: not one number for each.
    """
    score = view.visual.new_zeros(view.visual.shape, dtype=view.layout.box.dtype)
    for b, (given, total) in enumerate(zip(view.extras[name], view.original.tolist(), strict=True)):
        if tuple(getattr(given, "shape", ())) != (total,):
            shape = tuple(getattr(given, "shape", ()))
            raise ValueError(f"extra {name!r} of shape {shape}: expected one number for each of {total} visual tokens")
        here = view.index[b, view.valid[b]]
        score[b, view.valid[b]] = given.to(score)[here]
    return score
