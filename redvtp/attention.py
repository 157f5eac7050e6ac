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
        values: also keep the norm of each column's values.
        guide: ``[B, R]`` rows whose attention is also kept head by head, summed over them; None for no heads.

    Attributes:
        starts: a column before which no row stands, where the host knows one.
        first: column of the first query where a forward runs on a part of the columns; None where its queries are
            the last columns (usually all).
        total: ``[B, R, C]`` fp32 sum over the watched layers so far, None before the first.
        by_layer: ``{layer: [B, R, C]}`` where ``per_layer``.
        norms: ``{layer: [B, C]}`` length of each column's value, all heads in one vector, where ``values``.
        by_head: ``{layer: [B, H, C]}`` where there is a guide, and to_prompt: ``{layer: [B, H]}`` the share of the
            columns before the first row in what goes to them and to the guide rows.
    """

    def __init__(
        self,
        rows: LongTensor,
        columns: LongTensor,
        layers: Iterable[int] | None = None,
        per_layer: bool = False,
        values: bool = False,
        guide: Tensor | None = None,
    ) -> None:
        self.rows = rows
        self.columns = columns
        self.layers = None if layers is None else frozenset(layers)
        self.per_layer, self.values, self.guide = per_layer, values, guide
        self.norms: dict[int, Tensor] = {}
        self.by_head: dict[int, Tensor] = {}
        self.to_prompt: dict[int, Tensor] = {}
        self.starts: int | None = None
        self.first: int | None = None
        self.total: Tensor | None = None
        self.by_layer: dict[int, Tensor] = {}
        self.seen: list[int] = []

    # How the layers attend while the probe looks on; as without it.
    attend = staticmethod(sdpa_attention_forward)

    def watches(self, layer: int) -> bool:
        """Whether layer 1..L is to be recorded."""
        return self.layers is None or layer in self.layers

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
        """Record one layer: ``query [B, H, Q, d]``, ``key`` and ``value [B, H_kv, T, d]`` after rotary embedding."""
        if self.values:
            norm = value.float().square().sum((1, 3)).sqrt()
            self.norms[layer] = norm.gather(1, self.columns.clamp(min=0)).masked_fill(self.columns < 0, 0.0)
        if not self.rows.shape[1]:
            return
        weights = row_attention(query, key, mask, scaling, self.rows, self.first, alone)
        mass = columns_of(weights.mean(1), self.columns)
        if self.guide is not None:
            self._add_heads(layer, weights)
        self.total = mass if self.total is None else self.total + mass
        self.seen.append(layer)
        if self.per_layer:
            self.by_layer[layer] = mass

    def seen_layers(self) -> list[int]:
        """The layers, 1..L, that were recorded in any way, in order."""
        return sorted({*self.seen, *self.norms})

    def _add_heads(self, layer: int, weights: Tensor) -> None:
        """Sum ``weights [B, H, R, T]`` over the guide rows."""
        guide = self.guide & (self.rows >= 0)
        mass = (weights * guide[:, None, :, None]).sum(2)
        self.by_head[layer] = columns_of(mass, self.columns)
        place = torch.arange(mass.shape[2], device=mass.device)
        prompt = (mass * (place < self.rows[:, :1])[:, None]).sum(2)
        own = columns_of(mass, self.rows.masked_fill(~guide, -1)).sum(2)
        self.to_prompt[layer] = prompt / (prompt + own).clamp(min=1e-12)

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
    """Head-mean softmax attention ``[B, R, C]`` in fp32 from ``rows`` to ``columns`` (-1 pads read 0); see
    `row_attention`."""
    return columns_of(row_attention(query, key, mask, scaling, rows, first, alone).mean(1), columns)


def columns_of(mass: Tensor, columns: LongTensor) -> Tensor:
    """``[B, R, C]`` those columns of ``mass [B, R, T]``; -1 pads read 0."""
    chosen = mass.gather(2, columns.clamp(min=0)[:, None].expand(-1, mass.shape[1], -1))
    return chosen.masked_fill((columns < 0)[:, None], 0.0)


def row_attention(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    scaling: float,
    rows: LongTensor,
    first: int | None = None,
    alone: int = 0,
) -> Tensor:
    """Softmax attention ``[B, H, R, T]`` in fp32 from ``rows`` to all columns.

    Rows are counted over all T columns, of which the queries begin at column ``first`` (None: are the last Q,
    usually all). The denominator runs over all keys, but for rows before column ``alone``, which see only the keys
    before it. ``mask`` is None, boolean (True attends) or additive, of shape
    ``[B or 1, 1 or H, T or 1, T]``. Grouped keys (fewer key heads than query heads) are read without copies.
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
    return torch.softmax(scores, dim=-1, dtype=torch.float32)


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
    attend = sdpa_attention_forward if probe is None else probe.attend
    # Rotary angles in a wider type than the activations widen queries and keys (redvtp.models.rotary).
    query, key = query.to(value.dtype), key.to(value.dtype)
    if alone:
        before = None if attention_mask is None else attention_mask[..., :alone]
        parts = [(query[:, :, :alone], key[:, :, :alone], value[:, :, :alone], before)]
        parts.append((query[:, :, alone:], key, value, attention_mask))
        output = torch.cat([attend(module, *part, **kwargs)[0] for part in parts], 1)
    else:
        output, _ = attend(module, query, key, value, attention_mask, **kwargs)
    if probe is not None and probe.watches(module.layer_idx + 1):
        probe.add(module.layer_idx + 1, query, key, attention_mask, kwargs["scaling"], alone, value)
    return output, None


def rotate(states: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Llama's rotary embedding of ``states [B, H, T, d]`` by cosines and sines ``[B, T, d]``, in their precision."""
    cos, sin = (part[:, None] for part in rotary)
    return (states * cos + rotate_half(states) * sin).to(states.dtype)


# Both tables need the name: without a mask function transformers would silently build no mask at all.
AttentionInterface.register(ATTENTION_NAME, probed_sdpa)
AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)
