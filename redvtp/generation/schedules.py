"""How many tokens each denoising step commits: the transfer schedules, as pure functions of whole numbers.

Source: official_code §3 (LLaDA-V: an even split) and §4.4 (LaViDa, generate.py).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SCHEDULES = ("linear", "shift", "cosine", "logit_normal")
DEFAULT_SHIFT = 3.0


def transfer_quotas(masked: int, steps: int, schedule: str | None = None, shift: float | None = None) -> list[int]:
    """Tokens to commit in each of ``steps`` steps; they sum up to ``masked``.

    Args:
        masked: tokens of the block that are masked before its first step.
        steps: steps of the block; those beyond ``masked`` commit nothing.
        schedule: None splits evenly, the first steps taking the remainder; else a curve (see ``curve``).
        shift: of the schedule "shift"; None is the official 3.
    """
    return even_quotas(masked, steps) if schedule is None else curve_quotas(masked, steps, schedule, shift)


def even_quotas(masked: int, steps: int) -> list[int]:
    """``masked`` split evenly over ``steps``, the first steps taking the remainder."""
    base, rest = divmod(masked, steps)
    return [base + (i < rest) for i in range(steps)]


def curve_quotas(masked: int, steps: int, schedule: str, shift: float | None = None) -> list[int]:
    """Quotas that follow a curve from 0 to 1, read backwards in time, at least one token a step.

    The curve's increments are rounded down, raised to one, and taken back one at a time, from the first step
    on and round again, until they sum up to ``masked``. The result is used in reverse order: a curve that
    rises early commits many tokens late.
    """
    used = min(steps, masked)
    if not used:
        return [0] * steps
    reached = (curve(torch.linspace(0, 1, used + 1), schedule, shift) * masked).int().tolist()
    quotas = [max(1, after - before) for before, after in zip(reached, reached[1:])]
    excess, place = sum(quotas) - masked, 0
    if excess < 0:  # fp32 may end a curve just below 1; no token is left behind
        quotas[-1] -= excess
    while excess > 0:
        if quotas[place] > 1:
            quotas[place] -= 1
            excess -= 1
        place = (place + 1) % used
    return quotas[::-1] + [0] * (steps - used)


def curve(time: Tensor, schedule: str, shift: float | None = None) -> Tensor:
    """The schedule's curve at ``time`` in 0..1, in fp32 as officially: what is rounded down hangs on it.

    "linear" is t itself, "shift" is s t / (1 + (s - 1) t), "cosine" (1 - cos pi t) / 2, "logit_normal"
    the normal distribution function of logit t.

    Raises:
        ValueError: another schedule.
    """
    if schedule == "linear":
        return time
    if schedule == "shift":
        s = DEFAULT_SHIFT if shift is None else shift
        return s * time / (1 + (s - 1) * time)
    if schedule == "cosine":
        return (1 - torch.cos(math.pi * time)) / 2
    if schedule == "logit_normal":
        return torch.special.ndtr(torch.logit(time))
    raise ValueError(f"schedule={schedule!r}: expected None or one of {', '.join(SCHEDULES)}")
