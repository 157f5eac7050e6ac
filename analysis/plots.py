"""One style for every figure and table, and the one way to save them.

Saved files are the same byte for byte when they are drawn from the same numbers with the same libraries.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

from analysis import storage
from analysis.profiles import RunContext

# Okabe and Ito's palette: told apart by colour-blind readers; markers and lines do the same in grey print.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)
GREY = "#7F7F7F"


@dataclass(frozen=True)
class Look:
    """How one method is drawn in every figure."""

    label: str
    color: str
    marker: str
    linestyle: Any

    def line(self) -> dict[str, Any]:
        """Keywords for `Axes.plot` and `Axes.errorbar`."""
        keywords = {"label": self.label, "color": self.color, "marker": self.marker}
        return keywords | {"linestyle": self.linestyle}


METHODS = {
    "redvtp": Look("RedVTP", BLUE, "o", "-"),
    "llada_fastv": Look("LLaDA-FastV", RED, "s", "--"),
    "fastv": Look("FastV", ORANGE, "D", (0, (5, 1))),
    "random": Look("random", GREY, "x", ":"),
    "uniform": Look("uniform", SKY, "^", "-."),
    "oracle": Look("evidence first", GREEN, "*", "-"),
    "shuffled": Look("shuffled scores", PINK, "v", ":"),
    "blank": Look("blank image", BLACK, "+", ":"),
    "unasked": Look("no question", ORANGE, "D", ":"),
    "none": Look("no pruning", BLACK, "", "-"),
}
SPARE = (YELLOW, PINK, SKY, ORANGE, GREEN)

STYLE = {
    "figure.dpi": 110,
    "savefig.dpi": 200,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # ships with matplotlib, so figures do not depend on installed fonts
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "redvtp",
    "pdf.fonttype": 42,
}

LINKS = {
    "mini": "mini (a small trained model, not an 8B one)",
    "flops": "flops (counted on the true 8B shapes)",
    "speed": "speed (true 8B shapes, random weights)",
    "paper": "paper (published weights and benchmarks)",
    "parity": "parity (the official code on tiny random weights)",
}
"""What a number stands on, as captions say it."""

CAPTION_LETTERS = 17
"""Letters of a caption to an inch."""

WIDTH = {"column": 3.4, "page": 7.0}
"""Widths of figures in inches, as they are printed."""


def use_style() -> None:
    """Sets the style for the figures that follow, whatever the user's own settings are."""
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(STYLE)


def look(method: str) -> Look:
    """How `method` is drawn; one without an entry in METHODS gets a spare colour, always the same one."""
    if method in METHODS:
        return METHODS[method]
    return Look(method.replace("_", " "), SPARE[sum(method.encode()) % len(SPARE)], "P", (0, (3, 1, 1, 1)))


def caption(run: RunContext, provenance: Mapping[str, Any], note: str = "") -> str:
    """The line below a figure: n and seeds, or that FLOPs have none, profile, kind of evidence, then `note`."""
    seeds, link = provenance["seeds"], provenance["link"]
    sampled = f"n = {provenance['n']} a family" + (f" x {len(seeds)} seeds" if len(seeds) > 1 else "")
    if provenance["n"] is None:
        sampled = f"{provenance['draw']['fraction']:.0%} of each data set, seed {provenance['draw']['seed']}"
    parts = [
        "counted exactly, nothing is sampled" if link == "flops" else sampled,
        f"profile {run.profile.name}",
        f"evidence: {LINKS.get(link, link)}",
    ]
    return "; ".join(parts + [note] if note else parts)


def add_caption(fig: Any, text: str) -> None:
    """Writes `text` below the axes, in lines as wide as the figure."""
    text = textwrap.fill(text, int(CAPTION_LETTERS * fig.get_figwidth()))
    fig.supxlabel(text, fontsize=7, color="#555555", x=0.01, ha="left")


def save_figure(fig: Any, name: str, run: RunContext, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Writes `fig` to figures/<profile>/NAME.png, and pdf or svg if asked; a quick run is watermarked.

    Raises ValueError for a name that is not one plain word, or a format that is not png, pdf or svg.
    """
    _check_name(name)
    stamps = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "svg": {"Date": None, "Creator": None},
    }
    unknown = [form for form in formats if form not in stamps]
    if unknown:
        raise ValueError(f"unknown figure format {unknown[0]!r}, expected one of: {', '.join(stamps)}")
    mark = _watermark(fig, run) if run.quick else None
    written = []
    for form in formats:
        buffer = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": "redvtp"}):
            fig.savefig(buffer, format=form, metadata=stamps[form])
        written.append(run.figures / f"{name}.{form}")
        storage.write_bytes(written[-1], buffer.getvalue())
    if mark is not None:
        mark.remove()
    return written


def _watermark(fig: Any, run: RunContext) -> Any:
    return fig.text(
        0.5, 0.5, f"quick: n = {run.n}", fontsize=32, color="#999999", alpha=0.35, rotation=30,
        ha="center", va="center", zorder=1000,
    )


def save_table(frame: Any, name: str, run: RunContext, text: str, digits: int = 3) -> list[Path]:
    """Writes a pandas frame to figures/<profile>/NAME.md, below the caption `text`, and NAME.csv in full
    precision. The index is left out. In Markdown floats have `digits` decimals and a missing value is a dash.
    """
    _check_name(name)
    quick = f"**Quick run, n = {run.n}: not for quoting.** " if run.quick else ""
    written = [run.figures / f"{name}.md", run.figures / f"{name}.csv"]
    storage.write_text(written[0], f"{quick}{text}\n\n{markdown(frame, digits)}\n")
    storage.write_text(written[1], frame.to_csv(index=False, lineterminator="\n"))
    return written


def markdown(frame: Any, digits: int = 3) -> str:
    """A pandas frame as a Markdown table, columns padded, numbers to the right."""
    columns = [str(column) for column in frame.columns]
    body = [[_cell(value, digits) for value in row] for row in frame.itertuples(index=False, name=None)]
    numeric = [getattr(dtype, "kind", "O") in "iuf" for dtype in frame.dtypes]
    widths = [max(3, *(len(line[i]) for line in [columns, *body])) for i in range(len(columns))]

    def line(texts: Sequence[str]) -> str:
        padded = [text.rjust(width) if right else text.ljust(width)
                  for text, width, right in zip(texts, widths, numeric, strict=True)]
        return f"| {' | '.join(padded)} |"

    rule = [("-" * (width - 1) + ":") if right else "-" * width
            for width, right in zip(widths, numeric, strict=True)]
    return "\n".join([line(columns), f"| {' | '.join(rule)} |", *map(line, body)])


def _cell(value: Any, digits: int) -> str:
    if value is None or value != value:
        return "-"
    text = f"{value:.{digits}f}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _check_name(name: str) -> None:
    if not name.replace("_", "").replace("-", "").isalnum():
        raise ValueError(f"name {name!r} of a figure or table: expected letters, digits, _ and -")
