"""Which trained models a measurement of several hosts runs: LLaDA-V's first one, and LaViDa's where it is there."""

from __future__ import annotations

from collections.abc import Sequence

from analysis import paths
from analysis.profiles import RunContext

LAVIDA = "mini/lavida"
ADAPTED = "mini/llada_ar"  # a diffusion model adapted from the autoregressive control


def is_there(name: str) -> bool:
    """Whether the folder of a shipped model is."""
    return (paths.DATA / name / "config.json").is_file()


def beside(names: Sequence[str], others: Sequence[str]) -> tuple[list[str], list[str]]:
    """(`names` and those of the others whose folder is there, those left out because it is not)."""
    there = [name for name in others if is_there(name)]
    return [*names, *there], [name for name in others if name not in there]


def both(run: RunContext) -> tuple[list[str], list[str]]:
    """(models to run, models left out because their folder is not there): the profile's first model, and LaViDa."""
    return beside(run.profile.models[:1], [LAVIDA])
