"""Which pixels each visual token of an any-resolution image stands for.

The features themselves are packed by transformers; this is the same geometry, so that a kept token can be
traced back to a box in the original image.

Source: official_code §2.4 (mm_utils.py, llava_arch.py).
"""

from __future__ import annotations

import math

import torch
from transformers import LlavaOnevisionConfig
from transformers.image_processing_utils import select_best_resolution
from transformers.models.llava_onevision.modeling_llava_onevision import unpad_image

from redvtp.sequence import THUMBNAIL, Layout, even_cells, grid_layout


def anyres_layout(
    image: int, width: int, height: int, pinpoints: list[list[int]], crop: int, patches: int, max_tiles: int
) -> Layout:
    """Thumbnail cells, then the unpadded map of all tiles with a newline behind each row.

    Args:
        image: index of the image in its sample.
        width, height: of the original image in pixels.
        pinpoints: candidate canvas sizes (height, width) in pixels.
        crop: side of a tile in pixels.
        patches: patches along a tile's side.
        max_tiles: M of ``anyres_max_M``: a larger map is shrunk.
    """
    canvas_h, canvas_w = select_best_resolution((height, width), pinpoints)
    scale = min(canvas_w / width, canvas_h / height)
    inner_w, inner_h = canvas_w, canvas_h
    if canvas_w / width < canvas_h / height:
        inner_h = min(math.ceil(height * scale), canvas_h)
    else:
        inner_w = min(math.ceil(width * scale), canvas_w)
    left, top = (canvas_w - inner_w) // 2, (canvas_h - inner_h) // 2

    full_rows, full_columns = patches * canvas_h // crop, patches * canvas_w // crop
    rows, columns = unpad_image(torch.empty(1, full_rows, full_columns, device="meta"), (height, width)).shape[1:]
    pixels = crop / patches
    x0, y0 = (full_columns - columns) // 2 * pixels, (full_rows - rows) // 2 * pixels
    x1, y1 = x0 + columns * pixels, y0 + rows * pixels
    shrink = math.sqrt(rows * columns / (max_tiles * patches**2))
    if shrink > 1.1:
        rows, columns = int(rows // shrink), int(columns // shrink)

    cells = even_cells(x0, y0, x1, y1, rows, columns)
    middle_x, middle_y = (cells[..., 0] + cells[..., 2]) / 2, (cells[..., 1] + cells[..., 3]) / 2
    tile = 1 + (middle_y // crop) * (canvas_w // crop) + middle_x // crop
    cells[..., 0::2] = ((cells[..., 0::2] - left) * (width / inner_w)).clamp(0, width)
    cells[..., 1::2] = ((cells[..., 1::2] - top) * (height / inner_h)).clamp(0, height)
    return Layout.concatenate(
        [
            whole_image_layout(image, width, height, patches),
            grid_layout(image, tile.int(), cells, newline=True),
        ]
    )


def config_layout(config: LlavaOnevisionConfig, width: int, height: int) -> Layout:
    """The layout that a host's config gives the one image of a sample, of ``width`` x ``height`` pixels."""
    vision = config.vision_config
    return anyres_layout(
        image=0,
        width=width,
        height=height,
        pinpoints=config.image_grid_pinpoints,
        crop=vision.image_size,
        patches=vision.image_size // vision.patch_size,
        max_tiles=int(config.vision_aspect_ratio.removeprefix("anyres_max_")),
    )


def whole_image_layout(image: int, width: int, height: int, patches: int) -> Layout:
    """One crop that shows the whole image squashed to a square: the thumbnail."""
    tile = torch.full((patches, patches), THUMBNAIL, dtype=torch.int32)
    return grid_layout(image, tile, even_cells(0, 0, width, height, patches, patches), newline=False)


def squashed_layout(image: int, width: int, height: int, patches: int) -> Layout:
    """One crop that shows the whole image squashed to a square ("square" mode); no newline.

    It is the only view of its image, so its cells count as tile 1.
    """
    tile = torch.ones(patches, patches, dtype=torch.int32)
    return grid_layout(image, tile, even_cells(0, 0, width, height, patches, patches), newline=False)


def padded_layout(image: int, width: int, height: int, patches: int) -> Layout:
    """One crop that shows the image centred on a square ("pad" mode); no newline.

    It is the only view of its image, so its cells count as tile 1. Cells on the border have no area.
    """
    side = max(width, height)
    left, top = (side - width) // 2, (side - height) // 2
    cells = even_cells(0, 0, side, side, patches, patches)
    cells[..., 0::2] = (cells[..., 0::2] - left).clamp(0, width)
    cells[..., 1::2] = (cells[..., 1::2] - top).clamp(0, height)
    return grid_layout(image, torch.ones(patches, patches, dtype=torch.int32), cells, newline=False)
