"""The last layer without the rows that nobody reads: same values, same attention, and the FLOPs it saves."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from analysis.speed_case import Case, build
from redvtp.attention import AttentionProbe
from redvtp.flops import forward_flops
from redvtp.models import decoder as loop
from redvtp.sequence import VISUAL

CASE = Case(hidden=48, layers=3, heads=4, mlp=64, vocabulary=90, visual=20, prompt=9, response=6, steps=3)
TAIL = CASE.response


@pytest.fixture(scope="module")
def host_and_state():
    return build(CASE)


def states(host, state, batch=1):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(batch, state.layout.length, CASE.hidden, generator=generator)


@torch.no_grad()
def test_the_tail_equals_the_end_of_the_whole(host_and_state):
    host, state = host_and_state
    hidden = states(host, state)
    whole, lengths = loop.run_layers(host.decoder, hidden, state.layout, state.positions)
    tail, short = loop.run_layers(host.decoder, hidden, state.layout, state.positions, tail=TAIL)
    assert tail.shape == (1, TAIL, CASE.hidden)
    torch.testing.assert_close(tail, whole[:, -TAIL:])
    assert short.equal(lengths)


@torch.no_grad()
def test_with_padding(host_and_state):
    host, state = host_and_state
    hidden = states(host, state, batch=2)
    index = torch.tensor([0, 0])
    layout, positions = state.layout.rows(index), state.positions[index]
    layout.kind[1, :4] = 0
    whole, _ = loop.run_layers(host.decoder, hidden, layout, positions)
    tail, _ = loop.run_layers(host.decoder, hidden, layout, positions, tail=TAIL)
    torch.testing.assert_close(tail, whole[:, -TAIL:])


@pytest.mark.parametrize("before", [0, 5], ids=["response rows", "rows before the tail, too"])
@torch.no_grad()
def test_the_probe_sees_the_same(host_and_state, before):
    host, state = host_and_state
    hidden, length = states(host, state), state.layout.length
    rows = torch.cat([torch.arange(length - TAIL, length), torch.arange(before), torch.tensor([-1])])[None]
    seen = []
    for tail in (None, TAIL):
        probe = AttentionProbe(rows, state.layout.columns_of(VISUAL), per_layer=True)
        out, _ = loop.run_layers(host.decoder, hidden, state.layout, state.positions, probe=probe, tail=tail)
        assert probe.seen == [1, 2, 3]
        seen.append((out[:, -TAIL:], *(mass[:, :-1] for mass in probe.by_layer.values())))
    for a, b in zip(*seen, strict=True):
        torch.testing.assert_close(a, b)


def test_the_formula_equals_the_counter_of_a_forward():
    host, state = build(CASE, stock=True)  # the counter does not know oneDNN's product
    canvas = torch.full((1, TAIL), host.mask_id)
    marked = torch.zeros_like(canvas, dtype=torch.bool)
    marked[:, 2:] = True
    # The counter does not know the CPU's fused kernel.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        output = host.forward(state, canvas, marked)
    expected = forward_flops(host.config.text_config, output.lengths, marked.sum(1), TAIL)[0]
    assert counter.get_total_flops() == expected
