"""Controls that stand beside every claim: random, uniform, evidence oracle, shuffled scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import LongTensor, Tensor

from redvtp.pruning.base import AfterStep, register, seeded_uniform
from redvtp.pruning.redvtp import RedVTP
from redvtp.selection import Cut, Needs, View
from redvtp.sequence import coverage, is_tile


@register
@dataclass(frozen=True)
class Random(AfterStep):
    """Keep visual tokens at random, by each sample's seed."""

    name: ClassVar[str] = "random"

    def score(self, view: View) -> Tensor:
        """``[B, n]`` uniform draws."""
        score = torch.zeros(view.visual.shape, dtype=torch.float64)
        for b, draw in enumerate(seeded_uniform(view.seeds, view.valid.sum(1).tolist())):
            score[b, : len(draw)] = draw
        return score.to(view.visual.device)


@register
@dataclass(frozen=True)
class Uniform(AfterStep):
    """Keep an even grid of visual tokens, at any ratio."""

    name: ClassVar[str] = "uniform"

    def score(self, view: View) -> Tensor:
        """``[B, n]`` evenness (see even_order)."""
        index = view.visual.clamp(min=0)
        return even_order(view.layout.row.gather(1, index), view.layout.column.gather(1, index))


@register
@dataclass(frozen=True)
class Oracle(AfterStep):
    """Keep the tile tokens that show the evidence first, then an even grid of the rest.

    Needs the extra "evidence": each sample's boxes in pixels. It knows where the answer stands, so it bounds
    what a choice of tokens can reach; it does not know what this model's attention is used to.
    """

    name: ClassVar[str] = "oracle"

    def needs(self, cut: Cut) -> Needs:
        """The evidence boxes."""
        return Needs(extras=("evidence",))

    def score(self, view: View) -> Tensor:
        """``[B, n]`` 1 + share of the cell that is evidence, or a number below 1."""
        index = view.visual.clamp(min=0)
        rest = even_order(view.layout.row.gather(1, index), view.layout.column.gather(1, index))
        tile = is_tile(view.layout).gather(1, index)
        score = rest.clone()
        for b, boxes in enumerate(view.extras["evidence"]):
            share = coverage(view.layout.box[b, index[b]].cpu(), boxes).to(score.device)
            shows = tile[b] & (share > 0)
            score[b, shows] = 1 + share[shows]
        return score


@register
@dataclass(frozen=True)
class Shuffled(RedVTP):
    """RedVTP's own scores, dealt out to the visual tokens at random: must equal random."""

    name: ClassVar[str] = "shuffled"

    def score(self, view: View) -> Tensor:
        """``[B, n]`` RedVTP's score in a random order, by each sample's seed."""
        score = super().score(view)
        for b, draw in enumerate(seeded_uniform(view.seeds, view.valid.sum(1).tolist())):
            score[b, : len(draw)] = score[b, draw.argsort().to(score.device)]
        return score


def even_order(row: LongTensor, column: LongTensor) -> Tensor:
    """A number in (0, 1) for each cell of a map; the cells above any threshold form an even grid.

    It is the threshold of ordered (Bayer) dithering: the bits of row XOR column and of the row, interleaved
    and reversed.
    """
    bits = 8
    mixed, plain = (row ^ column).long(), row.long()
    value = torch.zeros_like(mixed)
    for bit in range(bits):
        value = (value << 2) | (((mixed >> bit) & 1) << 1) | ((plain >> bit) & 1)
    return 1 - (value.double() + 0.5) / 4**bits
