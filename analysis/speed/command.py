"""The command line of the harness; ``python -m analysis.efficiency`` hands over to it."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from analysis import paths
from analysis.profiles import run_context
from analysis.results import Result
from analysis.speed.cases import REDUCED, TINY, TRUE
from analysis.speed.measure import ROUNDS, Harness
from analysis.storage import StorageError

MINUTES = {"speed": 9.0, "mini": 12.0}


def run_harness(
    profile: str,
    out: str | None,
    minutes: float | None = None,
    rounds: int = ROUNDS,
    device: str | None = None,
    quick: bool = False,
    only: Sequence[str] = (),
    force: bool = False,
) -> int:
    """Measure, write, and print the headline numbers, the last line as JSON. Returns the exit code.

    Raises:
        ValueError: words that cannot be meant, before any work.
    """
    if profile not in MINUTES:
        raise ValueError(f"--profile {profile}: expected one of {', '.join(MINUTES)}")
    if rounds < 1:
        raise ValueError(f"--rounds {rounds}: expected 1 or more")
    if minutes is not None and minutes <= 0:
        raise ValueError(f"--minutes {minutes:g}: expected a number above 0")
    device = device or ("cuda" if profile == "speed" else "cpu")
    if profile == "speed" and device == "cpu":
        raise ValueError("--profile speed runs the true 8B shapes on a GPU: expected --device cuda or cuda:N")
    if device != "cpu" and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: no CUDA GPU is visible")
    run = run_context(profile, "quick" if quick else "default", force)
    run = dataclasses.replace(run, place=Path(out) if out else None)
    scale = TINY if quick else TRUE if profile == "speed" else REDUCED
    name = "speed" if profile == "speed" else "speed_cpu"
    harness = Harness(run, scale, device, MINUTES[profile] if minutes is None else minutes, rounds, name, only)
    try:
        found, stages = harness.measure()
    except KeyboardInterrupt:
        print("interrupted: finished groups are kept, run it again to go on", file=sys.stderr)
        return 130
    except StorageError as error:
        print(error, file=sys.stderr)
        return 1
    for result in (found, stages):
        measured = sum(bool(row["measured"]) for row in result.rows)
        path = paths.shown(run.results / f"{result.measurement}.json")
        print(f"{path}: {measured} of {len(result.rows)} rows measured on {result.provenance['device']}")
    print(json.dumps(headline(found)))
    return 0


def headline(result: Result) -> dict[str, float | bool | None]:
    """What a reader asks first, at 32 tokens in 16 steps on LLaDA-V; None where it was not measured."""
    def of(name: str, **where: object) -> float | None:
        fields = {"host": "llada_v", "variant": "plain", "batch": 1, "response": 32, "steps": 16} | where
        rows = [row for row in result.rows if all(row[key] == value for key, value in fields.items())]
        rows = [row for row in rows if row["attention"] != "maps" or row["method"] == "official"]
        rows = [row for row in rows if row["start"] in ("none", "after step 1")]
        return rows[0][name] if rows else None

    ours = {"method": "redvtp", "cache": "none"}
    return {
        "speedup_50": of("decoding_speedup", keep=0.5, **ours),
        "speedup_25": of("decoding_speedup", keep=0.25, **ours),
        "share_of_bound_25": of("share_of_bound", keep=0.25, **ours),
        "prefix_cache_50_over_50": of("over_uncached", keep=0.5, method="redvtp", cache="fast_dllm"),
        "prefix_cache_50_over_unpruned": of("decoding_speedup", keep=0.5, method="redvtp", cache="fast_dllm"),
        "official_25_over_ours": of("ours_speedup", keep=0.25, method="official"),
        "memory_25_to_official": of("ours_memory_ratio", keep=0.25, method="official"),
        "same_tokens_as_official": of("ours_same_tokens", keep=0.25, method="official"),
    }

