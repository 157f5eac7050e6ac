"""Long runs in parts: all steps of a phase do the same work, so that a few of them stand for all.

Steps of a phase compute the same columns over the same visual tokens; only the number of rows whose logits are
computed falls from one to the next. So two places of each phase are timed, one from its first step on and one from
its middle on, and their mean counts for the phase. A step in the middle is reached by a run that begins with the
tokens committed which would have been committed by then, and whose first step, which is not timed, makes the cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.speed.bench import Bench
from analysis.speed.cases import CACHES, NotAvailable, Run, cut_step, pruner_of
from redvtp.caching import CachePolicy, Moment
from redvtp.generation import Decoding, Settings
from redvtp.models.base import Span
from redvtp.timing import timed


@dataclass(frozen=True)
class Later:
    """A cache that takes a run's second step for its step ``skipped`` + 2."""

    policy: CachePolicy
    skipped: int

    def __getattr__(self, name: str):
        return getattr(self.policy, name)

    def span(self, moment: Moment) -> Span:
        """What the policy says, so many steps later; everything in the first step."""
        if moment.step == 0:
            return moment.everything
        return self.policy.span(replace(moment, step=moment.step + self.skipped, index=moment.index + self.skipped))


def phases(run: Run) -> list[tuple[int, ...]]:
    """The steps 2..K of a run, those that do the same work together.

    Raises:
        NotAvailable: blocks, or a number of tokens that differs from step to step.
    """
    policy, blocks = CACHES[run.cache]
    if blocks > 1 or run.response % run.steps:
        raise NotAvailable("only runs of one block that commit as many tokens in each step can be composed")
    groups: dict[tuple, list[int]] = {}
    after = cut_step(run)
    for step in range(2, run.steps + 1):
        moment = Moment(step - 1, step - 1, 0, run.response, run.response)
        span = None if policy is None else policy.span(moment)
        before = after is not None and step <= after
        groups.setdefault((span, before, step == after), []).append(step)
    return [tuple(steps) for steps in groups.values()]


def before_step(bench: Bench, run: Run, step: int) -> Decoding:
    """A run whose next step is like step ``step`` of ``run``; its own first step is taken."""
    state, policy = bench.state(run), CACHES[run.cache][0]
    host, options = bench.prepared(run.variant)
    skipped = step - 2
    each = run.response // run.steps
    after = cut_step(run)
    pruner = pruner_of(run, host.layers, None if after is None else max(1, after - skipped))
    decoding = Decoding(
        host,
        state,
        Settings(length=run.response, steps=run.steps - skipped),
        pruner,
        cache=policy if policy is None or not skipped else Later(policy, skipped),
        draft=bench.canvas(run, run.response - skipped * each) if skipped else None,
        **options,
    )
    decoding.step()
    return decoding


class Walker:
    """Takes one step of a phase at a time, from its ``start``-th on, and begins again where they end."""

    def __init__(self, bench: Bench, run: Run, steps: Sequence[int], start: int = 0) -> None:
        self.bench, self.run, self.steps = bench, run, steps[start:]
        self.place = 0
        self.decoding: Decoding | None = None
        self.at = 0  # the step that the run is about to take
        self.seen: dict[int, int] = {}  # FLOPs of the first step taken

    def __call__(self) -> float:
        """Seconds of the next step."""
        wanted = self.steps[self.place]
        if self.decoding is None or self.at != wanted:
            self.decoding = None  # frees its memory first
            self.decoding = before_step(self.bench, self.run, wanted)
        before = 0 if self.seen else flops_of(self.decoding)
        seconds = timed(self.decoding.step, self.bench.device)
        if not self.seen:
            self.seen[wanted] = flops_of(self.decoding) - before
        self.at = wanted + 1
        self.place = (self.place + 1) % len(self.steps)
        if self.place == 0:
            self.decoding = None
        return seconds


class Composed:
    """A run as the sum of its phases; called, it gives the seconds of one such sum.

    Attributes:
        parts: first step and all later ones, in seconds, of each call.
        flops: of the whole run, as the denoising loop counts them.
        cost: seconds that the last call timed, of the first step and of one at each place.
    """

    composed = True
    cost = 0.0

    def __init__(self, bench: Bench, run: Run) -> None:
        self.bench, self.run = bench, run
        self.parts: list[tuple[float, float]] = []
        self.flops = 0
        self.nfe, self.committed = run.steps, run.response * run.batch
        self.phases: list[tuple[int, list[Walker]]] = []
        for steps in phases(run):
            middle = len(steps) // 2
            walkers = [Walker(bench, run, steps), *([Walker(bench, run, steps, middle)] if middle else [])]
            self.phases.append((len(steps), walkers))

    def __call__(self) -> float:
        bench, run = self.bench, self.run
        host, options = bench.prepared(run.variant)
        pruner = pruner_of(run, host.layers)
        state, cache = bench.state(run), CACHES[run.cache][0]
        made: list[Decoding] = []

        def first() -> None:
            made.append(Decoding(host, state, run.settings, pruner, cache=cache, **options))
            made[0].step()

        one = timed(first, bench.device)
        flops = 0 if self.flops else flops_of(made[0])
        self.cost = one
        made.clear()
        later = 0.0
        for count, walkers in self.phases:
            taken = [walker() for walker in walkers]
            later += count * sum(taken) / len(taken)
            self.cost += sum(taken)
            flops += 0 if self.flops else phase_flops(walkers)
        self.flops = self.flops or flops
        self.parts.append((one, later))
        return one + later


def flops_of(decoding: Decoding) -> int:
    """Of all steps so far, of all samples."""
    return sum(result.flops for result in decoding.results())


def phase_flops(walkers: Sequence[Walker]) -> int:
    """Of all steps of a phase, exactly: from one to the next they fall by as many rows of the head."""
    steps = walkers[0].steps
    (first, flops), (last, other) = (next(iter(walkers[place].seen.items())) for place in (0, -1))
    each = (other - flops) // (last - first) if last > first else 0
    return sum(flops + each * (step - first) for step in steps)


class Whole:
    """A run from its first step to its last; as Composed. The clock is read once between them, after step 1."""

    composed = False
    cost = 0.0

    def __init__(self, bench: Bench, run: Run) -> None:
        self.bench, self.run = bench, run
        self.parts: list[tuple[float, float]] = []
        self.flops = self.nfe = self.committed = 0

    def __call__(self) -> float:
        bench, run = self.bench, self.run
        host, options = bench.prepared(run.variant)
        pruner = pruner_of(run, host.layers)
        state, cache = bench.state(run), CACHES[run.cache][0]
        made: list[Decoding] = []

        def first() -> None:
            made.append(Decoding(host, state, run.settings, pruner, cache=cache, **options))
            made[0].step()

        results = []
        one = timed(first, bench.device)
        later = timed(lambda: results.extend(made[0].run()), bench.device)
        self.flops = sum(result.flops for result in results)
        self.nfe = max(result.steps for result in results)
        self.committed = sum(int((result.canvas != bench.host.mask_id).sum()) for result in results)
        self.parts.append((one, later))
        self.cost = one + later
        return one + later

