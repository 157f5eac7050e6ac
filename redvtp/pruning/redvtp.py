"""RedVTP: after a step, keep the visual tokens that the still-masked response tokens attend to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from redvtp.pruning.base import Scored, cut_after, register
from redvtp.selection import Cut, Needs, View, is_whole

ROWS = ("masked", "committed", "prompt", "prompt+masked", "prompt+response")
INSIDE = tuple(rows for rows in ROWS if rows != "committed")
"""Guide rows that are known inside a step."""


@register
@dataclass(frozen=True)
class RedVTP(Scored):
    """Importance = head-, layer- and row-mean attention from guide rows, in one step.

    Source: arXiv 2511.12428, Algorithm 1; official_code §5.1 (``rows="masked", step=1`` and the other
    defaults are the official behaviour for one image; the row sets are its ablation of guide tokens).

    Attributes:
        rows: guide rows: "masked" after the step's transfer, "committed" in the step, "prompt" (all text
            before the response), "prompt+masked" or "prompt+response".
        step: cut after this step's transfer, 1..K-1.
        layers: decoder layers, 1..L, to average over; None for all.
    """

    name: ClassVar[str] = "redvtp"

    rows: str = "masked"
    step: int = 1
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rows not in ROWS:
            raise ValueError(f"rows={self.rows!r}: expected one of {', '.join(ROWS)}")
        if not is_whole(self.step) or self.step < 1:
            raise ValueError(f"step={self.step!r}: expected a whole number, 1 or more; the score needs a forward")
        if self.layers is not None and not (isinstance(self.layers, tuple) and self.layers):
            raise ValueError(f"layers={self.layers!r}: expected a tuple of at least one layer, or None for all")

    def cuts(self, steps: int, layers: int) -> tuple[Cut, ...]:
        """One lasting cut after ``step``."""
        return cut_after(self.step, steps)

    def needs(self, cut: Cut) -> Needs:
        """Attention of the response rows, and of the prompt's where they guide."""
        if self.rows == "committed" and cut.layer is not None:
            raise ValueError(f"{self.name}: rows='committed' are known only after a step, not inside it")
        return Needs(attention=kinds_of(self.rows), layers=self.layers)

    def score(self, view: View) -> Tensor:
        """``[B, n]`` mean over the guide rows."""
        return guided_mean(view, self.rows)


def kinds_of(rows: str) -> frozenset[str]:
    """The attention rows, as in Needs, that are watched for the guide rows ``rows``."""
    return frozenset({"response", "prompt"} if "prompt" in rows else {"response"})


def guided_mean(view: View, rows: str) -> Tensor:
    """``[B, n]`` mean attention from the rows that ``rows`` names (see RedVTP)."""
    chosen = []
    if "prompt" in rows:
        chosen.append((view.prompt_attention, view.prompt_rows))
    if rows.endswith("masked"):
        chosen.append((view.attention, view.undecided))
    elif rows.endswith("response"):
        chosen.append((view.attention, torch.ones_like(view.undecided)))
    elif rows == "committed":
        chosen.append((view.attention, view.just_decided))
    mass = torch.cat([attention for attention, _ in chosen], 1)
    guide = torch.cat([mask for _, mask in chosen], 1)
    if bool((guide.sum(1) == 0).any()):
        raise ValueError(f"rows={rows!r}: a sample has no such row in step {view.cut.step}")
    return (mass * guide[..., None]).sum(1) / guide.sum(1, keepdim=True)
