"""oneDNN's linear layers: the same parameters and, within rounding, the same products."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from redvtp.models.linear import OneDnnLinear, has_onednn, use_onednn


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (3, 7), (2, 3, 7), (0,)])
def test_products_are_those_of_the_stock_layer(bias, shape):
    stock = nn.Linear(16, 24, bias=bias).requires_grad_(False)
    x = torch.randn(*shape, 16)
    found = OneDnnLinear.like(stock)(x)
    assert found.shape == (*shape, 24)
    assert torch.allclose(found, stock(x), atol=1e-5)


def test_it_is_stock_wherever_onednn_is_not_meant():
    stock = nn.Linear(8, 8)
    layer = OneDnnLinear.like(stock)
    x = torch.randn(2, 8)
    layer(x).sum().backward()  # gradients still flow
    assert stock.weight.grad is not None
    assert layer.to("meta")(x.to("meta")).shape == (2, 8)
    half = OneDnnLinear.like(nn.Linear(8, 8)).bfloat16()
    assert half(x.bfloat16()).dtype == torch.bfloat16


def test_a_model_keeps_its_parameters_and_names():
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.GELU(), nn.Linear(4, 2, bias=False))).eval()
    before = {name: value.data_ptr() for name, value in model.state_dict().items()}
    use_onednn(model)
    assert {name: value.data_ptr() for name, value in model.state_dict().items()} == before
    kinds = {type(module) for module in model.modules() if isinstance(module, nn.Linear)}
    assert kinds == ({OneDnnLinear} if has_onednn() else {nn.Linear})
    assert not any(module.training for module in model.modules())
