"""The FLOPs formula against torch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaModel

from redvtp.attention import ATTENTION_NAME
from redvtp.flops import forward_flops, head_flops, layer_flops
from redvtp.models.llada_v import LladaV
from tests.redvtp.runs import run

SHAPES = (
    {"hidden_size": 40, "intermediate_size": 56, "num_attention_heads": 4, "num_key_value_heads": 4},
    {"hidden_size": 48, "intermediate_size": 100, "num_attention_heads": 6, "num_key_value_heads": 2},
    {"hidden_size": 36, "intermediate_size": 20, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 16},
)


def counted(config: LlamaConfig, model, head, length: int, rows: int) -> int:
    """Matrix products of a forward and the head on ``rows``."""
    hidden = torch.empty(1, length, config.hidden_size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        out = model(inputs_embeds=hidden, position_ids=torch.empty(1, length, dtype=torch.long, device="meta"))
        head(out.last_hidden_state[:, :rows])
    return counter.get_total_flops()


def rotary(config: LlamaConfig, length: int) -> int:
    """The rotary table's one product, which some versions of transformers make with a matrix product."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * (width // 2) * length


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("length", [1, 17, 130])
def test_the_formula_equals_the_counter(shape, length):
    config = LlamaConfig(**shape, num_hidden_layers=3, vocab_size=77, is_causal=False)
    config._attn_implementation = ATTENTION_NAME
    with torch.device("meta"):
        model, head = LlamaModel(config), torch.nn.Linear(config.hidden_size, 77, bias=False)
    expected = 3 * layer_flops(config, length) + head_flops(config, 1)
    assert counted(config, model, head, length, 1) - expected in (0, rotary(config, length))


def test_the_published_shape_costs_what_torch_counts():
    model = LladaV.on_meta()
    config = model.config.text_config
    model.set_attn_implementation({"text_config": ATTENTION_NAME})
    ours = forward_flops(config, torch.full((32, 1), 3000), torch.tensor([96]))[0]
    theirs = counted(config, model.model.language_model, model.lm_head, 3000, 96)
    assert theirs - ours in (0, rotary(config, 3000))
    assert ours == pytest.approx(4.66e13, rel=0.05)


def test_each_sample_pays_for_its_own_lengths():
    config = LlamaConfig(**SHAPES[0], num_hidden_layers=2, vocab_size=77)
    lengths = torch.tensor([[10, 20], [4, 20]])
    ours = forward_flops(config, lengths, torch.tensor([3, 0]))
    assert ours[0] == layer_flops(config, 10) + layer_flops(config, 4) + head_flops(config, 3)
    assert ours[1] == 2 * layer_flops(config, 20)


def test_a_run_adds_up_its_steps(model, prompts):
    result = run(model, prompts[:1], length=4, steps=2)[0]
    length = int(result.layout.real.sum())
    config = model.host.config.text_config
    layers = 2 * layer_flops(config, length) + layer_flops(config, length, tail=4)
    per_step = [layers + head_flops(config, rows) for rows in (4, 2)]
    assert result.flops == sum(per_step)
