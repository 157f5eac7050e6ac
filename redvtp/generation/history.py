"""What a run ends with, and what happened in it step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import LongTensor, Tensor

from redvtp.attention import AttentionProbe
from redvtp.selection import Cut, Selection
from redvtp.sequence import Layout


@dataclass(frozen=True)
class Result:
    """What one sample ended with.

    Attributes:
        ids: the response up to the stop, plus the suffix.
        canvas: all G response ids, masks included.
        visual_tokens: before any cut.
        kept: indices of the visual tokens left after the last lasting cut, into the original ones.
        layout: of the last sequence, one sample.
        steps: forwards that this sample took part in (NFE).
        tokens_fed: sum over steps of the language model's input length, averaged over layers.
        flops: of the language model and its head over all steps (see redvtp.flops).
    """

    ids: list[int]
    canvas: LongTensor
    visual_tokens: int
    kept: LongTensor
    layout: Layout
    steps: int
    tokens_fed: float
    flops: int


@dataclass(frozen=True)
class StepRecord:
    """One step of a batch; ``samples [B']`` are the batch rows that still ran.

    Attributes:
        tokens: ``[B', G]`` the response after the step.
        predicted: ``[B', G]`` the token chosen at each row that was masked; elsewhere the token there.
        transferred: ``[B', G]`` rows committed.
        confidence: ``[B', G]`` fp64, -inf where a row was not eligible.
        undecided: ``[B', G]`` rows still masked after the step.
        block, index: ``[B']`` block and step within it, from 0.
        fed: ``[B']`` tokens that the model ran on, averaged over layers.
        attention: ``[B', G, n]`` mean attention from response rows to the visual tokens that were there
            before the step, NaN for rows that were not computed; or None.
        by_layer: the same per layer, where recorded.
        logits: ``[M, V]`` of the masked rows, row-major, after guidance and bans, where recorded.
    """

    step: int
    samples: LongTensor
    tokens: LongTensor
    predicted: LongTensor
    transferred: Tensor
    confidence: Tensor
    undecided: Tensor
    block: LongTensor
    index: LongTensor
    fed: Tensor
    attention: Tensor | None = None
    by_layer: dict[int, Tensor] = field(default_factory=dict)
    logits: Tensor | None = None


@dataclass(frozen=True)
class CutRecord:
    """One cut of a batch: what was selected, and the layout that the selection's indices refer to."""

    cut: Cut
    samples: LongTensor
    selection: Selection
    layout: Layout


@dataclass
class Recorder:
    """Collects a run's history; pass one to a run to keep it.

    Args:
        attention: record response-to-visual attention in every step.
        per_layer: also by layer.
        logits: keep the logits of masked rows (memory: rows x vocabulary a step).
    """

    attention: bool = False
    per_layer: bool = False
    logits: bool = False
    steps: list[StepRecord] = field(default_factory=list)
    cuts: list[CutRecord] = field(default_factory=list)

    def seen_by(self, probe: AttentionProbe | None, length: int) -> dict[str, Any]:
        """The fields of a StepRecord for what a probe saw from the ``length`` response rows."""
        if not self.attention:
            return {}
        by_layer = {
            layer: only_computed(mass, probe.rows)[:, :length]
            for layer, mass in (probe.by_layer.items() if probe.per_layer else ())
        }
        return {"attention": only_computed(probe.mean().float(), probe.rows)[:, :length], "by_layer": by_layer}


def only_computed(mass: Tensor, rows: LongTensor) -> Tensor:
    """``[B, R, n]`` attention as it is, NaN at the rows that were not computed (-1)."""
    return mass.masked_fill((rows < 0)[..., None], float("nan")) if bool((rows < 0).any()) else mass
