"""The README's tables of results, written from the committed reference: python -m analysis.readme.

A table stands between two comments that name it, `<!-- accuracy -->` and `<!-- /accuracy -->`; the text around them is
written by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import pandas as pd

from analysis import paths, plots, storage
from analysis.results import reference_rows

README = paths.ROOT / "README.md"
PROFILE = "mini"
MODEL = "llada_v"
COLUMNS = {
    "unpruned": ("none", 1.0),
    "RedVTP 50%": ("redvtp", 0.5),
    "RedVTP 25%": ("redvtp", 0.25),
    "RedVTP 10%": ("redvtp", 0.1),
    "LLaDA-FastV 25%": ("llada_fastv", 0.25),
    "random 25%": ("random", 0.25),
    "uniform 25%": ("uniform", 0.25),
    "shuffled 25%": ("shuffled", 0.25),
    "blank image": ("blank", 1.0),
}
"""Columns of the accuracy table: method and keep ratio."""


def accuracy() -> str:
    """Exact match by family, method and ratio, with 95% intervals in percent."""
    rows = pd.DataFrame(reference_rows("accuracy", PROFILE))
    rows = rows[rows["model"] == MODEL].groupby(["family", "method", "keep"], sort=False).mean(numeric_only=True)
    table = [
        {"exact match": family}
        | {head: _rate(rows.loc[family, method, keep]) for head, (method, keep) in COLUMNS.items()}
        for family in dict.fromkeys(rows.index.get_level_values("family"))
    ]
    return plots.markdown(pd.DataFrame(table))


def _rate(row: pd.Series) -> str:
    low, high = row["exact_match_low"] * 100, row["exact_match_high"] * 100
    return f"{row['exact_match']:.0%} [{low:.0f}, {high:.0f}]"


def verdicts() -> str:
    """What each claim says and its verdict."""
    found = storage.read_json(paths.REFERENCE_FIGURES / PROFILE / "claims.json")["claims"]
    table = [
        {"claim": one["id"], "says": one["says"], "verdict": one["verdict"], "why": one["reason"]}
        for one in found
    ]
    return plots.markdown(pd.DataFrame(table))


TABLES: dict[str, Callable[[], str]] = {"accuracy": accuracy, "verdicts": verdicts}
"""The tables by the name in their comments."""


def updated(text: str) -> str:
    """A README's text with its tables as the committed reference has them.

    Raises ValueError for a table without its two comments.
    """
    for name, table in TABLES.items():
        opening, closing = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if text.count(opening) != 1 or text.count(closing) != 1:
            raise ValueError(f"{README.name}: expected {opening.strip()} and {closing} once")
        before, _, rest = text.partition(opening)
        text = before + opening + table() + "\n" + closing + rest.partition(closing)[2]
    return text


def main() -> int:
    """Rewrites the tables."""
    storage.write_text(README, updated(README.read_text(encoding="utf-8")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
