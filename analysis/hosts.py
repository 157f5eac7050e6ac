"""Which trained models a measurement of several hosts runs: LLaDA-V's first one, and LaViDa's where it is there."""

from __future__ import annotations

from analysis import paths
from analysis.profiles import RunContext

LAVIDA = "mini/lavida"
ADAPTED = "mini/llada_ar"  # a diffusion model adapted from the autoregressive control


def is_there(name: str) -> bool:
    """Whether the folder of a shipped model is."""
    return (paths.DATA / name / "config.json").is_file()


def both(run: RunContext) -> tuple[list[str], list[str]]:
    """(models to run, models left out because their folder is not there): the profile's first model, and LaViDa."""
    names = [run.profile.models[0], LAVIDA]
    missing = [name for name in names[1:] if not is_there(name)]
    return [name for name in names if name not in missing], missing
