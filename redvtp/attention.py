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
from transformers.models.llama.modeling_llama import rotate_half

ATTENTION_NAME = "redvtp_sdpa"


class AttentionProbe:
    """Sums the head-mean attention from chosen rows to chosen columns over layers, as the layers run.

    Args:
        rows: ``[B, R]`` query rows of each sample; -1 pads (their values are to be ignored).
        columns: ``[B, C]`` key columns; -1 pads, which read 0.
        layers: decoder layers to watch, 1..L; None watches all.
        per_layer: also keep each layer's share (``by_layer``).

    Attributes:
        starts: a column before which no row stands, where the host knows one.
        first: column of the first query where a forward runs on a part of the columns; None where its queries are
            the last columns (usually all).
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
        self.starts: int | None = None
        self.first: int | None = None
        self.total: Tensor | None = None
        self.by_layer: dict[int, Tensor] = {}
        self.seen: list[int] = []

    def watches(self, layer: int) -> bool:
        """Whether layer 1..L is to be recorded."""
        return self.layers is None or layer in self.layers

    def add(self, layer: int, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float, alone: int = 0) -> None:
        """Record one layer: ``query [B, H, Q, d]``, ``key [B, H_kv, T, d]`` after rotary embedding."""
        mass = attention_mass(query, key, mask, scaling, self.rows, self.columns, self.first, alone)
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
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    scaling: float,
    rows: LongTensor,
    columns: LongTensor,
    first: int | None = None,
    alone: int = 0,
) -> Tensor:
    """Head-mean softmax attention ``[B, R, C]`` in fp32 from ``rows`` to ``columns`` (-1 pads read 0).

    Rows are counted over all T columns, of which the queries begin at column ``first`` (None: are the last Q,
    usually all). The denominator runs over all keys, but for rows before column ``alone``, which see only the keys
    before it. ``mask`` is None, boolean (True attends) or additive, of shape
    ``[B or 1, 1, T or 1, T]``. Grouped keys (fewer key heads than query heads) are read without copies.
    """
    batch, heads, _, width = query.shape
    groups = key.shape[1]
    index = (rows - (key.shape[2] - query.shape[2] if first is None else first)).clamp(min=0)
    picked = query.gather(2, index[:, None, :, None].expand(-1, heads, -1, width))
    picked = (picked * scaling).reshape(batch, groups, -1, width)
    scores = torch.matmul(picked, key.transpose(2, 3)).reshape(batch, heads, rows.shape[1], -1)
    if mask is not None:
        if mask.shape[2] > 1:
            mask = mask.expand(batch, -1, -1, -1)
            mask = mask.gather(2, index[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3]))
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    if alone:
        later = torch.arange(key.shape[2], device=key.device) >= alone
        scores = scores.masked_fill(((rows < alone)[..., None] & later)[:, None], float("-inf"))
    mean = torch.softmax(scores, dim=-1, dtype=torch.float32).mean(1)
    chosen = mean.gather(2, columns.clamp(min=0)[:, None].expand(-1, rows.shape[1], -1))
    return chosen.masked_fill((columns < 0)[:, None], 0.0)


def probed_sdpa(
    module,
    query,
    key,
    value,
    attention_mask,
    probe: AttentionProbe | None = None,
    rotary: tuple[Tensor, Tensor] | None = None,
    alone: int = 0,
    **kwargs,
):
    """transformers' SDPA attention, with the probe looking on where one was passed to the forward.

    Args:
        rotary: cosines and sines ``[B, Q, d]`` of queries that come un-rotated; keys are rotated by their cache.
        alone: columns at the start that see only each other; the queries are then all columns.
    """
    causal = kwargs.get("is_causal")
    if probe is not None and attention_mask is None and (module.is_causal if causal is None else causal):
        raise ValueError("the probe reads attention that looks both ways; this model's is causal (is_causal=True)")
    if rotary is not None:
        query = rotate(query, rotary)
    # Rotary angles in a wider type than the activations widen queries and keys (redvtp.models.rotary).
    query, key = query.to(value.dtype), key.to(value.dtype)
    if alone:
        before = None if attention_mask is None else attention_mask[..., :alone]
        parts = [(query[:, :, :alone], key[:, :, :alone], value[:, :, :alone], before)]
        parts.append((query[:, :, alone:], key, value, attention_mask))
        output = torch.cat([sdpa_attention_forward(module, *part, **kwargs)[0] for part in parts], 1)
    else:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    if probe is not None and probe.watches(module.layer_idx + 1):
        probe.add(module.layer_idx + 1, query, key, attention_mask, kwargs["scaling"], alone)
    return output, None


def rotate(states: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Llama's rotary embedding of ``states [B, H, T, d]`` by cosines and sines ``[B, T, d]``, in their precision."""
    cos, sin = (part[:, None] for part in rotary)
    return (states * cos + rotate_half(states) * sin).to(states.dtype)


# Both tables need the name: without a mask function transformers would silently build no mask at all.
AttentionInterface.register(ATTENTION_NAME, probed_sdpa)
AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)
