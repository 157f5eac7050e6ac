"""FLOPs of the language model, counted exactly: a multiply-add is two.

Counts matrix products (projections, SwiGLU's three matrices, attention's two, the head on the rows whose
logits are computed); norms, rotary embedding and softmax are left out, as torch's flop counter does.
Scoring is left out too, for its cost is measured apart: the probe's rows, and the rest of the last layer where
a probe reads rows that no output needs.
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
    head = getattr(config, "head_dim", None) or d // config.num_attention_heads
    query, key = config.num_attention_heads * head, config.num_key_value_heads * head
    projections = 2 * d * (out * 2 * query + length * 2 * key)
    attention = 4 * out * length * query
    return projections + attention + 6 * out * d * ff


def head_flops(config: LlamaConfig, rows: int) -> int:
    """The output head on ``rows`` tokens."""
    return 2 * rows * config.hidden_size * config.vocab_size


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
