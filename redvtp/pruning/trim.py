"""TRIM in the projector's space: keep the visual tokens that are like the question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from redvtp.pruning.base import AfterStep, register
from redvtp.selection import Cut, Needs, Selection, View


@register
@dataclass(frozen=True)
class TrimProjector(AfterStep):
    """Rank by the cosine of each visual embedding and the question's mean embedding, softmaxed over visual tokens.

    Source: arXiv 2409.10994, whose similarity is that of CLIP's two towers. The hosts here have a vision tower
    without its text tower, so both sides are taken from the language model's input space, into which the projector
    maps; hence the name. The question is the prompt's text behind the last image, its end-of-turn tokens included.

    Attributes:
        keep: a budget, or ``Outliers()`` for the paper's own rule: as many tokens as have a score above Q3 + 1.5 IQR.
        step: cut after this step's transfer; 0, as in the paper, is before the first forward.
        aggregate: the last token of the budget is the mean of all that are dropped (the paper's aggregated token), at
            the place of the last dropped one. Needs a budget of at least two, else nothing is aggregated.
    """

    name: ClassVar[str] = "trim_projector"

    step: int = 0
    aggregate: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.aggregate and (self.protect or self.images is not None):
            raise ValueError("trim_projector aggregates tokens of all images; protect and images need aggregate=False")

    def needs(self, cut: Cut) -> Needs:
        """Embeddings of both kinds."""
        return Needs(inputs=True)

    def score(self, view: View) -> Tensor:
        """``[B, n]`` softmax of the cosines."""
        inputs = view.inputs
        if inputs.visual.shape[1] != view.visual.shape[1] or bool((inputs.visual_rows != view.valid).any()):
            raise ValueError(f"{self.name} cuts once in a forward; tokens were dropped earlier in step {view.cut.step}")
        asked = inputs.question[..., None]
        question = (inputs.text.float() * asked).sum(1) / asked.sum(1).clamp(min=1)
        cosine = torch.nn.functional.cosine_similarity(inputs.visual.float(), question[:, None], dim=-1)
        return cosine.masked_fill(~view.valid, float("-inf")).softmax(-1)

    def select(self, view: View) -> Selection:
        """The best tokens and, at the place of the last other one, the mean of the others."""
        score = self.score(view)
        if not self.aggregate:
            return self.select_by(view, score)
        chosen = self.select_by(view, score).keep
        weights = score.new_zeros(*chosen.shape, view.visual.shape[1])
        for b, count in enumerate(view.valid.sum(1).tolist()):
            kept = chosen[b, chosen[b] >= 0]
            if 2 <= len(kept) < count:
                worst = kept[torch.sort(score[b, kept], descending=True, stable=True).indices[-1]]
                others = torch.ones(count, dtype=torch.bool, device=kept.device)
                others[kept[kept != worst]] = False
                dropped = torch.nonzero(others).flatten()
                kept = torch.cat([kept[kept != worst], dropped[-1:]]).sort().values
                chosen[b, : len(kept)] = kept
                weights[b, torch.searchsorted(kept, dropped[-1]), dropped] = 1 / len(dropped)
                rest = torch.nonzero(kept != dropped[-1]).flatten()
            else:
                rest = torch.arange(len(kept), device=kept.device)
            weights[b, rest, kept[rest]] = 1.0
        return Selection(chosen, weights)
