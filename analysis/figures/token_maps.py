"""Scores, kept cells and answers as they form: panels that several figures share."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

import redvtp
from analysis import plots
from analysis.trace import Token, shown
from redvtp.overlay import dimmed, is_cell, over_columns, painted
from redvtp.sequence import VISUAL, Layout

HEAT = "viridis"
GREYED = 0.55  # share of the image under a score
SPLIT = 0.62   # of a colour map's range from which letters on it are black


def layout_of(host: redvtp.Model, image: Image.Image) -> Layout:
    """The layout of one image before any cut."""
    return host.host.begin([redvtp.Prompt("?", [image])], length=1).layout


def cell_values(layout: Layout, visual: Tensor, size: tuple[int, int], thumbnail: bool = False) -> np.ndarray:
    """``[H, W]`` values ``[n]`` of the visual tokens on the pixels of their cells, NaN where none is."""
    return painted(layout, over_columns(layout, visual), size, thumbnail=thumbnail)


def kept_cells(layout: Layout, kept: Collection[int], size: tuple[int, int], thumbnail: bool = False) -> np.ndarray:
    """``[H, W]`` True on the cells of the kept visual tokens, indices into those of ``layout``."""
    values = torch.full((int((layout.kind[0] == VISUAL).sum()),), float("nan"))
    values[sorted(kept)] = 1.0
    return cell_values(layout, values, size, thumbnail) == 1


def cells(layout: Layout, thumbnail: bool) -> int:
    """How many cells the thumbnail, or the tiles, have."""
    return int(is_cell(layout, 0, thumbnail).sum())


def bare(axis: Any) -> None:
    """No ticks, no grid, no lines around."""
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    for side in axis.spines.values():
        side.set_visible(False)


def draw_image(axis: Any, image: Image.Image, boxes: Sequence[Sequence[float]] = ()) -> None:
    """The image with evidence boxes."""
    _show(axis, np.asarray(image).astype(float) / 255, image.size)
    outline(axis, boxes)


def draw_scores(axis: Any, image: Image.Image, values: np.ndarray, top: float | None = None) -> Any:
    """Scores over the image in grey; returns what a colour bar is made of."""
    grey = np.asarray(image.convert("L")).astype(float) / 255
    _show(axis, np.repeat(grey[..., None], 3, -1), image.size)
    extent = (0, image.width, image.height, 0)
    return axis.imshow(values, cmap=HEAT, vmin=0, vmax=top, alpha=1 - GREYED * 0.5, extent=extent,
                       interpolation="nearest")  # fmt: skip


def draw_kept(axis: Any, image: Image.Image, there: np.ndarray, boxes: Sequence[Sequence[float]] = ()) -> None:
    """The image with the cells that are gone dimmed."""
    _show(axis, dimmed(np.asarray(image).astype(float), ~there) / 255, image.size)
    outline(axis, boxes)


def _show(axis: Any, pixels: np.ndarray, size: tuple[int, int]) -> None:
    axis.imshow(np.clip(pixels, 0, 1), interpolation="nearest", extent=(0, size[0], size[1], 0))
    bare(axis)


def outline(axis: Any, boxes: Sequence[Sequence[float]]) -> None:
    """Boxes x0, y0, x1, y1 in pixels of the image."""
    for x0, y0, x1, y1 in boxes:
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=plots.ORANGE, linewidth=1.6))


def draw_formed(
    axis: Any,
    lines: Mapping[str, Sequence[Token]],
    places: int,
    wrong: Mapping[str, Collection[int]] | None = None,
) -> None:
    """Responses, one below the other: a box a place, its number and colour the step in which it was committed.

    Args:
        lines: tokens by label.
        places: boxes of a line; those without a token stay empty.
        wrong: places of each line that are outlined in red.
    """
    within = [token.step for tokens in lines.values() for token in tokens if token.place < places]
    first, last = min(within, default=1), max(within, default=1)
    for height, (label, tokens) in enumerate(lines.items()):
        there = {token.place: token for token in tokens}
        for place in range(places):
            token = there.get(place)
            depth = (token.step - first) / max(1, last - first) if token else None
            face = "white" if depth is None else matplotlib.colormaps["Blues"](0.08 + 0.75 * depth)
            red = token is not None and wrong is not None and place in wrong.get(label, ())
            axis.add_patch(Rectangle((place - 0.44, height - 0.4), 0.88, 0.8, facecolor=face,
                                     edgecolor=plots.RED if red else "#999999",
                                     linewidth=2.0 if red else 0.5))  # fmt: skip
            if token:
                ink = "white" if depth > SPLIT else plots.BLACK
                axis.text(place, height - 0.08, shown(token.text), ha="center", va="center", fontsize=8, color=ink)
                axis.text(place + 0.4, height + 0.34, token.step, ha="right", va="bottom", fontsize=4.5, color=ink)
    axis.set(xlim=(-0.6, places - 0.4), ylim=(len(lines) - 0.5, -0.5))
    axis.set_aspect("equal", anchor="N")
    bare(axis)
    axis.set_yticks(range(len(lines)), list(lines))
    axis.tick_params(left=False)
