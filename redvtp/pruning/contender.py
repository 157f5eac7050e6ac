"""Staged pruning: an early cut inside step 1, a second one between steps, each by the rows still masked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from redvtp.pruning.base import Scored, cut_after, register
from redvtp.pruning.merging import averaged
from redvtp.pruning.redvtp import guided_mean
from redvtp.pruning.sgl import of_originals
from redvtp.selection import Budget, Count, Cut, Needs, Selection, Share, View, is_whole

PRIOR = "prior"


@dataclass(frozen=True)
class AtLeast(Share):
    """A share, but so many tokens where there are that many."""

    least: int = 0

    def count(self, original: int, score: Tensor) -> int:
        """Tokens to keep of ``original``."""
        return max(super().count(original, score), min(self.least, original))


@register
@dataclass(frozen=True)
class Staged(Scored):
    """RedVTP's score, used twice: within step 1 to drop what is surely not needed, later to reach the budget.

    Put together from what the measurements of this repository show about RedVTP and its rivals; each part can be
    switched off, and without all of them (``first=None, positions="compact"``) it is RedVTP.

    Attributes:
        positions: as in Scored, but tokens stay where they were by default: a model that counts on distances loses
            more by moved tokens than by dropped ones.
        keep: what the last cut leaves; a Mass lets each sample keep as many tokens as hold that share of the score.
        first: share of the original tokens that the early cut leaves (never fewer than ``keep``); None for no early
            cut.
        layer: the early cut comes after this decoder layer of step 1, 1..L-1; None for the one at two thirds.
        window: layers up to that one whose attention is averaged for it.
        second: the last cut comes after this step's transfer (the last possible one, in a shorter run).
        layers: decoder layers, 1..L, whose attention is averaged for the last cut; None for all.
        diversity: from 0 (off) to 1: by how much the score of a token falls where a better one is the same, in
            proportion to their cosine.
        merge: average dropped tokens into the kept ones that they are most like, in the last cut.
        prior: subtract what the token gets without an image, both as shares of their sums, in the last cut; needs the
            extra "prior" (see redvtp.guidance.blank_scores).
    """

    name: ClassVar[str] = "staged"

    positions: str = "original"
    first: float | None = 0.5
    layer: int | None = None
    window: int = 2
    second: int = 1
    layers: tuple[int, ...] | None = None
    diversity: float = 0.0
    merge: bool = False
    prior: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first is not None:
            Share(self.first)
        for name in ("window", "second"):
            value = getattr(self, name)
            if not is_whole(value) or value < 1:
                raise ValueError(f"{name}={value!r}: expected a whole number, 1 or more")
        if self.layers is not None and not (isinstance(self.layers, tuple) and self.layers):
            raise ValueError(f"layers={self.layers!r}: expected a tuple of at least one layer, or None for all")
        if isinstance(self.diversity, bool) or not isinstance(self.diversity, (int, float)):
            raise ValueError(f"diversity={self.diversity!r}: expected a number in [0, 1]")
        if not 0 <= self.diversity <= 1:
            raise ValueError(f"diversity={self.diversity!r}: expected a number in [0, 1]")
        for name in ("merge", "prior"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r}: expected True or False")

    def cuts(self, steps: int, layers: int) -> tuple[Cut, ...]:
        """Inside step 1, then between two steps."""
        last = cut_after(max(1, min(self.second, steps - 1)), steps)
        if self.first is None:
            return last
        layer = max(1, min(2 * layers // 3, layers - 1)) if self.layer is None else self.layer
        return (Cut(step=1, layer=layer, keep=self.early()), *last)

    def early(self) -> Budget:
        """What the early cut leaves."""
        if isinstance(self.keep, Share):
            return Share(max(self.first, self.keep.ratio))
        return AtLeast(self.first, self.keep.n) if isinstance(self.keep, Count) else Share(self.first)

    def needs(self, cut: Cut) -> Needs:
        """Attention of the response rows, and what the options look at."""
        layers = self.layers
        if cut.layer is not None:
            layers = tuple(range(max(1, cut.layer - self.window + 1), cut.layer + 1))
        states = self.diversity > 0 or (self.merge and cut.layer is None)
        extras = (PRIOR,) if self.prior and cut.layer is None else ()
        return Needs(attention=frozenset({"response"}), layers=layers, states=states, extras=extras)

    def score(self, view: View) -> Tensor:
        """``[B, n]`` mean over the masked rows, less the prior, less what better tokens say already."""
        score = guided_mean(view, "masked")
        if self.prior and view.cut.layer is None:
            score = less_prior(score, of_originals(view, PRIOR).to(score), view.valid)
        if self.diversity:
            score = score * (1 - self.diversity * likeness_to_better(score, view.states, view.valid))
        return score

    def select(self, view: View) -> Selection:
        """The best tokens, with the dropped ones averaged into them where that is asked for."""
        selection = self.select_by(view, self.score(view))
        return averaged(view, selection) if self.merge and view.cut.layer is None else selection


def less_prior(score: Tensor, prior: Tensor, valid: Tensor) -> Tensor:
    """``[B, n]`` how far the score's share of its sum exceeds the prior's, never negative; a trace of the score
    itself tells apart tokens that do not exceed it."""
    score, prior = score * valid, prior * valid
    score, prior = (one / one.sum(1, keepdim=True).clamp(min=1e-12) for one in (score, prior))
    return (score - prior).clamp(min=0) + 1e-6 * score


def likeness_to_better(score: Tensor, states: Tensor, valid: Tensor) -> Tensor:
    """``[B, n]`` the greatest cosine, 0 or more, to a token with a higher score (of equal ones, an earlier one)."""
    unit = torch.nn.functional.normalize(states.float(), dim=-1)
    made = torch.zeros_like(score)
    for b in range(len(score)):
        n = int(valid[b].sum())
        order = torch.sort(score[b, :n], descending=True, stable=True).indices
        best = unit[b, order]
        cosine = (best @ best.T).clamp(min=0).tril(-1)
        if n:
            made[b, order] = cosine.amax(1).clamp(max=1).to(score)
    return made
