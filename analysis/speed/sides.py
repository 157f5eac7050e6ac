"""A run as something to time: our loop, with maps written out, or the official procedure."""

from __future__ import annotations

import time
from typing import Protocol

import torch

from analysis import reference
from analysis.speed.bench import Bench
from analysis.speed.cases import NotAvailable, Run, pruner_of
from analysis.speed.maps import maps_of
from analysis.speed.phases import Composed, Whole
from redvtp.plans import PlannedCut, Stages, Task, forwards, planned, stages
from redvtp.pruning import RedVTP
from redvtp.sequence import VISUAL
from redvtp.timing import synchronize

LATER_STEPS = 2
"""Of the official procedure's later steps so many are timed where a run is composed: all do the same work."""


class Side(Protocol):
    """Seconds of one answer at each call; `parts` are step 1 and the rest of each, `flops` of one answer, `cost`
    the seconds that the last call timed."""

    composed: bool
    cost: float
    parts: list[tuple[float, float]]
    flops: int
    nfe: int
    committed: int

    def __call__(self) -> float:
        """Answer once."""


def side_of(bench: Bench, run: Run, whole: bool) -> Side:
    """What answers as ``run`` says, whole or composed of phases; NotAvailable says why nothing does."""
    if run.method == "official":
        return Official(bench, run, whole)
    bench.prepared(run.variant)
    pruner_of(run, bench.host.layers)
    side = Whole(bench, run) if whole else Composed(bench, run)
    return WithMaps(side) if run.attention == "maps" else side


class WithMaps:
    """A side whose attention writes its maps out where a method looks at it."""

    def __init__(self, side: Whole | Composed) -> None:
        self.side = side

    def __getattr__(self, name: str):
        return getattr(self.side, name)

    def __call__(self) -> float:
        with maps_of(self.side.bench.prepared(self.side.run.variant)[0]):
            return self.side()


class Enough(Exception):
    """The steps that are timed are over."""


class Official:
    """analysis.reference: eager maps in step 1, head and fp64 softmax over every row of every step."""

    def __init__(self, bench: Bench, run: Run, whole: bool) -> None:
        if run.batch > 1 or run.variant != "plain" or run.cache != "none":
            raise NotAvailable("the official procedure takes one sample, without caches or variants")
        self.bench, self.run, self.composed = bench, run, not whole
        self.parts: list[tuple[float, float]] = []
        cost = language_flops(bench, run, official=True)
        self.flops = cost.first + cost.later + cost.head
        self.nfe, self.committed = run.steps, run.response

    def __call__(self) -> float:
        run, bench, moments = self.run, self.bench, []
        state, keep = bench.state(run), None if run.keep == 1 else run.keep

        def after_step() -> None:
            synchronize(bench.device)
            moments.append(time.perf_counter())
            if self.composed and len(moments) == 1 + LATER_STEPS:
                raise Enough

        synchronize(bench.device)
        started = time.perf_counter()
        try:
            reference.decode(bench.host, state, run.settings, keep, after_step=after_step)
        except Enough:
            pass
        first = moments[0] - started
        later = moments[-1] - moments[0]
        self.cost = first + later
        if len(moments) > 1:
            later *= (run.steps - 1) / (len(moments) - 1)
        self.parts.append((first, later))
        return first + later


def task_of(bench: Bench, run: Run) -> Task:
    """The run in tokens."""
    layout = bench.state(run).layout
    visual = int(layout.count(VISUAL)[0])
    return Task(visual, layout.prompt_length - visual, run.response, run.steps)


def plan_of(bench: Bench, run: Run) -> tuple[PlannedCut, ...]:
    """The cuts of the run's method."""
    official = run.method == "official" and run.keep < 1
    pruner = RedVTP(keep=run.keep) if official else pruner_of(run, bench.host.layers)
    return planned(pruner, run.steps, bench.host.layers)


def language_flops(bench: Bench, run: Run, official: bool = False) -> Stages:
    """FLOPs of the run by stage, without a cache, for one sample."""
    task = task_of(bench, run)
    return stages(bench.formula, task, forwards(task, plan_of(bench, run), bench.host.layers), official)


def tokens_left(bench: Bench, run: Run) -> int:
    """Visual tokens after the run's lasting cuts."""
    lasting = [one for one in plan_of(bench, run) if one.cut.lasting]
    visual = task_of(bench, run).visual
    return min([visual, *(one.left(visual) for one in lasting)])


def vision_flops(bench: Bench, run: Run) -> int:
    """Tower and projector on the crops of one sample's image."""
    crops = bench.crops(run.image)
    return bench.formula.tower(crops) + bench.formula.projector(crops)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether this is what torch raises where memory ends."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
