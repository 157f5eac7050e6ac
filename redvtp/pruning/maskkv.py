"""MaskKV: each head of each layer votes for the visual tokens that the masked rows look at through it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import LongTensor, Tensor

from redvtp.pruning.base import Scored, cut_after, register
from redvtp.selection import Cut, Heads, Needs, Selection, View, pad_rows


@register
@dataclass(frozen=True)
class MaskKV(Scored):
    """Every head picks the tokens that its masked rows attend to most, as many as its budget.

    Source: arXiv 2510.09309 (mask voting in the first step, layer budgets from how much a layer changes its input,
    head budgets from how much of a head's attention goes to the prompt). What the picks do is ``per_head``'s choice:

    - True, as the paper has it: each key/value head of each layer keeps its own picks in the cache and forgets the
      other visual tokens (all text stays). Query heads that share keys and values pick together. ``keep`` is the mean
      share over layers and heads, exactly: what the paper's rounding down leaves over, and what a head with a budget
      above all tokens cannot take, goes to other heads in proportion to their budgets. A token that any head of any
      layer keeps stays in the sequence, so that a refresh encodes it anew; but no row attends to it, in a refresh or
      later, through a head that forgot it. Needs a cache. The paper's keys stay where they were, which is
      ``positions="original"``.
    - False: one sequence, so that the ratio and the FLOPs are those of the other methods, with or without a cache. The
      picks are votes, and the tokens with most votes stay, in all heads and layers; equal votes are told apart by
      attention.

    Attributes:
        alpha: share of a layer's votes that its heads have in equal parts; the rest goes by the prompt's part.
        beta: share of all votes that the layers have in equal parts; the rest goes by ``importance``.
        importance: one number for each layer (see redvtp.guidance.layer_importance); None for equal layers.
        step: cut after this step's transfer.
        per_head: each head keeps tokens of its own (see above).
    """

    name: ClassVar[str] = "maskkv"

    alpha: float = 0.1
    beta: float = 0.4
    importance: tuple[float, ...] | None = None
    step: int = 1
    per_head: bool = False

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
        if not isinstance(self.per_head, bool):
            raise ValueError(f"per_head={self.per_head!r}: expected True or False")
        if self.per_head and self.protect:
            raise ValueError(f"protect={self.protect!r}: not with per_head=True, where a head's budget may be smaller")

    def cuts(self, steps: int, layers: int) -> tuple[Cut, ...]:
        """One lasting cut."""
        if self.importance is not None and len(self.importance) != layers:
            raise ValueError(f"importance of {len(self.importance)} layers for a model of {layers}")
        return cut_after(self.step, steps)

    def needs(self, cut: Cut) -> Needs:
        """Attention of the masked rows, head by head."""
        return Needs(attention=frozenset({"response"}), heads=True)

    def select(self, view: View) -> Selection:
        """The tokens with most votes, or what each head picks."""
        return self.select_by_head(view) if self.per_head else super().select(view)

    def select_by_head(self, view: View) -> Selection:
        """What each key/value head keeps of what it still has."""
        eligible, _ = self.roles(view.layout, view.visual)
        original = view.original if self.images is None else eligible.sum(1)
        heads, kept, held = view.heads, [], []
        for b, total in enumerate(original.tolist()):
            mass, prompt = (sum_groups(part[b].double(), heads.groups) for part in (heads.mass, heads.prompt))
            there = view.valid[b].expand_as(mass)
            there = there if heads.held is None else there & heads.held[b]
            picked, candidates = there & ~eligible[b], int(eligible[b].sum())
            if candidates:
                open_ = there & eligible[b]
                mean = mass[..., eligible[b]].mean((0, 1))
                seats = min(self.budget(view.cut).count(total, mean), candidates)
                budgets = self.whole_budgets(seats, Heads(mass, prompt), open_.sum(2).cpu()).to(mass.device)
                picked = picked | best(mass.masked_fill(~open_, -1.0), budgets)
            kept.append(torch.nonzero(picked.any(0).any(0)).flatten())
            held.append(picked)
        keep = pad_rows(kept)
        place = keep.clamp(min=0)[:, None, None].expand(-1, *held[0].shape[:2], -1)
        return Selection(keep, heads=torch.stack(held).gather(3, place) & (keep >= 0)[:, None, None])

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
        """``[L, H]`` whole votes of each head, where a head has ``seats`` on average: at most ``count``."""
        return self.shares(seats, heads).floor().clamp(1, count).long()

    def whole_budgets(self, seats: int, heads: Heads, most: LongTensor) -> LongTensor:
        """``[L, H]`` tokens that each head keeps, ``seats`` on average and at most ``most [L, H]``, on the CPU."""
        return rounded(self.shares(seats, heads).cpu(), most, seats * most.numel())

    def shares(self, seats: int, heads: Heads) -> Tensor:
        """``[L, H]`` budget of each head before rounding, where a head has ``seats`` on average."""
        layers = len(heads.prompt)
        shares = shares_of_layers(self.importance or (1.0,) * layers, self.beta).to(heads.prompt)
        of_layer = seats * layers * shares[:, None]
        share = heads.prompt / heads.prompt.sum(1, keepdim=True).clamp(min=1e-300)
        return self.alpha * of_layer + (1 - self.alpha) * heads.prompt.shape[1] * of_layer * share


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


def rounded(each: Tensor, most: LongTensor, total: int) -> LongTensor:
    """Whole numbers ``[L, H]`` of at most ``most`` that sum to ``total``, or to all of ``most`` where that is less.

    Each is that of ``each`` rounded down; what is left over goes to those below their most, in proportion to ``each``,
    and what is less than one to those with the largest parts, the first of equal ones.
    """
    made = each.floor().long().minimum(most)
    while (left := min(total, int(most.sum())) - int(made.sum())) > 0:
        weight = each.clamp(min=1e-12) * (made < most)
        part = left * weight / weight.sum()
        more = part.floor().long()
        if not bool(more.any()):
            more.view(-1)[part.flatten().sort(descending=True, stable=True).indices[:left]] = 1
        made = (made + more).minimum(most)
    return made


def sum_groups(heads: Tensor, groups: int) -> Tensor:
    """``[L, H / groups, ...]`` sums over ``groups`` neighbours of ``heads [L, H, ...]``."""
    return heads.unflatten(1, (-1, groups)).sum(2)


def best(mass: Tensor, budgets: Tensor) -> Tensor:
    """``[L, H, n]`` which tokens are among a head's best ``budgets [L, H]``; ``mass [L, H, n]``.

    Of equal ones the first are.
    """
    place = mass.sort(dim=-1, descending=True, stable=True).indices.argsort(-1)
    return place < budgets[..., None]


def votes(mass: Tensor, budgets: Tensor) -> Tensor:
    """``[n]`` how many heads have a token among their best (see `best`)."""
    return best(mass, budgets).double().sum((0, 1))
