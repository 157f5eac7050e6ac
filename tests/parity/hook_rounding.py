"""A host that rounds as the official dLLM-Cache hook does.

The hook recomputes the rows whose values changed most. Among rows that did not change, rounding decides which: the
parity of tokens needs its attention, written out in plain products, and torch's own linear layers.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, LlavaOnevisionForConditionalGeneration
from transformers.masking_utils import sdpa_mask

from redvtp.attention import rotate
from redvtp.models.llada_v import LladaV

NAME = "parity_eager"


def eager_attention(module, query: Tensor, key: Tensor, value: Tensor, attention_mask, *, rotary=None, **_):
    """Attention without a mask; ``rotary`` as in redvtp.attention.probed_sdpa."""
    if attention_mask is not None:
        raise ValueError("the recorded cases have no padding, so no mask")
    query = query if rotary is None else rotate(query, rotary)
    weights = torch.matmul(query, key.transpose(2, 3)) / query.shape[-1] ** 0.5
    weights = torch.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


def like_the_hook(host: LladaV) -> LladaV:
    """The same model with the hook's rounding."""
    model = LlavaOnevisionForConditionalGeneration(copy.deepcopy(host.config))
    model.load_state_dict(host.model.state_dict())
    plain = LladaV(model, host.tokenizer, mask_id=host.mask_id, banned_ids=host.banned_ids, onednn=False)
    model.set_attn_implementation({"text_config": NAME})
    return plain


AttentionInterface.register(NAME, eager_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
