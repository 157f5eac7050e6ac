"""Muon for the hidden matrices, AdamW for everything else.

Muon: momentum, then an orthogonalised update by Newton-Schulz iteration (K. Jordan, 2024). Here all
matrices of one shape go through the iteration as one batch, which is what makes it cheap on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Approximate U V^T of every matrix of [n, rows, columns], by a quintic Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.transpose(-1, -2)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.transpose(-1, -2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(-1, -2) if tall else x


class Muon(torch.optim.Optimizer):
    """Muon over 2-D weights. Group options: lr, momentum. State: one momentum buffer a weight."""

    def __init__(self, groups, lr: float = 0.01, momentum: float = 0.95):
        super().__init__(groups, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None):
        """One update; weights without a gradient stay."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape.setdefault(weight.shape, []).append(weight)
            for shape, weights in by_shape.items():
                updates = []
                for weight in weights:
                    buffer = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                    buffer.lerp_(weight.grad, 1 - group["momentum"])
                    updates.append(weight.grad.lerp(buffer, group["momentum"]))
                scale = max(1.0, shape[0] / shape[1]) ** 0.5
                for weight, update in zip(weights, orthogonalise(torch.stack(updates))):
                    weight.add_(update.to(weight.dtype), alpha=-group["lr"] * scale)


def build_optimizers(trainee: nn.Module, muon_lr: float = 0.01, adam_lr: float = 2e-3) -> list[torch.optim.Optimizer]:
    """[Muon, AdamW], each with a tower group and a rest group; group["base"] is the unscheduled rate."""
    groups: dict[tuple[str, bool], list] = {}
    for name, weight in trainee.named_parameters():
        hidden = weight.ndim == 2 and ".layers." in name
        groups.setdefault(("muon" if hidden else "adam", "vision_tower" in name), []).append(weight)

    def of(kind: str, rate: float) -> list[dict]:
        return [{"params": groups[kind, tower], "tower": tower, "base": rate, "lr": rate} for tower in (True, False)]

    return [Muon(of("muon", muon_lr)),
            torch.optim.AdamW(of("adam", adam_lr), betas=(0.9, 0.95), weight_decay=0.0)]


def set_rates(optimizers, scale: float, tower: float) -> None:
    """Learning rates of all groups: base x scale, and x tower for the vision tower."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * scale * (tower if group["tower"] else 1.0)
