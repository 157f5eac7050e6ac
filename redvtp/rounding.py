"""Importance rounded step by step as the official codes round it, to compare kept tokens with theirs.

They run in 16 bits and round after each step of the mean, so that many tokens share a score and those near the
threshold change places. This package sums in fp32; here its probe takes the official steps instead.

Source: official_code §5.2 (LLaDA-V) and §5.3 (LaViDa).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.llama.modeling_llama import repeat_kv

from redvtp.attention import AttentionProbe

ROUNDING = ("exact", "official")
HALVES = (torch.float16, torch.bfloat16)
ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class Rounding:
    """The order in which an official code rounds.

    Attributes:
        dtype: what it runs in; a model in another 16-bit type is rounded in its own.
        heads_first: the mean over heads is rounded in each layer, before the mean over layers; else there is one
            mean over both.
        divides: raw scores are divided by the root of a head's width; else multiplied by its inverse.
    """

    dtype: torch.dtype
    heads_first: bool
    divides: bool


class RoundedProbe(AttentionProbe):
    """A probe that keeps each layer's attention in 16 bits and takes means of these, as the official code does.

    In a 16-bit model the layers' outputs are computed the official way, too, while the probe looks on: from
    attention written out (a few rows at a time) and not by SDPA, which rounds elsewhere. A model in fp32 runs as
    ever; only its queries and keys are rounded for the scores.

    Attributes:
        total: ``[B, L, R, C]``, or ``[B, L, H, R, C]`` where heads wait for the layers; 16-bit.
    """

    def __init__(self, *args, rounding: Rounding, **options) -> None:
        super().__init__(*args, **options)
        self.rounding = rounding

    def add(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        scaling: float,
        alone: int = 0,
        value: Tensor | None = None,
    ) -> None:
        """Record one layer (see AttentionProbe.add); norms of values are not taken here."""
        if query.dtype not in HALVES:
            query, key = query.to(self.rounding.dtype), key.to(self.rounding.dtype)
        first = key.shape[2] - query.shape[2] if self.first is None else self.first
        index = (self.rows - first).clamp(min=0)
        picked = query.gather(2, index[:, None, :, None].expand(-1, query.shape[1], -1, query.shape[3]))
        if mask is not None and mask.shape[2] > 1:
            place = index[:, None, :, None].expand(-1, 1, -1, key.shape[2])
            mask = mask.expand(len(index), -1, -1, -1).gather(2, place)
        weights = written_out(picked, key, mask, scaling, self.rounding)
        columns = self.columns.clamp(min=0)[:, None, None].expand(-1, weights.shape[1], weights.shape[2], -1)
        chosen = weights.gather(3, columns).masked_fill((self.columns < 0)[:, None, None], 0)
        mean = chosen.mean(1)
        mass = (mean if self.rounding.heads_first else chosen)[:, None]
        self.total = mass if self.total is None else torch.cat([self.total, mass], 1)
        self.seen.append(layer)
        if self.per_layer:
            self.by_layer[layer] = mean

    def mean(self) -> Tensor:
        """``[B, R, C]`` mean over layers and heads, 16-bit."""
        if self.total is None:
            return super().mean()
        return self.total.mean(1) if self.rounding.heads_first else self.total.mean((1, 2))

    def attend(
        self, module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **options
    ) -> tuple[Tensor, None]:
        """Attention of all queries ``[B, Q, H, d]``, in a 16-bit model from weights written out."""
        if query.dtype not in HALVES:
            return sdpa_attention_forward(module, query, key, value, mask, scaling=scaling, **options)
        values = repeat_kv(value, query.shape[1] // value.shape[1])
        parts = []
        for start in range(0, query.shape[2], ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            own = mask if mask is None or mask.shape[2] == 1 else mask[:, :, rows]
            parts.append(torch.matmul(written_out(query[:, :, rows], key, own, scaling, self.rounding), values))
        return torch.cat(parts, 2).transpose(1, 2).contiguous(), None


def written_out(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float, rounding: Rounding) -> Tensor:
    """``[B, H, Q, T]`` attention in the queries' type: rounded raw scores, softmax in fp32, rounded again.

    Args:
        mask: ``[B or 1, 1, Q or 1, T]``, boolean (True attends) or additive; None for none.
    """
    scores = torch.matmul(query, repeat_kv(key, query.shape[1] // key.shape[1]).transpose(2, 3))
    scores = scores / math.sqrt(query.shape[3]) if rounding.divides else scores * scaling
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
