"""Weights in 8 bits, by torchao: less memory, and less to read where a step runs on few rows. Tokens can change."""

from __future__ import annotations

import importlib

from torch import nn

from redvtp.models.fused import Joined
from redvtp.models.llava import LlavaHost

SCHEMES = {"int8": "Int8WeightOnlyConfig", "fp8": "Float8WeightOnlyConfig"}


def quantize_weights(host: LlavaHost, scheme: str = "int8") -> None:
    """Quantise the linear layers of the language model's decoder in place, weights only; the output head, embeddings
    and the vision tower stay as they are.

    This is no part of the reproduction: unlike everything else that makes a run fast here, it changes the weights, and
    with them what is generated. Evaluate it as another model.

    Args:
        host: without joined products (``fused=False``).
        scheme: "int8", or "fp8" (e4m3, which needs a GPU of compute capability 8.9 or more to be fast).

    Raises:
        ImportError: torchao is not installed, or one without that scheme.
        ValueError: an unknown scheme, or a host whose products are joined.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"scheme={scheme!r}: expected one of {', '.join(SCHEMES)}")
    if any(isinstance(module, Joined) for module in host.decoder.modules()):
        raise ValueError("the host's products are joined (fused=True); quantise a host without")
    try:
        torchao = importlib.import_module("torchao.quantization")
        config = getattr(torchao, SCHEMES[scheme])()
    except (ImportError, AttributeError) as error:
        message = f"scheme={scheme!r} needs torchao (tested with 0.18.0): pip install torchao ({error})"
        raise ImportError(message) from error
    torchao.quantize_(host.decoder.layers, config, filter_fn=lambda module, name: isinstance(module, nn.Linear))
