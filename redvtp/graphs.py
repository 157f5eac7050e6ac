"""Forwards of one shape that a run repeats: captured once as a CUDA graph, replayed after that.

After a cut all steps have the same shape, and a cached step is a few thousand kernels that are each over before the
host has launched the next; a graph launches them as one. What a captured forward reads lies in buffers of its own,
which every replay finds at the same address: canvas, prompt embeddings, positions, padding, and the keys and values
of a cache. They are filled when another state comes; from step to step only the canvas changes.

The forward computes the logits of every response row in it, masked or not. Their number would change from step to
step otherwise, and with it the shape: a graph for each number would be captured and used once. The output head's rows
are a small part of a step (0.2% of its products at the 8B shapes with 1000 columns, and its weights are read anyway).
"""

from __future__ import annotations

import warnings
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import LongTensor, Tensor

from redvtp.attention import AttentionProbe
from redvtp.models.base import Host, LayerCut, Output, Span, State
from redvtp.models.keyvalues import KeyValues
from redvtp.models.spans import plain_work, turn_keys
from redvtp.selection import is_whole

Call = Callable[[], Tensor]


class Eager:
    """Replays a forward by running it: the same buffers and copies, without a graph."""

    def __init__(self, call: Call, device: torch.device) -> None:
        self.call = call

    def __call__(self) -> Tensor:
        return self.call()


class Captured:
    """Runs a forward the first time, which also warms up its kernels; captures it the second time; then replays it."""

    pools: dict[torch.device, tuple] = {}

    def __init__(self, call: Call, device: torch.device) -> None:
        self.call, self.device, self.warm = call, device, False
        self.graph: torch.cuda.CUDAGraph | None = None
        self.output: Tensor | None = None

    def __call__(self) -> Tensor:
        if not self.warm:
            self.warm = True
            return self.call()
        with torch.cuda.device(self.device):
            if self.graph is None:
                self.capture()
            self.graph.replay()
        return self.output

    def capture(self) -> None:
        """Record the forward's kernels. All graphs of a device share one pool of memory: none runs beside another."""
        pool = self.pools.setdefault(self.device, torch.cuda.graph_pool_handle())
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            self.output = self.call()
        self.graph = graph


RUNNERS: dict[str, Callable[[Call, torch.device], Call]] = {"cuda": Captured, "eager": Eager}


class Graphs:
    """Captured forwards of a host, by shape. A run hands its forwards over where ``refusal`` has nothing to say.

    Args:
        host: the model; its weights have to stay where they are.
        kind: "cuda", or "eager", which runs the same path on any device without a graph.
        keep: shapes to hold, the latest used ones.

    Attributes:
        counts: how many forwards were run here ("run"), and why others were not.

    Raises:
        ValueError: an unknown kind, CUDA graphs of a model that is elsewhere, or fewer than one shape.
    """

    def __init__(self, host: Host, kind: str = "cuda", keep: int = 8) -> None:
        if kind not in RUNNERS:
            raise ValueError(f"graphs={kind!r}: expected one of {', '.join(RUNNERS)}")
        if kind == "cuda" and host.device.type != "cuda":
            raise ValueError(f"graphs='cuda': the model is on {host.device}; graphs='eager' runs without a GPU")
        if not is_whole(keep) or keep < 1:
            raise ValueError(f"keep={keep!r}: expected a whole number of shapes, 1 or more")
        self.host, self.kind, self.keep = host, kind, keep
        self.shapes: OrderedDict[tuple, Shape] = OrderedDict()
        self.counts: Counter[str] = Counter()

    def refusal(
        self,
        state: State,
        canvas: LongTensor,
        rows: Tensor | slice,
        probe: AttentionProbe | None,
        cuts: Mapping[int, LayerCut] | None,
        span: Span | None,
    ) -> str | None:
        """Why a forward cannot be replayed; None if it can."""
        if probe is not None:
            return "attention is watched"
        if cuts:
            return "a cut falls inside the forward"
        if not isinstance(rows, slice):
            return "which rows need logits is not the same for all samples"
        if state.samples is not None:
            return "it is of a part of the batch"
        if span is not None and span.is_all(canvas.shape[1]):
            return "it fills the cache anew"
        if span is not None and (span.prompt or span.share is not None or state.cache.keeps_parts):
            return "which rows are computed depends on their values"
        if span is not None and state.cache.forgotten is not None:
            return "each head attends to columns of its own"
        return None

    def forward(self, state: State, canvas: LongTensor, rows: slice, span: Span | None, branch: int = 0) -> Output:
        """What ``host.forward`` returns for the rows of a slice.

        Args:
            branch: 0, or 1 for the unconditional state of guidance: the two take turns, and have buffers of their own.
        """
        key = (
            branch,
            span,
            (rows.start, rows.stop),
            tuple(canvas.shape),
            (state.layout.length, state.layout.prompt_length, state.layout.padded),
            (state.embeds.dtype, state.embeds.device, state.size is None),
        )
        shape = self.shapes.pop(key, None)
        if shape is None:
            shape = Shape(self.host, state, canvas, rows, span, RUNNERS[self.kind])
        self.shapes[key] = shape
        while len(self.shapes) > self.keep:
            self.shapes.popitem(last=False)
        self.counts["run"] += 1
        lengths, work = plain_work(state, span, self.host.layers)
        return Output(shape.run(state, canvas), lengths, work)


class Shape:
    """The buffers of one shape, and the forward that reads them (see Graphs.forward for the arguments)."""

    def __init__(
        self, host: Host, state: State, canvas: LongTensor, rows: slice, span: Span | None, runner: Callable
    ) -> None:
        self.host, self.canvas = host, canvas.clone()
        self.loaded: Callable[[], State | None] = lambda: None
        self.owner: Callable[[], KeyValues | None] = lambda: None
        embeds = state.embeds if span is None else state.embeds[:, :0]  # a span of rows reads the prompt from the cache
        cache = None
        if span is not None:
            turn_keys(host.decoder, state.cache)
            cache = state.cache.copy()
        self.state = replace(
            state,
            embeds=embeds.clone(),
            layout=state.layout.own_kind(),
            positions=state.positions.clone(),
            size=None if state.size is None else state.size.clone(),
            cache=cache,
        )
        words = () if span is None else (span,)
        self.call = runner(
            lambda: host.forward(self.state, self.canvas, rows, None, None, *words).logits, canvas.device
        )

    def run(self, state: State, canvas: LongTensor) -> Tensor:
        """The logits, in memory of their own."""
        if self.loaded() is not state:
            self.load(state)
        if state.cache is not None:
            self.adopt(state.cache)
        self.canvas.copy_(canvas)
        return self.call().clone()

    def load(self, state: State) -> None:
        """Take over what a state holds but for its cache."""
        mine = self.state
        if mine.cache is None:
            mine.embeds.copy_(state.embeds)
        mine.positions.copy_(state.positions)
        mine.layout.take_kind(state.layout)
        if mine.size is not None:
            mine.size.copy_(state.size)
        self.loaded = weakref.ref(state)

    def adopt(self, cache: KeyValues) -> None:
        """Make the buffers the cache's own, so that what a replay writes is in the cache.

        A cache that was here before and is still used by another run gets back what it holds, in memory of its own.
        """
        mine, before = self.state.cache, self.owner()
        if before is cache and self.holds(cache):
            return
        if before is not None and before is not cache and self.holds(before):
            before.layers = before.copy().layers
        turn_keys(self.host.decoder, cache)
        for number, layer in cache.layers.items():
            for name in ("keys", "values", "turned"):
                getattr(mine.layers[number], name).copy_(getattr(layer, name))
        cache.layers = dict(mine.layers)
        self.owner = weakref.ref(cache)

    def holds(self, cache: KeyValues) -> bool:
        """Whether the cache's contents are these buffers."""
        mine = self.state.cache.layers
        return len(cache.layers) == len(mine) and all(cache.layers.get(number) is mine[number] for number in mine)


def chosen_graphs(host: Host, graphs: bool | str, made: dict[str, Graphs]) -> Graphs | None:
    """The graphs that a caller's word asks for, those made before if there are.

    Args:
        graphs: False for none; True or "cuda"; "eager" for the same path without a graph.
        made: by kind; new ones are added.

    Warns:
        UserWarning: CUDA graphs of a model that is not on a CUDA device; the run goes on without.
    """
    if graphs is False or graphs is None:
        return None
    kind = "cuda" if graphs is True else graphs
    if kind == "cuda" and host.device.type != "cuda":
        warnings.warn(f"graphs={graphs!r}: the model is on {host.device}, so this run has no CUDA graphs", stacklevel=4)
        return None
    if kind not in made:
        made[kind] = Graphs(host, kind)
    return made[kind]
