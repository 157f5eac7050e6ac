"""Times and memory of the models, as much as fits into a number of minutes.

    python -m analysis.efficiency --profile speed --out DIR     # true 8B shapes, on a GPU
    python -m analysis.efficiency --profile mini --out DIR      # a reduced shape, on this CPU

Two results: "speed" has a row for each run (see analysis.speed.cases.Run), "speed_stages" one for each stage of an
answer. Runs that are compared take turns, one answer each, in every second round in reverse; one round before them
warms up and shows what fits. Ratios are of the two times of a round: their median, and its 95% interval. What was
not measured has a row, too, that says why. Each group of runs is on disk when it is done; a run that was stopped, or
had no time left, goes on where it was.
"""

from __future__ import annotations

import functools
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row, identity
from analysis.speed import stages
from analysis.speed.bench import Bench
from analysis.speed.cases import BY, NotAvailable, Run, Scale
from analysis.speed.grid import Group, groups, owners
from analysis.speed.processes import in_processes
from analysis.speed.rows import TOLERANCES, Timed, absent, rows_of
from analysis.speed.sides import Side, is_out_of_memory, language_flops, side_of
from redvtp.timing import compare, peak_memory, reset_peak_memory

NAME, STAGES = "speed", "speed_stages"
ROUNDS = 10
SMALLEST = 2.0
"""Seconds below which no group is begun."""

MOST_CHECKS = 3
"""Rounds in which composed runs are held against whole ones."""

NO_TIME = "no time left"


class Clock:
    """What is left of so many minutes; None for no end."""

    def __init__(self, minutes: float | None) -> None:
        self.minutes, self.started = minutes, time.perf_counter()

    def left(self) -> float:
        """Seconds."""
        return float("inf") if self.minutes is None else 60 * self.minutes - (time.perf_counter() - self.started)

    @property
    def why(self) -> str:
        """What is said of what did not fit."""
        return f"{NO_TIME} of {self.minutes:g} minutes"


class NothingMeasured(RuntimeError):
    """No run of a group was measured; `reasons` says why, by run."""

    def __init__(self, reasons: dict[Run, str]) -> None:
        super().__init__("; ".join(dict.fromkeys(reasons.values())))
        self.reasons = reasons


class Harness:
    """Measures the groups of one scale on one device.

    Args:
        run: says where results go. scale, device: what is measured, where. minutes: see Clock. rounds: that count.
        name: of the result. only: names of groups; all where empty.
    """

    def __init__(
        self,
        run: RunContext,
        scale: Scale,
        device: str,
        minutes: float | None = None,
        rounds: int = ROUNDS,
        name: str = NAME,
        only: Sequence[str] = (),
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.run, self.scale, self.device, self.rounds = run, scale, device, rounds
        self.groups = [one for one in groups(scale, device) if not only or one.name in only]
        if not self.groups:
            known = ", ".join(repr(one.name) for one in groups(scale, device))
            raise ValueError(f"no group {', '.join(map(repr, only))}: expected some of {known}")
        self.clock = Clock(minutes)
        self.owners = owners(self.groups)
        self.bench: Bench | None = None
        link = "speed" if run.profile.name == "speed" else "mini"
        about = {
            "link": link, "device": device, "module": "analysis.speed.measure",
            "params": {"scale": scale.name, "dtype": scale.dtype, "rounds": rounds, "words": scale.words},
        }  # fmt: skip
        self.runs = Measurement(name, run, by=BY, tolerances=TOLERANCES, **about)
        self.stages = Measurement(f"{name}_stages", run, by=stages.BY, tolerances=stages.TOLERANCES, **about)
        self.before: dict[tuple[str, str], float] = {}
        self.ceiling: dict[str, float] = {}
        self.composed: dict[Run, float] = {}
        self.tell = tell or (lambda line: print(line, file=sys.stderr, flush=True))

    def measure(self) -> tuple[Result, Result]:
        """All groups; what did not fit is noted in the results with the reason."""
        with self.stages, self.runs:
            reasons: dict[Run, str] = {}
            for group in self.groups:
                why = self.measure_group(group, reasons)
                if why and group.kind in ("before", "loop"):
                    self.stages.note({"group": group.name}, no_stages(group, why))
            self.bench = None
            for run, owner in self.owners.items():
                if run in reasons:
                    self.runs.note({"group": owner}, [absent(run, reasons[run])])
        return self.runs.result, self.stages.result

    def measure_group(self, group: Group, reasons: dict[Run, str]) -> str:
        """One group; what could not be measured of it, and why, is added to ``reasons``. Returns why nothing of it was
        measured, "" where something was."""
        try:
            if group.kind in ("before", "loop"):
                self.stage_cells(group)
            elif group.kind == "check":
                self.stage_check(group)
            else:
                self.run_cells(group, reasons)
        except NothingMeasured as nothing:
            for run, why in nothing.reasons.items():
                if self.owners.get(run) == group.name:
                    reasons[run] = why
            self.tell(f"{group.name}: not measured: {nothing}")
            return str(nothing) or self.clock.why
        except RuntimeError as error:  # one group that fails must not cost those behind it
            why = f"failed: {first_line(error)}"
            reasons.update((run, why) for run in group.runs if self.owners.get(run) == group.name)
            self.tell(f"{group.name}: {why}")
            return why
        return ""

    # ---- stages ------------------------------------------------------------------------------------------

    def stage_cells(self, group: Group) -> None:
        """The stages of the group's run; later groups read from them what stands before the loop."""
        run = group.runs[0]

        def compute() -> list[Row]:
            bench, ceiling = self.bench_of(run.host), self.ceiling.get(run.host)
            if group.kind == "before":
                return stages.measure_before(bench, run, self.rounds)
            if ceiling is None:
                raise NothingMeasured({run: "the matrix product beside it was not measured"})
            # The stages of a round come to about ten first steps, at half of the device's rate.
            if 10 * (1 + self.rounds) * language_flops(bench, run).first / (0.5 * ceiling) > self.clock.left():
                raise NothingMeasured({run: self.clock.why})
            return stages.measure_loop(bench, run, self.rounds, ceiling)

        rows = self.computed(self.stages, {"group": group.name}, group, compute)
        if group.kind == "before":
            seconds = {row["stage"]: row for row in rows}
            self.ceiling[run.host] = seconds[stages.PRODUCT]["flops_per_second"]
            once = (stages.PROCESSING, stages.VISION)
            self.before[run.host, run.image] = sum(seconds[name]["seconds"] for name in once)

    def stage_check(self, group: Group) -> None:
        """Runs whole, a few times, beside what their phases add up to."""
        cell = {"group": group.name}
        rows = self.computed(self.stages, cell, group, lambda: list(self.checked(group)))
        for row in rows:
            self.tell(f"{row['stage']}: {row['seconds']:.3g} s whole, {row['composed_seconds']:.3g} s composed")

    def checked(self, group: Group) -> Iterator[Row]:
        """A row for each run that was composed before."""
        bench = self.bench_of(group.host)
        known = [run for run in group.runs if run in self.composed]
        if not known:
            raise NothingMeasured(dict.fromkeys(group.runs, "its composition was not measured"))
        sides = {run: side_of(bench, run, whole=True) for run in known}
        once = 1.2 * sum(self.composed[run] for run in known)
        rounds = int(min(MOST_CHECKS, self.rounds, self.clock.left() / once))
        if rounds < 1:
            raise NothingMeasured(dict.fromkeys(group.runs, self.clock.why))
        found = compare({run.name: side for run, side in sides.items()}, rounds, warmup=0, device=self.device)
        for run in known:
            timing = found.sides[run.name]
            yield {
                "host": run.host, "image": run.image, "response": run.response, "keep": run.keep,
                "stage": f"check: {run.steps} steps, cache {run.cache}", "measured": True, "why": "",
                "seconds": timing.median, "composed_seconds": self.composed[run],
                "composed_over_whole": self.composed[run] / timing.median, "rounds": rounds, "warmup": 0,
                "device": str(found.protocol.device), "threads": found.protocol.threads,
            }  # fmt: skip

    # ---- runs --------------------------------------------------------------------------------------------

    def run_cells(self, group: Group, reasons: dict[Run, str]) -> None:
        """The group's runs; those that did not fit at first are tried again, beside the baseline, while there is
        time, and by the next call."""
        missing = [run for run in group.runs if self.owners[run] == group.name]
        for part in itertools.count():
            cell = {"group": group.name, "part": part}
            base = group.runs[0]
            runs = group.runs if part == 0 else (base, *(run for run in missing if run != base))
            why: dict[Run, str] = {}

            compute = functools.partial(self.wanted_rows, group, runs, tuple(missing), why)
            rows = self.computed(self.runs, cell, group, compute)
            for row in rows:
                if row["composed"]:
                    self.composed.update((run, row["decoding_seconds"]) for run in missing if same_run(row, run))
            missing = [run for run in missing if not any(same_run(row, run) for row in rows)]
            late = [run for run in missing if NO_TIME in why.get(run, NO_TIME)]
            if not late:
                break
        reasons.update((run, why[run]) for run in missing)

    def wanted_rows(
        self, group: Group, runs: Sequence[Run], wanted: Sequence[Run], why: dict[Run, str]
    ) -> list[Row]:
        """As `time_runs`, of the ``wanted`` runs alone; NothingMeasured without any."""
        found = self.time_runs(group, runs, why)
        rows = [row for row in found if any(same_run(row, run) for run in wanted)]
        if not rows:
            raise NothingMeasured({run: why.get(run, self.clock.why) for run in wanted})
        return rows

    def time_runs(self, group: Group, runs: Sequence[Run], why: dict[Run, str]) -> list[Row]:
        """Rows of the runs that could be timed; of the others ``why`` not."""
        if group.kind == "processes":
            # An answer of the official procedure takes some twenty of ours; those that cannot fit are not begun.
            if self.clock.left() < 60 * max(self.composed.values(), default=0):
                return []
            return in_processes(self.bench_of(group.host), group.runs[0], self.rounds, self.clock.left(), self.tell)
        bench = self.bench_of(group.host)
        sides, seconds, peaks = self.warm_up(bench, runs, group.whole, why)
        while sides and sum(seconds.values()) * self.rounds > self.clock.left():
            last = list(sides)[-1]
            why[last] = self.clock.why
            del sides[last], seconds[last]
        if runs[0] not in sides or len(sides) == 1 and len(runs) > 1 and self.owners[runs[0]] != group.name:
            mine = [run for run in runs if self.owners[run] == group.name]
            raise NothingMeasured({run: why.get(run, why.get(runs[0], self.clock.why)) for run in mine})
        for side in sides.values():
            side.parts.clear()
        found = compare(
            {run.name: side for run, side in sides.items()}, self.rounds, warmup=0, device=self.device, warmed=1
        )
        order = {run: Timed(run, side, list(side.parts), peaks[run]) for run, side in sides.items()}
        run = runs[0]
        return rows_of(bench, order, found, self.before.get((run.host, run.image)), self.ceiling.get(run.host))

    def warm_up(
        self, bench: Bench, runs: Sequence[Run], whole: bool, why: dict[Run, str]
    ) -> tuple[dict[Run, Side], dict[Run, float], dict[Run, int | None]]:
        """Each run once: its side, its seconds and, on a GPU, its peak memory."""
        sides: dict[Run, Side] = {}
        seconds: dict[Run, float] = {}
        peaks: dict[Run, int | None] = {}
        for run in runs:
            try:
                side = side_of(bench, run, whole)
                if self.clock.left() < self.expected(bench, run, whole) + sum(seconds.values()) * self.rounds:
                    why[run] = self.clock.why
                    continue
                reset_peak_memory(self.device)
                side()
                if self.device != "cpu":
                    side()  # the first call loads kernels
            except NotAvailable as reason:
                why[run] = f"not available: {reason}"
                continue
            except RuntimeError as error:
                if not is_out_of_memory(error) and run.variant == "plain":
                    raise
                why[run] = "out of memory" if is_out_of_memory(error) else f"failed: {first_line(error)}"
                torch.cuda.empty_cache()
                continue
            seconds[run] = 1.1 * side.cost
            peaks[run] = peak_memory(self.device) if self.device != "cpu" else None
            sides[run] = side
        return sides, seconds, peaks

    def expected(self, bench: Bench, run: Run, whole: bool) -> float:
        """About how many seconds the first calls of a run take: from its FLOPs, at a third of the device's rate."""
        rate = self.ceiling.get(run.host)
        if rate is None:
            return SMALLEST
        cost = language_flops(bench, run)
        flops = cost.total if whole else 5 * cost.first
        return SMALLEST + (1 if self.device == "cpu" else 2) * flops * run.batch / (0.3 * rate)

    # ---- plumbing ----------------------------------------------------------------------------------------

    def bench_of(self, host: str) -> Bench:
        """The host, built where another one stands."""
        if self.bench is None or self.bench.name != host:
            self.bench = None
            started = time.perf_counter()
            self.bench = Bench(host, self.scale, self.device)
            self.tell(f"built {host}, {self.scale.words}, in {time.perf_counter() - started:.1f} s")
        return self.bench

    def computed(self, into: Measurement, cell: dict, group: Group, compute: Callable[[], list[Row]]) -> list[Row]:
        """A cell's rows; NothingMeasured where it is not there and no time is left for it."""
        if not into.has(cell) and self.clock.left() < SMALLEST:
            raise NothingMeasured(dict.fromkeys(group.runs, self.clock.why))
        rows = into.cell(cell, compute)
        into.save()
        return rows


def no_stages(group: Group, why: str) -> list[Row]:
    """Rows of stages that were not measured."""
    run = group.runs[0]
    return [
        {"host": run.host, "image": run.image, "response": run.response, "stage": stage, "keep": 1.0,
         "measured": False, "why": why, "seconds": None}
        for stage in (stages.BEFORE if group.kind == "before" else stages.LOOP)
    ]  # fmt: skip


def first_line(error: Exception) -> str:
    """What an error says, short."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def same_run(row: Row, run: Run) -> bool:
    """Whether a row is of that run."""
    return identity(row, BY) == identity(vars(run), BY)

