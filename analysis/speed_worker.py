"""One side of a speed comparison in a process of its own, so that its peak memory is its alone.

``python -m analysis.speed_worker SIDE DEVICE [stock]`` reads a Case as one JSON line, builds it, and then answers one
JSON line for each request line: ``run`` (the whole response once), ``margins`` (how clear the choices are),
``probe ROUNDS`` (step 1's forward with and without the attention probe), until its input ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from analysis import paths, reference
from analysis.speed_case import Case, build
from redvtp.attention import AttentionProbe
from redvtp.generation import Decoding, Recorder
from redvtp.models.base import State
from redvtp.models.llada_v import LladaV
from redvtp.pruning import RedVTP
from redvtp.sequence import RESPONSE, VISUAL
from redvtp.timing import compare, peak_memory, reset_peak_memory, synchronize, timed


class Worker:
    """The parent's end of one side.

    Raises RuntimeError where the process dies; what it printed on its error output is the user's to read.
    """

    def __init__(self, side: str, case: Case, device: str, stock: bool = False) -> None:
        self.side = side
        self.process = subprocess.Popen(
            [sys.executable, "-m", "analysis.speed_worker", side, device, *(["stock"] if stock else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=paths.ROOT,
        )
        self.built = self.ask(json.dumps(asdict(case)))

    def ask(self, request: str) -> dict[str, Any]:
        """The answer to one request."""
        try:
            self.process.stdin.write(request + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"the {self.side} process ended with code {self.process.wait()} (out of memory?)")
        return json.loads(answer)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def one_run(side: str, case: Case, host: LladaV, state: State) -> Callable[[], tuple[list[int], list[int]]]:
    """A function that makes the response once and returns its ids and the visual tokens kept."""
    if side == "reference":
        def run():
            found = reference.decode(host, state, case.settings, case.keep)
            return found.canvas.tolist(), found.kept.tolist()
    else:
        method = RedVTP(keep=case.keep) if side == "ours" else None

        def run():
            found = Decoding(host, state, case.settings, method).run()[0]
            return found.canvas.tolist(), found.kept.tolist()
    return run


def margins(case: Case, host: LladaV, state: State) -> dict[str, float | None]:
    """Smallest distances, relative, between what was chosen and what was not: logits of the committed tokens,
    confidences at the transfer's edge, importance at the cut. Rounding must stay below them."""
    record = Recorder(attention=True, logits=True)
    Decoding(host, state, case.settings, RedVTP(keep=case.keep), recorder=record).run()
    token, transfer = [], []
    before = torch.ones(case.response, dtype=torch.bool)
    for step in record.steps:
        top = step.logits.topk(2, -1).values.double().cpu()
        moved = step.transferred[0].cpu()
        token.append(((top[:, 0] - top[:, 1]) / top[:, 0].abs())[moved[before]].min())
        waiting = before & ~moved
        if waiting.any():
            conf = step.confidence[0].cpu()
            least = conf[moved].min()
            transfer.append((least - conf[waiting].max()) / least)
        before = step.undecided[0].cpu()
    edge = None
    if record.cuts:
        first = record.steps[0]
        score = first.attention[0, first.undecided[0]].mean(0).sort(descending=True).values
        kept = int((record.cuts[0].selection.keep >= 0).sum())
        edge = float((score[kept - 1] - score[kept]) / score[kept - 1]) if kept < len(score) else None
    return {
        "token_margin": float(min(token)),
        "transfer_margin": float(min(transfer)) if transfer else None,
        "importance_margin": edge,
    }


def probe_times(rounds: int, host: LladaV, state: State, device: str) -> dict[str, list[float]]:
    """Seconds of step 1's forward with and without the probe, in alternating pairs."""
    length = int(state.layout.count(RESPONSE)[0])
    first = state.layout.prompt_length
    canvas = torch.full((1, length), host.mask_id, device=device)
    rows = torch.ones_like(canvas, dtype=torch.bool)
    watched = torch.arange(first, first + length, device=device)[None]
    columns = state.layout.columns_of(VISUAL)
    sides = {
        "plain": lambda: timed(lambda: host.forward(state, canvas, rows), device),
        "probed": lambda: timed(lambda: host.forward(state, canvas, rows, AttentionProbe(watched, columns)), device),
    }
    found = compare(sides, rounds, warmup=2, device=device)
    return {name: list(timing.seconds) for name, timing in found.sides.items()}


def main(side: str, device: str, linear: str = "") -> None:
    """Answer requests until there are no more; the reference always has torch's own linear layers."""
    case = Case(**json.loads(sys.stdin.readline()))
    host, state = build(case, device, stock=side == "reference" or linear == "stock")
    run = one_run(side, case, host, state)
    say({"peak": peak_memory(device), "threads": torch.get_num_threads()})
    reset_peak_memory(device)
    for request in iter(sys.stdin.readline, ""):
        word, *numbers = request.split()
        if word == "run":
            synchronize(device)
            busy, started = time.process_time(), time.perf_counter()
            tokens, kept = run()
            synchronize(device)
            seconds, busy = time.perf_counter() - started, time.process_time() - busy
            say({"seconds": seconds, "cpu_seconds": busy, "tokens": tokens, "kept": kept, "peak": peak_memory(device)})
        elif word == "margins":
            say(margins(case, host, state))
        elif word == "probe":
            say(probe_times(int(numbers[0]), host, state, device))
        else:
            raise ValueError(f"unknown request {word!r}")


def say(answer: dict[str, Any]) -> None:
    """One line to the parent."""
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
