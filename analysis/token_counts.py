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

from analysis import token_averages
from analysis.command import command
from analysis.profiles import RunContext
from analysis.results import Measurement, Result
from analysis.tiles import PACKINGS, geometry
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
