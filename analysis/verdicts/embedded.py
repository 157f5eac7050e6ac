"""Drawings as data URIs, small enough for a page that holds many."""

from __future__ import annotations

import base64
import functools
import io
from pathlib import Path

from PIL import Image

WIDEST = 1000  # pixels
COLOURS = 96


def data_uri(path: Path) -> str:
    """A PNG file as a `data:` address, at most `WIDEST` wide and in few colours."""
    return _data_uri(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _data_uri(path: Path, modified: int) -> str:
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    if image.width > WIDEST:
        image = image.resize((WIDEST, round(image.height * WIDEST / image.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
