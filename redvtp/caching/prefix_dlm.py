"""Prefix-DLM: the prompt is encoded once, without sight of the response; each step runs the response alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from redvtp.caching.base import KeyValueCache, Moment, register
from redvtp.models.base import Span


@register
@dataclass(frozen=True)
class PrefixDLM(KeyValueCache):
    """Keys and values of the prompt are those of a prompt by itself, and never change.

    Source: LaViDa (arXiv 2505.16839), its prefix-DLM mode; official_code §4.4. Pruning with it is §5.5: the score
    comes from the first response step, and columns of the cache are dropped, which have seen the dropped tokens.
    With ``reencode`` the pruned prompt is encoded once instead, and that is cached.
    """

    name: ClassVar[str] = "prefix_dlm"
    alone: ClassVar[bool] = True

    def between(self, moment: Moment) -> Span:
        """All rows of the response and suffix."""
        return Span(0, moment.rows)
