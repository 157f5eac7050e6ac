"""The words that models, pruning and generation share: Cut, Selection, View, Needs and budgets.

Pure data and pure tensor functions; nothing here knows a model or a method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import LongTensor, Tensor

from redvtp.transfers import sent

if TYPE_CHECKING:
    from redvtp.sequence import Layout

POSITIONS = ("compact", "original")


def is_whole(value: Any) -> bool:
    """Whether this is an int and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class Cut:
    """Where a method prunes.

    Args:
        step: 0 cuts before the first forward; ``k`` with ``layer=None`` cuts after step ``k``'s
            transfer; otherwise the cut falls inside step ``k``.
        layer: after this decoder layer, counted 1..L; None for a cut between forwards.
        until: dropped tokens rejoin, unchanged, before this layer (layer skipping); in-step cuts only.
        lasting: False drops the tokens for this step only; in-step cuts only.
        keep: what is left of the original visual tokens, where a method's cuts differ in that; None is the
            method's own budget.
    """

    step: int
    layer: int | None = None
    until: int | None = None
    lasting: bool = True
    keep: Budget | None = None

    def check(self, steps: int, layers: int) -> None:
        """Raise ValueError where this cut cannot happen in ``steps`` steps of an ``layers``-layer model."""
        for name in ("step", "layer", "until"):
            value = getattr(self, name)
            if not is_whole(value) and not (value is None and name != "step"):
                raise ValueError(f"{name}={value!r}: expected a whole number")
        last = steps if self.layer is not None else steps - 1
        first = 1 if self.layer is not None else 0
        if not first <= self.step <= max(last, first):
            where = "inside a step" if self.layer is not None else "between steps"
            raise ValueError(
                f"step={self.step}: a cut {where} of a {steps}-step run needs a step in {first}..{max(last, first)}"
            )
        if self.layer is not None and not 1 <= self.layer < layers:
            raise ValueError(f"layer={self.layer}: expected a layer in 1..{layers - 1} of a {layers}-layer model")
        if self.layer is None and (self.until is not None or not self.lasting):
            raise ValueError(f"{self}: until and lasting=False belong to a cut after a layer")
        if self.until is not None and not self.layer < self.until <= layers:
            raise ValueError(f"until={self.until}: expected a layer in {self.layer + 1}..{layers}")
        if self.until is not None and self.lasting:
            raise ValueError(f"{self}: tokens that rejoin are not gone; until needs lasting=False")


@dataclass(frozen=True)
class Selection:
    """What a method keeps of the current visual tokens.

    Attributes:
        keep: ``[B, m]`` ascending indices into each sample's current visual tokens, -1 pads on the right.
        merge: ``[B, m, n]`` weights that build each kept token from the current ones; None drops the rest.
        size: ``[B, m]`` number of original tokens that each kept one stands for; attention adds its log.
        heads: ``[B, L, H_kv, m]`` which of the kept tokens each key/value head still has in the cache, at least one
            head each; None where all heads have all of them.
    """

    keep: LongTensor
    merge: Tensor | None = None
    size: Tensor | None = None
    heads: Tensor | None = None

    def rows(self, index: LongTensor) -> Selection:
        """The selection of the samples ``index``."""
        return Selection(
            self.keep[index],
            None if self.merge is None else self.merge[index],
            None if self.size is None else self.size[index],
            None if self.heads is None else self.heads[index],
        )


@dataclass(frozen=True)
class Needs:
    """What a method asks to see at a cut.

    Attributes:
        attention: which attention rows: any of "response" and "prompt" (text tokens before the response).
        layers: decoder layers, 1..L, that the attention is averaged over; None means all of them
            (between steps) or the layer of the cut (inside a step).
        states: the current visual tokens' states: hidden ones inside a step, embeddings between steps.
        inputs: the input embeddings of visual tokens and of the prompt's text.
        values: the norms of the visual tokens' values, in the same layers as the attention; step 1 or later.
        heads: attention of the rows masked before the step by layer and head, in the same layers.
        extras: names that the caller must supply for each sample, e.g. "evidence".
        rounding: of the attention, "exact" or "official" (see redvtp.rounding).
    """

    attention: frozenset[str] = frozenset()
    layers: tuple[int, ...] | None = None
    states: bool = False
    values: bool = False
    heads: bool = False
    extras: tuple[str, ...] = ()
    inputs: bool = False
    rounding: str = "exact"


@dataclass(frozen=True)
class Inputs:
    """Embeddings that a forward starts from, both kinds padded on the right.

    Attributes:
        visual: ``[B, N, D]`` of the visual tokens, before any cut inside the forward.
        visual_rows: ``[B, N]`` which of them are real.
        text: ``[B, P, D]`` of the prompt's text tokens.
        question: ``[B, P]`` which of them stand behind the last visual token; all of a prompt's where none does.
    """

    visual: Tensor
    visual_rows: Tensor
    text: Tensor
    question: Tensor


@dataclass(frozen=True)
class Heads:
    """Attention of the rows that were masked before a step, summed over them, layer by layer and head by head.

    Attributes:
        mass: ``[B, L, H, n]`` to each visual token.
        prompt: ``[B, L, H]`` share of what goes to the prompt (all before the response) in what goes there and to
            these rows themselves.
        groups: query heads that share a key/value head, one after the other in H.
        held: ``[B, L, H_kv, n]`` which tokens each key/value head still has; None where no head has let go of any.
    """

    mass: Tensor
    prompt: Tensor
    groups: int = 1
    held: Tensor | None = None


@dataclass(frozen=True)
class View:
    """What a method sees when it selects. ``n`` is the largest number of visual tokens in the batch.

    Attributes:
        cut: the cut being made.
        layout: of the current sequence (see redvtp.sequence.Layout).
        visual: ``[B, n]`` columns of the visual tokens in ``layout``, -1 pads on the right.
        original: ``[B]`` visual tokens of each sample before any cut.
        undecided: ``[B, G]`` response rows still masked (inside a step: masked before it).
        just_decided: ``[B, G]`` rows committed in this step (inside a step: in the step before it, none in the first).
        attention: ``[B, G, n]`` head- and layer-mean attention from response rows, or None.
        prompt_attention: ``[B, P, n]`` the same from the prompt's text rows, or None.
        prompt_rows: ``[B, P]`` which of those rows are real (not padding), or None.
        states: ``[B, n, D]`` states of the visual tokens, or None.
        inputs: the embeddings that the forward starts from, or None.
        values: ``[B, n]`` norm of the visual tokens' values, mean over layers, or None.
        heads: attention by layer and head (see Heads), or None.
        size: ``[B, n]`` originals that each current token stands for, or None where each is one.
        index: ``[B, n]`` which of the sample's original visual tokens each is, -1 pads.
        seeds: one seed a sample; randomness drawn from it is the same in any batch.
        extras: per-sample extras by name, each a sequence of length B.
    """

    cut: Cut
    layout: Layout
    visual: LongTensor
    original: LongTensor
    undecided: Tensor
    just_decided: Tensor
    seeds: Sequence[int]
    attention: Tensor | None = None
    prompt_attention: Tensor | None = None
    prompt_rows: Tensor | None = None
    states: Tensor | None = None
    inputs: Inputs | None = None
    values: Tensor | None = None
    heads: Heads | None = None
    size: Tensor | None = None
    index: LongTensor | None = None
    extras: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def valid(self) -> Tensor:
        """``[B, n]`` True where a visual token is real, not padding."""
        return self.visual >= 0


@dataclass(frozen=True)
class Share:
    """Keep this share of the sample's original visual tokens: ``max(1, floor(ratio * n))`` of them.

    Source: keep rule of RedVTP, official_code §5.1.
    """

    ratio: float

    def __post_init__(self) -> None:
        if isinstance(self.ratio, bool) or not isinstance(self.ratio, (int, float)) or not 0 < self.ratio <= 1:
            raise ValueError(f"keep ratio {self.ratio!r}: expected a number in (0, 1]")

    def count(self, original: int, score: Tensor) -> int:
        """Tokens to keep of ``original``."""
        return max(1, math.floor(self.ratio * original))


@dataclass(frozen=True)
class Count:
    """Keep this many visual tokens; 0 is possible only inside a layer."""

    n: int

    def __post_init__(self) -> None:
        if not is_whole(self.n) or self.n < 0:
            raise ValueError(f"Count({self.n!r}): expected a whole number of tokens, 0 or more")

    def count(self, original: int, score: Tensor) -> int:
        """The number itself; ValueError above the tokens that there are."""
        if self.n > original:
            raise ValueError(f"Count({self.n}): the sample has only {original} visual tokens to choose from")
        return self.n


@dataclass(frozen=True)
class Mass:
    """Keep the fewest tokens that hold this share of the scores' sum (scores must not be negative)."""

    p: float

    def __post_init__(self) -> None:
        if isinstance(self.p, bool) or not isinstance(self.p, (int, float)) or not 0 < self.p <= 1:
            raise ValueError(f"Mass({self.p!r}): expected a number in (0, 1]")

    def count(self, original: int, score: Tensor) -> int:
        """Tokens that hold ``p`` of ``score``'s sum; ``score [n]`` is one sample's."""
        if bool((score < 0).any()):
            raise ValueError("Mass needs scores that are not negative; this method's are not attention mass")
        total = score.double().sum()
        if total <= 0:
            return max(1, score.numel())
        held = score.double().sort(descending=True).values.cumsum(0)
        return int((held < self.p * total * (1 - 1e-12)).sum()) + 1


@dataclass(frozen=True)
class Outliers:
    """Keep the tokens whose scores stand out: above Q3 + ``factor`` (Q3 - Q1), and at least one.

    Source: TRIM, arXiv 2409.10994 (the interquartile rule, 1.5).
    """

    factor: float = 1.5

    def __post_init__(self) -> None:
        if isinstance(self.factor, bool) or not isinstance(self.factor, (int, float)) or not self.factor >= 0:
            raise ValueError(f"Outliers({self.factor!r}): expected a number, 0 or more")

    def count(self, original: int, score: Tensor) -> int:
        """Tokens above the bound; ``score [n]`` is one sample's."""
        values = score.double()
        low, high = torch.quantile(values, torch.tensor([0.25, 0.75], dtype=values.dtype, device=values.device))
        return max(1, int((values > high + self.factor * (high - low)).sum()))


@dataclass(frozen=True)
class Rank:
    """Drop ``scale`` (n - rank) of the n tokens, where rank is that of the attention from text to them (SparseVLM)."""

    scale: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.scale, bool) or not isinstance(self.scale, (int, float)) or not 0 < self.scale <= 1:
            raise ValueError(f"Rank({self.scale!r}): expected a number in (0, 1]")

    def count(self, original: int, score: Tensor) -> int:
        """Tokens to keep of the n of ``score [rows, n]``, a matrix; ValueError for a method that has none."""
        if score.dim() != 2:
            raise ValueError(f"{self}: needs attention by text token, which this method does not have")
        n = score.shape[1]
        return max(1, n - math.floor(self.scale * (n - int(torch.linalg.matrix_rank(score.float())))))


Budget = Share | Count | Mass | Outliers | Rank


def as_budget(keep: float | Budget) -> Budget:
    """A budget from ``keep``: a float is a Share; a bare int is refused, for 1 could mean 100% or one token.

    Raises:
        ValueError: for an int, a bool, or a ratio outside (0, 1].
    """
    if isinstance(keep, Budget):
        return keep
    if isinstance(keep, (bool, int)):
        raise ValueError(
            f"keep={keep!r}: a bare int is ambiguous; write keep={float(keep)} or Share({float(keep)}) for a share, "
            f"Count({int(keep)}) for a number of tokens"
        )
    if not isinstance(keep, float):
        raise ValueError(f"keep={keep!r}: expected a float in (0, 1], Share, Count, Mass, Outliers or Rank")
    return Share(keep)


def pad_rows(rows: Sequence[LongTensor], fill: int = -1) -> LongTensor:
    """``[B, m]`` from index lists of different lengths, padded on the right with ``fill``."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=fill)


def top_selection(
    score: Tensor, budget: Budget, original: LongTensor, eligible: Tensor, protected: Tensor, valid: Tensor
) -> Selection:
    """Keep the best-scored tokens of each sample: score descending, then index ascending.

    Tokens that are not ``eligible`` are kept and stand outside the budget; ``protected`` ones are kept
    and count inside it.

    Args:
        score: ``[B, n]``; only eligible, real entries are read.
        original: ``[B]`` eligible tokens before any cut, which a Share refers to.
        eligible, protected, valid: ``[B, n]`` booleans.

    Raises:
        ValueError: a NaN score, or a budget below the protected tokens.
    """
    device, kept = score.device, []
    # How many stay is the host's to know: one wait for a device, here, and none below.
    score, eligible, protected, valid, original = (
        part.cpu() for part in (score, eligible, protected, valid, original)
    )
    for b in range(score.shape[0]):
        candidates = torch.nonzero(valid[b] & eligible[b]).flatten()
        if not len(candidates):
            kept.append(torch.nonzero(valid[b]).flatten())
            continue
        s = score[b, candidates]
        if bool(torch.isnan(s).any()):
            raise ValueError(f"sample {b}: the score has NaN at {int(torch.isnan(s).sum())} of {len(s)} visual tokens")
        m = min(budget.count(int(original[b]), s), len(candidates))
        guard = protected[b, candidates]
        if int(guard.sum()) > m:
            raise ValueError(f"{budget}: {m} tokens to keep, but {int(guard.sum())} are protected")
        # Stable sorts, least important key first: original order, then score, then protection.
        order = torch.sort(s, descending=True, stable=True).indices
        order = order[torch.sort(guard[order].int(), descending=True, stable=True).indices]
        chosen = torch.zeros_like(valid[b])
        chosen[candidates[order[:m]]] = True
        kept.append(torch.nonzero(valid[b] & (chosen | ~eligible[b])).flatten())
    return Selection(sent(pad_rows(kept), device))
