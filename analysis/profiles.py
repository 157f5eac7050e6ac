"""What is measured (the profile), how much of it (the mode), and where its results and figures go (the run).

Only the standard library is imported, so listing and refusing are fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis import paths

LINKS = ("mini", "flops", "speed", "paper", "parity")
"""Kinds of evidence that a result can be."""

SOURCES = ("run", "reference")
"""Where rows come from: this checkout's own run, or the committed reference."""


@dataclass(frozen=True)
class Size:
    """How much is measured: `n` samples a family, once for each seed."""

    n: int
    seeds: tuple[int, ...]


MODES = {
    "default": Size(n=100, seeds=(0,)),
    "quick": Size(n=16, seeds=(0,)),
    "full": Size(n=300, seeds=(0, 1, 2)),
}


@dataclass(frozen=True)
class Draw:
    """Which samples of the published data sets: a share of each, drawn at random.

    A larger share of the same seed holds the smaller one.

    data: a folder with the data sets' parquet files; None reads them from the hub.
    """

    data: str | None = None
    fraction: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction is {self.fraction}, expected more than 0 and at most 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected 0 or more")


@dataclass(frozen=True)
class Profile:
    """Models, their data and their hardware, and the claims that these can decide."""

    name: str
    models: tuple[str, ...]     # diffusion models that `redvtp.load` takes; what takes one model takes the first
    families: tuple[str, ...]   # benchmarks
    data: tuple[str, ...]       # shipped inputs, relative to the project; a change makes notebooks run again
    hardware: str
    decides: str
    needs: str = ""             # what a user has to bring along; empty where everything is shipped (analysis/needs.py)
    published: bool = False     # whether the samples are drawn from published data sets, see `Draw`


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="mini",
            models=("mini/llada_v", "mini/llada_v_seed1"),  # nearly the same recipe, from two seeds
            families=("doc", "info", "chart", "diagram", "scene", "perception", "choice"),
            data=("data/mini", "data/papers"),
            hardware="CPU, minutes",
            decides="claims about behaviour",
        ),
        Profile(
            name="speed",
            models=("GSAI-ML/LLaDA-V", "jacklishufan/lavida-llada-v1.0-instruct"),
            families=("docvqa", "infovqa", "chartqa"),
            data=("data/papers",),
            hardware="one GPU",
            decides="claims about latency, throughput and memory",
            needs="a CUDA GPU that holds the 8B shapes (about 24 GB)",
        ),
        Profile(
            name="paper",
            models=("GSAI-ML/LLaDA-V", "jacklishufan/lavida-llada-v1.0-instruct"),
            families=("docvqa", "infovqa", "chartqa", "ai2d", "mme", "mmbench", "realworldqa"),
            data=("data/papers",),
            hardware="one or more GPUs",
            decides="every claim, accuracy included",
            needs="the published weights, the published benchmarks, lmms-eval and a CUDA GPU",
            published=True,
        ),
    )
}


@dataclass(frozen=True)
class RunContext:
    """One run: a profile at a size. Make it with `run_context`, which checks the words.

    `place` is a folder for the run's own results in place of the usual one.
    """

    profile: Profile
    mode: str = "default"
    force: bool = False
    source: str = "run"
    place: Path | None = None   # a folder of results other than the run's own
    draw: Draw | None = None    # of a profile with published data sets

    @property
    def quick(self) -> bool:
        """Whether figures carry the watermark and results stay in folders of their own."""
        return self.mode == "quick"

    @property
    def n(self) -> int | None:
        """Samples a family; None where the draw alone says how many."""
        return None if self.draw and not self.quick else MODES[self.mode].n

    @property
    def seeds(self) -> tuple[int, ...]:
        return (self.draw.seed,) if self.draw else MODES[self.mode].seeds

    @property
    def size(self) -> tuple[Any, ...]:
        """What tells apart results of the same measurement that stand on more or fewer samples."""
        return (self.n, self.seeds, self.draw.fraction) if self.draw else (self.n, self.seeds)

    @property
    def folder(self) -> str:
        """Name of the run's folder, `mini` or `mini-quick`."""
        return f"{self.profile.name}-quick" if self.quick else self.profile.name

    @property
    def results(self) -> Path:
        """Folder of the run's own results."""
        return paths.RUNS / self.folder if self.place is None else self.place

    @property
    def reference(self) -> Path:
        """Folder of the committed results."""
        return paths.RESULTS / self.profile.name

    @property
    def figures(self) -> Path:
        """Folder that figures and tables are drawn into."""
        return paths.FIGURES / self.folder


def run_context(
    profile: str = "mini", mode: str = "default", force: bool = False, source: str = "run", draw: Draw | None = None
) -> RunContext:
    """The run that these parameters, those of every notebook but for `draw`, ask for.

    Raises ValueError with the valid words for an unknown profile, mode or source, for a quick reference, which does
    not exist, and for a draw that the profile does not have or a size that its draw does not leave open.
    """
    for word, value, known in (
        ("profile", profile, PROFILES),
        ("mode", mode, MODES),
        ("source", source, SOURCES),
    ):
        if value not in known:
            raise ValueError(f"unknown {word} {value!r}, expected one of: {', '.join(known)}")
    if not isinstance(force, bool):
        raise ValueError(f"force must be True or False, not {force!r}")
    if source == "reference" and mode != "default":
        raise ValueError(f"the committed reference has one size only: mode must be 'default', not {mode!r}")
    chosen = PROFILES[profile]
    if not chosen.published:
        if draw is not None:
            raise ValueError(f"profile {profile!r} draws nothing from published data sets")
        return RunContext(chosen, mode, force, source)
    if mode == "full":
        raise ValueError(f"profile {profile!r} has no full size: draw a fraction of 1")
    return RunContext(chosen, mode, force, source, draw=draw or Draw())
