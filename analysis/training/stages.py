"""The curriculum: what each stage trains on, for how many steps, at which rates."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from analysis.training.losses import Weights


@dataclass(frozen=True)
class Stage:
    """One stage. Rates go linearly from `rate[0]` to `rate[1]` (times the optimizers' base), after
    `warmup` steps; `tower` scales the vision tower's. Every `full_every`-th step is plain full
    attention with one question a page and the protocol's response length (0: never, 1: always)."""

    name: str
    steps: int
    pages: int = 16
    full_pages: int = 16
    questions: int = 4
    length: int = 16
    fields: tuple[int, int] | None = None
    rate: tuple[float, float] = (1.0, 1.0)
    warmup: int = 0
    tower: float = 0.15
    full_every: int = 0
    weights: Weights = field(default_factory=Weights)

    def scale(self, step: int) -> float:
        """Learning rate scale at a step of this stage."""
        share = step / max(1, self.steps)
        return (self.rate[0] + share * (self.rate[1] - self.rate[0])) * min(1.0, (step + 1) / max(1, self.warmup))

    def is_full(self, step: int) -> bool:
        """Whether this step is one of plain full attention."""
        return self.full_every > 0 and step % self.full_every == self.full_every - 1


STAGES = (
    Stage("vision", 1600, rate=(1.0, 0.6), warmup=60, tower=1.0, weights=Weights(answer=0.0, naming=0.0)),
    Stage("few", 600, fields=(2, 3), rate=(1.0, 1.0), warmup=60),
    Stage("all", 2400, rate=(1.0, 0.3), full_every=5),
    Stage("finish", 1800, full_pages=32, rate=(0.3, 0.01), full_every=1, length=32),
)


def scaled(pace: float) -> tuple[Stage, ...]:
    """The stages with their steps multiplied by `pace`, at least one each."""
    return tuple(replace(stage, steps=max(1, round(stage.steps * pace))) for stage in STAGES)
