"""What the device can do: a large matrix product of random numbers, timed as everything else is."""

from __future__ import annotations

import torch
from torch import nn

from redvtp.models.linear import use_onednn
from redvtp.timing import Timing, measure

SIDE = {"cuda": 8192, "cpu": 2048}
"""Rows, columns and depth of the product."""


def matrix_product(device: str, dtype: str, rounds: int = 10, side: int | None = None) -> tuple[Timing, int]:
    """Seconds of a square product, as a linear layer that the hosts use, and its FLOPs."""
    side = side or SIDE[torch.device(device).type]
    with torch.device(device):
        block = nn.Sequential(nn.Linear(side, side, bias=False, dtype=getattr(torch, dtype)))
        value = torch.randn(side, side, dtype=getattr(torch, dtype))
    use_onednn(block)
    with torch.no_grad():
        found = measure(lambda: block(value), rounds, warmup=3, device=device)
    return found.sides["call"], 2 * side**3
