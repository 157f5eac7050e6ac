"""Ways to run the same network: as it comes, with fused projections, CUDA graphs, compiled, in 8 bits.

Each is used where this package, its libraries and the device offer it, and else reported as not available, with
the reason. A new one is a function here and a line in `VARIANTS`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from analysis.speed.cases import NotAvailable
from redvtp.generation import Decoding
from redvtp.models.llava import LlavaHost

if TYPE_CHECKING:
    from analysis.speed.bench import Bench

Prepared = tuple[LlavaHost, dict[str, Any]]
"""A host, and what the denoising loop is told."""

GRAPHS, QUANTIZE = "redvtp.graphs", "redvtp.quantize"


def plain(bench: Bench) -> Prepared:
    """As a user gets it without asking."""
    return bench.host, {}


def fused(bench: Bench) -> Prepared:
    """Projections of the same input in one product."""
    if "fused" not in inspect.signature(LlavaHost.__init__).parameters:
        raise NotAvailable("the hosts have no option fused")
    return bench.own("fused", fused=True), {}


def graphs(bench: Bench) -> Prepared:
    """Forwards captured as CUDA graphs and replayed."""
    return with_graphs(bench, plain)


def fused_graphs(bench: Bench) -> Prepared:
    """Both."""
    return with_graphs(bench, fused)


def with_graphs(bench: Bench, variant: Callable[[Bench], Prepared]) -> Prepared:
    """Another variant with CUDA graphs; captured forwards stay with its host."""
    if "graphs" not in inspect.signature(Decoding.__init__).parameters or not importlib.util.find_spec(GRAPHS):
        raise NotAvailable("the denoising loop has no option graphs")
    if torch.device(bench.device).type != "cuda":
        raise NotAvailable("CUDA graphs need a CUDA GPU")
    host, options = variant(bench)
    return host, options | {"graphs": importlib.import_module(GRAPHS).Graphs(host)}


def compiled(bench: Bench) -> Prepared:
    """Each decoder layer through torch.compile."""
    if torch.device(bench.device).type != "cuda":
        raise NotAvailable("compiled layers are measured on a CUDA GPU only")
    if importlib.util.find_spec("triton") is None:
        raise NotAvailable("triton, which torch.compile needs on a GPU, is not installed")
    host = bench.own("compile")
    for layer in host.decoder.layers:
        layer.compile(dynamic=True)
    return host, {}


def int8(bench: Bench) -> Prepared:
    """Weights in 8-bit integers: another network, by rounding."""
    return quantised(bench, "int8")


def fp8(bench: Bench) -> Prepared:
    """Weights in 8-bit floating point: another network, by rounding."""
    device = torch.device(bench.device)
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 9):
        raise NotAvailable("8-bit floating-point products need a GPU that has them (compute capability 8.9 or more)")
    return quantised(bench, "fp8")


def quantised(bench: Bench, scheme: str) -> Prepared:
    """The decoder's weights by the package's own quantisation."""
    if importlib.util.find_spec(QUANTIZE) is None:
        raise NotAvailable("this package quantises no weights")
    if importlib.util.find_spec("torchao") is None:
        raise NotAvailable("torchao is not installed")
    host = bench.own(scheme)
    importlib.import_module(QUANTIZE).quantize_weights(host, scheme)
    return host, {}


VARIANTS: dict[str, Callable[[Bench], Prepared]] = {
    "plain": plain,
    "fused": fused,
    "graphs": graphs,
    "fused, graphs": fused_graphs,
    "compile": compiled,
    "int8": int8,
    "fp8": fp8,
}
"""By name: what prepares a host. Raises NotAvailable."""
