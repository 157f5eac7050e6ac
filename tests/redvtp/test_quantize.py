"""Weights in 8 bits: refused clearly where they cannot be had, close to the weights where they can."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from redvtp.quantize import SCHEMES, quantize_weights
from tests.tiny import build_host


def test_without_torchao_the_message_says_what_to_install(monkeypatch, host):
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(ImportError, match="pip install torchao"):
        quantize_weights(host)


def test_what_cannot_be_meant_is_refused(host):
    with pytest.raises(ValueError, match="scheme='int3': expected one of int8, fp8"):
        quantize_weights(host, "int3")
    with pytest.raises(ValueError, match="products are joined"):
        quantize_weights(build_host(fused=True))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_decoder_is_close_to_what_it_was_and_the_rest_is_the_same(prompts, scheme):
    pytest.importorskip("torchao")
    plain, small = build_host(onednn=False), build_host(onednn=False)
    quantize_weights(small, scheme)
    canvas = torch.full((1, 4), plain.mask_id)
    before, after = (
        host.forward(host.begin(prompts[:1], 4), canvas, slice(0, 4)).logits for host in (plain, small)
    )
    assert not torch.equal(before, after)
    for old, new in zip(plain.decoder.layers.parameters(), small.decoder.layers.parameters(), strict=True):
        back = new.dequantize() if type(new) is not nn.Parameter else new
        assert float((back - old).norm() / old.norm()) < 0.06
    kinds = {type(layer.weight) for layer in small.decoder.layers.modules() if isinstance(layer, nn.Linear)}
    assert nn.Parameter not in kinds
    assert torch.equal(small.model.lm_head.weight, plain.model.lm_head.weight)
