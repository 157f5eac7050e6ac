"""LaViDa's visual tokens: one of five canvases, every crop's 27 x 27 patches pooled to 14 x 14.

Tiles, unpadding and newlines are those of LLaDA-V (see redvtp.models.anyres) on the pooled maps, without the
shrink: no canvas has more than four tiles.

Source: official_code §4.2; its counts are in §2.5.
"""

from __future__ import annotations

from redvtp.models.anyres import anyres_layout
from redvtp.sequence import Layout

CROP = 384
"""Side of a tile in pixels."""

POOLED = 14
"""Tokens along a tile's side: 27 patches, pooled."""

PINPOINTS = ((768, 384), (384, 768), (768, 768), (384, 1152), (1152, 384))
"""Canvases (height, width) in the official order; the first of equally good ones is taken."""

MAX_TILES = 4
"""The largest canvas, so that the shrink of ``anyres_max_M`` never acts."""


def lavida_layout(image: int, width: int, height: int) -> Layout:
    """196 thumbnail cells, then the unpadded map of all tiles with a newline behind each row.

    A strip so flat that its map has no row left has the thumbnail only; one so thin that its map has no column
    left keeps the newlines. Several images take another path: 729 unpooled tokens each, no newline.

    Args:
        image: index of the image in its sample.
        width, height: of the original image in pixels.
    """
    pinpoints = [list(size) for size in PINPOINTS]
    return anyres_layout(image, width, height, pinpoints, CROP, POOLED, MAX_TILES)
