"""What one case compared, how far off it was, and what it left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

FLOAT_BAR = 2e-4


class Skipped(Exception):
    """A case that is not compared at all; the message says why."""


class Comparison:
    """Collects the comparisons of one case.

    Every tensor and every fact of a case must be named once: compared (``same``, ``close``), used as an input
    (``use``) or left out with a reason (``leave``). ``finish`` fails the case for tensors that nobody named.
    """

    def __init__(self) -> None:
        self.worst = 0.0
        self.worst_name = "all equal"
        self.failures: list[str] = []
        self.left: list[str] = []
        self.named: set[str] = set()

    def use(self, *names: str) -> None:
        """Tensors and facts that the run was given."""
        self.named.update(names)

    def leave(self, name: str, reason: str) -> None:
        """Something that is not compared."""
        self.named.add(name)
        self.left.append(f"{name}: {reason}")

    def same(self, name: str, ours: Any, theirs: Any) -> None:
        """Whole numbers, truth values and texts: identical."""
        self.named.add(name)
        ours, theirs = _plain(ours), _plain(theirs)
        if ours != theirs:
            self.failures.append(f"{name}: {_difference(ours, theirs)}")

    def close(self, name: str, ours: Tensor, theirs: Tensor, bar: float | None = None) -> None:
        """Floats within ``bar``, by default FLOAT_BAR * (1 + largest magnitude); infinities in the same places."""
        self.named.add(name)
        if tuple(ours.shape) != tuple(theirs.shape):
            self.failures.append(f"{name}: shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}")
            return
        ours, theirs = ours.detach().double(), theirs.double()
        finite = torch.isfinite(theirs)
        if not torch.equal(ours[~finite], theirs[~finite]) or not bool(torch.isfinite(ours[finite]).all()):
            self.failures.append(f"{name}: infinities or NaN in other places than expected")
            return
        if not bool(finite.any()):
            return
        if bar is None:
            bar = FLOAT_BAR * (1 + float(theirs[finite].abs().max()))
        fraction = float((ours[finite] - theirs[finite]).abs().max()) / bar
        if fraction > self.worst:
            self.worst, self.worst_name = fraction, name
        if not fraction <= 1:
            self.failures.append(f"{name}: off by {fraction:.3g} times its bar of {bar:.3g}")

    def finish(self, tensors: Mapping[str, Any], facts: Iterable[str]) -> None:
        """Fail for tensors that were not named; list such facts."""
        for name in sorted(set(tensors) - self.named):
            self.failures.append(f"{name}: this tensor was never compared")
        for name in sorted(set(facts) - self.named):
            self.leave(name, "this runner does not know the fact")


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def _difference(ours: Any, theirs: Any) -> str:
    if isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            return f"{len(ours)} entries, expected {len(theirs)}"
        place = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
        return f"[{place}]: {_difference(ours[place], theirs[place])}"
    return f"{ours!r:.60}, expected {theirs!r:.60}"
