"""Exact match on held-out samples, by the protocol's own greedy low-confidence decoding.

The sampler follows LLaDA-V's `generate` (modeling_llada.py, section "baseline sampler"): one block,
greedy, `steps` equal quotas, confidence in float64, EOS, BOS and header tokens banned. Batched over
samples of one size, for speed; the shipped loop lives in `redvtp`.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from analysis.benchmarks import Sample, get
from analysis.training.batches import crops, normalise
from analysis.training.mini_model import visual_tokens
from analysis.training.tokenizer import BANNED, EOT, prompt_ids


@torch.no_grad()
def answer(model, tokenizer, samples: list[Sample], batch: int = 32, autocast: bool = False) -> list[str]:
    """The decoded answers of samples of any sizes, in order."""
    groups, answers = defaultdict(list), [""] * len(samples)
    for place, sample in enumerate(samples):
        groups[sample.image.size].append(place)
    kind = next(model.parameters()).device.type
    scope = torch.autocast(kind, torch.bfloat16) if autocast else contextlib.nullcontext()
    with scope, torch.compiler.set_stance("force_eager"):
        for size, places in groups.items():
            for start in range(0, len(places), batch):
                part = places[start:start + batch]
                for place, text in zip(part, _answer(model, tokenizer, [samples[p] for p in part], size)):
                    answers[place] = text
    return answers


def _answer(model, tokenizer, samples, size) -> list[str]:
    protocol = get(samples[0].family).protocol
    device = next(model.parameters()).device
    language = model.model.language_model
    pixels = normalise(np.stack([crops(np.asarray(sample.image)) for sample in samples])).to(device)
    visual = visual_tokens(model, pixels.to(language.embed_tokens.weight.dtype), size)[0]
    pieces = [prompt_ids(tokenizer, sample.question) for sample in samples]
    head = language.embed_tokens(torch.tensor([piece[0] for piece in pieces], device=device))
    asked = language.embed_tokens(torch.tensor([piece[1] for piece in pieces], device=device))
    prompt = torch.cat((head, visual.to(head.dtype), asked), 1)
    mask = tokenizer.mask_token_id
    ids = torch.full((len(samples), protocol.length), mask, device=device)
    banned = torch.tensor(tokenizer.convert_tokens_to_ids(list(BANNED)), device=device)
    positions = torch.arange(prompt.shape[1] + protocol.length, device=device)[None]
    quota = [protocol.length // protocol.steps + (i < protocol.length % protocol.steps) for i in range(protocol.steps)]
    for count in quota:
        hidden = language(inputs_embeds=torch.cat((prompt, language.embed_tokens(ids)), 1),
                          position_ids=positions).last_hidden_state
        scores = model.lm_head(hidden[:, -protocol.length:]).double()
        scores[..., banned] = -torch.inf
        sure, token = scores.softmax(-1).max(-1)
        chosen = sure.masked_fill(ids != mask, -torch.inf).topk(count, -1).indices
        ids.scatter_(1, chosen, token.gather(1, chosen))
    return [tokenizer.decode(row).split(EOT)[0] for row in ids]


def blank(samples: list[Sample]) -> list[Sample]:
    """The same questions over flat grey images: the control that must fall to chance."""
    return [replace(sample, image=Image.new("RGB", sample.image.size, (128, 128, 128))) for sample in samples]


def score(model, tokenizer, samples: list[Sample], autocast: bool = False) -> dict[str, float]:
    """{"n", "exact", "characters", "low", "high"}: exact match, share of characters in place, Wilson 95%."""
    given = answer(model, tokenizer, samples, autocast=autocast)
    right = sum(text == sample.answer for text, sample in zip(given, samples))
    same = sum(a == b for text, sample in zip(given, samples) for a, b in zip(text, sample.answer))
    low, high = wilson(right, len(samples))
    return {"n": len(samples), "exact": right / len(samples), "low": low, "high": high,
            "characters": same / sum(len(sample.answer) for sample in samples)}


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95% Wilson interval of a rate."""
    rate, spread = right / n, z * z / n
    centre = (rate + spread / 2) / (1 + spread)
    half = z * (rate * (1 - rate) / n + spread / (4 * n)) ** 0.5 / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)
