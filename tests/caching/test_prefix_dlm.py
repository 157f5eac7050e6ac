"""The prefix-DLM cache against one forward in which the prompt cannot see the response."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaModel

from redvtp import Decoding, PrefixDLM, Random, Recorder, RedVTP, Settings, ToMe
from redvtp.models.base import Output
from redvtp.sequence import VISUAL
from tests.redvtp.runs import assert_all_same, assert_same, run
from tests.tiny import build_host

STEPS = {"length": 8, "steps": 4}
REENCODED = (
    RedVTP(keep=0.4),
    RedVTP(keep=0.4, rows="prompt+masked", step=2),
    Random(keep=0.5, step=0),
    ToMe(keep=0.5),
)


@pytest.fixture(scope="module")
def exact():
    """A tiny host in double precision: its attention is peaky, and two ways to round differ by 3e-5 in its logits."""
    host = build_host(kv_heads=2)
    host.model.double()
    return host


class MaskedHost:
    """The host without a cache: every step is a stock forward over everything, under a mask that keeps the prompt's
    rows from seeing the response."""

    def __init__(self, host):
        self.host = host

    def __getattr__(self, name):
        return getattr(self.host, name)

    @torch.no_grad()
    def forward(self, state, canvas, logit_rows, probe=None, at_layer=None):
        assert not at_layer
        decoder, layout = self.host.decoder, state.layout
        hidden = state.with_rows(decoder.embed_tokens(canvas))
        before = torch.arange(layout.length) < layout.prompt_length
        allowed = layout.real[:, None] & ~(before[:, None] & ~before[None])
        mask = torch.zeros(allowed.shape).masked_fill(~allowed, float("-inf"))[:, None]
        if state.size is not None:
            mask = mask + state.size.log()[:, None, None]
        mask = mask.masked_fill(~allowed.any(2)[:, None, :, None], 0.0).to(hidden.dtype)
        out = LlamaModel.forward(
            decoder, inputs_embeds=hidden, attention_mask=mask, position_ids=state.positions, probe=probe
        ).last_hidden_state
        rows = out[:, layout.prompt_length :][logit_rows]
        return Output(self.host.model.lm_head(rows).float(), layout.real.sum(1).expand(self.host.layers, -1))


def both(host, prompts, cache, prune=None, **settings):
    """Logits of every step with the cache and by the reference, and the two results."""
    found = []
    for runner, chosen in ((host, cache), (MaskedHost(host), None)):
        recorder = Recorder(logits=True)
        state = host.begin(prompts, settings["length"])
        decoding = Decoding(runner, state, Settings(**settings), prune, cache=chosen, recorder=recorder)
        found.append((decoding.run(), [step.logits for step in recorder.steps]))
    return found


@pytest.mark.parametrize("block_length", [8, 4])
def test_every_step_equals_the_forward_in_which_the_prompt_cannot_see_the_response(exact, prompts, block_length):
    (ours, logits), (theirs, expected) = both(exact, prompts, PrefixDLM(), **STEPS, block_length=block_length)
    assert len(logits) == len(expected) == 4
    for one, other in zip(logits, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    assert [result.ids for result in ours] == [result.ids for result in theirs]


@pytest.mark.parametrize("positions", ["compact", "original"])
@pytest.mark.parametrize("method", REENCODED, ids=repr)
def test_a_pruned_prompt_that_is_encoded_again_equals_it_too(exact, prompts, method, positions):
    method = replace(method, positions=positions)
    (ours, logits), (theirs, expected) = both(exact, prompts, PrefixDLM(reencode=True), method, **STEPS)
    for one, other in zip(logits, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    for one, other in zip(ours, theirs, strict=True):
        assert one.kept.tolist() == other.kept.tolist()
        assert one.ids == other.ids


@torch.no_grad()
def test_dropped_columns_leave_a_prompt_that_has_seen_them(model, prompts):
    """After the cut the response sees the kept columns' keys and values of the whole prompt, re-numbered."""
    method, host = RedVTP(keep=0.4), model.host
    recorder = Recorder(logits=True)
    decoding = model.start(prompts[:1], prune=method, cache=PrefixDLM(), recorder=recorder, **STEPS)
    whole = decoding.state
    decoding.step()
    kept = decoding.kept[0]
    short = decoding.state
    columns = whole.layout.keep_visual(whole.layout.columns_of(VISUAL), kept[None])[0]
    decoding.step()

    hidden = whole.with_rows(host.decoder.embed_tokens(torch.full_like(decoding.canvas, host.mask_id)))
    prompt = hidden[:, : whole.layout.prompt_length]
    place = whole.positions[:, : prompt.shape[1]]
    states = LlamaModel.forward(
        host.decoder, inputs_embeds=prompt, position_ids=place, output_hidden_states=True
    ).hidden_states
    before = columns[columns < whole.layout.prompt_length]
    assert torch.equal(short.positions[0], torch.arange(len(columns)))
    for number, layer in enumerate(host.decoder.layers):
        store = short.cache.layers[number]
        normed = layer.input_layernorm(states[number])[:, before]
        rows = slice(0, len(before))
        torch.testing.assert_close(store.keys[:, rows], layer.self_attn.k_proj(normed), atol=1e-5, rtol=0)
        torch.testing.assert_close(store.values[:, rows], layer.self_attn.v_proj(normed), atol=1e-5, rtol=0)


def test_later_steps_compute_the_response_alone(model, prompts):
    cached, plain = (run(model, prompts[:1], cache=cache, **STEPS)[0] for cache in (PrefixDLM(), None))
    length = int(plain.layout.real.sum())
    assert plain.tokens_fed == 4 * length
    assert cached.tokens_fed == length + 3 * 8


@pytest.mark.parametrize("cache", [PrefixDLM(), PrefixDLM(reencode=True)], ids=repr)
@pytest.mark.parametrize("method", [None, RedVTP(keep=0.5), RedVTP(keep=0.3, step=2)], ids=repr)
def test_a_batch_gives_what_each_sample_gives_alone(model, prompts, method, cache):
    batch = run(model, prompts, method, cache=cache, **STEPS)
    assert_all_same(batch, [run(model, [prompt], method, cache=cache, **STEPS)[0] for prompt in prompts])


def test_a_fork_shares_nothing_with_the_run_it_came_from(model, prompts):
    method = RedVTP(keep=0.4)
    watch = method.needs(method.cuts(4, 3)[0])
    decoding = model.start(prompts[:2], cache=PrefixDLM(), watch=watch, **STEPS)
    decoding.step()
    forks = [decoding.fork(RedVTP(keep=0.4)), decoding.fork(None)]
    alone = [run(model, prompts[:2], prune, cache=PrefixDLM(), **STEPS) for prune in (method, None)]
    for fork, expected in zip(forks, alone, strict=True):
        assert_all_same(fork.run(), expected)
    for one, other in zip(decoding.run(), alone[1], strict=True):
        assert_same(one, other)
