"""Pictures of what was kept: scores and kept cells over the image, tiles and thumbnail, with Pillow alone."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from redvtp.sequence import THUMBNAIL, VISUAL, Layout

SIDE = 480      # of a panel's longer side, in pixels
MARGIN = 8
HEAD = 20       # room for a panel's title
DIMMED = 0.25   # contrast of a dropped cell
BLEND = 0.65    # share of a score's colour
RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))  # dark to bright, as viridis


def is_cell(layout: Layout, image: int, thumbnail: bool) -> Tensor:
    """``[T]`` which columns of the first sample are cells of that image: its thumbnail's, or its tiles'."""
    cells = (layout.kind[0] == VISUAL) & (layout.image[0] == image) & ~layout.newline[0]
    return cells & ((layout.tile[0] == THUMBNAIL) == thumbnail)


def painted(
    layout: Layout, values: Tensor, size: tuple[int, int], image: int = 0, thumbnail: bool = False, scale: float = 1.0
) -> np.ndarray:
    """``[H, W]`` the value of the cell that covers each pixel; NaN where no cell does.

    Args:
        values: ``[T]`` one for each column of the layout's first sample; NaN leaves a cell out.
        size: (width, height) of the picture, ``scale`` times the image's.
    """
    canvas = np.full((size[1], size[0]), np.nan)
    for column in torch.nonzero(is_cell(layout, image, thumbnail)).flatten().tolist():
        value = float(values[column])
        if value == value:
            x0, y0, x1, y1 = (round(edge * scale) for edge in layout.box[0, column].tolist())
            canvas[y0:y1, x0:x1] = value
    return canvas


def over_columns(layout: Layout, visual: Tensor) -> Tensor:
    """``[T]`` values of the first sample's visual tokens ``visual [n]`` on their columns, NaN elsewhere."""
    values = torch.full((layout.length,), float("nan"), dtype=torch.float64)
    columns = torch.nonzero(layout.kind[0].cpu() == VISUAL).flatten()
    values[columns] = visual[: len(columns)].double().cpu()
    return values


def drawn_scores(attention: Tensor, undecided: Tensor) -> Tensor:
    """``[n]`` mean of a step's attention ``[G, n]`` over the rows still masked after it, or over all where none is."""
    return attention[undecided].mean(0) if bool(undecided.any()) else attention.mean(0)


def kept_picture(image: Image.Image, before: Layout, scores: Tensor, after: Layout, index: int = 0) -> Image.Image:
    """Four panels: scores and kept cells, over the tiles and over the thumbnail (two where there is none).

    Args:
        before: layout that ``scores`` refer to, one sample.
        scores: ``[n]`` of its visual tokens; colours go from 0 to the largest of the panel.
        after: layout at the end of the run.
        index: of the image in its sample.
    """
    scale = SIDE / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    shown = image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
    pixels = np.asarray(shown, dtype=float)
    values = over_columns(before, scores)
    rows = []
    for thumbnail, name in ((False, "tile"), (True, "thumbnail")):
        of, left = (int(is_cell(layout, index, thumbnail).sum()) for layout in (before, after))
        if not of:
            continue
        heat = painted(before, values, size, index, thumbnail, scale)
        there = painted(after, torch.zeros(after.length), size, index, thumbnail, scale)
        rows.append(
            [
                (f"scores of the {of} {name} tokens, up to {np.nanmax(heat, initial=0):.3f}", coloured(pixels, heat)),
                (f"kept: {left} of {of} {name} tokens", dimmed(pixels, np.isnan(there))),
            ]
        )
    return sheet(rows, size)


def coloured(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The image in grey under the colours of ``heat [H, W]``, from 0 to its largest value."""
    top = np.nanmax(heat, initial=0.0) or 1.0
    place = np.clip(np.nan_to_num(heat) / top, 0, 1) * (len(RAMP) - 1)
    colour = np.stack([np.interp(place, range(len(RAMP)), channel) for channel in zip(*RAMP)], -1)
    blended = (1 - BLEND) * pixels.mean(-1, keepdims=True) + BLEND * colour
    return np.where(np.isnan(heat)[..., None], pixels, blended)


def dimmed(pixels: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    """The image with the contrast taken out where ``dropped [H, W]``."""
    return np.where(dropped[..., None], 127 + (pixels - 127) * DIMMED, pixels)


def sheet(rows: list[list[tuple[str, np.ndarray]]], size: tuple[int, int]) -> Image.Image:
    """Panels with their titles above them, on white."""
    width, height = size[0] + MARGIN, size[1] + HEAD + MARGIN
    across = max((len(row) for row in rows), default=1)
    page = Image.new("RGB", (across * width + MARGIN, max(1, len(rows)) * height + MARGIN), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for r, row in enumerate(rows):
        for c, (title, pixels) in enumerate(row):
            x, y = MARGIN + c * width, MARGIN + r * height
            draw.text((x, y), title, fill="black", font=font)
            page.paste(Image.fromarray(pixels.round().astype(np.uint8)), (x, y + HEAD))
    return page
