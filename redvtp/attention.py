"""Attention mass from chosen rows to chosen columns, under SDPA, without the T x T map.

The probe rides through transformers' own attention interface as a keyword argument of the model's forward:
``model(..., probe=probe)``. It recomputes the softmax of the chosen rows only, so memory is O(rows x T) a layer.

Source: RedVTP eq. for the importance score; official_code §5.5 (the equivalent cheap formulation).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import LongTensor, Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION_NAME = "redvtp_sdpa"


class AttentionProbe:
    """Sums the head-mean attention from chosen rows to chosen columns over layers, as the layers run.

    Args:
        rows: ``[B, R]`` query rows of each sample; -1 pads (their values are to be ignored).
        columns: ``[B, C]`` key columns; -1 pads, which read 0.
        layers: decoder layers to watch, 1..L; None watches all.
        per_layer: also keep each layer's share (``by_layer``).

    Attributes:
        total: ``[B, R, C]`` fp32 sum over the watched layers so far, None before the first.
        by_layer: ``{layer: [B, R, C]}`` where ``per_layer``.
    """

    def __init__(
        self, rows: LongTensor, columns: LongTensor, layers: Iterable[int] | None = None, per_layer: bool = False
    ) -> None:
        self.rows = rows
        self.columns = columns
        self.layers = None if layers is None else frozenset(layers)
        self.per_layer = per_layer
        self.total: Tensor | None = None
        self.by_layer: dict[int, Tensor] = {}
        self.seen: list[int] = []

    def watches(self, layer: int) -> bool:
        """Whether layer 1..L is to be recorded."""
        return self.layers is None or layer in self.layers

    def add(self, layer: int, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> None:
        """Record one layer: ``query [B, H, Q, d]``, ``key [B, H_kv, T, d]`` after rotary embedding."""
        mass = attention_mass(query, key, mask, scaling, self.rows, self.columns)
        self.total = mass if self.total is None else self.total + mass
        self.seen.append(layer)
        if self.per_layer:
            self.by_layer[layer] = mass

    def mean(self) -> Tensor:
        """``[B, R, C]`` mean over the watched layers.

        Raises:
            ValueError: when no watched layer has run.
        """
        if self.total is None:
            raise ValueError(f"the probe saw no layer; it watches {sorted(self.layers or ())}")
        return self.total / len(self.seen)


def attention_mass(
    query: Tensor, key: Tensor, mask: Tensor | None, scaling: float, rows: LongTensor, columns: LongTensor
) -> Tensor:
    """Head-mean softmax attention ``[B, R, C]`` in fp32 from ``rows`` to ``columns`` (-1 pads read 0).

    Rows are counted over all T columns, of which the queries are the last Q (usually all).
    The denominator runs over all keys. ``mask`` is None, boolean (True attends) or additive, of shape
    ``[B or 1, 1, T or 1, T]``. Grouped keys (fewer key heads than query heads) are read without copies.
    """
    batch, heads, _, width = query.shape
    groups = key.shape[1]
    index = (rows - (key.shape[2] - query.shape[2])).clamp(min=0)
    picked = query.gather(2, index[:, None, :, None].expand(-1, heads, -1, width))
    picked = (picked * scaling).reshape(batch, groups, -1, width)
    scores = torch.matmul(picked, key.transpose(2, 3)).reshape(batch, heads, rows.shape[1], -1)
    if mask is not None:
        if mask.shape[2] > 1:
            mask = mask.expand(batch, -1, -1, -1)
            mask = mask.gather(2, index[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3]))
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    mean = torch.softmax(scores, dim=-1, dtype=torch.float32).mean(1)
    chosen = mean.gather(2, columns.clamp(min=0)[:, None].expand(-1, rows.shape[1], -1))
    return chosen.masked_fill((columns < 0)[:, None], 0.0)


def probed_sdpa(module, query, key, value, attention_mask, probe: AttentionProbe | None = None, **kwargs):
    """transformers' SDPA attention, with the probe looking on where one was passed to the forward."""
    causal = kwargs.get("is_causal")
    if probe is not None and attention_mask is None and (module.is_causal if causal is None else causal):
        raise ValueError("the probe reads attention that looks both ways; this model's is causal (is_causal=True)")
    # Rotary angles in a wider type than the activations widen queries and keys (redvtp.models.rotary).
    query, key = query.to(value.dtype), key.to(value.dtype)
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    if probe is not None and probe.watches(module.layer_idx + 1):
        probe.add(module.layer_idx + 1, query, key, attention_mask, kwargs["scaling"])
    return output, None


# Both tables need the name: without a mask function transformers would silently build no mask at all.
AttentionInterface.register(ATTENTION_NAME, probed_sdpa)
AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)
