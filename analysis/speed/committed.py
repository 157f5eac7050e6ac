"""What a notebook shows: this run's own times at a reduced shape, or the committed ones of a GPU."""

from __future__ import annotations

import torch

from analysis.profiles import RunContext
from analysis.results import Result, load_result, read_result
from analysis.speed.cases import SMALL, TINY, TRUE
from analysis.speed.grid import groups
from analysis.speed.measure import NAME, ROUNDS, STAGES, Harness

MINUTES_ON_A_GPU = 9.0
QUICK = ("before the loop", "ratios and cache", "check", "stages", "more ratios", "2 tokens", "batch 2")
LEFT_OUT = ("official", "official, in processes", "prefix_dlm", "dllm_cache", "fast_dllm, 2 blocks",
            "fast_dllm dual, 2 blocks", "variants")  # fmt: skip
"""Of the groups on a CPU; `python -m analysis.efficiency --profile mini` has them all."""


def results(run: RunContext) -> tuple[Result, Result] | None:
    """Runs and stages: measured where this machine can, else those committed; None where there are none.

    In profile mini a small shape is measured on the CPU, in a minute or two; in a quick run a tiny one.
    """
    if run.source == "run" and (run.profile.name != "speed" or torch.cuda.is_available()):
        return harness(run).measure()
    try:
        return load_result(NAME, reference(run)), load_result(STAGES, reference(run))
    except FileNotFoundError:
        return None


def harness(run: RunContext) -> Harness:
    """What measures a run of a notebook."""
    if run.profile.name == "speed":
        return Harness(run, TRUE, "cuda", MINUTES_ON_A_GPU)
    scale, rounds = (TINY, 2) if run.quick else (SMALL, ROUNDS)
    names = [group.name for group in groups(scale, "cpu")]
    own = [(name, *name.split(": ", 1)) for name in names]
    if run.quick:
        chosen = [name for name, host, what in own if what in QUICK and host == "llada_v"]
    else:
        chosen = [name for name, host, what in own if what not in LEFT_OUT and (host, what) != ("lavida", "fast_dllm")]
    return Harness(run, scale, "cpu", None, rounds, NAME, chosen)


def reference(run: RunContext) -> RunContext:
    """The committed results of the run's profile."""
    return RunContext(run.profile, source="reference")


def elsewhere(run: RunContext) -> dict[str, Result]:
    """Committed results that stand beside a run of profile mini, by what they are: a larger shape on a CPU, and the
    true ones on a GPU."""
    from analysis import paths

    places = {
        "a reduced shape on a CPU": paths.RESULTS / "mini" / "speed_cpu.json",
        "the true shapes on a GPU": paths.RESULTS / "speed" / f"{NAME}.json",
    }
    return {words: read_result(path) for words, path in places.items() if path.is_file()}
