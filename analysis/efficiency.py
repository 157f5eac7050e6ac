"""Speed and peak memory of pruned decoding against the official procedure and our own unpruned loop.

    python -m analysis.efficiency --against reference --device cpu

Every side is a process of its own with the same seeded model and prompt; they take turns, one response at a
time. Peak memory is each process's own, interpreter and weights included. The last line printed is JSON:
same_tokens (and the same visual tokens kept), speedup and memory_ratio (ours over the reference's), the
speed-up over our own loop without pruning, and what the attention probe adds to step 1's forward.

With ``--profile speed`` or ``--profile mini`` the whole harness runs instead (see analysis.speed.measure), and
``--agree DIR_A DIR_B`` compares two of its runs.

Our sides run fp32 products on a CPU through oneDNN, as the host does by default; the reference has torch's own
linear layers, as the official code has. ``--stock`` takes that part of the difference away.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis import provenance
from analysis.profiles import run_context
from analysis.results import Measurement
from analysis.speed import agree
from analysis.speed.command import MINUTES, run_harness
from analysis.speed.measure import ROUNDS
from analysis.speed_case import DTYPES, Case
from analysis.speed_worker import Worker
from redvtp.timing import compare

BASELINES = ("reference",)
QUICK = Case(hidden=64, layers=2, heads=4, mlp=128, vocabulary=512, visual=48, prompt=12, response=8, steps=4)
HEADLINE = ("same_tokens", "speedup", "memory_ratio", "speedup_over_unpruned", "probe_overhead")


@dataclass(frozen=True)
class Plan:
    """What is compared, and how often.

    Attributes:
        pairs: rounds in which each side makes one response; one more before them warms up.
        probe_pairs: pairs of step-1 forwards with and without the probe.
        device: as torch names it.
        stock: our sides, too, have torch's own linear layers in place of oneDNN's.

    Raises:
        ValueError: fewer than one of either; another device than the CPU or a CUDA GPU.
    """

    case: Case = Case()
    pairs: int = 5
    probe_pairs: int = 11
    device: str = "cpu"
    stock: bool = False

    def __post_init__(self) -> None:
        for name in ("pairs", "probe_pairs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected 1 or more")
        kind, _, number = self.device.partition(":")
        if self.device != "cpu" and (kind != "cuda" or not (number or "0").isdigit()):
            raise ValueError(f"device={self.device!r}: expected cpu, cuda or cuda:N")


def compare_sides(plan: Plan, tell: Callable[[str], None] = lambda line: None) -> dict[str, float | int | str | bool]:
    """One flat row: the headline numbers, and the times, memory and margins behind them."""
    case, device = plan.case, plan.device
    last: dict[str, dict] = {}
    busy: dict[str, list[float]] = {"ours": [], "unpruned": [], "reference": []}
    with contextlib.ExitStack() as stack:
        workers = {side: stack.enter_context(Worker(side, case, device, plan.stock)) for side in busy}
        tell(f"built {len(workers)} processes with {workers['ours'].built['threads']} threads each")

        def run(side: str) -> float:
            last[side] = workers[side].ask("run")
            busy[side].append(last[side]["cpu_seconds"])
            tell(f"{side}: {last[side]['seconds']:.2f} s")
            return last[side]["seconds"]

        found = compare({side: lambda side=side: run(side) for side in workers}, plan.pairs, device=device)
        # Read before anything else runs in these processes: a CPU process has one peak in its life.
        peak = {side: answer["peak"] for side, answer in last.items()}
        built = {side: worker.built["peak"] for side, worker in workers.items()}
        workers["reference"].__exit__()  # its memory is not to disturb what follows
        clear = workers["ours"].ask("margins")
        tell("probe: step 1's forward with and without it")
        probe = workers["unpruned"].ask(f"probe {plan.probe_pairs}")

    ours, official = last["ours"], last["reference"]
    counted = {side: statistics.median(seconds[1:]) for side, seconds in busy.items()}  # the first one warms up
    return {
        "same_tokens": ours["tokens"] == official["tokens"],
        "same_kept": ours["kept"] == official["kept"],
        "speedup": found.ratio("reference", "ours"),
        "memory_ratio": peak["ours"] / peak["reference"],
        "speedup_over_unpruned": found.ratio("unpruned", "ours"),
        "probe_overhead": statistics.median(
            b / a - 1 for a, b in zip(probe["plain"], probe["probed"], strict=True)
        ),
        **found.summary(),
        "probe_plain_seconds": statistics.median(probe["plain"]),
        "probe_pairs": plan.probe_pairs,
        **{f"{side}_cpu_seconds": seconds for side, seconds in counted.items()},
        **{f"{side}_peak_bytes": peak[side] for side in peak},
        **{f"{side}_bytes_before_first_run": built[side] for side in built},
        "kept": len(ours["kept"]),
        **clear,
    }


def save(plan: Plan, row: dict, quick: bool) -> None:
    """Write the row as the result "efficiency", or "efficiency_stock", with its provenance."""
    run = run_context("mini", "quick" if quick else "default", force=True)
    case = dataclasses.asdict(plan.case)
    with Measurement(
        "efficiency_stock" if plan.stock else "efficiency",
        run,
        by=("against", "stock"),
        link="mini",
        params=case,
        inputs={"device": provenance.device_model(plan.device)},
        module="analysis.efficiency",
        tolerances={name: None for name, value in row.items() if isinstance(value, float)},
        device=plan.device,
    ) as measurement:
        fields = {"against": "reference", "stock": plan.stock}
        measurement.cell(fields, lambda: [fields | case | row])


def parser() -> argparse.ArgumentParser:
    """Options; those of the shape default to the measurement's, or to the small one's under --quick."""
    found = argparse.ArgumentParser(
        prog="python -m analysis.efficiency", description=__doc__.strip().splitlines()[0]
    )
    found.add_argument("--against", default="reference", choices=BASELINES, help="what ours is compared with")
    found.add_argument("--device", help="cpu, cuda or cuda:N (default: cpu; with --profile speed: cuda)")
    found.add_argument("--quick", action="store_true", help="a tiny shape, to see that it works")
    found.add_argument("--stock", action="store_true", help="leave torch's own linear layers on our side, too")
    found.add_argument("--save", action="store_true", help="also write the result file, with provenance")
    found.add_argument("--pairs", type=int, default=5, metavar="N", help="rounds that count (default: 5)")
    found.add_argument("--probe-pairs", type=int, default=11, metavar="N", help="of step-1 forwards (default: 11)")
    grid = found.add_argument_group("the whole harness: times, memory and ratios of both hosts")
    grid.add_argument("--profile", metavar="NAME", help="speed (true 8B shapes, a GPU) or mini (reduced, a CPU)")
    grid.add_argument("--out", metavar="DIR", help="folder for its results (default: the project's own)")
    budget = ", ".join(f"{minutes:g} for {profile}" for profile, minutes in MINUTES.items())
    grid.add_argument("--minutes", type=float, metavar="N", help=f"begin nothing that would end later ({budget})")
    grid.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"that count (default: {ROUNDS})")
    grid.add_argument("--only", action="append", default=[], metavar="GROUP", help="may be given several times")
    grid.add_argument("--force", action="store_true", help="measure again what is already there")
    grid.add_argument("--agree", nargs=2, metavar="DIR", help="how far two runs' ratios lie apart; 1 where over 10%%")
    for field in dataclasses.fields(Case):
        kind = type(field.default)
        words = f": {', '.join(DTYPES)}" if field.name == "dtype" else ""
        found.add_argument(f"--{field.name}", type=kind, help=f"default: {field.default}{words}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; wrong words exit with code 2 and one line."""
    options = parser()
    chosen = options.parse_args(argv)
    if chosen.agree or chosen.profile:
        try:
            if chosen.agree:
                return agree.report(*map(Path, chosen.agree))
            return run_harness(
                chosen.profile, chosen.out, chosen.minutes, chosen.rounds, chosen.device, chosen.quick, chosen.only,
                chosen.force,
            )  # fmt: skip
        except ValueError as error:
            options.error(str(error))
    chosen.device = chosen.device or "cpu"
    shape = {f.name: getattr(chosen, f.name) for f in dataclasses.fields(Case) if getattr(chosen, f.name) is not None}
    try:
        case = dataclasses.replace(QUICK if chosen.quick else Case(), **shape)
        plan = Plan(case, chosen.pairs, chosen.probe_pairs, chosen.device, chosen.stock)
        provenance.device_model(plan.device)  # refuses a GPU that is not there
    except (ValueError, AssertionError, RuntimeError) as error:
        options.error(str(error))

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    try:
        row = compare_sides(plan, tell)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    for name, value in row.items():
        if name not in HEADLINE:
            print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    if chosen.save:
        save(plan, row, chosen.quick)
    print(json.dumps({name: row[name] for name in HEADLINE}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
