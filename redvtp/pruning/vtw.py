"""VTW: no visual tokens after a layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from redvtp.pruning.base import Scored, register
from redvtp.selection import Count, Cut, Share, View


@register
@dataclass(frozen=True)
class VTW(Scored):
    """Visual tokens are withdrawn after a layer of every step, all of them.

    Source: arXiv 2405.05803 (visual tokens withdrawal; the layer there is found on a calibration set, half of the
    layers for LLaVA-1.5), in each denoising step. arXiv 2511.15098 withdraws them in one step, for good:
    ``Scheduled(VTW(...), start=0.5, lasting=True)``.

    Attributes:
        keep: the share of visual tokens that the layers see on average. As each sees all or none, it is the share
            of layers before the withdrawal, rounded down: 0.5 of 32 layers withdraws after layer 16.
    """

    name: ClassVar[str] = "vtw"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.keep, Share):
            raise ValueError(f"keep={self.keep}: vtw drops all or nothing; give a float, the share of layers before it")
        if self.protect or self.images is not None:
            raise ValueError("vtw drops all visual tokens; protect and images do not apply to it")

    def cuts(self, steps: int, layers: int) -> tuple[Cut, ...]:
        """After the same layer of every step, for the step only.

        Raises:
            ValueError: a share below that of one layer.
        """
        layer = math.floor(self.keep.ratio * layers + 1e-9)
        if not layer:
            raise ValueError(f"keep={self.keep.ratio}: expected a layer of {layers} or more, which is {1 / layers:.1%}")
        if layer == layers:
            return ()
        return tuple(Cut(step=k, layer=layer, lasting=False, keep=Count(0)) for k in range(1, steps + 1))

    def score(self, view: View) -> Tensor:
        """``[B, n]`` zeros: there is nothing to choose."""
        return torch.zeros(view.visual.shape, device=view.visual.device)
