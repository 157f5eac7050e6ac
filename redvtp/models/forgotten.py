"""Columns of a cache that single heads have let go of, while other heads still have them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import LongTensor, Tensor

from redvtp.selection import Selection


@dataclass(frozen=True)
class Forgotten:
    """What each key/value head of each layer no longer has.

    No row attends to such a column through that head any more, in no later forward: a forward that computes the column
    anew, because other heads have it, does not bring it back here.

    Attributes:
        columns: ``[B, T, L, H_kv]`` True where a column is gone.
    """

    columns: Tensor

    @classmethod
    def after(cls, selection: Selection, visual: LongTensor, length: int, before: Forgotten | None) -> Forgotten:
        """What is gone of ``length`` columns once a selection by heads among ``visual [B, n]`` is made; what was gone
        ``before`` stays gone."""
        heads = selection.heads
        gone = torch.zeros(len(heads), length, *heads.shape[1:3], dtype=torch.bool, device=heads.device)
        for b, keep in enumerate(selection.keep):
            real = keep >= 0
            gone[b, visual[b, keep[real]]] = ~heads[b, :, :, real].movedim(2, 0)
        return cls(gone if before is None else gone | before.columns)

    @cached_property
    def count(self) -> LongTensor:
        """``[L, B, H_kv]`` columns that are gone, in the host's memory."""
        return self.columns.sum(1).transpose(0, 1).cpu()

    @property
    def mean(self) -> Tensor:
        """``[L, B]`` the same, mean over heads, fp64."""
        return self.count.double().mean(2)

    def move(self, columns: Callable[[Tensor], Tensor]) -> Forgotten:
        """With columns dropped or re-ordered; ``columns`` makes ``[B, T', D]`` of ``[B, T, D]``."""
        return Forgotten(columns(self.columns.flatten(2)).unflatten(2, self.columns.shape[2:]))

    def rows(self, index: LongTensor, first: int = 0) -> Forgotten:
        """Of the samples ``index``, from column ``first`` on."""
        return Forgotten(self.columns[index, first:])

    def held(self, columns: LongTensor) -> Tensor:
        """``[B, L, H_kv, n]`` which of ``columns [B, n]`` (-1 pads) each head still has."""
        place = columns.clamp(min=0)[..., None, None].expand(-1, -1, *self.columns.shape[2:])
        return ~self.columns.gather(1, place).movedim(1, 3) & (columns >= 0)[:, None, None]

    def hide(self, mask: Tensor | None, number: int, groups: int, samples: LongTensor | None = None) -> Tensor:
        """``[B, H, Q or 1, T]`` a mask of the keys without what the heads of a layer have let go of.

        Args:
            mask: of all heads (see redvtp.models.decoder.key_mask).
            number: of the layer, from 0.
            groups: query heads that share a key/value head.
            samples: which of the batch run; None for all.
        """
        gone = self.columns[:, :, number]
        gone = gone if samples is None else gone[samples]
        gone = gone.transpose(1, 2).repeat_interleave(groups, 1)[:, :, None]
        if mask is None:
            return ~gone
        return mask & ~gone if mask.dtype == torch.bool else mask.masked_fill(gone, float("-inf"))
