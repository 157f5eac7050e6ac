"""How many tiles and visual tokens an image becomes, by the closed form of the official code (§2.4 and §4.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Geometry:
    """The map of one image's tiles.

    Attributes:
        tiles_wide, tiles_high: the canvas in tiles; the thumbnail is one crop more.
        map_width, map_height: cells that show the image, after unpadding.
        shrink: by which both sides are divided where it is above 1.1.
        width, height: cells after that.
        thumbnail: cells of the thumbnail.
    """

    tiles_wide: int
    tiles_high: int
    map_width: int
    map_height: int
    shrink: float
    width: int
    height: int
    thumbnail: int

    @property
    def crops(self) -> int:
        """Crops that the vision tower sees."""
        return 1 + self.tiles_wide * self.tiles_high

    @property
    def tokens(self) -> int:
        """Visual tokens: thumbnail, map, and a newline behind each row of the map."""
        return self.thumbnail + self.height * (self.width + 1)


@dataclass(frozen=True)
class Packing:
    """How a host turns an image into visual tokens.

    Attributes:
        canvases: candidates (width, height) in pixels, in order.
        crop: side of a tile in pixels.
        side: tokens along a tile's side.
        max_tiles: map area in tiles above which it is shrunk; None for no such cap.
    """

    canvases: tuple[tuple[int, int], ...]
    crop: int
    side: int
    max_tiles: int | None


PACKINGS = {
    "llada_v": Packing(tuple((384 * i, 384 * j) for i in range(1, 7) for j in range(1, 7)), 384, 27, 4),
    "lavida": Packing(((384, 768), (768, 384), (768, 768), (1152, 384), (384, 1152)), 384, 14, None),
}
"""By host; the numbers are written out from official_code §2.4 and §4.2, apart from the package's own."""


def geometry(host: str, width: int, height: int) -> Geometry:
    """The closed form of official_code §2.4 for an image of ``width`` x ``height`` pixels."""
    packing = PACKINGS[host]
    best = None
    for canvas in packing.canvases:
        scale = min(canvas[0] / width, canvas[1] / height)
        shown = min(int(width * scale) * int(height * scale), width * height)
        fit = (shown, shown - canvas[0] * canvas[1])  # most of the image, then least waste; the first wins
        if best is None or fit > best[0]:
            best = (fit, canvas)
    wide, high = best[1][0] // packing.crop, best[1][1] // packing.crop
    full_width, full_height = packing.side * wide, packing.side * high
    columns, rows = full_width, full_height
    if width / height > full_width / full_height:
        rows -= 2 * ((full_height - int(height * (full_width / width))) // 2)
    else:
        columns -= 2 * ((full_width - int(width * (full_height / height))) // 2)
    shrink = 0.0
    if packing.max_tiles is not None:
        shrink = math.sqrt(rows * columns / (packing.max_tiles * packing.side**2))
    used = (int(columns // shrink), int(rows // shrink)) if shrink > 1.1 else (columns, rows)
    return Geometry(wide, high, columns, rows, shrink, *used, thumbnail=packing.side**2)
