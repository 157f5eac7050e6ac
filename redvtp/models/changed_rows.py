"""One forward over the response rows that changed most, as dLLM-Cache has it.

Source: arXiv 2506.06295; for LLaDA-V ``train/llava/cache/Cache.py`` and its hook (official_code §3.2), checked against
tensors of theirs.
"""

from __future__ import annotations

import math

import torch
from torch import LongTensor, Tensor
from transformers import LlamaModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from redvtp.flops import Work
from redvtp.models.base import Span, State, gather_columns
from redvtp.models.decoder import head_mask, key_mask, keys_and_values, run_parts, through
from redvtp.models.keyvalues import Writer
from redvtp.sequence import PADDING

# Similarities that differ by less are equal: rounding makes such differences.
RESOLUTION = 1e-5


def run_changed(
    decoder: LlamaModel, state: State, rows: Tensor, span: Span, gone: Tensor | int = 0
) -> tuple[Tensor, LongTensor, Work]:
    """Run all layers on a share of the response rows, and on the prompt where the span has it.

    To the rows that a layer leaves out it adds what it added when they were last computed.

    Args:
        rows: ``[B, R, D]`` embeddings of the whole response and suffix.
        gone: ``[L, B]`` columns that a head has let go of, mean over a layer's heads; 0 for none.

    Returns:
        Hidden states of all rows ``[B, R, D]`` and the rest as in redvtp.models.spans.run_span.
    """
    layout, store, samples = state.layout, state.cache, state.samples
    before = layout.prompt_length
    prompt = state.embeds if span.prompt else state.embeds[:, :0]
    count = math.floor(span.share * rows.shape[1])
    mask = key_mask(layout, state.size, rows.dtype)
    rotary = decoder.rotary_emb(rows, position_ids=state.positions)
    computed = []
    for number, layer in enumerate(decoder.layers):
        kept = store.layers[number] if samples is None else store.layers[number].of(samples)
        chosen = changed_rows(layer, rows, kept.values[:, before:], count)
        if span.prompt and number == len(decoder.layers) - 1:
            # Nobody reads the last layer's prompt rows, but for their keys and values.
            place = tuple(part[:, :before] for part in rotary)
            writer = Writer(store, layout, slice(0, before), place, samples)
            writer.update(*keys_and_values(layer, prompt), number)
            prompt = prompt[:, :0]
        first = torch.arange(prompt.shape[1], device=chosen.device).expand(len(rows), -1)
        columns = torch.cat([first, chosen + before], 1)
        attended, grown = kept.attended, kept.grown
        if columns.shape[1]:
            writer = Writer(store, layout, columns, tuple(gather_columns(part, columns) for part in rotary), samples)
            entered = torch.cat([prompt, gather_columns(rows, chosen)], 1)
            seen = head_mask(mask, layer, store, samples)
            parts = run_parts(layer, entered, attention_mask=seen, is_causal=False, **through(writer))
            first = prompt.shape[1]
            prompt = prompt + parts[0][:, :first] + parts[1][:, :first]
            target = chosen[..., None].expand(-1, -1, rows.shape[2])
            attended, grown = (
                old.scatter(1, target, new[:, first:]) for old, new in zip((attended, grown), parts, strict=True)
            )
            store.keep_parts(number, slice(0, rows.shape[1]), samples, attended, grown)
        rows = rows + attended + grown
        computed.append(columns.shape[1] - chosen.shape[1])
    return rows, *count_work(state, span, count, computed, rows.shape[1], gone)


def changed_rows(layer: LlamaDecoderLayer, rows: Tensor, old: Tensor, count: int) -> LongTensor:
    """``[B, count]`` rows of ``rows [B, R, D]`` whose values are least like the kept ones ``old [B, R, H_kv * d]``.

    Among rows that are equally alike, the first; the official code leaves that to the last bit of the similarity, so
    that a sample could get another answer in a batch than alone.
    """
    if not count:
        return torch.empty(len(rows), 0, dtype=torch.long, device=rows.device)
    values = layer.self_attn.v_proj(layer.input_layernorm(rows))
    similarity = torch.nn.functional.cosine_similarity(values.float(), old.float(), dim=-1)
    return torch.sort((similarity / RESOLUTION).round(), dim=1, stable=True).indices[:, :count]


def count_work(
    state: State, span: Span, count: int, prompt: list[int], rows: int, gone: Tensor | int
) -> tuple[LongTensor, Work]:
    """Columns that each layer ran on ``[L, B]``, and the work; ``prompt`` are the padded prompt's of each layer."""
    real = state.layout.host_kind != PADDING
    in_prompt = real[:, : state.layout.prompt_length].sum(1)
    ran = torch.stack([count + in_prompt * bool(columns) for columns in prompt])
    keys = count + in_prompt.expand(len(prompt), -1) * int(span.prompt)
    values = keys + (rows if count else 0)
    return keys, Work(ran, keys, values, ran * (real.sum(1) - gone))
