"""A trunk and a fork give what the method gives from the start, and the trunk does not notice."""

from __future__ import annotations

import pytest

from redvtp import FastV, LladaFastV, Needs, Oracle, Random, Recorder, RedVTP, Shuffled, ToMe, Uniform
from tests.redvtp.runs import assert_all_same, evidence, run

WATCH = Needs(attention=frozenset({"response", "prompt"}), layers=(1, 2, 3))
AFTER_STEP_1 = (
    *(RedVTP(keep=0.4, rows=rows) for rows in ("masked", "committed", "prompt", "prompt+masked", "prompt+response")),
    RedVTP(keep=0.4, layers=(1,)),
    RedVTP(keep=0.4, layers=(2, 3), positions="original"),
    RedVTP(keep=1.0),
    Random(keep=0.5),
    Uniform(keep=0.5),
    Oracle(keep=0.5),
    Shuffled(keep=0.5),
    ToMe(keep=0.5),
)


def trunk_of(model, prompts, taken: int, /, **settings):
    """A run without a method, some steps in."""
    chosen = {"length": 6, "steps": 3, **settings}
    trunk = model.start(prompts, watch=WATCH, extras=evidence(prompts), **chosen)
    for _ in range(taken):
        trunk.step()
    return trunk, chosen


@pytest.mark.parametrize("method", AFTER_STEP_1, ids=repr)
def test_fork_after_step_1(model, prompts, method):
    trunk, settings = trunk_of(model, prompts, 1)
    assert_all_same(trunk.fork(method).run(), run(model, prompts, method, **settings))


def test_one_trunk_serves_many_forks_and_stays_as_it_was(model, prompts):
    trunk, settings = trunk_of(model, prompts, 1, temperature=0.7, remasking="random")
    for method in AFTER_STEP_1[:4] + AFTER_STEP_1[-4:]:
        assert_all_same(trunk.fork(method).run(), run(model, prompts, method, **settings))
    assert_all_same(trunk.fork(None).run(), run(model, prompts, **settings))
    assert_all_same(trunk.run(), run(model, prompts, **settings))


@pytest.mark.parametrize("step", [0, 1, 2])
def test_forks_at_other_steps(model, prompts, step):
    trunk, settings = trunk_of(model, prompts, step)
    methods = [Random(keep=0.5, step=step), ToMe(keep=0.5, step=step)]
    methods += [RedVTP(keep=0.5, step=step)] if step else []
    for method in methods:
        assert_all_same(trunk.fork(method).run(), run(model, prompts, method, **settings))


@pytest.mark.parametrize("method", [FastV(keep=0.5), LladaFastV(keep=0.5)], ids=repr)
def test_methods_that_cut_inside_step_1_fork_before_it(model, prompts, method):
    trunk, settings = trunk_of(model, prompts, 0)
    assert_all_same(trunk.fork(method).run(), run(model, prompts, method, **settings))
    trunk.step()
    with pytest.raises(ValueError, match="1 steps were already taken"):
        trunk.fork(method)


def test_samples_that_end_with_the_step_of_the_cut(model, prompts):
    """With blocks of two, step 1 fills the first block; a stop found there ends the sample at once."""
    shape = {"length": 6, "steps": 3, "block_length": 2}
    first = run(model, prompts, **shape)[0].canvas[0]
    shape["stop"] = (model.host.tokenizer.decode([first]),)
    plain = run(model, prompts, **shape)
    assert plain[0].steps == 1
    assert max(result.steps for result in plain) == 3
    trunk, settings = trunk_of(model, prompts, 1, **shape)
    for method in (RedVTP(keep=0.4), Random(keep=0.5), ToMe(keep=0.5)):
        assert_all_same(trunk.fork(method).run(), run(model, prompts, method, **settings))
    assert_all_same(trunk.run(), plain)


def test_a_fork_with_guidance(model, prompts):
    trunk, settings = trunk_of(model, prompts[:2], 1, cfg_scale=0.5)
    method = RedVTP(keep=0.4)
    assert_all_same(trunk.fork(method).run(), run(model, prompts[:2], method, **settings))


def test_a_fork_has_its_own_history(model, prompts):
    trunk, _ = trunk_of(model, prompts[:1], 1)
    recorder = Recorder()
    trunk.fork(RedVTP(keep=0.5), recorder).run()
    assert [record.cut.step for record in recorder.cuts] == [1]
    assert [step.step for step in recorder.steps] == [2, 3]


def test_a_fork_needs_what_was_watched(model, prompts):
    blind = model.start(prompts[:1], length=6, steps=3)
    blind.step()
    with pytest.raises(ValueError, match="not watched"):
        blind.fork(RedVTP(keep=0.5))


def test_only_runs_without_a_method_fork(model, prompts):
    pruned = model.start(prompts[:1], prune=RedVTP(keep=0.5), length=6, steps=3)
    with pytest.raises(ValueError, match="without a method"):
        pruned.fork(Random(keep=0.5))
