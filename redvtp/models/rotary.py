"""Rotary embedding in fp32 whatever the activations' type, as LaViDa's code applies it.

Source: official_code §4.1 (``rope_full_precision``).
"""

from __future__ import annotations

import torch
from torch import LongTensor, Tensor
from transformers import LlamaModel
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding


class FullPrecisionRotary(LlamaRotaryEmbedding):
    """transformers' rotary embedding with cosines and sines left in fp32.

    Queries and keys that are turned by them become fp32; redvtp's attention casts them back before it uses them,
    so that only the result of the rotation is rounded.
    """

    def forward(self, x: Tensor, position_ids: LongTensor) -> tuple[Tensor, Tensor]:
        """fp32 cosines and sines ``[B, T, head_dim]`` on ``x``'s device."""
        return super().forward(x.new_empty(0, dtype=torch.float32), position_ids)


def use_full_precision_rotary(decoder: LlamaModel) -> None:
    """Give the decoder that embedding; its frequencies are fp32, too, whatever the weights were cast to."""
    decoder.rotary_emb = FullPrecisionRotary(decoder.config).to(decoder.rotary_emb.inv_freq.device)
