"""What figures of measurements on fewer samples than the run has (see analysis.subset) share."""

from __future__ import annotations

import pandas as pd

from analysis import plots
from analysis.profiles import RunContext
from analysis.results import Result


def caption(run: RunContext, result: Result, note: str = "") -> str:
    """`plots.caption` with the rows' own number of samples a family and seed, and their own seeds."""
    own = {"n": max(row["n"] for row in result.rows)}
    seeds = sorted({row["seed"] for row in result.rows if "seed" in row})
    return plots.caption(run, result.provenance | own | ({"seeds": seeds} if seeds else {}), note)


def whole(values: pd.Series) -> pd.Series:
    """Whole numbers as such beside missing ones, which would make floats of them."""
    return pd.Series([None if pd.isna(value) else int(value) for value in values], values.index, dtype=object)
