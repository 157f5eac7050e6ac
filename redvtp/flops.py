"""FLOPs of the language model, counted exactly: a multiply-add is two.

Counts matrix products (projections, SwiGLU's three matrices, attention's two, the head on the rows whose
logits are computed); norms, rotary embedding and softmax are left out, as torch's flop counter does.
A forward's count leaves scoring out, for its cost is measured apart: the probe's rows, and the rest of the last
layer where a probe reads rows that no output needs.
"""

from __future__ import annotations

from torch import LongTensor
from transformers import LlamaConfig


def layer_flops(config: LlamaConfig, length: int, tail: int | None = None) -> int:
    """One decoder layer on ``length`` tokens of one sample.

    Args:
        tail: tokens whose output is computed; of the others only keys and values are. None for all.
    """
    out = length if tail is None else tail
    d, ff = config.hidden_size, config.intermediate_size
    query, key = (heads * head_width(config) for heads in (config.num_attention_heads, config.num_key_value_heads))
    projections = 2 * d * (out * 2 * query + length * 2 * key)
    attention = 4 * out * length * query
    return projections + attention + 6 * out * d * ff


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
    """Each sample's FLOPs in one forward.

    Args:
        lengths: ``[L, B]`` tokens at each layer.
        logit_rows: ``[B]`` rows whose logits are computed.
        tail: tokens whose output the last layer computes (response and suffix); None for all.
    """
    return [
        sum(layer_flops(config, n) for n in column[:-1])
        + layer_flops(config, column[-1], tail)
        + head_flops(config, rows)
        for column, rows in zip(lengths.T.tolist(), logit_rows.tolist(), strict=True)
    ]
