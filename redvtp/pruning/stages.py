"""Several cuts inside one forward, on a budget that is the mean over the layers."""

from __future__ import annotations

from collections.abc import Sequence

from redvtp.selection import Cut, Share


def falling_shares(keep: float, cuts: Sequence[int], layers: int) -> list[float]:
    """The shares f, f^2, f^3, ... left after each of the ``cuts`` layers, so that all layers see ``keep`` on average.

    The layers up to the first cut see all tokens, and f follows from the rest of the budget.

    Raises:
        ValueError: a budget that those first layers use up, or one that f = 1 does not reach.
    """
    first, rest = cuts[0], keep * layers - cuts[0]
    if rest <= 0:
        raise ValueError(
            f"keep={keep}: all visual tokens in the first {first} of {layers} layers are already "
            f"{first / layers:.1%} on average; expected more than that"
        )
    widths = [end - start for start, end in zip(cuts, [*cuts[1:], layers])]
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        reached = sum(width * middle ** (i + 1) for i, width in enumerate(widths))
        low, high = (middle, high) if reached < rest else (low, middle)
    return [high ** (i + 1) for i in range(len(cuts))]


def staged_cuts(steps: int, cuts: Sequence[int], shares: Sequence[float]) -> tuple[Cut, ...]:
    """These cuts in every step, for that step only."""
    return tuple(
        Cut(step=step, layer=layer, lasting=False, keep=Share(share))
        for step in range(1, steps + 1)
        for layer, share in zip(cuts, shares, strict=True)
    )
