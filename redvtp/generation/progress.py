"""Where each sample stands in its blocks, kept on the host, and what it knows of the masks without asking the device.

A step commits as many rows as its quota says, or fewer: a row whose likeliest token is the mask itself stays masked.
So the quotas say how many rows are masked at least, and as long as that is more than none nobody has to look.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

from redvtp.generation.schedules import transfer_quotas
from redvtp.generation.settings import Settings

Look = Callable[[], Sequence[Sequence[bool]]]


class Progress:
    """Block and step of each sample of a batch.

    Args:
        settings: of the run.
        masked: ``[B][blocks]`` rows of each block that are masked before the first step.
        certain: no text can end a response, so that nothing but quotas decides what is committed where.

    Attributes:
        block, index: of each sample, from 0; -1 before the first block.
        quotas: of the sample's block, one a step.
        looks: how often the device was asked.
    """

    def __init__(self, settings: Settings, masked: Sequence[Sequence[int]], certain: bool) -> None:
        self.settings, self.masked = settings, [list(blocks) for blocks in masked]
        self.certain = certain and not settings.parallel
        self.block = [-1] * len(masked)
        self.index = [0] * len(masked)
        self.quotas = [[0] * settings.block_steps for _ in masked]
        self.looks = 0

    def copy(self) -> Progress:
        """The same, to go on by itself."""
        twin = copy.copy(self)
        twin.block, twin.index, twin.quotas = list(self.block), list(self.index), list(self.quotas)
        return twin

    def quota(self, sample: int) -> int:
        """Rows that the sample's step may commit."""
        return self.quotas[sample][self.index[sample]]

    def end(self, sample: int) -> int:
        """The row where the sample's block ends."""
        return (self.block[sample] + 1) * self.settings.block

    def least(self, sample: int, steps: int) -> int:
        """Rows of the sample's block that are masked at least, after so many of its steps; 0 if that is not known."""
        known = self.certain and 0 <= self.block[sample] < self.settings.blocks
        return sum(self.quotas[sample][steps:]) if known else 0

    def surely_undecided(self, sample: int) -> bool:
        """Whether the step being taken leaves something to decide for sure."""
        later = self.masked[sample][self.block[sample] + 1 :]
        return self.certain and (self.least(sample, self.index[sample] + 1) > 0 or any(later))

    def advance(self, sample: int, look: Look) -> bool:
        """Move the sample to its next step, over blocks that are done; False where there is none.

        Args:
            look: asks the device for all samples: whether a stop has been reached with nothing masked before it, and
                whether each response row is masked, ``[B][1 + G]``.
        """
        settings, size = self.settings, self.settings.block
        block, index = self.block[sample], self.index[sample]

        def found() -> Sequence[bool]:
            return look()[sample]

        while block < settings.blocks:
            if block >= 0 and index < settings.block_steps:
                if self.least(sample, index) > 0:
                    break
                if not found()[0] and any(found()[1 + block * size : 1 + (block + 1) * size]):
                    break
            block, index = block + 1, 0
            if block < settings.blocks:
                # Rows of a later block are not touched before its turn, but where a stop text lifts the limits.
                rows = found()[1 + block * size : 1 + (block + 1) * size] if not self.certain else ()
                left = self.masked[sample][block] if self.certain else sum(rows)
                self.quotas[sample] = transfer_quotas(left, settings.block_steps, settings.schedule, settings.shift)
            self.block[sample], self.index[sample] = block, index
        self.block[sample], self.index[sample] = block, index
        return block < settings.blocks
