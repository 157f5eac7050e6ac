"""Dropped tokens added to the kept ones that they are most like."""

from __future__ import annotations

import torch
from torch import Tensor

from redvtp.selection import Selection, View


def absorbed(view: View, selection: Selection) -> Tensor:
    """``[B, m, n]`` 1 where a kept token (row) stands for a current one (column): itself, and the dropped ones whose
    states are nearest to its own by cosine; equally near ones go to the first."""
    unit = torch.nn.functional.normalize(view.states.float(), dim=-1)
    made = unit.new_zeros(*selection.keep.shape, unit.shape[1])
    for b, keep in enumerate(selection.keep):
        keep = keep[keep >= 0]
        if not len(keep):
            continue
        nearest = (unit[b] @ unit[b, keep].T).argmax(1)
        nearest[keep] = torch.arange(len(keep), device=keep.device)
        real = torch.nonzero(view.valid[b]).flatten()
        made[b, nearest[real], real] = 1
    return made


def averaged(view: View, selection: Selection) -> Selection:
    """The selection in which each kept token is the mean of those that it stands for, and counts for as many."""
    members = absorbed(view, selection)
    weight = members if view.size is None else members * view.size[:, None]
    size = weight.sum(2)
    return Selection(selection.keep, weight / size.clamp(min=1e-12)[..., None], size.clamp(min=1))
