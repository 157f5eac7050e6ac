"""Scores for SGL from the autoregressive control: what it attends to while it answers (see redvtp.guidance)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from analysis.benchmarks import Sample
from analysis.causal_control import Control, load, read
from redvtp.sequence import PROMPT, VISUAL

CONTROL = "mini/llava_ar"

_found: dict[tuple[str, str, int, int], Tensor] = {}


def causal_scores(control: Control, sample: Sample) -> Tensor:
    """``[n]`` the control's attention to each visual token, from the prompt's text behind the image and from the rows
    that wrote its answer, mean over heads and layers, summed over rows.

    The control's visual tokens are those of the mini LLaDA-V.
    """
    reading = read(control, sample)
    visual = (reading.kind[0] == VISUAL).nonzero()[:, 0]
    rows = reading.writing[0] | (reading.kind[0] == PROMPT)
    rows[: int(visual[-1]) + 1] = False
    mean = sum(mass[0] for mass in reading.by_layer.values()) / len(reading.by_layer)
    return mean[rows][:, visual].sum(0)


def scores(samples: Sequence[Sample]) -> list[Tensor]:
    """What the shipped control attends to in each sample (see causal_scores), computed once a process."""
    return [_score(sample) for sample in samples]


def _score(sample: Sample) -> Tensor:
    place = sample.family, sample.split, sample.seed, sample.index
    if place not in _found:
        _found[place] = causal_scores(load(CONTROL), sample)
    return _found[place]
