"""The caption of figures and tables whose numbers are counted: they have no samples and no seeds."""

from __future__ import annotations

from analysis import plots
from analysis.profiles import RunContext
from analysis.results import Result


def caption(run: RunContext, result: Result, note: str = "") -> str:
    """As `plots.caption`, without n and seeds."""
    link = plots.LINKS[result.link]
    parts = ["counted exactly, nothing is sampled", f"profile {run.profile.name}", f"evidence: {link}"]
    return "; ".join(parts + [note] if note else parts)
