"""The official RedVTP procedure for LLaDA-V, written plainly: oracle of tests and baseline of speed.

Nothing of redvtp's attention, forward or denoising loop is used, only the stock layers of its host and its
data types. What the official code computes is computed, and nothing more: eager attention with whole maps
in step 1, SDPA with an all-zero mask after it, the output head and an fp64 softmax over every row of the
sequence in every step. Left out are its incidental costs (finding masked rows by comparing embeddings,
copies, prints), so that it is no straw man.

One case is undefined in the official code and settled here: rows whose confidence is -inf are never
committed (there, the order in which ``topk`` returns ties decides).

Source: official_code §3 (sampler) and §5.1, §5.2 (where RedVTP acts in it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import LongTensor, Tensor
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, apply_rotary_pos_emb

from redvtp.generation.settings import Settings
from redvtp.models.base import Host, State
from redvtp.sequence import VISUAL

NEVER = float("-inf")


@dataclass(frozen=True)
class Decoded:
    """What the procedure ends with.

    Attributes:
        ids: the response up to the stop, plus the suffix.
        canvas: ``[G]`` all response ids, masks included.
        kept: ascending indices of the visual tokens left, into the original ones.
        fed: the language model's input length in each step.
        importance: ``[n]`` score of each visual token, or None where nothing was pruned.
    """

    ids: list[int]
    canvas: LongTensor
    kept: LongTensor
    fed: tuple[int, ...]
    importance: Tensor | None


@torch.no_grad()
def decode(
    host: Host,
    state: State,
    settings: Settings,
    keep: float | None = None,
    stop_ids: Sequence[Sequence[int]] = (),
    suffix_ids: Sequence[int] = (),
    after_step: Callable[[], None] = lambda: None,
) -> Decoded:
    """Denoise one sample greedily.

    Args:
        host: with a stock ``decoder`` (LlamaModel) and ``model.lm_head``.
        state: of one sample whose visual tokens are one contiguous range.
        settings: length, steps and block_length are read.
        keep: share of the visual tokens to keep after step 1; None does not prune.
        after_step: called after each step and the cut behind it, for who takes the time.

    Raises:
        ValueError: a batch, scattered visual tokens, or settings outside the official RedVTP.
    """
    if settings.temperature or settings.cfg_scale or settings.remasking != "low_confidence":
        raise ValueError(f"{settings}: the reference is greedy, by low confidence and without guidance")
    first, count = visual_range(state)
    embed, g = host.decoder.embed_tokens, settings.length
    device = state.embeds.device
    prompt = state.embeds.shape[1]
    ids = torch.full((prompt + g + len(suffix_ids),), host.mask_id, device=device)
    ids[prompt + g :] = torch.tensor(list(suffix_ids), dtype=torch.long, device=device)
    hidden = torch.cat([state.embeds, embed(ids[None, prompt:])], 1)
    kept, importance = torch.arange(count), None
    stop, fed = None, []
    steps = settings.steps // (g // settings.block)

    for block in range(g // settings.block):
        start = block * settings.block
        end = start + settings.block
        base, rest = divmod(int((ids[prompt + start : prompt + end] == host.mask_id).sum()), steps)
        for index in range(steps):
            masked = ids == host.mask_id
            masked[:prompt] = masked[prompt + g :] = False
            if stop is not None and not bool(masked[prompt : prompt + stop].any()):
                break
            if not bool(masked[prompt + start : prompt + end].any()):
                break
            capture = keep is not None and block == 0 and index == 0
            logits, maps = forward(host, hidden, capture)
            fed.append(len(ids))
            logits[masked.nonzero(), list(host.banned_ids)] = NEVER
            x0 = logits.argmax(-1)
            confidence = torch.softmax(logits.double(), -1).gather(1, x0[:, None])[:, 0]
            del logits
            confidence[prompt + (end if stop is None else stop) :] = NEVER
            confidence[~masked] = NEVER
            best = confidence.topk(base + (index < rest))
            chosen = best.indices[best.values > NEVER]
            ids[chosen] = x0[chosen]
            hidden[0, chosen] = embed(x0[chosen])

            rows = (ids[prompt : prompt + g] == host.mask_id).nonzero()[:, 0] + prompt
            if capture and count and len(rows):
                importance = torch.stack(maps).mean(0)[0, rows, first : first + count].mean(0)
                kept = importance.topk(max(1, int(count * keep))).indices.sort().values
                stays = torch.cat(
                    [torch.arange(first), first + kept.cpu(), torch.arange(first + count, len(ids))]
                ).to(device)
                ids, hidden = ids[stays], hidden[:, stays]
                prompt -= count - len(kept)
            del maps
            stop = find_stop(ids[prompt : prompt + g].tolist(), stop_ids, stop)
            after_step()

    canvas = ids[prompt : prompt + g].clone()
    return Decoded(
        ids=canvas[:stop].tolist() + list(suffix_ids),
        canvas=canvas,
        kept=kept.cpu(),
        fed=tuple(fed),
        importance=importance,
    )


def visual_range(state: State) -> tuple[int, int]:
    """First column and number of the visual tokens; ValueError for a batch or where they are scattered."""
    kind = state.layout.kind
    if len(kind) != 1:
        raise ValueError(f"a batch of {len(kind)}: the reference takes one sample")
    columns = (kind[0] == VISUAL).nonzero()[:, 0].tolist()
    if not columns:
        return 0, 0
    if columns[-1] - columns[0] + 1 != len(columns):
        raise ValueError("the visual tokens are not one contiguous range, which the reference needs")
    return columns[0], len(columns)


def forward(host: Host, hidden: Tensor, capture: bool) -> tuple[Tensor, list[Tensor]]:
    """Logits ``[T, V]`` in fp32 of every row and, where ``capture``, each layer's map ``[1, T, T]``."""
    decoder, length = host.decoder, hidden.shape[1]
    rotary = decoder.rotary_emb(hidden, position_ids=torch.arange(length, device=hidden.device)[None])
    mask = hidden.new_zeros(1, 1, length, length)
    maps = []
    for layer in decoder.layers:
        hidden, weights = run_layer(layer, hidden, rotary, mask, capture)
        if capture:
            maps.append(weights)
    return host.model.lm_head(decoder.norm(hidden))[0].float(), maps


def run_layer(
    layer: LlamaDecoderLayer, hidden: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor, eager: bool
) -> tuple[Tensor, Tensor | None]:
    """One layer on ``hidden [1, T, D]``; where ``eager`` also its head-mean attention ``[1, T, T]``."""
    attention = layer.self_attn
    normed = layer.input_layernorm(hidden)
    heads = (*normed.shape[:2], -1, attention.head_dim)
    query = attention.q_proj(normed).view(heads).transpose(1, 2)
    key = attention.k_proj(normed).view(heads).transpose(1, 2)
    value = attention.v_proj(normed).view(heads).transpose(1, 2)
    query, key = apply_rotary_pos_emb(query, key, *rotary)
    if attention.num_key_value_groups > 1:
        key = key.repeat_interleave(attention.num_key_value_groups, 1)
        value = value.repeat_interleave(attention.num_key_value_groups, 1)
    mean = None
    if eager:
        scores = torch.matmul(query, key.transpose(2, 3)) * attention.scaling + mask
        weights = torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype)
        output, mean = torch.matmul(weights, value), weights.mean(1)
    else:
        output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=attention.scaling)
    hidden = hidden + attention.o_proj(output.transpose(1, 2).reshape(*normed.shape[:2], -1))
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden)), mean


def find_stop(response: list[int], patterns: Sequence[Sequence[int]], before: int | None) -> int | None:
    """Where the response ends: the earliest stop so far; once there is one, only the first pattern counts."""
    for pattern in patterns[: 1 if before is not None else None]:
        pattern = list(pattern)
        starts = range(len(response) - len(pattern) + 1) if pattern else ()
        found = next((i for i in starts if response[i : i + len(pattern)] == pattern), None)
        if found is not None:
            before = found if before is None else min(before, found)
    return before
