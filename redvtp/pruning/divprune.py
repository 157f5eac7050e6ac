"""DivPrune: keep the visual tokens that are most unlike each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import LongTensor, Tensor

from redvtp.pruning.base import AfterStep, register
from redvtp.selection import Count, Cut, Needs, Share, View


@register
@dataclass(frozen=True)
class DivPrune(AfterStep):
    """Greedy max-min diversity: the next token is the one whose nearest kept token is farthest, by 1 - cosine.

    Source: arXiv 2503.02175 (the max-min diversity problem, its greedy solution). The first token is the one whose
    nearest neighbour is farthest. It sees the projected visual embeddings and no attention, so it can cut before the
    first forward, as there. Protected tokens count as kept from the start.

    Attributes:
        step: cut after this step's transfer; 0 is before the first forward.
    """

    name: ClassVar[str] = "divprune"

    step: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.keep, (Share, Count)):
            raise ValueError(f"keep={self.keep}: divprune has no scores to take a share of; give a float or a Count")

    def needs(self, cut: Cut) -> Needs:
        """The visual tokens' states."""
        return Needs(states=True)

    def score(self, view: View) -> Tensor:
        """``[B, n]`` n for the token that is taken first, n - 1 for the second, ...; 0 for those left out."""
        eligible, protected = self.roles(view.layout, view.visual)
        score = torch.zeros(view.visual.shape, dtype=torch.float64, device=view.visual.device)
        for b in range(len(score)):
            columns = torch.nonzero(eligible[b] & view.valid[b]).flatten()
            if not len(columns):
                continue
            original = int(view.original[b]) if self.images is None else len(columns)
            count = min(self.budget(view.cut).count(original, score[b]), len(columns))
            taken = torch.nonzero(protected[b, columns]).flatten()
            order = most_diverse(view.states[b, columns], count, taken)
            score[b, columns[order]] = torch.arange(len(score[b]), len(score[b]) - len(order), -1).to(score)
        return score


def most_diverse(states: Tensor, count: int, taken: LongTensor | None = None) -> LongTensor:
    """``[count]`` indices into ``states [n, D]``, in the order in which they are taken: greedy max-min of 1 - cosine.

    Of equally distant tokens the first is taken. All distances are computed once, ``[n, n]``.

    Args:
        taken: indices that are taken already and come first; at most ``count`` are returned of them.
    """
    unit = torch.nn.functional.normalize(states.float(), dim=-1)
    distance = 1 - unit @ unit.T
    taken = [] if taken is None else taken.tolist()
    order = taken[:count]
    if not order and count:
        near = distance.fill_diagonal_(float("inf")).min(0).values
        distance.fill_diagonal_(0.0)
        order.append(int(near.argmax()))
    if not count:
        return torch.tensor(order, dtype=torch.long, device=states.device)
    nearest = distance[order].min(0).values
    nearest[order] = float("-inf")
    picked = torch.tensor(order + [0] * (count - len(order)), device=states.device)
    for place in range(len(order), count):
        # Everything stays on the device: no value is read back within the loop.
        best = nearest.argmax()
        picked[place] = best
        nearest = torch.minimum(nearest, distance[best])
        nearest[best] = float("-inf")
    return picked
