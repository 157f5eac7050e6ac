"""What a report holds, in whatever form it is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from analysis.profiles import RunContext
from analysis.verdicts.decide import VERDICTS, Checked, Decided
from analysis.verdicts.evidence import Found
from analysis.verdicts.rules import Discrepancy, Paper


@dataclass(frozen=True)
class Report:
    """All claims with their verdicts, and all discrepancies with their numbers."""

    run: RunContext
    papers: tuple[Paper, ...]
    decided: tuple[Decided, ...]
    discrepancies: tuple[tuple[Discrepancy, tuple[Checked, ...]], ...]

    def title(self, key: str) -> str:
        """A paper's title by its key."""
        return next(paper.title for paper in self.papers if paper.key == key)

    @property
    def counts(self) -> dict[str, int]:
        """How many claims have each verdict, none left out."""
        found = Counter(one.verdict for one in self.decided)
        return {verdict: found[verdict] for verdict in VERDICTS}

    def results(self) -> list[Found]:
        """Every result that was read, each once, in the order of the claims."""
        found = {(one.found.profile, one.found.name): one.found for one in self._checked() if one.found}
        return list(found.values())

    def _checked(self) -> Iterator[Checked]:
        for one in self.decided:
            for evidence in one.evidence:
                yield from evidence.checks
        for _, numbers in self.discrepancies:
            yield from numbers
