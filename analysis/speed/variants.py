"""Ways to run the same network: as it comes, with fused projections, CUDA graphs, compiled, in 8 bits.

Each is used where this package, its libraries and the device offer it, and else reported as not available, with
the reason. A new one is a function here and a line in `VARIANTS`.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from typing import Any

import torch

from analysis.speed.cases import NotAvailable
from redvtp.generation import Decoding
from redvtp.models.llava import LlavaHost

Options = dict[str, Any]


def plain(host: LlavaHost) -> Options:
    """As a user gets it without asking."""
    return {}


def fused(host: LlavaHost) -> Options:
    """Projections of the same input in one product."""
    return offered("fused", host)


def graphs(host: LlavaHost) -> Options:
    """Forwards captured as CUDA graphs and replayed."""
    if host.device.type != "cuda":
        raise NotAvailable("CUDA graphs need a CUDA GPU")
    return offered("graphs", host)


def compiled(host: LlavaHost) -> Options:
    """Each decoder layer through torch.compile; the host stays so."""
    if host.device.type != "cuda":
        raise NotAvailable("compiled layers are measured on a CUDA GPU only")
    if importlib.util.find_spec("triton") is None:
        raise NotAvailable("triton, which torch.compile needs on a GPU, is not installed")
    for layer in host.decoder.layers:
        layer.compile(dynamic=True)
    return {}


def int8(host: LlavaHost) -> Options:
    """Weights in 8-bit integers, activations as they are; the host stays so."""
    return quantised(host, "Int8WeightOnlyConfig")


def fp8(host: LlavaHost) -> Options:
    """Weights and activations in 8-bit floating point; the host stays so."""
    if host.device.type != "cuda" or torch.cuda.get_device_capability(host.device) < (8, 9):
        raise NotAvailable("8-bit floating-point products need a GPU that has them (compute capability 8.9 or more)")
    return quantised(host, "Float8DynamicActivationFloat8WeightConfig")


VARIANTS: dict[str, Callable[[LlavaHost], Options]] = {
    "plain": plain,
    "fused": fused,
    "graphs": graphs,
    "compile": compiled,
    "int8": int8,
    "fp8": fp8,
}
"""By name: what prepares a host, and returns options of the denoising loop. Raises NotAvailable."""

LASTING = frozenset({"fused", "compile", "int8", "fp8"})
"""Those that change the host, so that each has one of its own."""


def offered(option: str, host: LlavaHost) -> Options:
    """The option where the denoising loop has it; a host that has a switch of that name is told.

    Raises:
        NotAvailable: neither has it.
    """
    if option in inspect.signature(Decoding.__init__).parameters:
        return {option: True}
    switch = getattr(host, f"use_{option}", None)
    if callable(switch):
        switch()
        return {}
    raise NotAvailable(f"neither the denoising loop nor the host has an option {option}")


def quantised(host: LlavaHost, config: str) -> Options:
    """The decoder's linear layers by torchao.

    Raises:
        NotAvailable: torchao is not installed, or lacks that configuration.
    """
    if importlib.util.find_spec("torchao") is None:
        raise NotAvailable("torchao is not installed")
    from torchao import quantization

    if not hasattr(quantization, config):
        raise NotAvailable(f"this torchao has no {config}")
    quantization.quantize_(host.decoder, getattr(quantization, config)())
    return {}
