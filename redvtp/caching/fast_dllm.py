"""Fast-dLLM: within a block, keys and values of what stands before it (and behind it) are kept for some steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from redvtp.caching.base import KeyValueCache, Moment, check_interval, register
from redvtp.models.base import Span


@register
@dataclass(frozen=True)
class FastDLLM(KeyValueCache):
    """Block-wise cache: a forward over everything every ``refresh`` steps of a block, between them only some rows.

    Source: arXiv 2505.22618; for LLaDA-V ``train/llava/hooks/fast_dllm_hook.py`` (official_code §3.1), which has the
    prefix cache and a default interval of 32. Its parallel decoding is ``factor`` of redvtp.generation.Settings.

    Attributes:
        refresh: steps from one forward over everything to the next, counted within each block.
        dual: also keep what stands behind the block, so that its own rows alone are computed. With one block and
            no suffix that is the same.
    """

    name: ClassVar[str] = "fast_dllm"

    refresh: int = 32
    dual: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_interval("refresh", self.refresh)
        if not isinstance(self.dual, bool):
            raise ValueError(f"dual={self.dual!r}: expected True or False")

    def between(self, moment: Moment) -> Span:
        """Everything where the interval is over, else from the block on, or the block alone."""
        if moment.index % self.refresh == 0:
            return moment.everything
        return Span(moment.start, moment.stop if self.dual else moment.rows)
