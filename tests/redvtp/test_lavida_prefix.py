"""LaViDa with its prefix-DLM cache: both ways to prune with it, its precision, drafts and schedules."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from redvtp import FastV, Model, PrefixDLM, Prompt, Recorder, RedVTP, Share, ToMe
from redvtp.attention import rotate
from redvtp.models.keyvalues import split_heads
from redvtp.sequence import VISUAL
from tests.redvtp.runs import assert_all_same, run
from tests.tiny import build_lavida, picture

FORMS = (PrefixDLM(), PrefixDLM(reencode=True))
PRUNERS = (RedVTP(keep=0.5), RedVTP(keep=0.3, step=2, positions="original"), FastV(keep=0.5), ToMe(keep=0.5))
STEPS = {"length": 8, "steps": None, "step_ratio": 0.5, "schedule": "shift"}


@pytest.fixture(scope="module")
def model():
    return Model(build_lavida())


@pytest.mark.parametrize("cache", FORMS, ids=repr)
@pytest.mark.parametrize("method", [None, *PRUNERS], ids=repr)
def test_a_batch_gives_what_each_sample_gives_alone(model, prompts, method, cache):
    alone = [run(model, [prompt], method, cache=cache, **STEPS)[0] for prompt in prompts]
    assert_all_same(run(model, prompts, method, cache=cache, **STEPS), alone)


@pytest.mark.parametrize("cache", FORMS, ids=repr)
@pytest.mark.parametrize("method", PRUNERS, ids=repr)
def test_keeping_everything_is_the_unpruned_run_bit_for_bit(model, prompts, method, cache):
    runs = []
    for prune in (None, replace(method, keep=Share(1.0))):
        recorder = Recorder(logits=True)
        runs.append((run(model, prompts[:2], prune, cache=cache, recorder=recorder, **STEPS), recorder))
    assert_all_same(runs[0][0], runs[1][0])
    for one, other in zip(runs[0][1].steps, runs[1][1].steps, strict=True):
        assert torch.equal(one.logits, other.logits)


def test_both_forms_keep_the_same_tokens_and_feed_what_they_say(model):
    prompt = Prompt("What is it?", [picture(100, 100)])
    dropped, encoded = (run(model, [prompt], RedVTP(keep=0.5), cache=cache, **STEPS)[0] for cache in FORMS)
    whole = run(model, [prompt], cache=PrefixDLM(), **STEPS)[0]
    assert dropped.kept.tolist() == encoded.kept.tolist()
    before, after = whole.layout.length, dropped.layout.length
    assert before - after == dropped.visual_tokens - len(dropped.kept)
    assert whole.tokens_fed == dropped.tokens_fed == before + 3 * 8
    assert encoded.tokens_fed == before + after + 2 * 8
    assert dropped.flops < whole.flops < encoded.flops


def test_the_prompt_does_not_see_the_response(model):
    """Its keys are the same whatever is drafted."""
    stored = []
    for draft in ("ab", "xy"):
        decoding = model.start([Prompt("Why?", [picture(40, 40)])], cache=PrefixDLM(), drafts=[draft], **STEPS)
        first = decoding.state.layout.prompt_length
        decoding.step()
        stored.append([layer.keys[:, :first] for layer in decoding.state.cache.layers.values()])
    assert len(stored[0]) == 3
    for one, other in zip(*stored, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize("cache", FORMS, ids=repr)
def test_cached_keys_are_unrotated_in_the_weights_type_and_turned_in_fp32(cache):
    host = build_lavida(dtype=torch.bfloat16)
    decoding = Model(host).start([Prompt("What?", [picture(100, 60)])], prune=RedVTP(keep=0.5), cache=cache, **STEPS)
    for _ in range(2):
        decoding.step()
    state = decoding.state
    assert int(state.layout.count(VISUAL)) == len(decoding.kept[0]) < int(state.original[0])
    assert torch.equal(state.positions[0], torch.arange(state.layout.length))
    rotary = host.decoder.rotary_emb(state.embeds, state.positions)
    assert rotary[0].dtype == torch.float32
    for layer in state.cache.layers.values():
        assert {layer.keys.dtype, layer.values.dtype, layer.turned.dtype} == {torch.bfloat16}
        turned = rotate(split_heads(layer.keys, 8), rotary)
        assert torch.equal(split_heads(layer.turned, 8), turned)
        assert not torch.equal(turned, rotate(split_heads(layer.keys, 8), tuple(part.bfloat16() for part in rotary)))


@pytest.mark.parametrize("cache", [None, *FORMS], ids=repr)
def test_steps_that_have_nothing_to_fill_are_skipped(model, prompts, cache):
    drafts = [text * 2 for text in ("abc", "a<|mdm_mask|>", "", "<|mdm_mask|>bc", "abcd")]
    results = model.generate_batch(prompts, drafts=drafts, cache=cache, length=8, step_per_block=2, block_length=4)
    steps = []
    for result in results:
        assert model.host.mask_id not in result.ids
        steps.append(result.steps)
    assert steps == [2, 4, 4, 4, 0]
