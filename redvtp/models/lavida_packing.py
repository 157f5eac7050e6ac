"""From LaViDa's projected crops to its visual tokens: pooling, tiles put together, unpadding, newlines.

Pure tensor functions; redvtp.models.lavida_layout says what each of the tokens stands for.

Source: official_code §4.2 (llava_arch.py: get_2dPool and the spatial_unpad branch).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.llava_onevision.modeling_llava_onevision import unpad_image

from redvtp.models.lavida_layout import pooled_side


def pool_crops(features: Tensor) -> Tensor:
    """``[n, p * p, D]`` bilinearly resized from crops ``[n, side * side, D]``; p is half of side, rounded up.

    The official resize, on the projector's output: an average over 2 x 2 patches is another function.
    """
    crops, patches, width = features.shape
    side = round(patches**0.5)
    maps = features.view(crops, side, side, width).permute(0, 3, 1, 2)
    pooled = F.interpolate(maps, size=(pooled_side(side),) * 2, mode="bilinear", align_corners=False)
    return pooled.flatten(2).transpose(1, 2)


def pack_crops(features: Tensor, across: int, size: tuple[int, int], newline: Tensor) -> Tensor:
    """``[N, D]`` thumbnail tokens, then the tiles' map without its padding, each row ended by ``newline [D]``.

    Args:
        features: ``[1 + tiles, p * p, D]`` pooled crops, thumbnail first, tiles row by row.
        across: tiles beside each other.
        size: width and height of the original image.
    """
    thumbnail, tiles = features[0], features[1:]
    side = round(tiles.shape[1] ** 0.5)
    grid = tiles.view(-1, across, side, side, tiles.shape[2])
    whole = grid.permute(4, 0, 2, 1, 3).flatten(3, 4).flatten(1, 2)
    shown = unpad_image(whole, (size[1], size[0]))
    ends = newline.to(shown)[:, None, None].expand(-1, shown.shape[1], 1)
    return torch.cat([thumbnail, torch.cat([shown, ends], 2).flatten(1).T])
