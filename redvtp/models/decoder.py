"""One forward of a bidirectional Llama, layer by layer, so that a method can cut between two layers.

The layers are transformers' own; only the loop over them is ours. It passes ``is_causal=False`` itself,
because a Llama layer called outside its model is causal otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import LongTensor, Tensor
from transformers import DynamicCache, LlamaModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, apply_rotary_pos_emb

from redvtp.attention import AttentionProbe
from redvtp.models.base import LayerCut, merge_visual, move_positions, move_size, take_columns
from redvtp.sequence import VISUAL, Layout


def run_layers(
    decoder: LlamaModel,
    hidden: Tensor,
    layout: Layout,
    positions: LongTensor,
    size: Tensor | None = None,
    probe: AttentionProbe | None = None,
    at_layer: Mapping[int, LayerCut] | None = None,
    tail: int | None = None,
) -> tuple[Tensor, LongTensor]:
    """Run all decoder layers, without the final norm.

    Args:
        hidden: ``[B, T, D]`` input embeddings.
        layout: of those T columns.
        positions: ``[B, T]`` rotary positions.
        size: ``[B, T]`` originals per column; attention to a column gains log size (ToMe's proportional attention).
        at_layer: cuts by layer, 1..L; each is made after its layer.
        tail: how many columns at the end are read afterwards; the last layer leaves out the work of the
            others' rows, but for their keys and values. None: all are read.

    Returns:
        The last layer's hidden states ``[B, T', D]`` (``[B, tail, D]``) and the real columns at each layer ``[L, B]``.
    """
    at_layer = at_layer or {}
    lengths = []
    waiting: dict[int, tuple] = {}
    mask = key_mask(layout, size, hidden.dtype)
    rotary = decoder.rotary_emb(hidden, position_ids=positions)
    count = layout.real.sum(1)
    for number, layer in enumerate(decoder.layers, start=1):
        if number in waiting:
            before, columns, layout, positions, size, seen = waiting.pop(number)
            hidden = rejoin(before, hidden, columns)
            if probe is not None:
                probe.rows, probe.columns = seen
            mask = key_mask(layout, size, hidden.dtype)
            rotary = decoder.rotary_emb(hidden, position_ids=positions)
            count = layout.real.sum(1)
        lengths.append(count)
        if tail is not None and number == len(decoder.layers) and number not in at_layer:
            if not looks_before(probe, number, hidden.shape[1] - tail):
                hidden = tail_of_layer(layer, hidden, tail, mask, rotary, probe)
                break
        hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary, is_causal=False, probe=probe)
        cut = at_layer.get(number)
        if cut is None:
            continue
        selection = cut.select(hidden, layout)
        visual = layout.columns_of(VISUAL)
        columns = layout.keep_visual(visual, selection.keep)
        if cut.until is not None:
            seen = None if probe is None else (probe.rows, probe.columns)
            waiting[cut.until] = (hidden, columns, layout, positions, size, seen)
        if probe is not None:
            where = new_columns(columns, layout.length)
            probe.rows, probe.columns = follow(where, probe.rows), follow(where, probe.columns)
        hidden = take_columns(merge_visual(hidden, visual, selection), columns)
        size = move_size(size, visual, columns, selection)
        layout = layout.take(columns)
        positions = move_positions(positions, layout, columns, cut.positions)
        mask = key_mask(layout, size, hidden.dtype)
        rotary = decoder.rotary_emb(hidden, position_ids=positions)
        count = layout.real.sum(1)
    return hidden if tail is None else hidden[:, -tail:], torch.stack(lengths)


def looks_before(probe: AttentionProbe | None, layer: int, column: int) -> bool:
    """Whether the probe reads rows before ``column`` in that layer."""
    if probe is None or not probe.watches(layer):
        return False
    return bool(((probe.rows >= 0) & (probe.rows < column)).any())


def tail_of_layer(
    layer: LlamaDecoderLayer,
    hidden: Tensor,
    tail: int,
    mask: Tensor | None,
    rotary: tuple[Tensor, Tensor],
    probe: AttentionProbe | None,
) -> Tensor:
    """The layer's output for its last ``tail`` columns, ``[B, tail, D]``.

    The stock layer runs on those alone; keys and values of the columns before them reach it as its cache.
    """
    attention, before = layer.self_attn, hidden.shape[1] - tail
    normed = layer.input_layernorm(hidden[:, :before])
    heads = (*normed.shape[:2], -1, attention.head_dim)
    key = attention.k_proj(normed).view(heads).transpose(1, 2)
    value = attention.v_proj(normed).view(heads).transpose(1, 2)
    key, _ = apply_rotary_pos_emb(key, key, *(part[:, :before] for part in rotary))
    cache = DynamicCache()
    cache.update(key.to(value.dtype), value, attention.layer_idx)  # the cache gives both one type
    return layer(
        hidden[:, before:],
        attention_mask=mask,
        position_embeddings=tuple(part[:, before:] for part in rotary),
        past_key_values=cache,
        is_causal=False,
        probe=probe,
    )


def key_mask(layout: Layout, size: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """``[B, 1, 1, T]`` mask of the real keys: None without padding (the fast kernels), boolean with it,
    additive log sizes where tokens were merged."""
    real = layout.real
    if size is None:
        return None if bool(real.all()) else real[:, None, None].to(torch.bool)
    bias = size.log().masked_fill(~real, float("-inf"))
    return bias[:, None, None].to(dtype)


def new_columns(columns: LongTensor, length: int) -> LongTensor:
    """``[B, length]`` where each old column now stands, -1 where it was dropped."""
    where = columns.new_full((len(columns), length + 1), -1)
    target = torch.where(columns >= 0, columns, length)
    where.scatter_(1, target, torch.arange(columns.shape[1]).expand_as(columns).to(columns))
    return where[:, :length]


def follow(where: LongTensor, columns: LongTensor) -> LongTensor:
    """Old columns (-1 pads) as new ones."""
    return where.gather(1, columns.clamp(min=0)).masked_fill(columns < 0, -1)


def rejoin(before: Tensor, hidden: Tensor, columns: LongTensor) -> Tensor:
    """The sequence as it was, with the columns that stayed brought up to date."""
    joined = before.clone()
    for b in range(len(columns)):
        real = columns[b] >= 0
        joined[b, columns[b, real]] = hidden[b, real]
    return joined
