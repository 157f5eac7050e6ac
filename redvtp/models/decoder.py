"""One forward of a bidirectional Llama, layer by layer, so that a method can cut between two layers.

The layers are transformers' own; only the loop over them is ours. It passes ``is_causal=False`` itself,
because a Llama layer called outside its model is causal otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import LongTensor, Tensor
from transformers import LlamaModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from redvtp.attention import AttentionProbe, rotate
from redvtp.models.base import LayerCut, Unseen, merge_visual, move_positions, move_size, take_columns
from redvtp.models.fused import FusedAttention
from redvtp.models.keyvalues import KeyValues, Writer
from redvtp.sequence import VISUAL, Layout


@dataclass(frozen=True)
class Frame:
    """What a layer is told of the columns that it runs on.

    Attributes:
        layout, positions, size, unseen: of the T columns (see run_layers).
        mask: of the keys (see key_mask).
        rotary: cosines and sines ``[B, T, d]``.
        count: ``[B]`` real columns, in the host's memory.
    """

    layout: Layout
    positions: LongTensor
    size: Tensor | None
    mask: Tensor | None
    rotary: tuple[Tensor, Tensor]
    count: LongTensor
    unseen: Unseen | None = None

    @classmethod
    def of(
        cls,
        decoder: LlamaModel,
        hidden: Tensor,
        layout: Layout,
        positions: LongTensor,
        size: Tensor | None,
        unseen: Unseen | None = None,
    ) -> Frame:
        """The frame of ``hidden [B, T, D]``."""
        mask = key_mask(layout, size, hidden.dtype, unseen)
        rotary = decoder.rotary_emb(hidden, position_ids=positions)
        return cls(layout, positions, size, mask, rotary, layout.lengths, unseen)

    def writer(self, store: KeyValues | None, samples: LongTensor | None) -> Writer | None:
        """What fills the store from all of the columns, where there is one."""
        if store is None:
            return None
        return Writer(store, self.layout, slice(0, self.layout.length), self.rotary, samples)

    def keywords(self, writer: Writer | None) -> dict[str, Any]:
        """Arguments of a stock layer that runs on all of the columns."""
        keywords = {"position_embeddings": self.rotary} if writer is None else through(writer)
        alone = self.layout.prompt_length if writer is not None and writer.store.alone else 0
        return keywords | ({"alone": alone} if alone else {})


@dataclass(frozen=True)
class Before:
    """Stands in for the cache of a stock attention layer: keys, rotated, and values of the columns before its own."""

    key: Tensor
    value: Tensor

    def update(self, key: Tensor, value: Tensor, *_, **__) -> tuple[Tensor, Tensor]:
        """Those of all columns."""
        return torch.cat([self.key, key], 2), torch.cat([self.value, value], 2)


def through(writer: Writer) -> dict[str, Any]:
    """Arguments of a stock layer whose keys and values go through a writer.

    The layer's own rotary embedding is one that leaves queries and keys as they are, so that the cache gets keys
    without it; the writer rotates the keys, and the attention its queries.
    """
    cos, sin = writer.rotary
    return {
        "position_embeddings": (torch.ones_like(cos[:1, :1]), torch.zeros_like(sin[:1, :1])),
        "past_key_values": writer,
        "rotary": writer.rotary,
    }


def run_layers(
    decoder: LlamaModel,
    hidden: Tensor,
    layout: Layout,
    positions: LongTensor,
    size: Tensor | None = None,
    probe: AttentionProbe | None = None,
    at_layer: Mapping[int, LayerCut] | None = None,
    tail: int | None = None,
    store: KeyValues | None = None,
    samples: LongTensor | None = None,
    unseen: Unseen | None = None,
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
        store: is filled with all keys and values on the way.
        samples: ``[B]`` which rows of the store these are; None for all of them.
        unseen: columns at the end that are hidden from other rows.

    Returns:
        The last layer's hidden states ``[B, T', D]`` (``[B, tail, D]``) and the real columns at each layer ``[L, B]``.
    """
    at_layer = at_layer or {}
    lengths = []
    waiting: dict[int, list[tuple]] = {}
    frame = Frame.of(decoder, hidden, layout, positions, size, unseen)
    for number, layer in enumerate(decoder.layers, start=1):
        for before, columns, earlier, seen in reversed(waiting.pop(number, [])):
            hidden, frame = rejoin(before, hidden, columns), earlier
            if probe is not None:
                probe.rows, probe.columns = seen
        lengths.append(frame.count)
        mask = head_mask(frame.mask, layer, store, samples)
        if tail is not None and number == len(decoder.layers) and number not in at_layer:
            if not looks_before(probe, number, hidden.shape[1] - tail):
                writer = frame.writer(store, samples)
                hidden = tail_of_layer(layer, hidden, tail, mask, frame.rotary, probe, writer)
                break
        keywords = {"attention_mask": mask, "is_causal": False, "probe": probe}
        hidden = run_layer(layer, hidden, tail, **keywords, **frame.keywords(frame.writer(store, samples)))
        cut = at_layer.get(number)
        if cut is None:
            continue
        selection = cut.select(hidden, frame.layout)
        visual = frame.layout.columns_of(VISUAL)
        columns = frame.layout.keep_visual(visual, selection.keep)
        if cut.until is not None:
            seen = None if probe is None else (probe.rows, probe.columns)
            waiting.setdefault(cut.until, []).append((hidden, columns, frame, seen))
        if probe is not None:
            where = new_columns(columns, frame.layout.length)
            probe.rows, probe.columns = follow(where, probe.rows), follow(where, probe.columns)
            probe.starts = None
        hidden = take_columns(merge_visual(hidden, visual, selection), columns)
        layout = frame.layout.take(columns)
        positions = move_positions(frame.positions, layout, columns, cut.positions)
        size = move_size(frame.size, visual, columns, selection)
        frame = Frame.of(decoder, hidden, layout, positions, size, unseen)
    return hidden if tail is None else hidden[:, -tail:], torch.stack(lengths)


def run_layer(layer: LlamaDecoderLayer, hidden: Tensor, tail: int | None, **keywords: Any) -> Tensor:
    """The layer's output; what it adds to the last ``tail`` columns is kept where the cache asks for that."""
    writer = keywords.get("past_key_values")
    if not isinstance(writer, Writer) or not writer.store.keeps_parts:
        return layer(hidden, **keywords)
    attended, grown = run_parts(layer, hidden, **keywords)
    writer.keep_parts(layer.self_attn.layer_idx, attended[:, -tail:], grown[:, -tail:])
    return hidden + attended + grown


def run_parts(layer: LlamaDecoderLayer, hidden: Tensor, **keywords: Any) -> tuple[Tensor, Tensor]:
    """What the layer's attention and its MLP add to ``hidden``, as the stock layer computes them."""
    attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden), **keywords)
    return attended, layer.mlp(layer.post_attention_layernorm(hidden + attended))


def looks_before(probe: AttentionProbe | None, layer: int, column: int) -> bool:
    """Whether the probe reads rows before ``column`` in that layer."""
    if probe is None or not probe.watches(layer):
        return False
    if probe.starts is not None and probe.starts >= column:
        return False
    return bool(((probe.rows >= 0) & (probe.rows < column)).any())


def tail_of_layer(
    layer: LlamaDecoderLayer,
    hidden: Tensor,
    tail: int,
    mask: Tensor | None,
    rotary: tuple[Tensor, Tensor],
    probe: AttentionProbe | None,
    writer: Writer | None = None,
) -> Tensor:
    """The layer's output for its last ``tail`` columns, ``[B, tail, D]``.

    The stock layer runs on those alone; keys and values of the columns before them reach it as its cache, or
    through ``writer``, which then keeps those of all columns.
    """
    before, number = hidden.shape[1] - tail, layer.self_attn.layer_idx
    key, value = keys_and_values(layer, hidden[:, :before])
    halves = slice(0, before), slice(before, hidden.shape[1])
    first, last = (tuple(part[:, columns] for part in rotary) for columns in halves)
    if writer is None:
        keywords = {"position_embeddings": last, "past_key_values": Before(rotate(key, first), value)}
    else:
        replace(writer, columns=halves[0], rotary=first).update(key, value, number)
        keywords = through(replace(writer, columns=halves[1], rotary=last))
    if mask is not None and mask.shape[2] > 1:
        mask = mask[:, :, before:]
    keywords |= {"attention_mask": mask, "is_causal": False, "probe": probe}
    return run_layer(layer, hidden[:, before:], tail, **keywords)


def keys_and_values(layer: LlamaDecoderLayer, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Keys before the rotary embedding, and values, ``[B, H_kv, T, d]`` each, of ``hidden [B, T, D]``."""
    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    if isinstance(attention, FusedAttention):
        return attention.heads(normed, first=1)
    heads = (*normed.shape[:2], -1, attention.head_dim)
    return attention.k_proj(normed).view(heads).transpose(1, 2), attention.v_proj(normed).view(heads).transpose(1, 2)


def key_mask(
    layout: Layout, size: Tensor | None, dtype: torch.dtype, unseen: Unseen | None = None
) -> Tensor | None:
    """``[B, 1, 1, T]`` mask of the real keys: None without padding (the fast kernels), boolean with it,
    additive log sizes where tokens were merged; ``[B, 1, T, T]`` where columns are hidden from some rows."""
    real = layout.real[:, None, None]
    blocked = None if unseen is None else unseen.blocked(layout.length)[:, None]
    if size is None:
        if blocked is not None:
            return real & ~blocked
        return real if layout.padded else None
    bias = size.log()[:, None, None].masked_fill(~real, float("-inf")).to(dtype)
    return bias if blocked is None else bias.masked_fill(blocked, float("-inf"))


def head_mask(
    mask: Tensor | None, layer: LlamaDecoderLayer, store: KeyValues | None, samples: LongTensor | None
) -> Tensor | None:
    """A layer's mask: ``mask`` for all heads, or ``[B, H, 1, T]`` where its heads have let go of columns."""
    if store is None or store.forgotten is None:
        return mask
    attention = layer.self_attn
    return store.forgotten.hide(mask, attention.layer_idx, attention.num_key_value_groups, samples)


def new_columns(columns: LongTensor, length: int) -> LongTensor:
    """``[B, length]`` where each old column now stands, -1 where it was dropped."""
    where = columns.new_full((len(columns), length + 1), -1)
    target = torch.where(columns >= 0, columns, length)
    where.scatter_(1, target, torch.arange(columns.shape[1], device=columns.device).expand_as(columns))
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
