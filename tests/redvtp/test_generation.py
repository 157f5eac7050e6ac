"""The denoising loop: a batch gives what each sample gives alone; nothing pruned is nothing changed."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace

import pytest
import torch

from redvtp import Count, Decoding, Needs, Prompt, Recorder, RedVTP, Settings, Share, ToMe
from redvtp.sequence import VISUAL
from tests.redvtp.runs import METHODS, assert_all_same, assert_same, run
from tests.tiny import picture

SETTINGS = (
    {},
    {"length": 8, "steps": 8, "block_length": 4},
    {"temperature": 0.8, "remasking": "random"},
    {"remasking": "margin", "cfg_scale": 0.6, "suffix": "the end"},
    {"remasking": "entropy", "temperature": 0.5, "length": 8, "steps": 3},
)


def alone(model, prompts, prune=None, seeds=None, **settings):
    """Each prompt run by itself."""
    seeds = seeds or [0] * len(prompts)
    return [
        run(model, [prompt], prune, seeds=[seed], **settings)[0] for prompt, seed in zip(prompts, seeds, strict=True)
    ]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_batch_gives_what_each_sample_gives_alone(model, prompts, method):
    batch = run(model, prompts, method)
    assert_all_same(batch, alone(model, prompts, method))
    assert batch[1].kept.tolist() == []


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_batch_equals_singles_under_every_setting(model, prompts, settings):
    seeds = [3, 1, 4, 1, 5]
    for method in (None, RedVTP(keep=0.5)):
        batch = run(model, prompts, method, seeds=seeds, **settings)
        assert_all_same(batch, alone(model, prompts, method, seeds, **settings))


def test_samples_that_stop_early_change_nothing_for_the_others(model, prompts):
    settings = {"length": 12, "steps": 12, "block_length": 2}
    plain = run(model, prompts, **settings)
    answers = Counter(token for result in plain for token in set(result.canvas.tolist()))
    stop = tuple(model.host.tokenizer.decode([token]) for token, count in answers.most_common() if count == 2)[:3]
    for method in (None, RedVTP(keep=0.4), RedVTP(keep=0.4, step=3)):
        batch = run(model, prompts, method, stop=stop, **settings)
        assert_all_same(batch, alone(model, prompts, method, stop=stop, **settings))
        assert len({result.steps for result in batch}) > 1
        assert min(len(result.ids) for result in batch) < 12


def test_order_in_the_batch_does_not_matter(model, prompts):
    method = RedVTP(keep=0.5)
    forward = run(model, prompts, method)
    assert_all_same(run(model, prompts[::-1], method)[::-1], forward)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_keeping_everything_is_the_unpruned_run_bit_for_bit(model, prompts, method):
    runs = []
    for prune in (None, replace(method, keep=Share(1.0))):
        recorder = Recorder(logits=True)
        runs.append((run(model, prompts[:2], prune, recorder=recorder), recorder))
    assert_all_same(runs[0][0], runs[1][0])
    for one, other in zip(runs[0][1].steps, runs[1][1].steps, strict=True):
        assert torch.equal(one.logits, other.logits)
        assert torch.equal(one.confidence, other.confidence)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_cut_that_keeps_every_token_gives_the_same_answer(model, prompts, method):
    plain = run(model, prompts[:1])[0]
    if getattr(method, "images", None):
        method = replace(method, images=None)
    recorder = Recorder()
    cut = run(model, prompts[:1], replace(method, keep=Count(len(plain.kept))), recorder=recorder)[0]
    assert recorder.cuts
    assert cut.canvas.tolist() == plain.canvas.tolist()
    assert cut.kept.tolist() == plain.kept.tolist()
    assert cut.flops == plain.flops


def test_a_sample_that_is_done_at_the_cut_is_not_cut(model, prompts):
    """One sample predicts the mask once, so that it alone has something left after step 2."""

    class Stubborn:
        def __init__(self, host, visual):
            self.host, self.visual = host, visual

        def __getattr__(self, name):
            return getattr(self.host, name)

        def forward(self, state, canvas, rows, probe=None, at_layer=None):
            output = self.host.forward(state, canvas, rows, probe, at_layer)
            owner = torch.arange(len(canvas))[:, None].expand_as(rows)[rows]
            fresh = (rows.sum(1) == rows.shape[1]) & (state.original == self.visual)
            output.logits[fresh[owner], self.mask_id] = 1e4
            return output

    settings = Settings(length=2, steps=3)
    pair = [prompts[0], prompts[2]]
    counts = model.host.begin(pair, 2).original.tolist()
    host = Stubborn(model.host, counts[1])
    for method in (RedVTP(keep=0.5, step=2), ToMe(keep=0.5, step=2)):
        batch = Decoding(host, host.begin(pair, 2), settings, method).run()
        single = [Decoding(host, host.begin([one], 2), settings, method).run()[0] for one in pair]
        assert_all_same(batch, single)
        assert [result.steps for result in batch] == [2, 3]
        assert [len(result.kept) for result in batch] == [counts[0], counts[1] // 2]


def test_pruning_shortens_the_steps_after_the_cut_and_counts_them(model, prompts):
    plain, pruned = (run(model, prompts[:1], method)[0] for method in (None, RedVTP(keep=0.5)))
    n = len(plain.kept)
    assert len(pruned.kept) == n // 2
    assert plain.tokens_fed - pruned.tokens_fed == 2 * (n - n // 2)
    assert pruned.flops < plain.flops
    assert pruned.layout.count(VISUAL).tolist() == [n // 2]
    assert bool((pruned.kept.diff() > 0).all())


def test_kept_tokens_show_the_same_pixels_as_before(model, prompts):
    state = model.host.begin(prompts[:1], 4)
    before = state.layout.box[0, state.layout.columns_of(VISUAL)[0]]
    result = run(model, prompts[:1], RedVTP(keep=0.3), length=4, steps=2)[0]
    after = result.layout.box[0, result.layout.columns_of(VISUAL)[0]]
    torch.testing.assert_close(after, before[result.kept], equal_nan=True)


def test_banned_tokens_never_appear_and_every_mask_is_filled(model, prompts):
    for seed in range(3):
        for result in run(model, prompts, temperature=3.0, seed=seed, length=16, steps=2):
            tokens = set(result.canvas.tolist())
            assert not tokens & set(model.host.banned_ids)


def test_the_seed_decides_and_other_samples_do_not(model, prompts):
    drawn = [run(model, prompts[:1], temperature=2.0, seed=seed)[0].ids for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_committed_tokens_stay(model, prompts):
    recorder = Recorder()
    run(model, prompts, RedVTP(keep=0.5), recorder=recorder, length=8, steps=4)
    for before, after in zip(recorder.steps, recorder.steps[1:], strict=False):
        committed = ~before.undecided
        assert torch.equal(before.tokens[committed], after.tokens[committed])
    assert [int(step.transferred[0].sum()) for step in recorder.steps] == [2] * 4


def test_the_suffix_is_seen_and_returned(model, prompts):
    plain, with_suffix = (run(model, prompts[:1], suffix=text)[0] for text in ("", "done."))
    assert with_suffix.ids[-5:] == model.encode("done.")
    assert with_suffix.tokens_fed == plain.tokens_fed + 5 * 3


def test_guidance_of_zero_is_none_and_both_branches_keep_the_same(model, prompts):
    method = RedVTP(keep=0.4)
    assert_same(run(model, prompts[:1], method)[0], run(model, prompts[:1], method, cfg_scale=0.0)[0])
    decoding = model.start(prompts[:3], prune=method, cfg_scale=0.7, length=6, steps=3)
    decoding.step()
    assert torch.equal(decoding.guide.layout.kind, decoding.state.layout.kind)
    assert torch.equal(decoding.guide.positions, decoding.state.positions)
    guided = decoding.run()[0]
    single = run(model, prompts[:1], method)[0]
    assert guided.flops == 2 * single.flops


def test_nothing_stays_changed_on_the_model(model, prompts):
    inner = model.host.model
    weights = copy.deepcopy(inner.state_dict())
    run(model, prompts[:1])  # transformers sets up its output capture in the first call

    def settings():
        return {
            name: (len(module._forward_hooks), len(module._forward_pre_hooks), module.training,
                   getattr(getattr(module, "config", None), "_attn_implementation", None))
            for name, module in inner.named_modules()
        }  # fmt: skip

    before = settings()
    for method in METHODS:
        run(model, prompts[:1], method)
    assert all(torch.equal(value, weights[name]) for name, value in inner.state_dict().items())
    assert settings() == before


def test_a_recorder_changes_nothing_and_sees_every_step(model, prompts):
    recorder = Recorder(attention=True, per_layer=True, logits=True)
    method = RedVTP(keep=0.5)
    assert_all_same(run(model, prompts, method, recorder=recorder), run(model, prompts, method))
    assert [step.step for step in recorder.steps] == [1, 2, 3]
    for step in recorder.steps:
        assert set(step.by_layer) == {1, 2, 3}
        torch.testing.assert_close(step.attention, sum(step.by_layer.values()) / 3)
    assert [record.cut.step for record in recorder.cuts] == [1]


def test_watching_changes_nothing(model, prompts):
    watch = Needs(attention=frozenset({"response", "prompt"}), layers=(1, 2, 3))
    watched = model.start(prompts, watch=watch, length=6, steps=3).run()
    assert_all_same(watched, run(model, prompts))


def test_text_alone_works_with_every_method(model):
    prompts = [Prompt("One?"), Prompt("Two, and longer?")]
    plain = run(model, prompts)
    for method in METHODS:
        assert_all_same(run(model, prompts, method), plain)


def test_a_count_leaves_text_only_samples_alone(model, prompts):
    for method in (RedVTP(keep=Count(3)), ToMe(keep=Count(3))):
        results = run(model, prompts[:2], method)
        assert [len(result.kept) for result in results] == [3, 0]


def test_the_image_matters(model):
    answers = {tuple(run(model, [Prompt("What?", [picture(64, 64, seed)])])[0].ids) for seed in range(4)}
    assert len(answers) > 1
