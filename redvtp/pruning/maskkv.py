"""MaskKV: each head of each layer votes for the visual tokens that the masked rows look at through it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from redvtp.pruning.base import Scored, cut_after, register
from redvtp.selection import Cut, Heads, Needs, View


@register
@dataclass(frozen=True)
class MaskKV(Scored):
    """Every head votes for the tokens that its masked rows attend to most, as many as its budget; most votes stay.

    Source: arXiv 2510.09309 (mask voting in the first step, layer budgets from how much a layer changes its input,
    head budgets from how much of a head's attention goes to the prompt). The paper evicts each head's losers from that
    head's own cache. Here the budgets set how many votes a layer and a head have, and a token that loses leaves all
    heads and layers, with its column of every cache: one sequence, so that the ratio and the FLOPs are those of the
    other methods. Equal votes are told apart by attention.

    Attributes:
        alpha: share of a layer's votes that its heads have in equal parts; the rest goes by the prompt's part.
        beta: share of all votes that the layers have in equal parts; the rest goes by ``importance``.
        importance: one number for each layer (see redvtp.guidance.layer_importance); None for equal layers.
        step: cut after this step's transfer.
    """

    name: ClassVar[str] = "maskkv"

    alpha: float = 0.1
    beta: float = 0.4
    importance: tuple[float, ...] | None = None
    step: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise ValueError(f"{name}={value!r}: expected a number in [0, 1]")
        given = self.importance
        if given is not None and not (
            isinstance(given, tuple) and given and all(math.isfinite(x) and x >= 0 for x in given) and sum(given) > 0
        ):
            raise ValueError(f"importance={given!r}: expected a number of 0 or more for each layer, not all 0, or None")

    def cuts(self, steps: int, layers: int) -> tuple[Cut, ...]:
        """One lasting cut."""
        if self.importance is not None and len(self.importance) != layers:
            raise ValueError(f"importance of {len(self.importance)} layers for a model of {layers}")
        return cut_after(self.step, steps)

    def needs(self, cut: Cut) -> Needs:
        """Attention of the masked rows, head by head."""
        return Needs(attention=frozenset({"response"}), heads=True)

    def score(self, view: View) -> Tensor:
        """``[B, n]`` votes, and below 1 for the mean attention."""
        score = torch.zeros(view.visual.shape, dtype=torch.float64, device=view.visual.device)
        for b, total in enumerate(view.original.tolist()):
            count = int(view.valid[b].sum())
            if count:
                mass = view.heads.mass[b, ..., :count].double()
                seats = self.budget(view.cut).count(total, mass.mean((0, 1)))
                score[b, :count] = votes(mass, self.budgets(seats, Heads(mass, view.heads.prompt[b].double()), count))
                score[b, :count] += 0.999 * mass.mean((0, 1)) / mass.mean((0, 1)).max().clamp(min=1e-300)
        return score

    def budgets(self, seats: int, heads: Heads, count: int) -> Tensor:
        """``[L, H]`` whole votes of each head, where a layer has ``seats`` on average: at most ``count``."""
        layers = len(heads.prompt)
        shares = shares_of_layers(self.importance or (1.0,) * layers, self.beta).to(heads.prompt)
        of_layer = seats * layers * shares[:, None]
        share = heads.prompt / heads.prompt.sum(1, keepdim=True).clamp(min=1e-300)
        each = self.alpha * of_layer + (1 - self.alpha) * heads.prompt.shape[1] * of_layer * share
        return each.floor().clamp(1, count).long()


def shares_of_layers(importance: tuple[float, ...], beta: float) -> Tensor:
    """``[L]`` the layers' shares of all votes: ``beta`` of them in equal parts, the rest by group.

    The groups are the boundary (first and last quarter of the layers) and the middle; a group's part is that of its
    summed importance, and its layers have equal parts of it.
    """
    given = torch.tensor(importance, dtype=torch.float64)
    layers = len(given)
    edge = max(1, layers // 4)
    boundary = torch.zeros(layers, dtype=torch.bool)
    boundary[:edge] = boundary[layers - edge :] = True
    shares = torch.full((layers,), beta / layers, dtype=torch.float64)
    for group in (boundary, ~boundary):
        if bool(group.any()):
            shares[group] += (1 - beta) * given[group].sum() / given.sum() / group.sum()
    return shares


def votes(mass: Tensor, budgets: Tensor) -> Tensor:
    """``[n]`` how many heads have a token among their best ``budgets [L, H]``; ``mass [L, H, n]``.

    Of equal ones the first are voted for.
    """
    place = mass.sort(dim=-1, descending=True, stable=True).indices.argsort(-1)
    return (place < budgets[..., None]).double().sum((0, 1))
