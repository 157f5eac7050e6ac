"""What generation asks of a host model: begin a state, run a forward, say what it can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import LongTensor, Tensor

from redvtp.attention import AttentionProbe
from redvtp.flops import Work
from redvtp.models.keyvalues import KeyValues
from redvtp.rounding import Rounding
from redvtp.selection import POSITIONS, Selection
from redvtp.sequence import VISUAL, Layout


@dataclass(frozen=True)
class Prompt:
    """One question about any number of images.

    Attributes:
        question: text; may hold as many ``<image>`` markers as there are images, else they go in front.
        images: PIL images, file paths, or arrays (see redvtp.images.read_image).
    """

    question: str
    images: Sequence[Any] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.question, str):
            raise ValueError(f"question={self.question!r}: expected a text")
        if not isinstance(self.images, (list, tuple)):
            raise ValueError(f"images: expected a list of images, got one {type(self.images).__name__}")


@dataclass(frozen=True)
class Unseen:
    """Response columns that other rows do not attend to; a row always sees itself.

    Attributes:
        columns: ``[B, R]`` which of the response and suffix.
        everywhere: True hides them from the prompt's and the visual rows, too, so that what they hold reaches no row
            by way of these; False from the rows of response and suffix alone.
    """

    columns: Tensor
    everywhere: bool = False

    def rows(self, index: LongTensor) -> Unseen:
        """Of the samples ``index``."""
        return Unseen(self.columns[index], self.everywhere)

    def blocked(self, length: int) -> Tensor:
        """``[B, T, T]`` pairs of a row and a column among ``length`` that are not attended to; R at the end."""
        batch, own = self.columns.shape
        first = length - own
        pairs = self.columns.new_zeros(batch, length, length)
        pairs[:, 0 if self.everywhere else first :, first:] = self.columns[:, None]
        return pairs & ~torch.eye(length, dtype=torch.bool, device=pairs.device)


@dataclass(frozen=True)
class State:
    """Embeddings of everything before the response, what each column of the whole sequence is, and, where a cache
    is used, the layers' keys and values.

    Attributes:
        embeds: ``[B, P, D]`` prompt and visual embeddings, padded on the left.
        layout: of all T = P + response + suffix columns.
        positions: ``[B, T]`` rotary positions.
        original: ``[B]`` visual tokens before any cut.
        size: ``[B, T]`` originals that each column stands for, or None where nothing was merged.
        cache: filled and read by forwards, in place; None where nothing is cached.
        samples: ``[B]`` the rows of the cache that are this state's; None for all of them.
        unseen: response columns that are hidden from other rows; None for none. Not with a cache.
    """

    embeds: Tensor
    layout: Layout
    positions: LongTensor
    original: LongTensor
    size: Tensor | None = None
    cache: KeyValues | None = None
    samples: LongTensor | None = None
    unseen: Unseen | None = None

    def apply(self, selection: Selection, positions: str = "compact", layers: int | None = None) -> State:
        """The state in which only the selection's visual tokens are left; in the cache, too.

        Args:
            positions: "compact" closes the gaps (official), "original" leaves each token where it was.
            layers: for a cut inside a forward, the layer after which it fell: the cached columns of later layers
                are without the dropped tokens already.
        """
        visual = self.layout.columns_of(VISUAL)
        columns = self.layout.keep_visual(visual, selection.keep)
        embeds = merge_visual(self.embeds, visual, selection)
        prompt = columns[:, : columns.shape[1] - (self.layout.length - self.layout.prompt_length)]
        layout = self.layout.take(columns)
        moved, cache = move_positions(self.positions, layout, columns, positions), self.cache
        if selection.heads is not None:
            if cache is None:
                raise ValueError("a selection by heads is of a cache, and this state has none")
            cache = cache.forget(selection, visual)
        if cache is not None:
            cache = cache.move(lambda kept: take_columns(merge_visual(kept, visual, selection), columns), moved, layers)
        return replace(
            self,
            cache=cache,
            embeds=take_columns(embeds, prompt),
            layout=layout,
            positions=moved,
            size=move_size(self.size, visual, columns, selection),
        )

    def rows(self, index: LongTensor) -> State:
        """The state of the samples ``index``, without the padding that they no longer need."""
        layout = self.layout.rows(index)
        spare = int((~layout.real).sum(1).min())
        keep = torch.arange(spare, layout.length, device=index.device)
        return replace(
            self,
            embeds=self.embeds[index, spare:],
            layout=layout.take(keep.expand(len(index), -1)) if spare else layout,
            positions=self.positions[index, spare:],
            original=self.original[index],
            size=None if self.size is None else self.size[index, spare:],
            cache=None if self.cache is None else self.cache.rows(index, spare),
            unseen=None if self.unseen is None else self.unseen.rows(index),
        )

    def with_rows(self, rows: Tensor) -> Tensor:
        """``[B, T, D]`` embeddings of all columns; ``rows [B, R, D]`` are those of the response and suffix."""
        return torch.cat([self.embeds, rows], 1)

    def part(self, index: LongTensor) -> State:
        """The samples ``index`` as they are, for one forward: they keep their padding and share this cache."""
        return replace(
            self,
            embeds=self.embeds[index],
            layout=self.layout.rows(index),
            positions=self.positions[index],
            original=self.original[index],
            size=None if self.size is None else self.size[index],
            samples=None if self.cache is None else index,
        )


@dataclass(frozen=True)
class Span:
    """Which columns one forward computes; keys and values of the others come from the cache.

    Attributes:
        start, stop: rows of the response and suffix, from 0.
        prompt: also everything before the response. A forward over all columns fills the cache.
        share: of the rows only this share, those whose values changed most since they were last computed, layer
            by layer; to the others each layer adds what it added then (dLLM-Cache). None for all of them.
    """

    start: int
    stop: int
    prompt: bool = False
    share: float | None = None

    def is_all(self, rows: int) -> bool:
        """Whether every column is computed, where the response and suffix have so many rows."""
        return self.prompt and self.share is None and self.start == 0 and self.stop == rows

    def computes(self, columns: LongTensor, first: int) -> Tensor:
        """Which of these columns are surely computed; the response begins at column ``first``."""
        within = (columns >= first + self.start) & (columns < first + self.stop) & (self.share is None)
        return within | ((columns < first) & (columns >= 0) & self.prompt)


@dataclass(frozen=True)
class LayerCut:
    """A cut inside a forward.

    Attributes:
        select: called with the hidden states ``[B, T, D]`` after the layer and the layout there.
        positions: rotary positions of the rest of the forward, "compact" or "original".
        until: the dropped tokens rejoin before this layer.
    """

    select: Callable[[Tensor, Layout], Selection]
    positions: str = "compact"
    until: int | None = None


@dataclass(frozen=True)
class Output:
    """What one forward returns.

    Attributes:
        logits: ``[M, V]`` fp32, one row for each True of ``logit_rows``, in row-major order.
        lengths: ``[L, B]`` real columns that each decoder layer ran on, in the host's memory.
        work: what that cost (see redvtp.flops.Work); None where it is a forward over all columns, without a cache.
    """

    logits: Tensor
    lengths: LongTensor
    work: Work | None = None


class Host(Protocol):
    """A diffusion vision-language model, as the denoising loop sees it."""

    name: str
    can: frozenset[str]
    layers: int
    mask_id: int
    banned_ids: tuple[int, ...]
    stop: tuple[str, ...]
    rounding: Rounding

    def begin(self, prompts: Sequence[Prompt], length: int, suffix: int = 0) -> State:
        """Encode the prompts and lay out a response of ``length`` tokens and a suffix of ``suffix``."""

    def forward(
        self,
        state: State,
        canvas: LongTensor,
        logit_rows: Tensor | slice,
        probe: AttentionProbe | None = None,
        at_layer: Mapping[int, LayerCut] | None = None,
        span: Span | None = None,
    ) -> Output:
        """One forward over the state and ``canvas [B, G + suffix]``; logits of the rows in ``logit_rows``.

        ``logit_rows`` is a mask ``[B, G + suffix]``, or a slice of rows, the same of every sample: how many a mask
        marks only the device knows, so that a mask makes the host wait for it.
        ``span`` is given where the state has a cache; ``logit_rows`` are then among its rows, and cuts at layers
        come with spans of all columns only. A host that can do this has "cache" in ``can``.
        """

    def unconditional(self, state: State) -> State:
        """The state with everything before the response replaced by the mask embedding (guidance)."""


def gather_columns(values: Tensor, columns: LongTensor) -> Tensor:
    """``[B, T', D]`` columns of ``values [B, T, D]``, none of them -1."""
    return values.gather(1, columns[..., None].expand(-1, -1, values.shape[2]))


def take_columns(values: Tensor, columns: LongTensor) -> Tensor:
    """``[B, T', D]`` columns of ``values [B, T, D]``; -1 gives zeros."""
    taken = gather_columns(values, columns.clamp(min=0))
    return taken if bool((columns >= 0).all()) else taken * (columns >= 0)[..., None].to(taken.dtype)


def merge_visual(values: Tensor, visual: LongTensor, selection: Selection) -> Tensor:
    """Values in which each kept visual token is the selection's weighted sum of the current ones.

    Args:
        values: ``[B, T, D]``.
        visual: ``[B, n]`` columns of the visual tokens, -1 pads.
    """
    if selection.merge is None:
        return values
    tokens = take_columns(values, visual)
    merged = torch.matmul(selection.merge.to(values.dtype), tokens)
    values = values.clone()
    for b, (keep, columns) in enumerate(zip(selection.keep, visual, strict=True)):
        real = keep >= 0
        values[b, columns[keep[real]]] = merged[b, real]
    return values


def move_size(size: Tensor | None, visual: LongTensor, columns: LongTensor, selection: Selection) -> Tensor | None:
    """Sizes of the columns that stay; None while nothing was ever merged."""
    if selection.size is None and size is None:
        return None
    moved = torch.ones_like(columns, dtype=torch.float32) if size is None else size.gather(1, columns.clamp(min=0))
    if selection.size is not None:
        for b in range(len(columns)):
            real = selection.keep[b] >= 0
            target = torch.isin(columns[b], visual[b, selection.keep[b, real]])
            moved[b, target] = selection.size[b, real].to(moved.dtype)
    return moved


def move_positions(positions: LongTensor, layout: Layout, columns: LongTensor, mode: str) -> LongTensor:
    """Rotary positions of the columns that stay, gaps closed ("compact") or not ("original")."""
    if mode not in POSITIONS:
        raise ValueError(f"positions={mode!r}: expected one of {', '.join(POSITIONS)}")
    if mode == "compact":
        return compact_positions(layout)
    return positions.gather(1, columns.clamp(min=0)).masked_fill(columns < 0, 0)


def compact_positions(layout: Layout) -> LongTensor:
    """``[B, T]`` 0, 1, 2, ... over the real columns; padding reads 0."""
    return (layout.real.long().cumsum(1) - 1).clamp(min=0)
