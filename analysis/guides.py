"""Scores for SGL from the autoregressive control: what it attends to while it answers (see redvtp.guidance)."""

from __future__ import annotations

from torch import Tensor

from analysis.benchmarks import Sample
from analysis.causal_control import Control, read
from redvtp.sequence import PROMPT, VISUAL


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
