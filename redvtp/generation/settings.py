"""How a response is generated."""

from __future__ import annotations

import math
from dataclasses import dataclass

REMASKING = ("low_confidence", "random", "entropy", "margin")


@dataclass(frozen=True)
class Settings:
    """Parameters of the denoising loop; the defaults are LLaDA-V's (official_code §3).

    Attributes:
        length: response tokens G.
        steps: denoising steps K over the whole response.
        block_length: tokens of a semi-autoregressive block; None means one block.
        remasking: which rows are committed first: by confidence ("low_confidence"), at "random", by least
            "entropy", or by "margin" between the two likeliest tokens.
        temperature: 0 is greedy; above it, tokens are drawn with Gumbel noise from a seeded generator.
        cfg_scale: classifier-free guidance; 0 is off.
        seed: of every random draw.
        stop: texts that end a response.
        suffix: text that follows the response and conditions it.
        threshold: commit, in place of a fixed number of rows a step, all whose confidence reaches it, and at
            least one (Fast-dLLM).
        factor: the same, but with a bar that falls as fewer rows are committed together: the n-th most confident
            row needs 1 - factor / (n + 1) (Fast-dLLM; see redvtp.generation.sampling.factor_rows).
            With either, a response takes as many steps as it needs and ``steps`` is not read.

    Raises:
        ValueError: lengths that do not divide, or a value out of range.
    """

    length: int = 32
    steps: int = 16
    block_length: int | None = None
    remasking: str = "low_confidence"
    temperature: float = 0.0
    cfg_scale: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    suffix: str = ""
    threshold: float | None = None
    factor: float | None = None

    def __post_init__(self) -> None:
        for name in ("length", "steps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r}: expected a whole number, 1 or more")
        block = self.block
        if isinstance(block, bool) or not isinstance(block, int) or block < 1 or self.length % block:
            raise ValueError(f"block_length={block!r}: expected a divisor of length={self.length}")
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

        if self.threshold is not None and self.factor is not None:
            raise ValueError(f"threshold={self.threshold}, factor={self.factor}: expected one of them")
        if self.threshold is not None and not (is_number(self.threshold) and 0 < self.threshold <= 1):
            raise ValueError(f"threshold={self.threshold!r}: expected a number in (0, 1], or None")
        if self.factor is not None and not (is_number(self.factor) and 0 < self.factor < math.inf):
            raise ValueError(f"factor={self.factor!r}: expected a finite number above 0, or None")
        if self.parallel and self.remasking != "low_confidence":
            raise ValueError(f"remasking={self.remasking!r}: threshold and factor are of probabilities, low_confidence")

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
