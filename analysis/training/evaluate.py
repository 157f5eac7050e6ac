"""Exact match on held-out samples, answered by redvtp's own loop under the family's protocol."""

from __future__ import annotations

import copy

import redvtp
from analysis import answers
from analysis.benchmarks import Sample
from redvtp.metrics import wilson_interval
from redvtp.models.llada_v import LladaV


def answer(model, tokenizer, samples: list[Sample], batch: int = 32) -> list[str]:
    """The answers to samples of any sizes, in order, by a copy of the model: training goes on with the original."""
    network = copy.deepcopy(model).float()
    network.set_attn_implementation("sdpa")  # training has its own
    host = redvtp.Model(LladaV(network, tokenizer, system_prompt=None))
    given = [""] * len(samples)
    places = sorted(range(len(samples)), key=lambda place: samples[place].image.size)
    for first in range(0, len(places), batch):
        part = places[first : first + batch]
        for place, result in zip(part, answers.start(host, [samples[p] for p in part]).run()):
            given[place] = host.answer(result).text
    return given


def score(model, tokenizer, samples: list[Sample]) -> dict[str, float]:
    """{"n", "exact", "characters", "low", "high"}: exact match, share of characters in place, Wilson 95%."""
    given = answer(model, tokenizer, samples)
    right = sum(text == sample.answer for text, sample in zip(given, samples))
    same = sum(a == b for text, sample in zip(given, samples) for a, b in zip(text, sample.answer))
    low, high = wilson_interval(right, len(samples))
    return {"n": len(samples), "exact": right / len(samples), "low": low, "high": high,
            "characters": same / sum(len(sample.answer) for sample in samples)}
