"""How a response is generated."""

from __future__ import annotations

import math
from dataclasses import dataclass

from redvtp.generation.schedules import SCHEDULES
from redvtp.selection import is_whole

REMASKING = ("low_confidence", "random", "entropy", "margin")
DEFAULT_STEPS = 16


@dataclass(frozen=True)
class Settings:
    """Parameters of the denoising loop; the defaults are LLaDA-V's (official_code §3).

    Attributes:
        length: response tokens G.
        steps: denoising steps K over the whole response; 16, or what ``step_ratio`` or ``step_per_block`` say.
        block_length: tokens of a semi-autoregressive block; None means one block.
        remasking: which rows are committed first: by confidence ("low_confidence"), at "random", by least
            "entropy", or by "margin" between the two likeliest tokens.
        temperature: 0 is greedy; above it, tokens are drawn with Gumbel noise from a seeded generator.
        cfg_scale: classifier-free guidance; 0 is off.
        seed: of every random draw.
        stop: texts that end a response.
        suffix: text that follows the response and conditions it.
        schedule: how a block's tokens spread over its steps: None evenly, or a curve, "linear", "shift", "cosine"
            or "logit_normal" (LaViDa; see redvtp.generation.schedules).
        shift: of the schedule "shift": below 1 commits many tokens early, above 1 late; None is 3.
        step_ratio: instead of ``steps``: steps a token, in (0, 1], rounded down within a block (LaViDa).
        step_per_block: instead of ``steps``: steps of a block, at most one a token (LaViDa).
        threshold: commit, in place of a fixed number of rows a step, all whose confidence reaches it, and at
            least one (Fast-dLLM).
        factor: the same, but with a bar that falls as fewer rows are committed together: the n-th most confident
            row needs 1 - factor / (n + 1) (Fast-dLLM; see redvtp.generation.sampling.factor_rows).
            With either, a response takes as many steps as it needs and ``steps`` is not read.

    Raises:
        ValueError: lengths that do not divide, a value out of range, or two that contradict each other.
    """

    length: int = 32
    steps: int | None = None
    block_length: int | None = None
    remasking: str = "low_confidence"
    temperature: float = 0.0
    cfg_scale: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    suffix: str = ""
    schedule: str | None = None
    shift: float | None = None
    step_ratio: float | None = None
    step_per_block: int | None = None
    threshold: float | None = None
    factor: float | None = None

    def __post_init__(self) -> None:
        self._require_count("length")
        block = self.block
        if not is_whole(block) or block < 1 or self.length % block:
            raise ValueError(f"block_length={block!r}: expected a divisor of length={self.length}")
        self._resolve_steps()
        self._require_count("steps")
        if self.steps % self.blocks and not self.parallel:
            raise ValueError(f"steps={self.steps}: expected a multiple of the {self.blocks} blocks")
        if self.remasking not in REMASKING:
            raise ValueError(f"remasking={self.remasking!r}: expected one of {', '.join(REMASKING)}")
        for name in ("temperature", "cfg_scale"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"{name}={value!r}: expected a finite number, 0 or more")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise ValueError(f"seed={self.seed!r}: expected a whole number")
        if not isinstance(self.stop, tuple) or not all(isinstance(s, str) and s for s in self.stop):
            raise ValueError(f"stop={self.stop!r}: expected a tuple of non-empty texts")
        if not isinstance(self.suffix, str):
            raise ValueError(f"suffix={self.suffix!r}: expected a text")
        if self.schedule is not None and self.schedule not in SCHEDULES:
            raise ValueError(f"schedule={self.schedule!r}: expected None or one of {', '.join(SCHEDULES)}")
        if self.shift is not None and not (is_number(self.shift) and 0 < self.shift < math.inf):
            raise ValueError(f"shift={self.shift!r}: expected a finite number above 0")
        if self.shift is not None and self.schedule != "shift":
            raise ValueError(f"shift={self.shift!r}: belongs to schedule='shift', got schedule={self.schedule!r}")
        self._check_parallel()

    def _require_count(self, name: str) -> None:
        value = getattr(self, name)
        if not is_whole(value) or value < 1:
            raise ValueError(f"{name}={value!r}: expected a whole number, 1 or more")

    def _resolve_steps(self) -> None:
        """Set ``steps`` where it was left open; refuse what it contradicts."""
        ratio, per_block = self.step_ratio, self.step_per_block
        if ratio is not None and per_block is not None:
            raise ValueError(f"step_ratio={ratio!r} and step_per_block={per_block!r}: expected one of them")
        steps = DEFAULT_STEPS if self.steps is None else self.steps
        if ratio is not None:
            if not is_number(ratio) or not 0 < ratio <= 1 or int(self.block * ratio) < 1:
                raise ValueError(
                    f"step_ratio={ratio!r}: expected a number in (0, 1] that leaves a step in a block of {self.block}"
                )
            steps = int(self.block * ratio) * self.blocks
        if per_block is not None:
            self._require_count("step_per_block")
            steps = min(per_block, self.block) * self.blocks
        if self.steps is not None and self.steps != steps:
            name = "step_ratio" if ratio is not None else "step_per_block"
            raise ValueError(f"steps={self.steps!r}: {name}={getattr(self, name)!r} means {steps} steps")
        object.__setattr__(self, "steps", steps)

    def _check_parallel(self) -> None:
        """Refuse a threshold or factor out of range, or one that contradicts the rest."""
        if self.threshold is not None and self.factor is not None:
            raise ValueError(f"threshold={self.threshold}, factor={self.factor}: expected one of them")
        if self.threshold is not None and not (is_number(self.threshold) and 0 < self.threshold <= 1):
            raise ValueError(f"threshold={self.threshold!r}: expected a number in (0, 1], or None")
        if self.factor is not None and not (is_number(self.factor) and 0 < self.factor < math.inf):
            raise ValueError(f"factor={self.factor!r}: expected a finite number above 0, or None")
        if self.parallel and self.remasking != "low_confidence":
            raise ValueError(f"remasking={self.remasking!r}: threshold and factor are of probabilities, low_confidence")
        if self.parallel and self.schedule is not None:
            raise ValueError(f"schedule={self.schedule!r}: with threshold or factor the confidence sets the quotas")

    @property
    def parallel(self) -> bool:
        """Whether the confidence decides how many rows a step commits."""
        return self.threshold is not None or self.factor is not None

    @property
    def block(self) -> int:
        """Tokens of a block."""
        return self.length if self.block_length is None else self.block_length

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.length // self.block

    @property
    def block_steps(self) -> int:
        """Most steps of a block; with parallel decoding each commits at least one row."""
        return self.block if self.parallel else self.steps // self.blocks

    @property
    def most_steps(self) -> int:
        """Most steps of the whole response."""
        return self.block_steps * self.blocks


def is_number(value: object) -> bool:
    """Whether this is an int or float and no bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
