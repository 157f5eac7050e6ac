"""FLOPs of the language model, counted exactly: a multiply-add is two.

Counts matrix products (projections, SwiGLU's three matrices, attention's two, the head on the rows whose
logits are computed); norms, rotary embedding and softmax are left out, as torch's flop counter does.
A forward's count leaves scoring out, for its cost is measured apart: the probe's rows, and the rest of the last
layer where a probe reads rows that no output needs. With a cache only what is computed counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import LongTensor, Tensor
from transformers import LlamaConfig


@dataclass(frozen=True)
class Work:
    """What one forward computed in each layer for each sample, ``[L, B]`` each.

    Attributes:
        rows: tokens whose query, attention and MLP were computed.
        keys, values: tokens whose key, or value, was projected; those of the others came from a cache.
        pairs: pairs of a row and a column that it attended to; where heads attend to columns of their own, the mean
            over heads, fp64. What a mask hides from a head is not among them, though dense attention computes it.
    """

    rows: LongTensor
    keys: LongTensor
    values: LongTensor
    pairs: Tensor

    @classmethod
    def whole(
        cls,
        lengths: LongTensor,
        tail: int | None = None,
        alone: LongTensor | None = None,
        gone: Tensor | int = 0,
    ) -> Work:
        """A forward over all of a sequence.

        Args:
            lengths: ``[L, B]`` tokens at each layer.
            tail: tokens whose output the last layer computes; None for all.
            alone: ``[L, B]`` tokens at the start that see only each other.
            gone: ``[L, B]`` tokens among those before the response that a head does not attend to, mean over heads.
        """
        before = torch.zeros_like(lengths) if alone is None else alone
        seen = lengths - gone
        rows, pairs = lengths.clone(), before * (before - gone) + (lengths - before) * seen
        if tail is not None:
            rows[-1], pairs[-1] = tail, tail * seen[-1]
        return cls(rows, lengths, lengths, pairs)

    @classmethod
    def part(cls, rows: int, seen: LongTensor, layers: int, gone: Tensor | int = 0) -> Work:
        """A forward over ``rows`` tokens of a sample that attend to ``seen [B]`` tokens, in all layers, but for
        ``gone`` (see `whole`)."""
        own = torch.full((layers, len(seen)), rows, device=seen.device)
        return cls(own, own, own, own * (seen - gone))


def layer_flops(config: LlamaConfig, length: int, tail: int | None = None) -> int:
    """One decoder layer on ``length`` tokens of one sample.

    Args:
        tail: tokens whose output is computed; of the others only keys and values are. None for all.
    """
    out = length if tail is None else tail
    return work_flops(config, out, length, length, out * length)


def work_flops(config: LlamaConfig, rows: int, keys: int, values: int, pairs: int) -> int:
    """One decoder layer of one sample (see Work)."""
    d, ff = config.hidden_size, config.intermediate_size
    query, key = (heads * head_width(config) for heads in (config.num_attention_heads, config.num_key_value_heads))
    projections = 2 * d * (rows * 2 * query + (keys + values) * key)
    return projections + 4 * pairs * query + 6 * rows * d * ff


def head_width(config: LlamaConfig) -> int:
    """Numbers of one attention head's query."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def scoring_flops(config: LlamaConfig, rows: int, length: int) -> int:
    """One layer's attention scores of ``rows`` tokens to all ``length``, which a probe computes again."""
    return 2 * rows * length * config.num_attention_heads * head_width(config)


def head_flops(config: LlamaConfig, rows: int) -> int:
    """The output head on ``rows`` tokens."""
    return 2 * rows * config.hidden_size * config.vocab_size


class LanguageFormula:
    """The language model's parts by these formulas, as plans of whole runs take them (see redvtp.plans)."""

    def __init__(self, config: LlamaConfig) -> None:
        self.config = config

    def layer(self, length: int, tail: int | None = None) -> int:
        """`layer_flops`."""
        return layer_flops(self.config, length, tail)

    def head(self, rows: int) -> int:
        """`head_flops`."""
        return head_flops(self.config, rows)

    def scoring(self, rows: int, length: int) -> int:
        """`scoring_flops`."""
        return scoring_flops(self.config, rows, length)


def forward_flops(
    config: LlamaConfig, lengths: LongTensor, logit_rows: LongTensor, tail: int | None = None
) -> list[int]:
    """Each sample's FLOPs in one forward over all of its sequence.

    Args:
        lengths: ``[L, B]`` tokens at each layer.
        logit_rows: ``[B]`` rows whose logits are computed.
        tail: tokens whose output the last layer computes (response and suffix); None for all.
    """
    return step_flops(config, Work.whole(lengths, tail), logit_rows)


def step_flops(config: LlamaConfig, work: Work, logit_rows: LongTensor) -> list[int]:
    """Each sample's FLOPs in one forward that did ``work``, and of the head on ``logit_rows [B]`` rows."""
    return [
        layers + head_flops(config, rows)
        for layers, rows in zip(layers_flops(config, work), logit_rows.tolist(), strict=True)
    ]


def layers_flops(config: LlamaConfig, work: Work) -> list[int]:
    """Each sample's FLOPs in the decoder layers of one forward that did ``work``."""
    per_layer = torch.stack([work.rows, work.keys, work.values, work.pairs], -1).cpu().transpose(0, 1).tolist()
    return [sum(round(work_flops(config, *layer)) for layer in sample) for sample in per_layer]
