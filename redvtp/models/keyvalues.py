"""Keys and values of every layer, kept from step to step.

transformers' own cache classes append; here each step writes the rows that it computed over their old keys and
values, in place. Stock attention layers take a Writer for their cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import LongTensor, Tensor

from redvtp.attention import rotate
from redvtp.models.forgotten import Forgotten
from redvtp.selection import Selection
from redvtp.sequence import Layout

Columns = slice | LongTensor


@dataclass(frozen=True)
class LayerStore:
    """What one layer keeps.

    Attributes:
        keys, values: ``[B, T, H_kv * d]``; keys before the rotary embedding, so that columns can be re-numbered.
        turned: the keys after it, as attention reads them; None once the columns' positions have changed.
        attended, grown: ``[B, R, D]`` what attention and MLP added to the hidden states of response and suffix, where
            that is kept.
    """

    keys: Tensor
    values: Tensor
    turned: Tensor | None = None
    attended: Tensor | None = None
    grown: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> LayerStore:
        """The same with every tensor changed."""
        made = {name: None if value is None else change(value) for name, value in vars(self).items()}
        return LayerStore(**made)

    def of(self, samples: LongTensor, first: int = 0) -> LayerStore:
        """What is kept of those samples, from column ``first`` on."""
        columns = {name: getattr(self, name)[:, first:] for name in ("keys", "values")}
        turned = None if self.turned is None else self.turned[:, first:]
        return replace(self, turned=turned, **columns).map(lambda value: value[samples])


class KeyValues:
    """What all layers keep of one batch.

    Args:
        positions: ``[B, T]`` rotary positions of the columns.
        alone: columns before the response see only each other, so that theirs never depend on it.
        keeps_parts: also keep what each layer added to the response rows (see LayerStore).

    Attributes:
        layers: by index from 0; empty until a forward over all columns has filled it.
        forgotten: columns that single heads have let go of; None where none has.
    """

    def __init__(self, positions: LongTensor, alone: bool = False, keeps_parts: bool = False) -> None:
        self.positions, self.alone, self.keeps_parts = positions, alone, keeps_parts
        self.layers: dict[int, LayerStore] = {}
        self.forgotten: Forgotten | None = None

    def holding(
        self, layers: dict[int, LayerStore], positions: LongTensor, forgotten: Forgotten | None = None
    ) -> KeyValues:
        """A cache of the same kind with these contents."""
        made = KeyValues(positions, self.alone, self.keeps_parts)
        made.layers, made.forgotten = layers, forgotten
        return made

    def forget(self, selection: Selection, visual: LongTensor) -> KeyValues:
        """The cache whose heads have let go of what a selection by heads among ``visual [B, n]`` does not keep."""
        gone = Forgotten.after(selection, visual, self.positions.shape[1], self.forgotten)
        return self.holding(self.layers, self.positions, gone)

    def entries(self, lengths: LongTensor, heads: int) -> LongTensor:
        """``[B]`` pairs of a key and a value that are held, over all layers and key/value heads.

        Dense buffers have room for more: a column that any head of any layer has is stored whole.

        Args:
            lengths: ``[B]`` real columns.
            heads: key/value heads of a layer.
        """
        held = lengths.cpu() * heads * len(self.layers)
        return held if self.forgotten is None else held - self.forgotten.count.sum((0, 2))

    def move(self, columns: Callable[[Tensor], Tensor], positions: LongTensor, layers: int | None = None) -> KeyValues:
        """The cache with columns dropped, merged or re-ordered.

        Args:
            columns: makes ``[B, T', D]`` of ``[B, T, D]``.
            positions: ``[B, T']`` of the columns that are left.
            layers: only the first so many; the columns of the others were moved while they ran.
        """

        def moved(number: int, layer: LayerStore) -> LayerStore:
            if layers is not None and number >= layers:
                return layer
            return replace(layer, keys=columns(layer.keys), values=columns(layer.values), turned=None)

        made = {number: moved(number, layer) for number, layer in self.layers.items()}
        return self.holding(made, positions, None if self.forgotten is None else self.forgotten.move(columns))

    def rows(self, index: LongTensor, first: int = 0) -> KeyValues:
        """The cache of the samples ``index``, from column ``first`` on."""
        layers = {number: layer.of(index, first) for number, layer in self.layers.items()}
        forgotten = None if self.forgotten is None else self.forgotten.rows(index, first)
        return self.holding(layers, self.positions[index, first:], forgotten)

    def copy(self) -> KeyValues:
        """The same contents in memory of their own."""
        layers = {number: layer.map(torch.clone) for number, layer in self.layers.items()}
        return self.holding(layers, self.positions, self.forgotten)

    def keep(self, number: int, columns: Columns, samples: LongTensor | None, **parts: Tensor) -> None:
        """Put ``keys``, ``values`` or ``turned`` of some columns of a layer in place.

        Args:
            columns: a slice of them, or ``[B', m]``.
            samples: which of the batch the parts belong to, ``[B']``; None for all.
        """
        for name, part in parts.items():
            put(getattr(self.layers[number], name), columns, samples, part)

    def keep_parts(self, number: int, rows: slice, samples: LongTensor | None, attended: Tensor, grown: Tensor) -> None:
        """Put what attention and MLP added to some response rows in place, ``[B', m, D]``; the first time, to all."""
        layer = self.layers[number]
        if layer.attended is None:
            self.layers[number] = replace(layer, attended=attended.clone(), grown=grown.clone())
        else:
            put(layer.attended, rows, samples, attended)
            put(layer.grown, rows, samples, grown)

    def open(self, number: int, length: int, samples: LongTensor | None, like: Tensor) -> None:
        """Make room for ``length`` columns of a layer, where there is none that is up to date."""
        layer = self.layers.get(number)
        if layer is not None and layer.keys.shape[1] == length and layer.turned is not None:
            return
        if samples is not None:
            raise ValueError("a forward that fills a cache has to run on the whole batch")
        keys, values, turned = (like.new_empty(len(like), length, like.shape[2]) for _ in range(3))
        self.fill(number, keys=keys, values=values, turned=turned)

    def fill(self, number: int, **parts: Tensor) -> None:
        """Make these tensors of all columns a layer's own."""
        layer = self.layers.get(number)
        self.layers[number] = LayerStore(**parts) if layer is None else replace(layer, **parts)

    def turn(self, rotary: Callable[[Tensor, LongTensor], tuple[Tensor, Tensor]], head: int) -> None:
        """Rotate the keys whose columns have moved.

        Args:
            rotary: gives cosines and sines ``[B, T, d]`` of positions, in the precision of a tensor that it is shown.
            head: width d of a head.
        """
        angles = None
        for number, layer in self.layers.items():
            if layer.turned is None:
                angles = rotary(layer.keys, self.positions) if angles is None else angles
                turned = rotate(split_heads(layer.keys, head), angles)
                self.layers[number] = replace(layer, turned=join_heads(turned))


@dataclass(frozen=True)
class Writer:
    """Stands in for the cache of a stock attention layer that runs on some columns, with un-rotated keys.

    Attributes:
        store: keeps what the layer computes, and knows the other columns.
        layout: of all T columns.
        columns: those that the layer runs on, as a slice, or ``[B', m]`` of them.
        rotary: cosines and sines of those columns, ``[B', m, d]``.
        samples: which of the batch run, ``[B']``; None for all.
    """

    store: KeyValues
    layout: Layout
    columns: Columns
    rotary: tuple[Tensor, Tensor]
    samples: LongTensor | None = None

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *_, **__) -> tuple[Tensor, Tensor]:
        """Keep ``key`` and ``value [B', H_kv, m, d]``; returns rotated keys and values of all columns."""
        key = key.to(value.dtype)  # a rotary embedding in a wider type has widened it
        turned, head = rotate(key, self.rotary), key.shape[-1]
        parts = {"keys": join_heads(key), "values": join_heads(value), "turned": join_heads(turned)}
        length = self.layout.length
        everything = isinstance(self.columns, slice) and self.columns == slice(0, length)
        if everything and self.samples is None:
            self.store.fill(layer_idx, **parts)
            return turned, value
        self.store.open(layer_idx, length, self.samples, parts["keys"])
        self.store.keep(layer_idx, self.columns, self.samples, **parts)
        layer = self.store.layers[layer_idx]
        found = (layer.turned, layer.values)
        if self.samples is not None:
            found = tuple(part[self.samples] for part in found)
        return split_heads(found[0], head), split_heads(found[1], head)

    def keep_parts(self, layer_idx: int, attended: Tensor, grown: Tensor) -> None:
        """Keep what the layer added to the last m of its columns, ``[B', m, D]``, all in the response or suffix."""
        last = self.columns.stop - self.layout.prompt_length
        rows = slice(last - attended.shape[1], last)
        self.store.keep_parts(layer_idx, rows, self.samples, attended, grown)


def put(whole: Tensor, columns: Columns, samples: LongTensor | None, part: Tensor) -> None:
    """Write ``part [B', m, D]`` over those columns of ``whole [B, T, D]``."""
    if isinstance(columns, slice):
        whole[slice(None) if samples is None else samples, columns] = part
        return
    owner = torch.arange(len(part), device=part.device) if samples is None else samples
    whole[owner[:, None], columns] = part


def split_heads(states: Tensor, head: int) -> Tensor:
    """``[B, T, H * d] -> [B, H, T, d]``."""
    return states.view(*states.shape[:2], -1, head).transpose(1, 2)


def join_heads(states: Tensor) -> Tensor:
    """``[B, H, T, d] -> [B, T, H * d]``."""
    return states.transpose(1, 2).flatten(2)
