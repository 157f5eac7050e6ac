"""What a step computes under a cache, and the forwards of a step: one for all samples that compute the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import LongTensor, Tensor

from redvtp.attention import AttentionProbe
from redvtp.caching import CachePolicy, Moment
from redvtp.flops import Work
from redvtp.generation.cutting import BY_LAYER, thinned
from redvtp.graphs import Graphs
from redvtp.models.base import Host, LayerCut, Output, Span, State
from redvtp.models.keyvalues import KeyValues
from redvtp.pruning.base import Pruner
from redvtp.selection import Cut, Needs
from redvtp.transfers import sent


def check_cache(cache: CachePolicy | None, host: Host, pruner: Pruner | None = None) -> None:
    """Refuse, before any work, a cache that cannot be used, or not with this method.

    Raises:
        ValueError: naming the cache, or the method that cannot do without one, and what is missing.
    """
    if cache is None:
        if getattr(pruner, "per_head", False):
            raise ValueError(
                f"{pruner.name}, per_head=True: each head keeps keys and values of its own in a cache; got cache=None, "
                "expected e.g. PrefixDLM(), FastDLLM() or DLLMCache()"
            )
        return
    if isinstance(cache, type) or not callable(getattr(cache, "span", None)):
        raise ValueError(f"cache={cache!r}: expected a cache with its parameters, e.g. FastDLLM(refresh=32), or None")
    if "cache" not in host.can:
        raise ValueError(f"{cache.name}: host {host.name} cannot run with a cache")
    if getattr(pruner, "rounding", "exact") == "official":
        raise ValueError(f"{pruner.name}, rounding='official': the official code prunes without a cache")


def with_cache(state: State, cache: CachePolicy | None) -> State:
    """The state with an empty cache of its own."""
    if cache is None:
        return replace(state, cache=None)
    return replace(state, cache=KeyValues(state.positions, cache.alone, cache.keeps_parts))


def own_cache(state: State | None) -> State | None:
    """The state with its cache in memory of its own."""
    return state if state is None or state.cache is None else replace(state, cache=state.cache.copy())


def choose_spans(
    cache: CachePolicy, state: State, moments: Sequence[Moment], length: int, cuts: Sequence[tuple[Cut, Needs]]
) -> list[Span]:
    """What a step computes for each sample: what the cache says, or everything where that is not enough.

    Args:
        moments: one a sample.
        length: rows of the response.
        cuts: in or after the step, with what they need.
    """
    chosen = []
    for moment in moments:
        span = cache.span(moment)
        enough = bool(state.cache.layers) and all(serves(span, cut, needs, length) for cut, needs in cuts)
        chosen.append(span if enough else moment.everything)
    return chosen


def serves(span: Span, cut: Cut, needs: Needs, length: int) -> bool:
    """Whether a step that computes ``span`` lets a cut in or after it see what it needs.

    A cut inside the step drops tokens between two layers, which only a forward over all of them can do.
    """
    if cut.layer is not None or ("prompt" in needs.attention and not span.prompt):
        return False
    if needs.values and not span.prompt:
        return False
    rows = span.share is None and span.start == 0 and span.stop >= length
    return rows or not (needs.heads or "response" in needs.attention)


def within(spans: Sequence[Span] | None, rows: Tensor) -> Tensor:
    """Of the marked ``rows [B, R]`` those that the spans compute."""
    if spans is None:
        return rows
    place = torch.arange(rows.shape[1], device=rows.device)
    return rows & torch.stack([(place >= span.start) & (place < span.stop) for span in spans])


def run_spans(
    host: Host,
    state: State,
    canvas: LongTensor,
    rows: Tensor | slice,
    spans: Sequence[Span] | None,
    probe: AttentionProbe | None,
    cuts: Mapping[int, LayerCut],
    graphs: Graphs | None = None,
    branch: int = 0,
) -> Output:
    """The forwards of one step, as one; spans ``[B]`` are None without a cache (see Host.forward).

    Args:
        graphs: replays what can be replayed.
        branch: 0, or 1 for the unconditional state of guidance.

    Rows that were not computed are marked by -1 in ``probe.rows``.
    """
    if graphs is not None and (spans is None or len(set(spans)) == 1):
        span = None if spans is None else spans[0]
        refused = graphs.refusal(state, canvas, rows, probe, cuts, span)
        if refused is None:
            return graphs.forward(state, canvas, rows, span, branch)
        graphs.counts[refused] += 1
    if spans is None:
        return host.forward(state, canvas, rows, probe, cuts)
    if probe is not None:
        first = state.layout.prompt_length
        computed = [span.computes(own, first) for span, own in zip(spans, probe.rows, strict=True)]
        probe.rows = probe.rows.masked_fill(~torch.stack(computed), -1)
    groups: dict[Span, list[int]] = {}
    for place, span in enumerate(spans):
        groups.setdefault(span, []).append(place)
    if len(groups) == 1:
        return forward(host, state, canvas, rows, probe, cuts, spans[0])
    outputs, probes, order = [], [], []
    for span, places in groups.items():
        index = sent(places, canvas.device, torch.long)
        seen = None if probe is None else thinned(probe, index)
        outputs.append(forward(host, state.part(index), canvas[index], rows[index], seen, cuts, span))
        probes.append(seen)
        order.append(index)
    back = torch.tensor([place for places in groups.values() for place in places]).argsort()
    if probe is not None:
        gather_probes(probe, probes, sent(back, canvas.device))
    return gather_outputs(outputs, rows, order, back)


def forward(
    host: Host,
    state: State,
    canvas: LongTensor,
    rows: Tensor | slice,
    probe: AttentionProbe | None,
    cuts: Mapping[int, LayerCut],
    span: Span,
) -> Output:
    """One forward of samples that compute the same; a probe whose rows are not among it sees zeros."""
    if probe is None or probe.values or span.is_all(canvas.shape[1]) or bool((probe.rows >= 0).any()):
        return host.forward(state, canvas, rows, probe, cuts, span)
    output = host.forward(state, canvas, rows, None, cuts, span)
    probe.seen = [layer for layer in range(1, host.layers + 1) if probe.watches(layer)]
    probe.total = torch.zeros(*probe.rows.shape, probe.columns.shape[1], device=probe.rows.device)
    if probe.per_layer:
        probe.by_layer = dict.fromkeys(probe.seen, probe.total)
    return output


def gather_outputs(
    outputs: Sequence[Output], rows: Tensor, order: Sequence[LongTensor], back: LongTensor
) -> Output:
    """One output of the whole batch from those of groups of its samples; ``back [B]`` undoes their order."""
    owner = torch.arange(len(rows), device=rows.device)[:, None].expand_as(rows)[rows]
    logits = outputs[0].logits.new_empty(len(owner), outputs[0].logits.shape[1])
    for output, index in zip(outputs, order, strict=True):
        logits[torch.isin(owner, index)] = output.logits
    work = {
        name: torch.cat([getattr(output.work, name) for output in outputs], 1)[:, back]
        for name in vars(outputs[0].work)
    }
    return Output(logits, torch.cat([output.lengths for output in outputs], 1)[:, back], Work(**work))


def gather_probes(probe: AttentionProbe, parts: Sequence[AttentionProbe], back: LongTensor) -> None:
    """Give a probe of the whole batch what those of groups of its samples have seen (see gather_outputs)."""
    probe.total = None if parts[0].total is None else torch.cat([part.total for part in parts])[back]
    probe.seen = parts[0].seen
    for name in BY_LAYER:
        for layer in getattr(parts[0], name):
            getattr(probe, name)[layer] = torch.cat([getattr(part, name)[layer] for part in parts])[back]
