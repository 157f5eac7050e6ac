"""LaViDa's visual tokens: one of five canvases, every crop's 27 x 27 patches pooled to 14 x 14.

Tiles, unpadding and newlines are those of LLaDA-V (see redvtp.models.anyres) on the pooled maps, without the
shrink.

Source: official_code §4.2; its counts are in §2.5.
"""

from __future__ import annotations

from collections.abc import Sequence

from redvtp.models.anyres import anyres_layout
from redvtp.sequence import Layout

CROP = 384
"""Side of a tile in pixels."""

POOLED = 14
"""Tokens along a tile's side: 27 patches, pooled."""

PINPOINTS = ((768, 384), (384, 768), (768, 768), (384, 1152), (1152, 384))
"""Canvases (height, width) in the official order; the first of equally good ones is taken."""


def pooled_side(patches: int) -> int:
    """Tokens along the side of a pooled crop of ``patches`` patches a side: half of them, rounded up."""
    return -(-patches // 2)


def lavida_layout(
    image: int,
    width: int,
    height: int,
    pinpoints: Sequence[Sequence[int]] = PINPOINTS,
    crop: int = CROP,
    pooled: int = POOLED,
) -> Layout:
    """196 thumbnail cells, then the unpadded map of all tiles with a newline behind each row.

    A strip so flat that its map has no row left has the thumbnail only; one so thin that its map has no column
    left keeps the newlines. Several images take another path: 729 unpooled tokens each, no newline.

    Args:
        image: index of the image in its sample.
        width, height: of the original image in pixels.
        pinpoints, crop, pooled: candidate canvases (height, width), side of a tile in pixels and in tokens; the
            published ones unless a smaller model says otherwise.
    """
    canvases = [list(size) for size in pinpoints]
    largest = max(high * wide for high, wide in canvases) // crop**2  # so that the shrink never acts
    return anyres_layout(image, width, height, canvases, crop, pooled, largest)
