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
    steps to the visual embeddings, where the source compares the keys of an attention layer. A round can at most
    halve the tokens, so small budgets take several.

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

    In each round, tokens at even places merge into the most similar one at an odd place, the most similar pairs
    first; of equal ones the first. A token is the mean of its originals, weighted by their sizes.

    Returns:
        ``[m]`` ascending places, ``[m, n]`` weights (rows sum to 1), ``[m]`` sizes.
    """
    n = len(states)
    weight = size.to(states.device).float()
    place = torch.arange(n, device=states.device)  # of each current token: its first original
    owner = place.clone()  # of each original: the current token that it is part of
    total = weight.clone()
    current = states.float()
    while len(place) > target:
        unit = torch.nn.functional.normalize(current, dim=-1)
        similarity, match = (unit[0::2] @ unit[1::2].T).max(1)
        count = min(len(place) - target, len(similarity))
        chosen = torch.sort(similarity, descending=True, stable=True).indices[:count]
        joins = torch.arange(len(place), device=states.device)
        joins[2 * chosen] = 2 * match[chosen] + 1
        stays = joins == torch.arange(len(place), device=states.device)
        joins = (stays.cumsum(0) - 1)[joins]
        place = place.new_full((int(stays.sum()),), n).scatter_reduce(0, joins, place, "amin")
        owner = joins[owner]
        total = group_sum(weight[:, None], owner, len(place))[:, 0]
        current = group_sum(weight[:, None] * states.float(), owner, len(place)) / total[:, None]
    order = place.argsort()
    place, total = place[order], total[order]
    owner = order.argsort()[owner]
    weights = torch.zeros(len(place), n, device=states.device)
    weights[owner, torch.arange(n, device=states.device)] = weight / total[owner]
    return place, weights.to(states.dtype), total


def group_sum(values: Tensor, group: LongTensor, groups: int) -> Tensor:
    """``[groups, D]`` sums of ``values [n, D]`` by group, in the order of n on every device."""
    order = torch.sort(group, stable=True).indices
    return torch.segment_reduce(values[order], "sum", lengths=torch.bincount(group, minlength=groups), axis=0)
