"""One forward over a part of the columns, with keys and values of the others from the state's cache."""

from __future__ import annotations

from collections.abc import Mapping

from torch import LongTensor, Tensor
from transformers import LlamaModel

from redvtp.attention import AttentionProbe
from redvtp.flops import Work
from redvtp.models.base import LayerCut, Span, State
from redvtp.models.changed_rows import run_changed
from redvtp.models.decoder import head_mask, key_mask, run_layer, run_layers, through
from redvtp.models.keyvalues import KeyValues, Writer


def run_span(
    decoder: LlamaModel,
    state: State,
    rows: Tensor,
    span: Span,
    probe: AttentionProbe | None = None,
    at_layer: Mapping[int, LayerCut] | None = None,
) -> tuple[Tensor, LongTensor, Work]:
    """Run all decoder layers on the columns of a span, without the final norm; the state's cache is brought up to date.

    Args:
        rows: ``[B, R, D]`` embeddings of the whole response and suffix.
        at_layer: cuts by layer, which only a span of all columns can have.

    Returns:
        The span's rows ``[B, stop - start, D]`` after the last layer, the real columns that each layer ran on
        ``[L, B]``, and what that cost.

    Raises:
        ValueError: a span that no forward can do.
    """
    turn_keys(decoder, state.cache)
    if span.is_all(rows.shape[1]):
        return run_all(decoder, state, rows, probe, at_layer)
    if at_layer:
        raise ValueError(f"cuts after layers {sorted(at_layer)} need a forward over all columns, not {span}")
    whole = span.start == 0 and span.stop == rows.shape[1]
    if span.share is not None and whole:
        return run_changed(decoder, state, rows, span, columns_gone(state))
    if span.prompt or span.share is not None:
        raise ValueError(f"{span}: the prompt is computed together with all rows")
    return run_rows(decoder, state, rows[:, span.start : span.stop], span, probe)


def turn_keys(decoder: LlamaModel, cache: KeyValues) -> None:
    """Rotate the kept keys whose columns have moved."""
    cache.turn(lambda like, positions: decoder.rotary_emb(like, position_ids=positions), head_width(decoder))


def plain_work(state: State, span: Span | None, layers: int) -> tuple[LongTensor, Work | None]:
    """Columns that each layer runs on ``[L, B]``, and the work, of a forward without cuts: over all columns (None) or
    a span of rows."""
    if span is None:
        return state.layout.lengths.repeat(layers, 1), None
    work = Work.part(span.stop - span.start, state.layout.lengths, layers, columns_gone(state))
    return work.rows, work


def columns_gone(state: State) -> Tensor | int:
    """``[L, B]`` columns that a head has let go of, mean over a layer's heads; 0 where none has."""
    forgotten = state.cache.forgotten
    if forgotten is None:
        return 0
    return forgotten.mean if state.samples is None else forgotten.mean[:, state.samples.cpu()]


def head_width(decoder: LlamaModel) -> int:
    """Width of an attention head."""
    return decoder.layers[0].self_attn.head_dim


def run_all(
    decoder: LlamaModel,
    state: State,
    rows: Tensor,
    probe: AttentionProbe | None,
    at_layer: Mapping[int, LayerCut] | None,
) -> tuple[Tensor, LongTensor, Work]:
    """A span of all columns (see run_span)."""
    tail = rows.shape[1]
    hidden, lengths = run_layers(
        decoder,
        state.with_rows(rows),
        state.layout,
        state.positions,
        state.size,
        probe,
        at_layer,
        tail=tail,
        store=state.cache,
        samples=state.samples,
    )
    alone = lengths - tail if state.cache.alone else None
    return hidden, lengths, Work.whole(lengths, tail, alone, columns_gone(state))


def run_rows(
    decoder: LlamaModel, state: State, hidden: Tensor, span: Span, probe: AttentionProbe | None
) -> tuple[Tensor, LongTensor, Work]:
    """A span of neighbouring rows ``hidden [B, R, D]`` (see run_span)."""
    layout, store = state.layout, state.cache
    columns = slice(layout.prompt_length + span.start, layout.prompt_length + span.stop)
    rotary = decoder.rotary_emb(hidden, position_ids=state.positions[:, columns])
    keywords = through(Writer(store, layout, columns, rotary, state.samples))
    mask = key_mask(layout, state.size, hidden.dtype)
    if probe is not None:
        probe.first = columns.start
    keywords |= {"is_causal": False, "probe": probe}
    for layer in decoder.layers:
        seen = head_mask(mask, layer, store, state.samples)
        hidden = run_layer(layer, hidden, hidden.shape[1], attention_mask=seen, **keywords)
    return hidden, *plain_work(state, span, len(decoder.layers))
