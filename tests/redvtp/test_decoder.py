"""The layer loop: equal to the stock model; cuts, rejoining and merging against plain computations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from redvtp.attention import AttentionProbe
from redvtp.models.base import LayerCut, State
from redvtp.models.decoder import run_layers
from redvtp.selection import Selection
from redvtp.sequence import PADDING, PROMPT, RESPONSE, VISUAL, Layout, plain_layout

WIDTH = 32


def layout_of(prompt: int, visual: int, response: int) -> Layout:
    parts = [plain_layout(PROMPT, prompt), plain_layout(VISUAL, visual), plain_layout(RESPONSE, response)]
    return Layout.concatenate(parts)


def states(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, length, WIDTH, generator=torch.Generator().manual_seed(seed))


def arange(layout: Layout) -> torch.Tensor:
    return torch.arange(layout.length).expand(len(layout.kind), -1)


@pytest.fixture(params=["grouped", "full"])
def decoder(request, host, mha_host):
    return (host if request.param == "grouped" else mha_host).decoder


def without_norm(decoder, hidden, positions, mask=None):
    """The stock model's last hidden states; ours stop before the final norm, so the norm is applied to ours."""
    return decoder(inputs_embeds=hidden, position_ids=positions, attention_mask=mask).last_hidden_state


@torch.no_grad()
def test_the_loop_equals_the_stock_model(decoder):
    layout = layout_of(3, 5, 4)
    hidden = states(1, layout.length)
    ours, lengths = run_layers(decoder, hidden, layout, arange(layout))
    torch.testing.assert_close(decoder.norm(ours), without_norm(decoder, hidden, arange(layout)), atol=2e-5, rtol=0)
    assert lengths.tolist() == [[12]] * 3


@torch.no_grad()
def test_the_first_token_sees_the_last(decoder):
    layout = layout_of(3, 5, 4)
    hidden = states(1, layout.length)
    changed = hidden.clone()
    changed[:, -1] += 1
    first = [run_layers(decoder, h, layout, arange(layout))[0][:, 0] for h in (hidden, changed)]
    assert float((first[0] - first[1]).abs().max()) > 1e-3


@torch.no_grad()
def test_padding_on_the_left_changes_nothing(decoder):
    short, long = layout_of(2, 3, 4), layout_of(5, 6, 4)
    batch = Layout.stack([short, long])
    hidden = states(2, batch.length)
    gap = long.length - short.length
    positions = torch.stack([(torch.arange(long.length) - gap).clamp(min=0), torch.arange(long.length)])
    together, lengths = run_layers(decoder, hidden, batch, positions)
    alone, _ = run_layers(decoder, hidden[:1, gap:], short, arange(short))
    torch.testing.assert_close(together[:1, gap:], alone, atol=2e-5, rtol=0)
    assert lengths[0].tolist() == [short.length, long.length]
    noise = hidden.clone()
    noise[0, :gap] = 100.0
    torch.testing.assert_close(run_layers(decoder, noise, batch, positions)[0][0, gap:], together[0, gap:])


@torch.no_grad()
def test_dropping_with_original_positions_equals_masking_the_columns(decoder):
    layout = layout_of(3, 8, 4)
    hidden = states(1, layout.length)
    keep = torch.tensor([[1, 4, 5]])
    masked = layout.kind.clone()
    dropped = torch.tensor([3, 5, 6, 9, 10])
    masked[0, dropped] = PADDING
    full, _ = run_layers(decoder, hidden, replace(layout, kind=masked), arange(layout))
    state = State(hidden[:, :-4], layout, arange(layout), layout.count(VISUAL)).apply(Selection(keep), "original")
    short = torch.cat([state.embeds, hidden[:, -4:]], 1)
    pruned, _ = run_layers(decoder, short, state.layout, state.positions)
    stays = [i for i in range(layout.length) if i not in dropped.tolist()]
    assert state.positions.tolist() == [stays]
    torch.testing.assert_close(pruned, full[:, stays], atol=1e-5, rtol=0)


@torch.no_grad()
def test_two_cuts_that_end_before_one_layer_give_back_the_last_dropped_first(decoder):
    layout, keep = layout_of(2, 6, 4), [0, 3, 4]
    hidden, place = states(1, layout.length), torch.arange(12)[None]
    cuts = {1: LayerCut(lambda *_: Selection(torch.tensor([keep])), until=3)}
    cuts[2] = LayerCut(lambda *_: Selection(torch.tensor([[1]])), until=3)
    ours, lengths = run_layers(decoder, hidden, layout, place, at_layer=cuts)
    joined = one_layer(decoder, 0, hidden, place)
    stay = layout.keep_visual(layout.columns_of(VISUAL), torch.tensor([keep]))[0]
    joined[:, stay] = one_layer(decoder, 1, joined[:, stay], torch.arange(len(stay))[None])
    assert lengths.flatten().tolist() == [12, 9, 12]
    torch.testing.assert_close(ours, one_layer(decoder, 2, joined, place), atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("positions", ["compact", "original"])
def test_a_cut_inside_the_loop_equals_two_half_runs(decoder, positions):
    layout = Layout.stack([layout_of(3, 6, 4), layout_of(2, 4, 4)])
    hidden = states(2, layout.length)
    start = torch.stack([torch.arange(13), (torch.arange(13) - 3).clamp(min=0)])
    selection = Selection(torch.tensor([[0, 2, 5], [1, 3, -1]]))
    seen = []

    def select(states_there, layout_there):
        seen.append(states_there)
        return selection

    ours, lengths = run_layers(decoder, hidden, layout, start, at_layer={1: LayerCut(select, positions)})
    columns = layout.keep_visual(layout.columns_of(VISUAL), selection.keep)
    assert lengths.tolist() == [[13, 10], [10, 8], [10, 8]]
    # By hand, one sample at a time: layer 1 on everything, layers 2 and 3 on what stays.
    for b in range(2):
        real = layout.real[b]
        own = hidden[b : b + 1, real]
        place = torch.arange(int(real.sum()))[None]
        after_1 = one_layer(decoder, 0, own, place)
        torch.testing.assert_close(seen[0][b : b + 1, real], after_1, atol=2e-5, rtol=0)
        stay = columns[b][columns[b] >= 0] - int((~real).sum())
        left, where = after_1[:, stay], place[:, stay] if positions == "original" else torch.arange(len(stay))[None]
        expected = one_layer(decoder, 2, one_layer(decoder, 1, left, where), where)
        torch.testing.assert_close(ours[b : b + 1, columns[b] >= 0], expected, atol=2e-5, rtol=0)


def one_layer(decoder, index, hidden, positions):
    """One decoder layer on one sample, both ways, no padding."""
    rotary = decoder.rotary_emb(hidden, position_ids=positions)
    return decoder.layers[index](hidden, attention_mask=None, position_embeddings=rotary, is_causal=False)


@torch.no_grad()
def test_rejoining_brings_the_dropped_tokens_back_as_they_were(decoder):
    layout = layout_of(2, 5, 3)
    hidden = states(1, layout.length)
    keep = torch.tensor([[0, 3]])
    cut = LayerCut(lambda *_: Selection(keep), "compact", until=3)
    rows, columns = torch.tensor([[7, 8, 9]]), layout.columns_of(VISUAL)
    probe = AttentionProbe(rows, columns, per_layer=True)
    ours, lengths = run_layers(decoder, hidden, layout, arange(layout), probe=probe, at_layer={1: cut})
    place = arange(layout)
    after_1 = one_layer(decoder, 0, hidden, place)
    stay = torch.tensor([0, 1, 2, 5, 7, 8, 9])
    joined = after_1.clone()
    joined[:, stay] = one_layer(decoder, 1, after_1[:, stay], torch.arange(7)[None])
    torch.testing.assert_close(ours, one_layer(decoder, 2, joined, place), atol=2e-5, rtol=0)
    assert lengths.flatten().tolist() == [10, 7, 10]
    # The probe follows: dropped columns read 0 in layer 2 only.
    dropped = torch.tensor([1, 2, 4])
    assert float(probe.by_layer[2][..., dropped].abs().max()) == 0
    assert float(probe.by_layer[3][..., dropped].min()) > 0
    assert torch.equal(probe.columns, columns)


@torch.no_grad()
def test_the_probe_follows_a_cut_to_the_same_tokens(decoder):
    layout = layout_of(2, 5, 3)
    hidden = states(1, layout.length)
    cut = LayerCut(lambda *_: Selection(torch.tensor([[1, 4]])), "original")
    probe = AttentionProbe(torch.tensor([[7, 9]]), layout.columns_of(VISUAL), per_layer=True)
    run_layers(decoder, hidden, layout, arange(layout), probe=probe, at_layer={1: cut})
    # The same forward with the dropped tokens hidden from layer 2 on.
    place, mask = arange(layout), torch.ones(1, 1, 1, 10, dtype=torch.bool)
    mask[..., [2, 4, 5]] = False
    after_1 = one_layer(decoder, 0, hidden, place)
    expected = AttentionProbe(torch.tensor([[7, 9]]), layout.columns_of(VISUAL))
    rotary = decoder.rotary_emb(after_1, position_ids=place)
    decoder.layers[1](after_1, attention_mask=mask, position_embeddings=rotary, is_causal=False, probe=expected)
    torch.testing.assert_close(probe.by_layer[2], expected.total, atol=1e-5, rtol=0)


@torch.no_grad()
def test_merging_equal_tokens_with_log_size_changes_nothing(decoder):
    """Three copies of one token at one position attend, and are attended to, like one of size three."""
    layout = layout_of(2, 5, 3)
    hidden = states(1, layout.length)
    hidden[:, 3] = hidden[:, 4] = hidden[:, 2]
    place = torch.tensor([[0, 1, 2, 2, 2, 3, 4, 5, 6, 7]])
    full, _ = run_layers(decoder, hidden, layout, place)
    weights = torch.zeros(1, 3, 5)
    weights[0, 0, :3] = 1 / 3
    weights[0, 1, 3] = weights[0, 2, 4] = 1
    selection = Selection(torch.tensor([[0, 3, 4]]), weights, torch.tensor([[3.0, 1.0, 1.0]]))
    state = State(hidden[:, :-3], layout, place, layout.count(VISUAL)).apply(selection, "original")
    assert state.size.tolist() == [[1, 1, 3, 1, 1, 1, 1, 1]]
    short = torch.cat([state.embeds, hidden[:, -3:]], 1)
    merged, _ = run_layers(decoder, short, state.layout, state.positions, state.size)
    stays = [0, 1, 2, 5, 6, 7, 8, 9]
    torch.testing.assert_close(merged, full[:, stays], atol=1e-5, rtol=0)
    plain, _ = run_layers(decoder, short, state.layout, state.positions)
    assert float((plain - full[:, stays]).abs().max()) > 1e-3


def test_compact_positions_close_the_gaps_and_original_ones_do_not():
    layout = Layout.stack([layout_of(3, 6, 2), layout_of(1, 2, 2)])
    positions = torch.stack([torch.arange(11), (torch.arange(11) - 6).clamp(min=0)])
    state = State(states(2, 9), layout, positions, layout.count(VISUAL))
    selection = Selection(torch.tensor([[2, 5], [0, -1]]))
    compact, original = (state.apply(selection, mode).positions for mode in ("compact", "original"))
    assert compact.tolist() == [[0, 1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 1, 2, 3]]
    assert original.tolist() == [[0, 1, 2, 5, 8, 9, 10], [0, 0, 0, 0, 1, 3, 4]]
    with pytest.raises(ValueError, match="expected one of compact, original"):
        state.apply(selection, "new")


def test_choosing_samples_drops_the_padding_that_is_no_longer_needed():
    layout = Layout.stack([layout_of(3, 6, 2), layout_of(1, 2, 2), layout_of(2, 2, 2)])
    state = State(states(3, 9), layout, arange(layout), layout.count(VISUAL))
    fewer = state.rows(torch.tensor([1, 2]))
    assert fewer.layout.length == 6
    assert fewer.embeds.shape == (2, 4, WIDTH)
    assert torch.equal(fewer.embeds, state.embeds[1:, 5:])
    assert fewer.original.tolist() == [2, 2]
