"""What a run will cost, before it is run: tokens at every layer of every forward under a method's cuts, and FLOPs.

Lengths are those that the denoising loop makes in one block when no stop text ends it early.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from redvtp.generation.schedules import even_quotas
from redvtp.pruning import Pruner
from redvtp.selection import Count, Cut, Share


@dataclass(frozen=True)
class Task:
    """One question about its images, in tokens: visual, other prompt tokens, response; and denoising steps."""

    visual: int
    prompt: int
    response: int
    steps: int

    @property
    def text(self) -> int:
        """Tokens that no cut drops."""
        return self.prompt + self.response


@dataclass(frozen=True)
class PlannedCut:
    """A cut, what it leaves of the original visual tokens, and which kinds of rows are scored for it."""

    cut: Cut
    budget: Share | Count
    scored: frozenset[str] = frozenset()

    def left(self, visual: int) -> int:
        """Visual tokens after the cut, of ``visual`` original ones."""
        return min(visual, self.budget.count(visual, torch.empty(0)))


@dataclass(frozen=True)
class Forward:
    """One step's forward.

    Attributes:
        lengths: tokens at each decoder layer.
        masked: response tokens still masked before it.
        scored: layers, 1..L, in which attention is scored.
        rows: how many rows that is of.
    """

    lengths: tuple[int, ...]
    masked: int
    scored: tuple[int, ...] = ()
    rows: int = 0


class Parts(Protocol):
    """FLOPs of each part of a language model, for one sample (redvtp.flops.LanguageFormula has them)."""

    def layer(self, length: int, tail: int | None = None) -> int:
        """A decoder layer on ``length`` tokens; ``tail``: tokens whose output is computed (None: all)."""

    def head(self, rows: int) -> int:
        """The output head on ``rows`` tokens."""

    def scoring(self, rows: int, length: int) -> int:
        """One layer's attention scores of ``rows`` tokens to all ``length``, which the probe computes again."""


@dataclass(frozen=True)
class Stages:
    """FLOPs of one answer by the language model: decoder layers in step 1 and in all later steps, head, scoring."""

    first: int
    later: int
    head: int
    scoring: int

    @property
    def total(self) -> int:
        """The language model in all steps, scoring included."""
        return self.first + self.later + self.head + self.scoring


def planned(pruner: Pruner | None, steps: int, layers: int) -> tuple[PlannedCut, ...]:
    """The cuts that a method makes; none for no method.

    Raises:
        ValueError: a budget, or a choice by heads, whose number of tokens depends on the scores, or a cut that cannot
            happen.
    """
    if pruner is None:
        return ()
    made = []
    for cut in () if getattr(pruner, "keeps_all", False) else pruner.cuts(steps, layers):
        if getattr(pruner, "per_head", False):
            raise ValueError(f"{pruner.name}, per_head=True: what any head keeps is known only with the scores")
        budget = pruner.keep if cut.keep is None else cut.keep
        if not isinstance(budget, (Share, Count)):
            raise ValueError(f"{budget}: how many tokens stay is known only with the scores; give a Share or a Count")
        cut.check(steps, layers)
        made.append(PlannedCut(cut, budget, pruner.needs(cut).attention))
    return tuple(made)


def forwards(task: Task, plan: Sequence[PlannedCut], layers: int) -> list[Forward]:
    """Every step's forward under these cuts."""
    quotas = even_quotas(task.response, task.steps)
    visual, made = task.visual, []
    for step in range(1, task.steps + 1):
        for one in plan:
            if one.cut.layer is None and one.cut.step == step - 1:
                visual = min(visual, one.left(task.visual))
        inside = {one.cut.layer: one for one in plan if one.cut.layer is not None and one.cut.step == step}
        here, lengths, waiting = visual, [], {}
        for layer in range(1, layers + 1):
            here = waiting.pop(layer, here)
            lengths.append(task.text + here)
            if layer in inside:
                if inside[layer].cut.until is not None:
                    waiting.setdefault(inside[layer].cut.until, here)
                here = min(here, inside[layer].left(task.visual))
                visual = here if inside[layer].cut.lasting else visual
        between = [one for one in plan if one.scored and one.cut.layer is None and one.cut.step == step]
        within = [one for one in inside.values() if one.scored]
        watched = range(1, layers + 1) if between else [one.cut.layer for one in within]
        kinds = frozenset().union(*(one.scored for one in (*between, *within)))
        rows = task.response * ("response" in kinds) + task.prompt * ("prompt" in kinds)
        made.append(Forward(tuple(lengths), task.response - sum(quotas[: step - 1]), tuple(watched), rows))
    return made


def stages(parts: Parts, task: Task, made: Sequence[Forward], official: bool = False) -> Stages:
    """FLOPs of these forwards as this package runs them, or as the ``official`` code does: the head and the last
    layer on every token, where here only rows still masked, and of the last layer the response, are computed."""

    def layers(one: Forward) -> int:
        before = Counter(one.lengths[:-1])
        last = parts.layer(one.lengths[-1], None if official else task.response)
        return sum(times * parts.layer(length) for length, times in before.items()) + last

    return Stages(
        first=layers(made[0]),
        later=sum(map(layers, made[1:])),
        head=sum(parts.head(one.lengths[-1] if official else one.masked) for one in made),
        scoring=sum(parts.scoring(one.rows, one.lengths[layer - 1]) for one in made for layer in one.scored),
    )
