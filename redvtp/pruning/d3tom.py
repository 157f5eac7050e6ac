"""D3ToM: the tokens decoded in the last step decide which visual tokens this step keeps; the others are merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from redvtp.pruning.base import Scored, register
from redvtp.pruning.merging import absorbed
from redvtp.selection import Cut, Needs, Selection, Share, View

LAYER = 4  # id 3, counted from 0


@register
@dataclass(frozen=True)
class D3ToM(Scored):
    """In every step but the first: rank by the attention of the rows committed in the step before, keep the best, and
    add every other visual token's hidden state to that of the kept one most like it.

    Source: arXiv 2511.12280 and its code ``bcmi/D3ToM-Diffusion-MLLM`` at 46f6a56 (layer id 3, head-mean attention
    summed over the deciders, states summed without averaging, no merging where there are no deciders). The code adds
    the states that the layer was given to those behind its attention, and lets the MLP run on what is kept; here all is
    done behind the layer, which costs one MLP more. Nothing is carried
    to the next step. With a cache of keys and values its code merges into the cached ones; here a step with this cut
    computes all columns.

    Attributes:
        layer: cut after this decoder layer, 1..L-1; None for the code's fourth, or the last but one of fewer.
        adaptive: let the share that is kept grow from none to twice ``keep`` over the steps, as the code does.
    """

    name: ClassVar[str] = "d3tom"

    layer: int | None = None
    adaptive: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adaptive and not isinstance(self.keep, Share):
            raise ValueError(f"adaptive=True with keep={self.keep}: expected a share, which the steps can raise")

    def cuts(self, steps: int, layers: int) -> tuple[Cut, ...]:
        """Inside every step from the second on, for the step only."""
        layer = max(1, min(LAYER, layers - 1)) if self.layer is None else self.layer
        return tuple(Cut(step=k, layer=layer, lasting=False, keep=self.at(k, steps)) for k in range(2, steps + 1))

    def at(self, step: int, steps: int) -> Share | None:
        """What the step keeps, where that depends on the step."""
        return Share(min(1.0, 2 * self.keep.ratio * (step - 1) / steps)) if self.adaptive else None

    def needs(self, cut: Cut) -> Needs:
        """Attention of the response rows in the layer of the cut, and the hidden states behind it."""
        return Needs(attention=frozenset({"response"}), states=True)

    def score(self, view: View) -> Tensor:
        """``[B, n]`` sum over the rows committed in the step before."""
        return (view.attention * view.just_decided[..., None]).sum(1)

    def select(self, view: View) -> Selection:
        """The best, each with the states of those that it stands for; all where nothing was committed."""
        selection = self.select_by(view, self.score(view))
        undecided = ~view.just_decided.any(1)
        if bool(undecided.any()):
            selection = with_all(view, selection, undecided)
        return Selection(selection.keep, absorbed(view, selection).to(view.states.dtype))


def with_all(view: View, selection: Selection, samples: Tensor) -> Selection:
    """The selection in which the samples marked in ``samples [B]`` keep all of their tokens."""
    width = max(selection.keep.shape[1], int(view.valid[samples].sum(1).max()))
    keep = torch.nn.functional.pad(selection.keep, (0, width - selection.keep.shape[1]), value=-1)
    everyone = torch.arange(width, device=keep.device)
    for b in torch.nonzero(samples).flatten().tolist():
        keep[b] = torch.where(everyone < int(view.valid[b].sum()), everyone, -1)
    return Selection(keep)
