"""The plain official procedure and the denoising loop give the same tokens, kept sets and lengths."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import LlavaOnevisionForConditionalGeneration

from analysis import reference
from analysis.speed_case import Case, build, fill
from redvtp.generation import Decoding, Recorder, Settings
from redvtp.models.llada_v import LladaV, host_config
from redvtp.pruning import RedVTP

SMALL = Case(hidden=64, layers=3, heads=4, mlp=96, vocabulary=300, visual=40, prompt=10, response=16, steps=8)
OTHER = replace(SMALL, hidden=48, layers=2, heads=2, visual=23, prompt=7, seed=3)


@pytest.fixture(scope="module", params=[SMALL, OTHER], ids=["small", "other"])
def host_and_case(request):
    host, _ = build(request.param)
    return host, request.param


def begin(host, case, suffix=0, seed=0, length=None):
    embeds = torch.randn(1, case.prompt + case.visual, case.hidden, generator=torch.Generator().manual_seed(seed))
    return host.begin_from_embeddings(embeds, length or case.response, case.prompt // 2, case.visual, suffix)


def both(host, state, settings, keep, stop_ids=(), suffix_ids=()):
    record = Recorder()
    method = None if keep is None else RedVTP(keep=keep)
    ours = Decoding(
        host, state, settings, method, stop_ids=stop_ids, suffix_ids=suffix_ids, recorder=record
    ).run()[0]
    fed = tuple(int(step.fed[0]) for step in record.steps)
    return ours, fed, reference.decode(host, state, settings, keep, stop_ids, suffix_ids)


def assert_equal(ours, fed, plain):
    assert plain.ids == ours.ids
    assert plain.canvas.tolist() == ours.canvas.tolist()
    assert plain.kept.tolist() == ours.kept.tolist()
    assert plain.fed == fed


@pytest.mark.parametrize("keep", [None, 0.75, 0.5, 0.25, 0.01, 1.0])
@pytest.mark.parametrize("shape", [(16, 8, None), (16, 8, 8), (16, 8, 4), (12, 5, None), (16, 16, None), (4, 1, None)])
def test_same_tokens_and_kept_sets(host_and_case, shape, keep):
    host, case = host_and_case
    length, steps, block = shape
    settings = Settings(length=length, steps=steps, block_length=block)
    assert_equal(*both(host, begin(host, case, length=length), settings, keep))


@pytest.mark.parametrize("block", [None, 8])
@pytest.mark.parametrize("keep", [None, 0.5])
def test_same_with_stops_and_suffix(host_and_case, block, keep):
    host, case = host_and_case
    settings = Settings(length=16, steps=8, block_length=block)
    suffix = (5, 6, 7)
    state = begin(host, case, suffix=len(suffix), seed=1)
    free, *rest = both(host, state, settings, keep, (), suffix)
    assert_equal(free, *rest)
    assert free.ids[-3:] == list(suffix)
    ended = 0
    for place in (2, 7, 13):
        tokens = free.canvas.tolist()
        for stops in ([[tokens[place]]], [tokens[place : place + 2], [tokens[9]]], [[299, 298], [tokens[4]]]):
            ours, *rest = both(host, state, settings, keep, stops, suffix)
            assert_equal(ours, *rest)
            ended += len(ours.ids) < 16 + len(suffix)
    assert ended


def test_prunes_as_asked(host_and_case):
    host, case = host_and_case
    settings = Settings(length=16, steps=8)
    found = reference.decode(host, begin(host, case), settings, keep=0.5)
    total = case.prompt + case.visual + 16
    gone = case.visual - case.visual // 2
    assert found.fed == (total, *[total - gone] * 7)
    best = found.importance.topk(case.visual // 2).indices
    assert found.kept.tolist() == sorted(best.tolist())


def test_grouped_keys():
    model = LlavaOnevisionForConditionalGeneration(host_config({**SMALL.official, "num_key_value_heads": 2}))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "language_model" in name or "lm_head" in name:
                fill(name, weight, 2.0, generator)
    host = LladaV(model, mask_id=299, banned_ids=(298, 297))
    assert_equal(*both(host, begin(host, SMALL), SMALL.settings, 0.5))


def test_refuses_what_is_not_official(host_and_case):
    host, case = host_and_case
    state = begin(host, case)
    with pytest.raises(ValueError, match="greedy"):
        reference.decode(host, state, Settings(length=16, steps=8, temperature=0.5))
    scattered = begin(host, case)
    scattered.layout.kind[0, case.prompt // 2 + 3] = 1
    with pytest.raises(ValueError, match="contiguous"):
        reference.decode(host, scattered, Settings(length=16, steps=8), 0.5)


def test_no_visual_tokens(host_and_case):
    host, case = host_and_case
    state = host.begin_from_embeddings(torch.randn(1, 9, case.hidden), 8)
    settings = Settings(length=8, steps=4)
    assert reference.decode(host, state, settings, 0.5).ids == Decoding(host, state, settings).run()[0].ids
