"""A measurement of a few seconds for tests that kill it or share it out among processes; also a script for torchrun.

As a script it writes into the folder RUNS. With KILL_RANK it ends that rank by SIGKILL behind its first piece.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path

import torch

from analysis import answers, paths, profiles, spread, step_similarity, token_counts
from analysis.command import command
from analysis.profiles import RunContext, Size, run_context
from tests.untrained import untrained


def prepare(runs: Path, samples: int, batch: int, model: str) -> None:
    """Results go to `runs`; quick is `samples` of one family on one model."""
    torch.set_num_threads(1)
    paths.RUNS = runs
    profiles.MODES["quick"] = Size(n=samples, seeds=(0,))
    mini = profiles.PROFILES["mini"]
    profiles.PROFILES["mini"] = dataclasses.replace(mini, models=(model,), families=("chart",))
    answers.BATCH = batch


def untrained_similarity(runs: Path) -> None:
    """Sim_k of an untrained model on 16 samples, one by one: 32 pieces."""
    model = untrained()
    answers.model, answers.weights_hash = lambda name: model, lambda name: name
    prepare(runs, 16, 1, "mini/a")
    step_similarity.measure(run_context(mode="quick"))


def measure(run: RunContext) -> None:
    """One measurement that is shared out by pieces, and one by cells."""
    step_similarity.measure(run)
    token_counts.SIDES = token_counts.SIDES[::8]
    token_counts.measure(run)


def main() -> int:
    """The command line of a measurement."""
    prepare(Path(os.environ["RUNS"]), 4, 2, "mini/llada_v")
    append = spread.Log.append

    def dying(log, *arguments):
        kept = append(log, *arguments)
        if os.environ.get("KILL_RANK") == os.environ.get("RANK", "none"):
            os.kill(os.getpid(), signal.SIGKILL)
        return kept

    spread.Log.append = dying
    return command("step_similarity", measure, "Small.")


if __name__ == "__main__":
    sys.exit(main())
