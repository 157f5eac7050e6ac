"""Linear layers whose fp32 products on a CPU are oneDNN's.

torch hands fp32 products to MKL, which keeps to older instructions on processors of other makers than its own;
oneDNN does not, and runs such products about twice as fast there, in the same precision.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def has_onednn() -> bool:
    """Whether this build of torch can run a linear layer through oneDNN on dense tensors."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn_linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """torch's ``linear``, by oneDNN where that is fp32 inference on a CPU."""
    plain = input.device.type != "cpu" or input.dtype != torch.float32 or weight.dtype != torch.float32
    if plain or not input.numel() or torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad):
        return nn.functional.linear(input, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")


class OneDnnLinear(nn.Linear):
    """nn.Linear that asks oneDNN for fp32 inference on a CPU, and is stock in every other case."""

    @classmethod
    def like(cls, linear: nn.Linear) -> OneDnnLinear:
        """The same layer on the same parameters."""
        made = cls(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        made.weight, made.bias = linear.weight, linear.bias
        return made.train(linear.training)

    def forward(self, input: Tensor) -> Tensor:
        """``[..., in] -> [..., out]``."""
        return onednn_linear(input, self.weight, self.bias)


def use_onednn(model: nn.Module) -> None:
    """Give the model's stock linear layers that forward; parameters, names and buffers stay the same objects."""
    if not has_onednn():
        return
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, OneDnnLinear.like(child))
