"""Joined products: the same values up to rounding, the same tokens, the same names and as much memory."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import LlavaOnevisionForConditionalGeneration

from redvtp import DLLMCache, FastDLLM, LladaFastV, Model, PrefixDLM, RedVTP
from redvtp.models.fused import FusedAttention, FusedMLP, FusedNorm
from redvtp.models.llada_v import LladaV
from tests.redvtp.runs import assert_all_same, run
from tests.tiny import build_host, build_lavida

BUILD = {
    "llada_v": build_host,
    "lavida": build_lavida,
    "lavida bf16": lambda **options: build_lavida(dtype=torch.bfloat16, **options),
    "stock products": lambda **options: build_host(kv_heads=4, onednn=False, **options),
}
BLOCKS = {"length": 8, "steps": 8, "block_length": 4}


@pytest.fixture(scope="module", params=list(BUILD))
def pair(request):
    """A host as it is, and the same with joined products."""
    build = BUILD[request.param]
    return build(), build(fused=True)


def logits(host, prompts):
    state = host.begin(prompts, 8)
    canvas = torch.full((len(prompts), 8), host.mask_id)
    return host.forward(state, canvas, slice(0, 8)).logits


def test_logits_are_equal_up_to_rounding(pair, prompts):
    plain, fused = (logits(host, prompts) for host in pair)
    assert isinstance(pair[1].decoder.layers[0].self_attn, FusedAttention)
    assert isinstance(pair[1].decoder.norm, FusedNorm)
    assert not isinstance(pair[0].decoder.layers[0].mlp, FusedMLP)
    bar = 1e-4 if pair[0].model.dtype == torch.float32 else 3e-2
    assert float((plain - fused).norm() / plain.norm()) < bar


@pytest.mark.parametrize("cache", [None, PrefixDLM(), FastDLLM(refresh=3), DLLMCache(3, 2)], ids=repr)
@pytest.mark.parametrize("method", [None, RedVTP(keep=0.5), LladaFastV(keep=0.4)], ids=repr)
def test_tokens_are_the_same(pair, prompts, cache, method):
    if pair[0].model.dtype != torch.float32:
        pytest.skip("in half precision rounding can decide a token")
    plain, fused = (run(Model(host), prompts, method, cache=cache, **BLOCKS) for host in pair)
    assert_all_same(fused, plain)
    assert_all_same(run(Model(pair[1]), prompts, method, cache=cache, graphs="eager", **BLOCKS), plain)


def test_names_and_memory_are_those_of_the_stock_model(pair):
    plain, fused = (host.model.state_dict() for host in pair)
    assert list(plain) == list(fused)
    assert all(torch.equal(value, fused[name]) for name, value in plain.items())
    sizes = []
    for host in pair:
        storages = {weight.untyped_storage().data_ptr(): weight.untyped_storage() for weight in host.model.parameters()}
        sizes.append(sum(storage.nbytes() for storage in storages.values()))
    assert sizes[0] == sizes[1]
    for layer in pair[1].decoder.layers:
        shared = layer.self_attn.weight.untyped_storage().data_ptr()
        assert layer.self_attn.v_proj.weight.untyped_storage().data_ptr() == shared


def test_moving_casting_loading_and_copying_keep_it_whole(prompts):
    host, stock = build_host(fused=True), build_host(seed=5)
    host.model.load_state_dict(stock.model.state_dict())
    torch.testing.assert_close(logits(host, prompts[:1]), logits(stock, prompts[:1]), atol=1e-4, rtol=1e-4)
    for model in (host.model.double(), copy.deepcopy(host.model)):
        attention = model.model.language_model.layers[1].self_attn
        assert attention.weight.dtype == torch.float64
        attention.k_proj.weight.zero_()
        first, middle, _ = attention.heads(torch.randn(1, 3, 32, dtype=torch.float64))
        assert not bool(middle.any())
        assert bool(first.any())


def test_it_saves_and_loads_as_the_stock_model(tmp_path):
    host = build_host(fused=True)
    host.model.save_pretrained(tmp_path)
    back = LlavaOnevisionForConditionalGeneration.from_pretrained(tmp_path)
    for name, value in back.state_dict().items():
        assert torch.equal(value, host.model.state_dict()[name])
    host.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "redvtp.json").write_text("{}")
    assert isinstance(LladaV.from_folder(tmp_path, fused=True).decoder.layers[0].mlp, FusedMLP)
