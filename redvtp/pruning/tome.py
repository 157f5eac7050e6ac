"""ToMe: merge similar visual tokens instead of dropping them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import LongTensor, Tensor

from redvtp.pruning.base import Scored, cut_after, register
from redvtp.selection import Cut, Mass, Needs, Selection, View, pad_rows


@register
@dataclass(frozen=True)
class ToMe(Scored):
    """Bipartite soft matching until the budget is met; merged tokens count their originals in attention.

    Source: arXiv 2210.09461 (bipartite soft matching, proportional attention), applied between two denoising
    steps to the visual embeddings. A round can at most halve the tokens, so small budgets take several.

    Attributes:
        step: merge after this step's transfer; 0 merges before the first forward.
    """

    name: ClassVar[str] = "tome"

    step: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.protect or self.images is not None:
            raise ValueError("tome merges all visual tokens; protect and images do not apply to it")
        if isinstance(self.keep, Mass):
            raise ValueError(f"keep={self.keep}: tome has no scores to take a share of; give a float or a Count")

    def cuts(self, steps: int, layers: int) -> tuple[Cut, ...]:
        """One lasting cut."""
        return cut_after(self.step, steps)

    def needs(self, cut: Cut) -> Needs:
        """The visual tokens' embeddings."""
        return Needs(states=True)

    def select(self, view: View) -> Selection:
        """The merged tokens of each sample, each at the place of its first original."""
        keeps, merges, sizes = [], [], []
        for b in range(len(view.visual)):
            count = int(view.valid[b].sum())
            size = torch.ones(count) if view.size is None else view.size[b, :count]
            target = min(self.budget(view.cut).count(int(view.original[b]), size), count) if count else 0
            keep, merge, size = merge_to(view.states[b, :count], size, max(1, target))
            keeps.append(keep)
            merges.append(merge)
            sizes.append(size)
        keep = pad_rows(keeps)
        weights = keep.new_zeros(*keep.shape, view.visual.shape[1], dtype=view.states.dtype)
        for b, merge in enumerate(merges):
            weights[b, : merge.shape[0], : merge.shape[1]] = merge
        return Selection(keep, weights, torch.nn.utils.rnn.pad_sequence(sizes, batch_first=True, padding_value=1.0))


def merge_to(states: Tensor, size: Tensor, target: int) -> tuple[LongTensor, Tensor, Tensor]:
    """Merge ``states [n, D]`` down to ``target`` tokens.

    Returns:
        ``[m]`` ascending places, ``[m, n]`` weights (rows sum to 1), ``[m]`` sizes.
    """
    n = len(states)
    place = torch.arange(n, device=states.device)
    member = torch.eye(n, device=states.device)  # which originals make up each current token
    weight = size.to(states.device).float()
    while len(place) > target:
        share = member * weight[None]
        current = (share @ states.float()) / share.sum(1, keepdim=True)
        unit = torch.nn.functional.normalize(current, dim=-1)
        source, sink = torch.arange(0, len(place), 2), torch.arange(1, len(place), 2)
        similarity, match = (unit[source] @ unit[sink].T).max(1)
        count = min(len(place) - target, len(source))
        chosen = torch.sort(similarity, descending=True, stable=True).indices[:count]
        stays = torch.ones(len(place), dtype=torch.bool)
        for s, d in zip(source[chosen].tolist(), sink[match[chosen]].tolist(), strict=True):
            member[d] += member[s]
            place[d] = torch.minimum(place[d], place[s])
            stays[s] = False
        place, member = place[stays], member[stays]
    order = place.argsort()
    place, member = place[order], member[order]
    share = member * weight[None]
    total = share.sum(1)
    return place, (share / total[:, None]).to(states.dtype), total
