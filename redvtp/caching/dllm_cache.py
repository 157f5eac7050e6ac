"""dLLM-Cache: prompt and response are refreshed at intervals of their own, between them the rows that changed most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from redvtp.caching.base import KeyValueCache, Moment, check_interval, register
from redvtp.models.base import Span


@register
@dataclass(frozen=True)
class DLLMCache(KeyValueCache):
    """Keep keys, values and what each layer added; between refreshes recompute a share of the response rows.

    Those are, in each layer, the rows whose new values are least like the kept ones, by cosine similarity.

    Source: arXiv 2506.06295; for LLaDA-V ``train/llava/hooks/cache_hook_LLaDA_V.py`` (official_code §3.2). The defaults
    are those of LLaDA-V's demo.

    Attributes:
        prompt_interval: steps from one refresh of everything before the response to the next.
        response_interval: steps from one refresh of all response rows to the next.
        share: of the response rows, in [0, 1], recomputed in the steps between (floor). Among rows that did not
            change the first are taken; the official code leaves that to rounding.
    """

    name: ClassVar[str] = "dllm_cache"
    keeps_parts: ClassVar[bool] = True

    prompt_interval: int = 25
    response_interval: int = 7
    share: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        check_interval("prompt_interval", self.prompt_interval)
        check_interval("response_interval", self.response_interval)
        if isinstance(self.share, bool) or not isinstance(self.share, (int, float)) or not 0 <= self.share <= 1:
            raise ValueError(f"share={self.share!r}: expected a number in [0, 1]")

    def between(self, moment: Moment) -> Span:
        """What is due, of prompt and response; a share of the response where it is not."""
        prompt = moment.step % self.prompt_interval == 0
        due = moment.step % self.response_interval == 0
        if due:
            return Span(0, moment.rows, prompt)
        return Span(0, moment.rows, prompt, share=float(self.share))
