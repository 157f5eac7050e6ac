"""RedVTP Figure 1: visual and prompt tokens by image size, exactly; on published data sets, their averages.

Visual tokens are counted in the layout that the package itself builds, and beside it by the closed form of the
official code; the two must be equal. Sizes are a stated list and a sweep over areas and aspect ratios. The sizes
that the published benchmarks really have, and so the paper's averages, belong to profile `paper` (see
analysis.token_averages).

Of the prompt, the 47 tokens before the image are official; the 6 behind the question follow from the same chat
template; the question's length is an assumption, stated in each row, for LLaDA's tokenizer is not shipped.

Source: official_code §2.4 to §2.6, §4.2 and §4.3. One image a prompt; several take 729 tokens each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from analysis import token_averages
from analysis.command import command
from analysis.profiles import RunContext
from analysis.results import Measurement, Result
from redvtp.models.prompts import TOKENS_BEFORE_IMAGE, prompt_tokens
from redvtp.models.published import true_layout
from redvtp.sequence import count_kinds

BY = ("host", "use", "width", "height", "question_tokens")

QUESTION_TOKENS = (8, 16, 32, 64)
"""Assumed lengths of a question, with its " /no_think" or task instruction."""

SIZES = (
    (200, 50), (336, 336), (384, 384), (448, 448), (640, 480), (768, 768), (768, 1024), (1024, 768), (1024, 1024),
    (1280, 720), (1536, 2048), (1920, 1080), (1700, 2200), (1500, 3000), (3000, 1500), (2000, 6000), (4000, 400),
)  # fmt: skip
"""(width, height) in pixels: small pictures, photographs, screens, pages at 200 dpi, strips; the list of
official_code §2.5."""

ASPECTS = ((1, 4), (3, 4), (1, 1), (16, 9), (4, 1))
"""(width, height) proportions of the sweep."""

SIDES = tuple(2 ** (quarter / 4) for quarter in range(24, 49))
"""Square roots of the sweep's areas in pixels: 64 to 4096 in quarter octaves."""


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


def image_row(host: str, width: int, height: int) -> dict:
    """Visual tokens of one image: by kind from the package's layout, and in all from the closed form."""
    shape, counts = geometry(host, width, height), count_kinds(true_layout(host, width, height))
    return {
        "tiles_wide": shape.tiles_wide,
        "tiles_high": shape.tiles_high,
        "map_width": shape.map_width,
        "map_height": shape.map_height,
        "shrink": round(shape.shrink, 3),
        "used_width": shape.width,
        "used_height": shape.height,
        "thumbnail": counts["thumbnail"],
        "newlines": counts["newlines"],
        "visual_tokens": sum(counts.values()),
        "formula_tokens": shape.tokens,
    }


def listed(host: str) -> Iterator[dict]:
    """Rows of the stated sizes, one for each assumed length of the question."""
    for width, height in SIZES:
        image = image_row(host, width, height)
        for question in QUESTION_TOKENS:
            prompt = prompt_tokens(question)
            yield {"host": host, "use": "listed", "width": width, "height": height, "question_tokens": question} | {
                **image, "prompt_tokens": prompt, "ratio": image["visual_tokens"] / prompt,
            }  # fmt: skip


def swept(host: str) -> Iterator[dict]:
    """Rows of the sweep; no prompt. Sides are whole pixels, and one pixel can decide about two rows of a map."""
    for wide, high in ASPECTS:
        for side in SIDES:
            width, height = round(side * math.sqrt(wide / high)), round(side * math.sqrt(high / wide))
            image = image_row(host, width, height)
            yield {"host": host, "use": "swept", "width": width, "height": height, "question_tokens": None} | {
                "aspect": f"{wide}:{high}",
                **{name: image[name] for name in ("tiles_wide", "tiles_high", "visual_tokens", "formula_tokens")},
            }


def measure(run: RunContext) -> Result:
    """The counts of both hosts. Nothing is sampled: every size of a run gives the same rows. On published data sets it
    is their averages instead."""
    if run.draw:
        return token_averages.measure(run)
    uses = {"listed": listed, "swept": swept}
    with Measurement("token_counts", run, by=BY, link="flops", params={"prefix": TOKENS_BEFORE_IMAGE}) as m:
        m.each(
            [{"host": host, "use": use} for host in PACKINGS for use in uses],
            lambda cell: uses[cell["use"]](cell["host"]),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("token_counts", measure, __doc__, published=True))
