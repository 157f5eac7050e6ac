"""The probe: equal to slices of the eager maps, whatever the heads, padding, rows, columns or layers."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from redvtp.attention import ATTENTION_NAME, AttentionProbe, attention_mass

LENGTH = 13


def decoder(heads: int, kv_heads: int, implementation: str = ATTENTION_NAME, causal: bool = False) -> LlamaModel:
    """A small Llama with peaky attention; the same weights for every implementation."""
    config = LlamaConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=heads,
        num_key_value_heads=kv_heads, vocab_size=16, is_causal=causal,
    )  # fmt: skip
    config._attn_implementation = implementation
    model = LlamaModel(config).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for _, value in sorted(model.named_parameters()):
            value.normal_(0, 0.4, generator=generator) if value.dim() > 1 else value.fill_(1.0)
    return model


def inputs(padding: bool):
    states = torch.randn(2, LENGTH, 24, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(2, LENGTH, dtype=torch.long)
    if padding:
        mask[0, :4] = 0
        mask[1, -3:] = 0
    return {"inputs_embeds": states, "attention_mask": mask, "position_ids": torch.arange(LENGTH)[None]}


def eager_maps(heads: int, kv_heads: int, padding: bool) -> torch.Tensor:
    """``[L, B, T, T]`` head means."""
    model = decoder(heads, kv_heads, "eager")
    return torch.stack(model(**inputs(padding), output_attentions=True).attentions).mean(2)


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
@torch.no_grad()
def test_probe_equals_the_eager_slice_through_the_stock_model(heads, kv_heads, padding):
    maps = eager_maps(heads, kv_heads, padding)
    rows = torch.tensor([[12, 5, -1], [0, 3, 7]])
    columns = torch.tensor([[4, 6, 8, 9], [2, 5, -1, -1]])
    probe = AttentionProbe(rows, columns, per_layer=True)
    plain = decoder(heads, kv_heads)(**inputs(padding)).last_hidden_state
    seen = decoder(heads, kv_heads)(**inputs(padding), probe=probe).last_hidden_state
    assert torch.equal(plain, seen)
    for layer in (1, 2, 3):
        for b, r, c in ((0, 2, 4), (1, 3, 2)):
            expected = maps[layer - 1, b][rows[b, :r]][:, columns[b, :c]]
            torch.testing.assert_close(probe.by_layer[layer][b, :r, :c], expected, atol=1e-6, rtol=0)
    assert bool((probe.total[1, :, 2:] == 0).all())
    torch.testing.assert_close(probe.total, sum(probe.by_layer.values()))
    torch.testing.assert_close(probe.mean() * 3, probe.total)


@torch.no_grad()
def test_a_layer_subset_sees_only_its_layers():
    rows, columns = torch.tensor([[1, 2]] * 2), torch.tensor([[3, 4]] * 2)
    full = AttentionProbe(rows, columns, per_layer=True)
    some = AttentionProbe(rows, columns, layers=(1, 3))
    decoder(4, 2)(**inputs(False), probe=full)
    decoder(4, 2)(**inputs(False), probe=some)
    assert some.seen == [1, 3]
    assert not some.by_layer
    torch.testing.assert_close(some.mean(), (full.by_layer[1] + full.by_layer[3]) / 2)


@torch.no_grad()
def test_rows_of_attention_sum_to_one_over_all_columns():
    everything = torch.arange(LENGTH).expand(2, -1)
    probe = AttentionProbe(everything, everything)
    decoder(4, 2)(**inputs(True), probe=probe)
    torch.testing.assert_close(probe.mean().sum(-1), torch.ones(2, LENGTH))
    assert float(probe.total[0, :, :4].max()) == 0


@torch.no_grad()
def test_the_first_token_sees_the_last():
    first, last = torch.tensor([[0]] * 2), torch.tensor([[LENGTH - 1]] * 2)
    probe = AttentionProbe(first, last)
    decoder(4, 4)(**inputs(False), probe=probe)
    assert bool((probe.total > 0).all())
    with pytest.raises(ValueError, match="is causal"):
        decoder(4, 4, causal=True)(**inputs(False), probe=AttentionProbe(first, last))


@pytest.mark.parametrize("shape", [(2, 1, LENGTH, LENGTH), (1, 1, LENGTH, LENGTH), (2, 1, 1, LENGTH)])
def test_boolean_and_additive_masks_agree(shape):
    generator = torch.Generator().manual_seed(3)
    query = torch.randn(2, 4, LENGTH, 6, generator=generator)
    key = torch.randn(2, 2, LENGTH, 6, generator=generator)
    mask = torch.rand(shape, generator=generator) > 0.4
    mask[..., 0] = True
    rows, columns = torch.tensor([[3, 0], [12, 5]]), torch.arange(LENGTH).expand(2, -1)
    boolean = attention_mass(query, key, mask, 0.5, rows, columns)
    added = torch.zeros(shape).masked_fill(~mask, float("-inf"))
    assert torch.equal(boolean, attention_mass(query, key, added, 0.5, rows, columns))
    scores = (query @ key.repeat_interleave(2, 1).transpose(2, 3)) * 0.5
    maps = scores.masked_fill(~mask, float("-inf")).softmax(-1).mean(1)
    torch.testing.assert_close(boolean, torch.stack([maps[b][rows[b]] for b in range(2)]))


def test_16_bit_queries_give_fp32_mass():
    generator = torch.Generator().manual_seed(4)
    query, key = (torch.randn(1, 2, 5, 4, generator=generator) for _ in range(2))
    rows = columns = torch.arange(5)[None]
    low = attention_mass(query.bfloat16(), key.bfloat16(), None, 1.0, rows, columns)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, attention_mass(query, key, None, 1.0, rows, columns), atol=0.05, rtol=0)


def test_a_probe_that_saw_nothing_says_so():
    with pytest.raises(ValueError, match="saw no layer"):
        AttentionProbe(torch.zeros(1, 1).long(), torch.zeros(1, 1).long(), layers=(9,)).mean()


@torch.no_grad()
def test_the_probe_leaves_no_trace_on_the_model():
    model = decoder(4, 2)
    before = copy.deepcopy(model.state_dict())
    model(**inputs(False), probe=AttentionProbe(torch.tensor([[1], [1]]), torch.tensor([[2], [2]])))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
