"""The curriculum: what each stage trains on, for how many steps, at which rates."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from analysis.training.losses import Weights


@dataclass(frozen=True)
class Stage:
    """One stage. Rates go linearly from `rate[0]` to `rate[1]` (times the optimizers' base), after
    `warmup` steps; `tower` scales the vision tower's, and 0 freezes it. Every `full_every`-th step is
    plain full attention with one question a page and the protocol's response length (0: never,
    1: always). count: bounds on the things on a page. blind: in every second of the first so many
    steps, questions answered in two tokens do not see the image in the last layers, where what the
    image gives is known already and is to be found among the options. This and the losses at options
    came in together; before them, choosing among options had not emerged. prefix: the prompt does not
    see the response, except in every third step, so that the model does without a cache, too.
    distil: only the tower's first layer learns, from the teacher."""

    name: str
    steps: int
    pages: int = 16
    full_pages: int = 24
    questions: int = 8
    length: int = 16
    count: tuple[int, int] | None = None
    rate: tuple[float, float] = (1.0, 1.0)
    warmup: int = 0
    tower: float = 0.0
    full_every: int = 0
    blind: int = 0
    prefix: bool = False
    distil: bool = False
    weights: Weights = field(default_factory=Weights)

    def scale(self, step: int) -> float:
        """Learning rate scale at a step of this stage."""
        share = step / max(1, self.steps)
        return (self.rate[0] + share * (self.rate[1] - self.rate[0])) * min(1.0, (step + 1) / max(1, self.warmup))

    def is_blind(self, step: int) -> bool:
        """Whether this step hides the image from short questions in the last layers."""
        return step < self.blind and step % 2 == 0

    def is_prefix(self, step: int) -> bool:
        """Whether the prompt of this step does not see the response."""
        return self.prefix and step % 3 != 2

    def is_full(self, step: int) -> bool:
        """Whether this step is one of plain full attention."""
        return self.full_every > 0 and step % self.full_every == self.full_every - 1


STAGES = (
    Stage("vision", 5000, rate=(1.0, 0.05), warmup=60, tower=1.0,
          weights=Weights(answer=0.0, tower=1.0, middle=0.0, naming=0.0)),
    Stage("few", 300, count=(2, 3), warmup=60),
    Stage("all", 4200, rate=(1.0, 0.3), full_every=5, blind=2800),
    Stage("finish", 600, rate=(0.3, 0.01), full_every=1),
)


# What was learned already must outweigh heads that begin anew.
_KEPT = Weights(middle=0.1, naming=0.2)
TAUGHT_STAGES = (
    Stage("distil", 600, pages=8, questions=1, rate=(1.0, 0.03), warmup=20, tower=1.0, distil=True,
          weights=Weights(answer=0.0, middle=0.0, naming=0.0)),
    Stage("prefix", 900, pages=12, full_pages=16, rate=(0.3, 0.1), warmup=100, full_every=5, prefix=True,
          weights=_KEPT),
    Stage("finish", 200, full_pages=16, rate=(0.1, 0.01), full_every=1, prefix=True, weights=_KEPT),
)
"""For a model that starts from a teacher's weights, and whose prompt is cached."""

ADAPTED_STAGES = (
    Stage("adapt", 1000, rate=(0.5, 0.3), warmup=100, full_every=4, weights=_KEPT),
    Stage("finish", 250, rate=(0.3, 0.01), full_every=1, weights=_KEPT),
)
"""For a diffusion model that starts from an autoregressive one: the same weights, seeing both ways from the first
step, and predicting a masked token in its own place instead of the next one."""


def scaled(pace: float, taught: bool = False, adapted: bool = False) -> tuple[Stage, ...]:
    """The stages with their steps multiplied by `pace`, at least one each.

    taught: of a model with a teacher; adapted: of one that starts from an autoregressive model.
    """
    stages = TAUGHT_STAGES if taught else ADAPTED_STAGES if adapted else STAGES
    return tuple(replace(stage, steps=max(1, round(stage.steps * pace))) for stage in stages)
