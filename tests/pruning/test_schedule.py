"""Schedules: where the cuts come, that they are what the run does, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from redvtp import (
    VTW,
    Count,
    Cut,
    DivPrune,
    FastV,
    LladaFastV,
    Mass,
    Model,
    PyramidDrop,
    Random,
    Recorder,
    RedVTP,
    Scheduled,
    Share,
    SparseVLM,
    ToMe,
    TrimProjector,
)
from redvtp.flops import LanguageFormula
from redvtp.plans import Task, forwards, planned, stages
from redvtp.sequence import PROMPT
from tests import tiny
from tests.pruning.matrix import Watched
from tests.redvtp.runs import assert_same, run

STEPS, LENGTH, LAYERS = 4, 8, 3
SHAPE = {"length": LENGTH, "steps": STEPS, "stop": ()}

SCHEDULES = (
    Scheduled(DivPrune(keep=0.4), steps=(0,)),
    Scheduled(DivPrune(keep=0.4), start=0.5),
    Scheduled(DivPrune(keep=0.25), steps=(0, 2)),
    Scheduled(RedVTP(keep=0.25), steps=(1, 2, 3)),
    Scheduled(RedVTP(keep=0.25), steps=(1, 3), shares=(0.9, 0.25)),
    Scheduled(RedVTP(keep=0.4), start=0.0),
    Scheduled(RedVTP(keep=0.4), layer=2),
    Scheduled(RedVTP(keep=0.4, rows="prompt+masked"), layer=1, lasting=False),
    Scheduled(RedVTP(keep=0.25), layer=1, steps=(1, 3)),
    Scheduled(ToMe(keep=0.4), start=0.5),
    Scheduled(ToMe(keep=0.3), steps=(1, 2)),
    Scheduled(ToMe(keep=0.4), layer=1, until=3),
    Scheduled(TrimProjector(keep=0.4), start=0.25),
    Scheduled(TrimProjector(keep=0.4), layer=1, steps=(2,)),
    Scheduled(Random(keep=0.4), layer=1, until=3, steps=(2, 4)),
    Scheduled(LladaFastV(keep=0.4), start=0.5),
    Scheduled(FastV(keep=0.4), start=0.5),
    Scheduled(FastV(keep=0.4, layer=1), until=3),
    Scheduled(FastV(keep=0.4), lasting=True, steps=(2,)),
    Scheduled(VTW(keep=0.4), start=0.75),
    Scheduled(VTW(keep=0.4), until=3),
    Scheduled(VTW(keep=0.4), start=0.5, lasting=True),
    Scheduled(FastV(keep=0.4), start=0.0, lasting=True),
    Scheduled(SparseVLM(keep=0.5, layer=1), start=0.5),
    Scheduled(PyramidDrop(keep=0.4), start=0.5),
    Scheduled(PyramidDrop(keep=0.4), until=3, steps=(1, 2)),
    Scheduled(SparseVLM(keep=0.5), start=0.25),
)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_the_planned_cost_is_the_counted_cost(model, prompts, schedule):
    for prompt in (prompts[0], prompts[3]):
        result = run(model, [prompt], schedule, **SHAPE)[0]
        task = Task(result.visual_tokens, result.layout.count(PROMPT).item(), LENGTH, STEPS)
        made = forwards(task, planned(schedule, STEPS, LAYERS), LAYERS)
        cost = stages(LanguageFormula(model.host.config.text_config), task, made)
        assert cost.total - cost.scoring == result.flops
        assert sum(sum(one.lengths) for one in made) / LAYERS == pytest.approx(result.tokens_fed)
        assert result.flops < run(model, [prompt], **SHAPE)[0].flops


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_batch_gives_what_each_sample_gives_alone(model, prompts, schedule):
    for together, prompt in zip(run(model, prompts, schedule, **SHAPE), prompts, strict=True):
        assert_same(together, run(model, [prompt], schedule, **SHAPE)[0])


@pytest.mark.parametrize(
    ("schedule", "same"),
    [
        (Scheduled(RedVTP(keep=0.4)), RedVTP(keep=0.4)),
        (Scheduled(RedVTP(keep=0.4), steps=(2,)), RedVTP(keep=0.4, step=2)),
        (Scheduled(DivPrune(keep=0.4), start=0.5), DivPrune(keep=0.4, step=2)),
        (Scheduled(DivPrune(keep=0.4, step=1), start=0), DivPrune(keep=0.4)),
        (Scheduled(RedVTP(keep=0.4), layer=2), LladaFastV(keep=0.4, layer=2)),
        (Scheduled(RedVTP(keep=0.4), layer=2, lasting=False), FastV(keep=0.4)),
        (Scheduled(FastV(keep=0.4)), FastV(keep=0.4)),
        (Scheduled(FastV(keep=0.4), start=0), FastV(keep=0.4)),
        (Scheduled(FastV(keep=0.4), lasting=True, steps=(1,)), LladaFastV(keep=0.4, layer=2)),
        (Scheduled(PyramidDrop(keep=0.4), steps=(1, 2, 3, 4)), PyramidDrop(keep=0.4)),
    ],
    ids=str,
)
def test_a_schedule_is_the_method_that_cuts_there(model, prompts, schedule, same):
    for one, other in zip(run(model, prompts, schedule, **SHAPE), run(model, prompts, same, **SHAPE), strict=True):
        assert_same(one, other)


def test_steps_follow_from_the_share_of_the_steps():
    late = Scheduled(DivPrune(keep=0.25), start=0.25)
    assert [late.cuts(steps, 4)[0].step for steps in (2, 4, 8, 10, 16)] == [0, 1, 2, 2, 4]
    masked = Scheduled(RedVTP(keep=0.25), start=0.25)
    assert [masked.cuts(steps, 4)[0].step for steps in (2, 4, 16)] == [1, 1, 4]
    assert [cut.step for cut in Scheduled(FastV(keep=0.25), start=0.5).cuts(8, 4)] == [5, 6, 7, 8]
    assert Scheduled(LladaFastV(keep=0.25), start=0.5).cuts(8, 4) == (Cut(step=5, layer=2),)
    assert masked.cuts(1, 4) == ()


def test_several_cuts_fall_to_the_budget_by_one_factor(model, prompts):
    schedule = Scheduled(RedVTP(keep=0.125), steps=(1, 2, 3))
    shares = [cut.keep.ratio for cut in schedule.cuts(STEPS, LAYERS)]
    assert shares == pytest.approx([0.5, 0.25, 0.125])
    recorder = Recorder()
    result = run(model, prompts[:1], schedule, recorder=recorder, **SHAPE)[0]
    n = result.visual_tokens
    assert [(record.selection.keep >= 0).sum().item() for record in recorder.cuts] == [n // 2, n // 4, n // 8]


def test_each_cut_is_scored_anew(model, prompts):
    once = run(model, prompts[:1], RedVTP(keep=0.3), **SHAPE)[0].kept.tolist()
    staged = run(model, prompts[:1], Scheduled(RedVTP(keep=0.3), steps=(1, 3), shares=(0.9, 0.3)), **SHAPE)[0]
    assert len(staged.kept) == len(once)
    assert staged.kept.tolist() != once


def test_skipping_layers_leaves_all_tokens_in_the_others(model, prompts):
    watched = Watched(model.host)
    skip = Scheduled(Random(keep=0.5), layer=1, until=3, steps=(2,))
    result = run(Model(watched), prompts[:1], skip, **SHAPE)[0]
    lengths, n = [each[:, 0].tolist() for each in watched.lengths], result.visual_tokens
    full = lengths[0][0]
    assert lengths == [[full] * 3, [full, full - n + n // 2, full], [full] * 3, [full] * 3]
    assert len(result.kept) == n


def test_keeping_everything_is_the_unpruned_run(model, prompts):
    plain = run(model, prompts[:2], **SHAPE)
    for method in (RedVTP(keep=1.0), FastV(keep=1.0), VTW(keep=1.0), PyramidDrop(keep=1.0), DivPrune(keep=1.0)):
        for result, other in zip(run(model, prompts[:2], Scheduled(method, start=0.5), **SHAPE), plain, strict=True):
            assert_same(result, other)


@dataclass(frozen=True)
class Nested(Random):
    """A cut inside a skip: what it drops comes back before, or with, the rest."""

    name: ClassVar[str] = "nested"

    inner: int = 4

    def cuts(self, steps, layers):
        outer = Cut(step=1, layer=1, until=5, lasting=False, keep=Share(0.6))
        return (outer, Cut(step=1, layer=2, until=self.inner, lasting=False, keep=Share(0.2)))


@pytest.mark.parametrize("inner", [4, 5])
def test_tokens_dropped_in_turn_rejoin_in_turn(monkeypatch, prompts, inner):
    monkeypatch.setitem(tiny.SHAPE, "num_hidden_layers", 5)
    host = Model(tiny.build_host())
    for prompt in prompts[:3]:
        watched = Watched(host.host)
        result = run(Model(watched), [prompt], Nested(inner=inner), **SHAPE)[0]
        task = Task(result.visual_tokens, result.layout.count(PROMPT).item(), LENGTH, STEPS)
        made = forwards(task, planned(Nested(inner=inner), STEPS, 5), 5)
        assert [tuple(lengths[:, 0].tolist()) for lengths in watched.lengths] == [one.lengths for one in made]
    monkeypatch.setitem(tiny.SHAPE, "num_hidden_layers", 6)
    host = Model(tiny.build_host())
    with pytest.raises(ValueError, match="those dropped after layer 2 must rejoin by then; until=6"):
        run(host, prompts[:1], Nested(inner=6), **SHAPE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scheduled(RedVTP), "expected a method with its parameters"),
        (lambda: Scheduled(RedVTP(), steps=(1,), start=0.5), "expected one of them"),
        (lambda: Scheduled(RedVTP(), steps=(2, 1)), r"steps=\(2, 1\): expected a tuple of rising"),
        (lambda: Scheduled(RedVTP(), steps=1), "steps=1: expected a tuple"),
        (lambda: Scheduled(RedVTP(), steps=()), "expected a tuple of rising"),
        (lambda: Scheduled(RedVTP(), start=1.0), r"start=1.0: expected a share of the steps in \[0, 1\)"),
        (lambda: Scheduled(RedVTP(), layer=1, until=2, lasting=True), "tokens that rejoin are not gone"),
        (lambda: Scheduled(RedVTP(keep=0.5), steps=(1, 2), shares=(0.5,)), "one share for each of"),
        (lambda: Scheduled(RedVTP(keep=0.5), steps=(1, 2), shares=(0.4, 0.5)), "falling shares"),
        (lambda: Scheduled(RedVTP(keep=0.5), steps=(1, 2), shares=(0.8, 0.4)), "end with the method's own"),
        (lambda: Scheduled(RedVTP(), lasting=2), "lasting=2"),
    ],
)
def test_words_that_contradict_each_other_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Scheduled(RedVTP(keep=0.5), until=2), "until and lasting=False need a layer"),
        (Scheduled(RedVTP(keep=0.5), steps=(0,)), "has no attention to look at"),
        (Scheduled(RedVTP(keep=0.5), steps=(4,)), "step=4"),
        (Scheduled(FastV(keep=0.5), steps=(0,)), "step=0"),
        (Scheduled(RedVTP(keep=0.5), layer=3), "layer=3"),
        (Scheduled(RedVTP(keep=0.5), layer=2, until=2), "until=2"),
        (Scheduled(RedVTP(keep=0.5, rows="committed"), layer=1), "rows='committed' are known only after a step"),
        (Scheduled(RedVTP(keep=Count(5)), steps=(1, 2)), r"keep=Count\(n=5\): 2 lasting cuts"),
        (Scheduled(RedVTP(keep=Mass(0.5)), steps=(1, 2)), "2 lasting cuts"),
        (Scheduled(FastV(keep=0.5), steps=(1, 2), shares=(0.8, 0.5)), "they are of lasting cuts"),
        (Scheduled(PyramidDrop(keep=0.4), layer=1), "two cuts after layer 1"),
        (Scheduled(VTW(keep=0.1)), "expected a layer of 3 or more"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_before_any_forward(model, prompts, monkeypatch, schedule, message):
    monkeypatch.setattr(type(model.host), "forward", lambda *_, **__: pytest.fail("a forward ran"))
    with pytest.raises(ValueError, match=message) as caught:
        run(model, prompts[:1], schedule, **SHAPE)
    assert "\n" not in str(caught.value)
