"""Attention whose maps are written out, as transformers' ``output_attentions=True`` does it: the whole T x T map of
every layer of a step in which a method looks at attention. What a probe saves is measured against it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from redvtp.attention import ATTENTION_NAME, probed_sdpa
from redvtp.models.llava import LlavaHost

MAPS_NAME = "redvtp_maps"


def written_maps(module, query, key, value, attention_mask, probe=None, **kwargs):
    """Eager attention with all heads' maps where a probe is there, else redvtp's own.

    The probe gets its rows and columns of the head mean, and the mean map is kept beside it, as the official code
    keeps it until the step is over. Grouped keys and caches are not for this.
    """
    if probe is None or kwargs.get("rotary") is not None:
        return probed_sdpa(module, query, key, value, attention_mask, probe, **kwargs)
    query, key = query.to(value.dtype), key.to(value.dtype)
    scores = torch.matmul(query, key.transpose(2, 3)) * kwargs["scaling"]
    if attention_mask is not None:
        boolean = attention_mask.dtype == torch.bool
        scores = scores.masked_fill(~attention_mask, float("-inf")) if boolean else scores + attention_mask
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(value.dtype)
    output = torch.matmul(weights, value).transpose(1, 2).contiguous()
    mean, layer = weights.mean(1), module.layer_idx + 1
    probe.maps = [*getattr(probe, "maps", ()), mean]
    if probe.watches(layer):
        first = key.shape[2] - query.shape[2]
        rows = (probe.rows - first).clamp(min=0)[..., None].expand(-1, -1, mean.shape[2])
        columns = probe.columns.clamp(min=0)[:, None].expand(-1, probe.rows.shape[1], -1)
        mass = mean.gather(1, rows).gather(2, columns).float().masked_fill((probe.columns < 0)[:, None], 0.0)
        probe.total = mass if probe.total is None else probe.total + mass
        probe.seen.append(layer)
        if probe.per_layer:
            probe.by_layer[layer] = mass
    return output, None


AttentionInterface.register(MAPS_NAME, written_maps)
AttentionMaskInterface.register(MAPS_NAME, sdpa_mask)


@contextlib.contextmanager
def maps_of(host: LlavaHost, written: bool = True) -> Iterator[None]:
    """The host with maps written out inside the block, where ``written``."""
    if not written:
        yield
        return
    host.model.set_attn_implementation({"text_config": MAPS_NAME})
    try:
        yield
    finally:
        host.model.set_attn_implementation({"text_config": ATTENTION_NAME})
