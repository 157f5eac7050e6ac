"""Checkpoints written atomically: everything a killed run needs to go on as if nothing had happened.

Batches and masks are functions of (seed, step), so the step stands for all random state.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from analysis.training.designs import DEFAULT

FILE = "checkpoint.pt"
BEST = "best.pt"


@dataclass
class Progress:
    """Where a run stands: the stage by name, steps done in it and in all, seconds trained, best dev score.

    The others say what run it is, so that a folder is not continued as another one.
    """

    stage: str
    in_stage: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float = -1.0
    seed: int | None = None
    families: tuple[str, ...] | None = None
    causal: bool = False
    host: str = DEFAULT
    teacher: str | None = None
    adapt: str | None = None


def write(path: Path, content: dict) -> None:
    """torch.save through a temporary file and a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    os.replace(partial, path)


def save(folder: Path, trainee, optimizers, progress: Progress) -> None:
    """Write the run's checkpoint."""
    write(folder / FILE, {"trainee": trainee.state_dict(), "optimizers": [o.state_dict() for o in optimizers],
                          "progress": asdict(progress)})


def restore(folder: Path, trainee, optimizers, **identity) -> Progress | None:
    """Load the run's checkpoint in place; None when there is none.

    identity: those fields of Progress that say what run it is.

    Raises ValueError when the checkpoint belongs to another run: another seed, other families, another model.
    """
    path = folder / FILE
    if not path.exists():
        return None
    content = torch.load(path, map_location="cpu", weights_only=True)
    progress = Progress(**content["progress"])
    for name, asked in identity.items():
        found = getattr(progress, name)
        if found is not None and found != asked:
            raise ValueError(f"{name} is {asked}, but the run in this folder has {found}: use another --name")
        setattr(progress, name, asked)
    shapes = {name: weight.shape for name, weight in content["trainee"].items()}
    if shapes != {name: weight.shape for name, weight in trainee.state_dict().items()}:
        raise ValueError("the run in this folder has another network: use another --name")
    trainee.load_state_dict(content["trainee"])
    for optimizer, state in zip(optimizers, content["optimizers"]):
        bases = [group["base"] for group in optimizer.param_groups]
        optimizer.load_state_dict(state)
        for group, base in zip(optimizer.param_groups, bases):
            group["base"] = base
    return progress


def restore_tower(folder: Path, trainee) -> None:
    """Copy the vision tower and its heads from another run's checkpoint.

    Raises FileNotFoundError when there is none.
    """
    path = folder / FILE
    if not path.exists():
        raise FileNotFoundError(f"{folder.name} has no {FILE}, expected a run past its first stage")
    weights = torch.load(path, map_location="cpu", weights_only=True)["trainee"]
    mine = trainee.state_dict()
    trainee.load_state_dict(mine | {name: weight for name, weight in weights.items() if "tower" in name})
