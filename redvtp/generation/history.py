"""What a run ends with, and what happened in it step by step."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import LongTensor, Tensor

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
            before the step, or None.
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
