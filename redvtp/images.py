"""Reading an image from whatever a user has, or saying in one line why it cannot be read."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError


class ImageError(ValueError):
    """An image that cannot be used; the message names it and what was expected."""


def read_image(source: str | os.PathLike | Image.Image | np.ndarray) -> Image.Image:
    """An RGB image from a path, a PIL image, or a uint8 array ``[H, W, 3]`` or ``[H, W]``.

    16-bit grey is scaled to 8 bits; palettes and CMYK are converted; alpha is dropped, as the official
    code's ``convert("RGB")`` does.

    Raises:
        ImageError: for an empty, corrupt, truncated or oversized image.
    """
    name = str(source) if isinstance(source, (str, os.PathLike)) else f"image of type {type(source).__name__}"
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.size == 0 or not (source.ndim == 2 or source.shape[2:] == (3,)):
            raise ImageError(f"{name}: expected a uint8 array [H, W] or [H, W, 3], got {source.dtype} {source.shape}")
        source = Image.fromarray(source)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if not path.is_file():
            raise ImageError(f"{name}: expected an image file, found {'a folder' if path.is_dir() else 'nothing'}")
        if path.stat().st_size == 0:
            raise ImageError(f"{name}: the file is empty; expected an image")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(path) as opened:
                    opened.load()
                    return to_rgb(opened)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ImageError(
                f"{name}: expected at most {Image.MAX_IMAGE_PIXELS} pixels (PIL.Image.MAX_IMAGE_PIXELS): {error}"
            ) from None
        except UnidentifiedImageError:
            raise ImageError(f"{name}: expected an image that Pillow can open, found no known format") from None
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError) as error:
            raise ImageError(f"{name}: the image is corrupt or truncated ({error})") from None
    if not isinstance(source, Image.Image):
        raise ImageError(f"{name}: expected a path, a PIL image or a uint8 array")
    if min(source.size) < 1:
        raise ImageError(f"{name}: expected at least one pixel, got size {source.size}")
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and source.size[0] * source.size[1] > limit:
        raise ImageError(f"{name} of size {source.size}: expected at most {limit} pixels (PIL.Image.MAX_IMAGE_PIXELS)")
    try:
        return to_rgb(source)
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{name}: the image is corrupt or truncated ({error})") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB. Grey of more bits, which ``convert`` would clip, is scaled to 8: 16-bit by 65535; 32-bit and
    float by the smallest of 1 (float only), 255 and 65535 that holds its values, or by its largest value."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        largest = float(np.nan_to_num(values).max(initial=0))
        tops = (65535.0,) if image.mode.startswith("I;16") else (255.0, 65535.0)
        tops = (1.0, *tops) if image.mode == "F" else tops
        top = next((top for top in tops if largest <= top), largest)
        image = Image.fromarray(np.clip(np.round(np.nan_to_num(values) * (255.0 / top)), 0, 255).astype(np.uint8))
    return image.convert("RGB")
