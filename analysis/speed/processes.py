"""Ours against the official procedure, each in a process of its own: speed, and on a CPU the only way to memory.

It is the comparison of ``python -m analysis.efficiency --against reference`` at the harness's own shape and setting;
the official side has torch's own linear layers, as the official code has them. Both must give the same tokens.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable
from dataclasses import asdict

from analysis.results import Row
from analysis.speed.bench import Bench
from analysis.speed.cases import Run
from analysis.speed.rows import filled
from analysis.speed.sides import language_flops, task_of, tokens_left
from analysis.speed_case import Case
from analysis.speed_worker import Worker
from redvtp.timing import compare

FEWEST = 3


def case_of(bench: Bench, run: Run) -> Case:
    """The run as both processes build it; without a vision tower, from embeddings of noise."""
    scale, task = bench.scale, task_of(bench, run)
    return Case(
        hidden=scale.hidden, layers=scale.layers, heads=scale.heads, mlp=scale.mlp,
        vocabulary=bench.host.config.text_config.vocab_size, visual=task.visual, prompt=task.prompt,
        response=run.response, steps=run.steps, keep=run.keep, dtype=scale.dtype,
    )  # fmt: skip


def in_processes(
    bench: Bench, run: Run, rounds: int, seconds: float, tell: Callable[[str], None] = lambda line: None
) -> list[Row]:
    """The row of an official ``run``, with ours beside it; fewer rounds where ``seconds`` do not allow for all, and
    no row where they do not allow for three."""
    case = case_of(bench, run)
    last: dict[str, dict] = {}
    with contextlib.ExitStack() as stack:
        workers = {side: stack.enter_context(Worker(side, case, bench.device)) for side in ("ours", "reference")}

        def ask(side: str) -> float:
            last[side] = workers[side].ask("run")
            tell(f"{side}, {run.steps} steps: {last[side]['seconds']:.2f} s")
            return last[side]["seconds"]

        once = sum(ask(side) for side in workers)
        rounds = int(min(rounds, (seconds - once) / (1.1 * once)))
        if rounds < FEWEST:
            return []
        found = compare({side: lambda side=side: ask(side) for side in workers}, rounds, 0, bench.device, warmed=1)
    ours, official = last["ours"], last["reference"]
    seconds_of = found.sides["reference"]
    cost = language_flops(bench, run, official=True)
    flops, task = cost.first + cost.later + cost.head, task_of(bench, run)
    return [
        filled(
            run, composed=False, visual_tokens=task.visual, prompt_tokens=task.prompt,
            kept_tokens=tokens_left(bench, run), blocks=1, nfe=run.steps, response_tokens=run.response,
            committed_tokens=run.response, decoding_seconds=seconds_of.median, decoding_iqr=seconds_of.iqr,
            decoding_tokens_per_second=run.response / seconds_of.median, flops=flops, scoring_flops=0,
            flops_per_second=flops / seconds_of.median, peak_bytes=official["peak"], weights_bytes=bench.weights,
            ours_speedup=statistics.median(found.ratios("reference", "ours")),
            ours_memory_ratio=ours["peak"] / official["peak"],
            ours_same_tokens=ours["tokens"] == official["tokens"] and ours["kept"] == official["kept"],
            **asdict(found.protocol),
        )
    ]  # fmt: skip
