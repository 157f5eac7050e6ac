"""FLOPs of the language model, counted exactly: a multiply-add is two.

Counts matrix products (projections, SwiGLU's three matrices, attention's two, the head on the rows whose
logits are computed); norms, rotary embedding and softmax are left out, as torch's flop counter does.
The probe's rows are left out too: they are scoring, whose cost is measured apart.
"""

from __future__ import annotations

from torch import LongTensor
from transformers import LlamaConfig


def layer_flops(config: LlamaConfig, length: int) -> int:
    """One decoder layer on ``length`` tokens of one sample."""
    d, ff = config.hidden_size, config.intermediate_size
    head = getattr(config, "head_dim", None) or d // config.num_attention_heads
    query, key = config.num_attention_heads * head, config.num_key_value_heads * head
    projections = 2 * length * d * (2 * query + 2 * key)
    attention = 4 * length * length * query
    return projections + attention + 6 * length * d * ff


def head_flops(config: LlamaConfig, rows: int) -> int:
    """The output head on ``rows`` tokens."""
    return 2 * rows * config.hidden_size * config.vocab_size


def forward_flops(config: LlamaConfig, lengths: LongTensor, logit_rows: LongTensor) -> list[int]:
    """Each sample's FLOPs in one forward.

    Args:
        lengths: ``[L, B]`` tokens at each layer.
        logit_rows: ``[B]`` rows whose logits are computed.
    """
    return [
        sum(layer_flops(config, n) for n in column) + head_flops(config, rows)
        for column, rows in zip(lengths.T.tolist(), logit_rows.tolist(), strict=True)
    ]
