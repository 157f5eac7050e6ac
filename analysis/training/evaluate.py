"""Exact match on held-out samples: redvtp's own loop under the family's protocol, or greedy `generate`."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable, Iterator

import numpy as np
import torch

import redvtp
from analysis import answers
from analysis.benchmarks import Sample, get
from analysis.training.batches import crops, normalise
from analysis.training.designs import DEFAULT, DESIGNS, Design
from analysis.training.mini_model import visual_tokens
from analysis.training.tokenizer import EOT, prompt_ids
from redvtp.metrics import wilson_interval


def hosted(model, tokenizer, design: Design = DESIGNS[DEFAULT]) -> redvtp.Model:
    """A copy of the model as redvtp runs it: the original trains on."""
    network = copy.deepcopy(model).float().eval()
    network.set_attn_implementation("sdpa")  # training has its own
    return redvtp.Model(design.host(network, tokenizer, system_prompt=None))


def answer(model, tokenizer, samples: list[Sample], design: Design = DESIGNS[DEFAULT], cached: bool = True,
           batch: int = 32) -> list[str]:
    """The answers to samples of any families and sizes, in order. cached: with the design's cache, if it has one."""
    if model.config.text_config.is_causal:
        network = copy.deepcopy(model).float().eval()
        network.set_attn_implementation("sdpa")
        return _next_tokens(network, tokenizer, samples, batch)
    host, cache = hosted(model, tokenizer, design), design.cache if cached else None
    given = [""] * len(samples)
    for places in _groups([(sample.family, sample.image.size) for sample in samples], batch):
        for place, result in zip(places, answers.start(host, [samples[p] for p in places], cache=cache).run()):
            given[place] = host.answer(result).text
    return given


@torch.no_grad()
def _next_tokens(network, tokenizer, samples: list[Sample], batch: int) -> list[str]:
    """Greedy answers of the autoregressive control by transformers' own `generate`."""
    prompts = [prompt_ids(tokenizer, sample.question) for sample in samples]
    alike = [(sample.family, sample.image.size, len(asked)) for sample, (_, asked) in zip(samples, prompts)]
    end, given = tokenizer.convert_tokens_to_ids(EOT), [""] * len(samples)
    embed, device = network.get_input_embeddings(), network.device
    for places in _groups(alike, batch):
        part = [samples[place] for place in places]
        pixels = normalise(np.stack([crops(np.asarray(sample.image)) for sample in part])).to(device)
        texts = ([prompts[place][side] for place in places] for side in (0, 1))
        before, after = (embed(torch.tensor(ids, device=device)) for ids in texts)
        visual = visual_tokens(network, pixels, part[0].image.size)[0]
        prompt = torch.cat((before, visual, after), 1)
        written = network.generate(
            inputs_embeds=prompt, attention_mask=torch.ones(prompt.shape[:2], dtype=torch.long, device=device),
            do_sample=False, max_new_tokens=get(part[0].family).protocol.length, eos_token_id=end, pad_token_id=end)
        for place, ids in zip(places, written):
            given[place] = tokenizer.decode(ids).split(EOT)[0]
    return given


def _groups(keys: Iterable[Hashable], most: int) -> Iterator[list[int]]:
    """Places of equal keys, at most `most` at a time."""
    groups: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    for places in groups.values():
        for first in range(0, len(places), most):
            yield places[first : first + most]


def score(model, tokenizer, samples: list[Sample], design: Design = DESIGNS[DEFAULT], cached: bool = True) -> dict:
    """{"n", "exact", "low", "high", "characters", "kinds"}: exact match with its Wilson interval (95%), share of
    characters in place, exact match by kind of question."""
    given = answer(model, tokenizer, samples, design, cached)
    hits = [text == sample.answer for text, sample in zip(given, samples)]
    same = sum(a == b for text, sample in zip(given, samples) for a, b in zip(text, sample.answer))
    low, high = wilson_interval(sum(hits), len(samples))
    kinds: dict[str, list[bool]] = {}
    for hit, sample in zip(hits, samples):
        kinds.setdefault(sample.kind, []).append(hit)
    return {"n": len(samples), "exact": sum(hits) / len(samples), "low": low, "high": high,
            "characters": same / sum(len(sample.answer) for sample in samples),
            "kinds": {kind: sum(part) / len(part) for kind, part in sorted(kinds.items())}}
