"""What selecting visual tokens costs, method by method, as a share of one unpruned forward.

Times on a seeded language model with random weights (see analysis.speed_case), the methods in turn, medians over
rounds. Selecting is what a method does for the cuts of one forward, or before the first: `probe` is the attention
that is computed again for the rows it asks for, `select` scores and chooses (and builds what is merged), `apply`
shortens the sequence. A method that cuts in every step pays that in every step. The limit is 10% for methods that
read attention rows and 15% for the others.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from analysis.speed_case import DTYPES, Case, build
from redvtp.cli.words import budget
from redvtp.generation import Decoding
from redvtp.models.base import Output, State
from redvtp.models.llava import LlavaHost
from redvtp.pruning import METHODS, Pruner
from redvtp.selection import Selection, Share, View
from redvtp.timing import synchronize

FOUNDATION = Case(visual=3700, steps=2)
LIMITS = {True: 0.10, False: 0.15}  # of a forward, for methods that read attention rows and for others
PARTS = ("probe", "select", "apply")


@dataclass
class Clock:
    """Seconds by name, of a device whose work is waited for."""

    device: str
    spent: dict[str, float]
    now: Callable[[], float] = time.perf_counter

    def timed(self, name: str, function: Callable) -> Callable:
        """The function, whose time is added under ``name``."""

        def run(*rest: Any, **named: Any) -> Any:
            synchronize(self.device)
            started = self.now()
            found = function(*rest, **named)
            synchronize(self.device)
            self.spent[name] = self.spent.get(name, 0.0) + self.now() - started
            return found

        return run


class Watched:
    """A method whose choices are timed and remembered."""

    def __init__(self, method: Pruner, clock: Clock) -> None:
        self._method, self._choose = method, clock.timed("select", method.select)
        self.selections: list[Selection] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)

    def select(self, view: View) -> Selection:
        """The method's own."""
        self.selections.append(self._choose(view))
        return self.selections[-1]


class Probed:
    """A host whose probes are timed; a forward into which no method looks is left out, and its logits are zeros."""

    def __init__(self, host: LlavaHost, clock: Clock) -> None:
        self._host, self._clock = host, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)

    def forward(self, state: State, canvas, logit_rows, probe=None, at_layer=None, *rest: Any) -> Output:
        """The host's own."""
        if probe is None and not at_layer:
            logits = state.embeds.new_zeros(int(logit_rows.sum()), self._host.config.text_config.vocab_size)
            return Output(logits.float(), state.layout.real.sum(1).expand(self._host.layers, -1))
        if probe is not None:
            probe.add = self._clock.timed("probe", probe.add)
        return self._host.forward(state, canvas, logit_rows, probe, at_layer, *rest)


def methods(keep: Share, layers: int, names: Sequence[str] | None = None) -> dict[str, Pruner]:
    """Registered methods at one budget: those named, or all that this many layers and a prompt are enough for.

    Raises:
        ValueError: a method named cannot meet the budget, or needs more to see.
    """
    found = {}
    for name in names or sorted(METHODS):
        try:
            method = METHODS[name](keep=keep)
            extras = {extra for cut in method.cuts(2, layers) for extra in method.needs(cut).extras}
            if extras:
                raise ValueError(f"{name} needs {', '.join(sorted(extras))}, which noise does not have")
            found[name] = method
        except ValueError:
            if names:
                raise
    return found


def seconds_of(method: Pruner, host: LlavaHost, state: State, case: Case, clock: Clock) -> dict[str, float]:
    """Seconds of each part of selecting, in the cuts up to the end of step 1, or else of step 2."""
    watched = Watched(method, clock)
    decoding = Decoding(Probed(host, clock), state, replace(case, steps=2).settings, watched)
    decoding.step()
    if not watched.selections:
        decoding.step()
    if not watched.selections:
        raise ValueError(f"{method.name}: no cut in a run of two steps")
    for selection in watched.selections:
        state = clock.timed("apply", state.apply)(selection)
    return clock.spent


def forward_seconds(host: LlavaHost, state: State, case: Case, clock: Clock) -> float:
    """Seconds of step 1's forward without a method."""
    canvas = state.positions.new_full((1, case.response), host.mask_id)
    clock.timed("forward", host.forward)(state, canvas, canvas == host.mask_id)
    return clock.spent["forward"]


def measure(
    case: Case,
    chosen: Mapping[str, Pruner],
    rounds: int,
    device: str,
    tell: Callable[[str], None],
    now: Callable[[], float] = time.perf_counter,
) -> list[dict[str, Any]]:
    """A row for each method: medians over rounds, after one that does not count."""
    host, state = build(case, device)
    plain: list[float] = []
    spent: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    for turn in range(rounds + 1):
        tell(f"round {turn} of {rounds}" + (" (warm-up)" if not turn else ""))
        plain.append(forward_seconds(host, state, case, Clock(device, {}, now)))
        for name, method in chosen.items():
            clock = Clock(device, dict.fromkeys(PARTS, 0.0), now)
            spent[name].append(seconds_of(method, host, state, case, clock))
    forward = statistics.median(plain[1:])
    rows = []
    for name, method in chosen.items():
        asked = [method.needs(cut) for cut in method.cuts(2, case.layers)]
        reads = any(needs.attention or needs.heads for needs in asked)
        parts = {part: statistics.median(one[part] for one in spent[name][1:]) for part in PARTS}
        total = statistics.median(sum(one.values()) for one in spent[name][1:])
        rows.append(
            {"method": name, "reads_attention": reads, "forward": forward}
            | parts
            | {"total": total, "share": total / forward, "limit": LIMITS[reads]}
            | {"within": total / forward <= LIMITS[reads]}
        )
    return rows


def as_table(case: Case, rows: Sequence[dict[str, Any]]) -> str:
    """The rows to read: milliseconds and the share of a forward."""
    head = f"{'method':16}{'probe':>10}{'select':>10}{'apply':>10}{'total':>10}{'share':>9}  limit"
    lines = [
        f"{case.visual} visual tokens of width {case.hidden}, {case.layers} layers; one forward "
        f"{1e3 * rows[0]['forward']:.0f} ms; selecting in ms:",
        head,
    ]
    for row in sorted(rows, key=lambda row: row["share"]):
        times = "".join(f"{1e3 * row[name]:10.1f}" for name in (*PARTS, "total"))
        mark = "" if row["within"] else "  over"
        lines.append(f"{row['method']:16}{times}{row['share']:9.2%}  {row['limit']:.0%}{mark}")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """Options; those of the shape default to 3700 visual tokens of width 512."""
    found = argparse.ArgumentParser(
        prog="python -m analysis.scoring_cost", description=__doc__.strip().splitlines()[0]
    )
    found.add_argument("--keep", type=budget, default=Share(0.25), metavar="SHARE", help="share kept (default: 25%%)")
    found.add_argument("--methods", nargs="+", choices=sorted(METHODS), metavar="NAME", help="default: all")
    found.add_argument("--rounds", type=int, default=5, metavar="N", help="that count (default: 5)")
    found.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    found.add_argument(
        "--cpu-time", action="store_true",
        help="count this process's CPU time, not the clock's: for one thread on a busy machine",
    )  # fmt: skip
    found.add_argument("--json", action="store_true", help="one JSON object a method instead of a table")
    for field in fields(Case):
        if field.name in ("steps", "keep"):
            continue
        default = getattr(FOUNDATION, field.name)
        words = f": {', '.join(DTYPES)}" if field.name == "dtype" else ""
        found.add_argument(f"--{field.name}", type=type(default), default=default, help=f"default: {default}{words}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the exit code is 1 where a method is over its limit."""
    options = parser()
    chosen = options.parse_args(argv)
    try:
        if chosen.rounds < 1:
            raise ValueError(f"--rounds {chosen.rounds}: expected 1 or more")
        if chosen.cpu_time and (chosen.device != "cpu" or torch.get_num_threads() > 1):
            raise ValueError("--cpu-time: expected one thread (OMP_NUM_THREADS=1) on the CPU")
        shape = {field.name: getattr(chosen, field.name) for field in fields(Case) if hasattr(chosen, field.name)}
        case = replace(FOUNDATION, **{name: value for name, value in shape.items() if name != "keep"})
        found = methods(chosen.keep, case.layers, chosen.methods)
    except ValueError as error:
        options.error(str(error))
    now = time.process_time if chosen.cpu_time else time.perf_counter
    rows = measure(case, found, chosen.rounds, chosen.device, lambda line: print(line, file=sys.stderr), now)
    print("\n".join(map(json.dumps, rows)) if chosen.json else as_table(case, rows))
    return 0 if all(row["within"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
