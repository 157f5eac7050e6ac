"""SparseVLM: the text that the image is about rates visual tokens; a part of those dropped is merged and kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import LongTensor, Tensor

from redvtp.pruning.base import Scored, register
from redvtp.pruning.stages import falling_shares, staged_cuts
from redvtp.selection import Cut, Inputs, Needs, Rank, Selection, Share, View, pad_rows

LAYERS = (2, 6, 15)
DEPTH = 32  # of the model in which the source prunes after those layers
RECYCLED = 0.3
TOKENS_A_CLUSTER = 10


@register
@dataclass(frozen=True)
class SparseVLM(Scored):
    """In three layers of every step, rank by the attention of the text tokens that are relevant to the image.

    Source: arXiv 2410.04417 (raters, rank, recycling; layers 2, 6, 15 of 32, here at the same depths; 30% of the
    dropped tokens recycled, one cluster for ten of them), in each denoising step. arXiv 2511.15098 cuts after one early
    layer of one step, for good: ``layer=2``. Raters are the question
    tokens whose relevance, the mean over visual tokens of softmax(H_v H_q^T) over the question's, is above average.
    A merged token stands at the place of its cluster's centre, where the source appends it.

    Attributes:
        keep: the share of visual tokens, recycled ones included, that the layers see on average: the shares after the
            three layers are f, f^2, f^3 with f such that this holds. ``Rank(scale)`` is the paper's own rule:
            of n tokens scale (n - rank) are dropped in each of the layers, the recycled ones come on top.
        layer: instead, one lasting cut inside step 1 after this layer, which leaves ``keep`` (or what Rank says).
        recycle: merge the best of the dropped tokens into a few; clusters are at most half of a budget.
    """

    name: ClassVar[str] = "sparsevlm"
    ranks: ClassVar[bool] = True

    layer: int | None = None
    recycle: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layer is None and not isinstance(self.keep, (Share, Rank)):
            raise ValueError(f"keep={self.keep}: sparsevlm spreads a mean share over layers; give a float, or Rank")
        if self.protect or self.images is not None:
            raise ValueError("sparsevlm prunes all visual tokens; protect and images do not apply to it")

    def cuts(self, steps: int, layers: int) -> tuple[Cut, ...]:
        """After three layers of every step, for the step only; fewer in a model of few layers. Or one, see ``layer``.

        Raises:
            ValueError: a share that the first of them uses up.
        """
        if self.keeps_all:
            return ()
        if self.layer is not None:
            return (Cut(step=1, layer=self.layer),)
        after = pruned_layers(layers)
        if isinstance(self.keep, Share):
            return staged_cuts(steps, after, falling_shares(self.keep.ratio, after, layers))
        return tuple(Cut(step=k, layer=layer, lasting=False) for k in range(1, steps + 1) for layer in after)

    def needs(self, cut: Cut) -> Needs:
        """The text's attention in the layer of the cut, the states to be merged, and the embeddings."""
        return Needs(attention=frozenset({"response", "prompt"}), states=self.recycle, inputs=True)

    def rated(self, view: View) -> tuple[Tensor, Tensor]:
        """``[B, P, n]`` attention from text tokens, and ``[B, P]`` which of them rate."""
        return view.prompt_attention, raters(view.inputs) & view.prompt_rows

    def score(self, view: View) -> Tensor:
        """``[B, n]`` mean over the raters."""
        attention, rates = self.rated(view)
        return (attention * rates[..., None]).sum(1) / rates.sum(1, keepdim=True).clamp(min=1)

    def select(self, view: View) -> Selection:
        """The best-rated tokens, and those that the others were merged into."""
        attention, rates = self.rated(view)
        score = self.score(view)
        keeps, merges = [], []
        for b, count in enumerate(view.valid.sum(1).tolist()):
            budget = self.budget(view.cut)
            own = attention[b, rates[b], :count] if isinstance(budget, Rank) else score[b, :count]
            total = min(budget.count(int(view.original[b]), own), count) if count else 0
            order = torch.sort(score[b, :count], descending=True, stable=True).indices
            clusters = 0
            if self.recycle and 0 < total < count:
                total, clusters = recycled_budget(total, count, on_top=isinstance(budget, Rank))
            kept = order[: total - clusters]
            weights = torch.zeros(total, count, device=score.device)
            if clusters:
                dropped = order[total - clusters :][: recycled(count - total + clusters)]
                centre, member = density_peaks(view.states[b, dropped], clusters)
                kept = torch.cat([kept, dropped[centre]])
                weights[total - clusters + member, dropped] = 1.0
            weights[torch.arange(total - clusters), kept[: total - clusters]] = 1.0
            weights = weights / weights.sum(1, keepdim=True)
            place = kept.argsort()
            keeps.append(kept[place])
            merges.append(weights[place])
        keep = pad_rows(keeps)
        if not self.recycle:
            return Selection(keep)
        merge = score.new_zeros(*keep.shape, view.visual.shape[1])
        for b, weights in enumerate(merges):
            merge[b, : weights.shape[0], : weights.shape[1]] = weights
        return Selection(keep, merge)


def pruned_layers(layers: int) -> list[int]:
    """The source's layers at the same depths of a model of ``layers`` layers, each once and not the last."""
    scaled = {max(1, round(layer * layers / DEPTH)) for layer in LAYERS}
    return sorted(layer for layer in scaled if layer < layers)


def raters(inputs: Inputs) -> Tensor:
    """``[B, P]`` which text tokens are relevant to the image: those of the question above its average relevance."""
    chosen = torch.zeros_like(inputs.question)
    for b, question in enumerate(inputs.question):
        visual = inputs.visual[b, inputs.visual_rows[b]].float()
        if not len(visual):
            continue
        relevance = (visual @ inputs.text[b, question].float().T).softmax(1).mean(0)
        chosen[b, torch.nonzero(question).flatten()] = relevance >= relevance.mean()
    return chosen


def recycled(dropped: int) -> int:
    """How many of the dropped tokens are merged into clusters."""
    return min(dropped, math.floor(RECYCLED * dropped) + 1)


def recycled_budget(total: int, count: int, on_top: bool) -> tuple[int, int]:
    """Tokens after the cut, and how many of them are clusters, where ``total`` of ``count`` are to stay.

    Clusters come on top of ``total``, as in the source, or count inside it, where they are at most half of it.
    """
    if on_top:
        clusters = recycled(count - total) // TOKENS_A_CLUSTER + 1
        return min(count, total + clusters), min(count, total + clusters) - total
    clusters = min(recycled(count - total) // TOKENS_A_CLUSTER + 1, total // 2)
    return total, clusters


def density_peaks(states: Tensor, clusters: int) -> tuple[LongTensor, LongTensor]:
    """``[clusters]`` centres and ``[n]`` the cluster of each of ``states [n, D]``, by density peaks.

    Source: arXiv 2410.04417 (its k nearest neighbours are as many as clusters). Equal densities are told apart by
    index, where the source adds noise.
    """
    points = states.float()
    distance = torch.cdist(points, points) / points.shape[1] ** 0.5
    near = distance.topk(min(clusters, len(points)), largest=False).values
    density = (-(near**2).mean(1)).exp()
    index = torch.arange(len(points), device=points.device)
    denser = (density[None] > density[:, None]) | ((density[None] == density[:, None]) & (index[None] < index[:, None]))
    parent = distance.masked_fill(~denser, float(distance.max())).min(1).values
    centre = torch.sort(parent * density, descending=True, stable=True).indices[:clusters]
    member = distance[:, centre].argmin(1)
    member[centre] = torch.arange(len(centre), device=points.device)
    return centre, member
