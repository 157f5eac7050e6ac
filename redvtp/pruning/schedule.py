"""When a method cuts: any method at other steps, inside a layer, or for some layers only."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from redvtp.pruning.base import Scored
from redvtp.selection import Budget, Cut, Needs, Selection, Share, View, is_whole
from redvtp.sequence import Layout


@dataclass(frozen=True)
class Scheduled:
    """A method that scores and selects as ``method`` does, but at other places of a run.

    ``Scheduled(DivPrune(keep=0.25), start=0.5)`` prunes after half of the steps, ``steps=(0,)`` before the first
    forward, ``steps=(1, 4)`` after steps 1 and 4, scored anew each time; ``layer=8, steps=(1,)`` prunes inside step 1,
    for good; with ``layer=2, until=6`` the dropped tokens skip layers 3 to 5 of every step.
    ``Scheduled(VTW(keep=0.5), start=0.5)`` withdraws visual tokens in the second half of the steps.

    Source: arXiv 2511.15098 (late start as a share of the steps, progressive pruning, layer skipping).

    Attributes:
        method: what scores and selects; ``keep`` is its own.
        steps: between two forwards, cuts are made after these steps (0: before the first forward); inside a forward,
            in these steps.
        start: instead of ``steps``: pruning begins when this share of the steps, rounded down, is done; in [0, 1).
            The steps are the most that the run can take; a response that ends before is not pruned. A method that
            needs attention begins after step 1 at the earliest. Neither: the method's own steps, or every step where
            the cuts are for their step only.
        layer: cut after this decoder layer; None leaves the method's cuts where they are.
        until: tokens dropped inside a step rejoin, unchanged, before this layer (layer skipping).
        lasting: False drops tokens for the step only; None for the method's own way, and for good where ``layer``
            moves a cut into a step and no ``until`` takes it back.
        shares: with several lasting cuts, the shares of the original visual tokens that each leaves; the last one is
            the method's. None falls to it by the same factor each time.

    Raises:
        ValueError: words that contradict each other, here or, where they depend on the run, in ``cuts``.
    """

    method: Scored
    steps: tuple[int, ...] | None = None
    start: float | None = None
    layer: int | None = None
    until: int | None = None
    lasting: bool | None = None
    shares: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.method, Scored):
            raise ValueError(f"method={self.method!r}: expected a method with its parameters, e.g. DivPrune(keep=0.25)")
        if self.steps is not None and self.start is not None:
            raise ValueError(f"steps={self.steps} and start={self.start}: expected one of them")
        if self.steps is not None and not rises(self.steps):
            raise ValueError(f"steps={self.steps!r}: expected a tuple of rising whole numbers from 0")
        if self.start is not None and not (isinstance(self.start, (int, float)) and 0 <= self.start < 1):
            raise ValueError(f"start={self.start!r}: expected a share of the steps in [0, 1)")
        if self.lasting not in (None, True, False):
            raise ValueError(f"lasting={self.lasting!r}: expected True, False or None")
        if self.until is not None and self.lasting:
            raise ValueError(f"until={self.until}: tokens that rejoin are not gone; it does not go with lasting=True")
        if self.shares is not None:
            self._check_shares()

    def _check_shares(self) -> None:
        shares, keep = self.shares, self.method.keep
        if not isinstance(shares, tuple) or len(shares) != len(self.steps or ()):
            raise ValueError(f"shares={shares!r}: expected a tuple of one share for each of steps={self.steps}")
        for share in shares:
            Share(share)
        if any(later > earlier for earlier, later in zip(shares, shares[1:])) or keep != Share(shares[-1]):
            raise ValueError(f"shares={shares}: expected falling shares that end with the method's own keep={keep}")

    # ---- what the method says ------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The method's."""
        return self.method.name

    @property
    def keep(self) -> Budget:
        """The method's."""
        return self.method.keep

    @property
    def positions(self) -> str:
        """The method's."""
        return self.method.positions

    @property
    def per_head(self) -> bool:
        """Whether each head lets go of tokens of its own."""
        return getattr(self.method, "per_head", False)

    @property
    def keeps_all(self) -> bool:
        """Whether no cut can change anything."""
        return self.method.keeps_all

    def check(self, layout: Layout) -> None:
        """Refuse a budget that this batch cannot meet (see Scored.check)."""
        self.method.check(layout)

    def needs(self, cut: Cut) -> Needs:
        """What the method must see there."""
        return self.method.needs(cut)

    def select(self, view: View) -> Selection:
        """What the method keeps."""
        return self.method.select(view)

    # ---- where it cuts -------------------------------------------------------------------------------------

    def cuts(self, steps: int, layers: int) -> tuple[Cut, ...]:
        """The cuts of a run of ``steps`` steps of an ``layers``-layer model.

        Raises:
            ValueError: ``until`` or ``lasting=False`` without a layer; several lasting cuts with the same budget.
        """
        own = self.method.cuts(max(steps, 2), layers)
        pattern = [self._moved(cut) for cut in own if cut.step == own[0].step]
        if not pattern:
            return ()
        inside = pattern[0].layer is not None
        if not inside and (self.until is not None or self.lasting is False):
            raise ValueError(f"{self.name} cuts between two forwards: until and lasting=False need a layer")
        passing = not pattern[0].lasting
        places = self._places(steps, {cut.step for cut in own}, inside, passing, self.needs(pattern[0]))
        if not inside and steps == 1 and places == [1]:
            return ()  # nothing is left to speed up, as in cut_after
        return tuple(
            replace(cut, step=step, keep=cut.keep if keep is None else keep)
            for step, keep in zip(places, self._budgets(len(places), passing), strict=True)
            for cut in pattern
        )

    def _moved(self, cut: Cut) -> Cut:
        """A cut of the method, after the layer and for as long as is asked for."""
        layer = cut.layer if self.layer is None else self.layer
        lasting = cut.lasting if self.lasting is None else self.lasting
        return cut if layer is None else replace(cut, layer=layer, until=self.until, lasting=lasting and not self.until)

    def _places(self, steps: int, own: Collection[int], inside: bool, passing: bool, needs: Needs) -> list[int]:
        """The steps of the cuts; those inside a step begin with the one that follows the steps done."""
        if self.steps is not None:
            return list(self.steps)
        if self.start is None:
            return list(range(1, steps + 1)) if passing else sorted(own)
        first = math.floor(self.start * steps + 1e-9) + inside
        first = max(first, 1) if needs.attention else first
        return list(range(first, steps + 1)) if passing else [first]

    def _budgets(self, cuts: int, passing: bool) -> list[Budget | None]:
        """What each cut leaves; None for what the method's own cut does."""
        if passing:
            if self.shares is not None:
                raise ValueError(f"shares={self.shares}: they are of lasting cuts; these are for their step only")
            return [None] * cuts
        if self.shares is not None:
            return [Share(share) for share in self.shares]
        if cuts == 1:
            return [None]
        if not isinstance(self.keep, Share):
            raise ValueError(f"keep={self.keep}: {cuts} lasting cuts fall to a share in turn; give a float")
        return [Share(self.keep.ratio ** ((i + 1) / cuts)) for i in range(cuts - 1)] + [self.keep]


def rises(steps: Any) -> bool:
    """Whether this is a tuple of rising whole numbers from 0 on."""
    if not isinstance(steps, tuple) or not steps or not all(is_whole(step) and step >= 0 for step in steps):
        return False
    return all(earlier < later for earlier, later in zip(steps, steps[1:]))
