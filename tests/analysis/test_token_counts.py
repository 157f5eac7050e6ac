"""Token counts by image size: the official table, the package's layouts, and what is drawn from them."""

from __future__ import annotations

import math
import random

import matplotlib
import pytest

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

from analysis import token_counts  # noqa: E402
from analysis.figures import token_counts as figure  # noqa: E402
from analysis.profiles import run_context  # noqa: E402
from redvtp.models.anyres import padded_layout  # noqa: E402
from redvtp.models.lavida_layout import PINPOINTS, lavida_layout  # noqa: E402
from redvtp.models.published import true_layout  # noqa: E402
from redvtp.sequence import coverage, is_tile  # noqa: E402

# official_code §2.5, checked there against the official functions: image, then for LLaDA-V grid, map before the
# shrink, t, map used and N; for LaViDa grid, map and N. Grids and maps are width x height.
TABLE = """
200×50    | 1×1 | 27×7    | 0.26  | 27×7   | 925  | 1×2 | 14×4  | 256
336×336   | 1×1 | 27×27   | 0.50  | 27×27  | 1485 | 1×2 | 14×14 | 406
384×384   | 1×1 | 27×27   | 0.50  | 27×27  | 1485 | 1×2 | 14×14 | 406
448×448   | 2×2 | 54×54   | 1.00  | 54×54  | 3699 | 2×2 | 28×28 | 1008
640×480   | 2×2 | 54×40   | 0.86  | 54×40  | 2929 | 2×2 | 28×22 | 834
768×768   | 2×2 | 54×54   | 1.00  | 54×54  | 3699 | 2×2 | 28×28 | 1008
768×1024  | 2×3 | 54×73   | 1.163 | 46×62  | 3643 | 2×2 | 22×28 | 840
1024×768  | 3×2 | 73×54   | 1.163 | 62×46  | 3627 | 2×2 | 28×22 | 834
1024×1024 | 3×3 | 81×81   | 1.50  | 54×54  | 3699 | 2×2 | 28×28 | 1008
1280×720  | 4×2 | 96×54   | 1.333 | 72×40  | 3649 | 2×2 | 28×16 | 660
1536×2048 | 4×6 | 108×144 | 2.309 | 46×62  | 3643 | 2×2 | 22×28 | 840
1920×1080 | 5×3 | 135×75  | 1.863 | 72×40  | 3649 | 2×2 | 28×16 | 660
1700×2200 | 5×6 | 125×162 | 2.635 | 47×61  | 3657 | 2×2 | 22×28 | 840
1500×3000 | 3×6 | 81×162  | 2.121 | 38×76  | 3693 | 1×2 | 14×28 | 616
3000×1500 | 6×3 | 162×81  | 2.121 | 76×38  | 3655 | 2×1 | 28×14 | 602
2000×6000 | 2×6 | 54×162  | 1.732 | 31×93  | 3705 | 1×3 | 14×42 | 826
4000×400  | 6×1 | 162×17  | 0.972 | 162×17 | 3500 | 3×1 | 42×4  | 368
"""
LINES = [[part.strip() for part in line.split("|")] for line in TABLE.strip().splitlines()]


def pair(text: str) -> tuple[int, int]:
    width, height = map(int, text.split("×"))
    return width, height


def test_the_listed_sizes_are_those_of_the_official_table():
    assert [pair(line[0]) for line in LINES] == list(token_counts.SIZES)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
def test_llada_v_counts_are_the_official_ones(line):
    size, grid, before, shrink, used, tokens = line[:6]
    row = token_counts.image_row("llada_v", *pair(size))
    assert (row["tiles_wide"], row["tiles_high"]) == pair(grid)
    assert (row["map_width"], row["map_height"]) == pair(before)
    assert f"{row['shrink']:.{len(shrink.split('.')[1])}f}" == shrink
    assert (row["used_width"], row["used_height"]) == pair(used)
    assert row["visual_tokens"] == row["formula_tokens"] == int(tokens)
    assert (row["thumbnail"], row["newlines"]) == (729, pair(used)[1])


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
def test_lavida_counts_are_the_official_ones(line):
    grid, used, tokens = line[6:]
    row = token_counts.image_row("lavida", *pair(line[0]))
    assert (row["tiles_wide"], row["tiles_high"]) == pair(grid)
    assert (row["used_width"], row["used_height"]) == (row["map_width"], row["map_height"]) == pair(used)
    assert row["visual_tokens"] == row["formula_tokens"] == int(tokens)
    assert (row["thumbnail"], row["newlines"]) == (196, pair(used)[1])


@pytest.mark.parametrize("host", token_counts.PACKINGS)
def test_layout_and_closed_form_agree_on_any_size(host):
    chance = random.Random(0)
    sizes = [(chance.randint(2, 6000), chance.randint(2, 6000)) for _ in range(150)]
    for width, height in [*sizes, (4000, 10), (10, 4000), (1, 6000), (6000, 1)]:
        layout = true_layout(host, width, height)
        assert layout.length == token_counts.geometry(host, width, height).tokens, (width, height)


def test_lavidas_canvases_come_in_the_official_order():
    official = token_counts.PACKINGS["lavida"].canvases
    assert [(width, height) for height, width in PINPOINTS] == list(official)
    # Two canvases of equal fit: the first of the list is taken, as official_code §4.2 says.
    assert token_counts.geometry("lavida", 384, 384).tiles_high == 2


@pytest.mark.parametrize("size", [(640, 480), (200, 50), (300, 2000)], ids=str)
def test_lavidas_cells_cover_the_image_once(size):
    layout = lavida_layout(0, *size)
    tiles = is_tile(layout)[0]
    box = layout.box[0, tiles]
    area = ((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])).sum()
    assert float(area) == pytest.approx(size[0] * size[1], rel=0.1)  # the map is cut to whole cells
    assert float(coverage(box, [(0, 0, *size)]).min()) == pytest.approx(1)
    assert int(layout.tile[0, tiles].max()) <= 4


def test_several_images_have_729_tokens_each():
    assert padded_layout(0, 640, 480, 27).length == 729


def test_prompts_are_template_and_question():
    rows = list(token_counts.listed("llada_v"))
    assert len(rows) == len(token_counts.SIZES) * len(token_counts.QUESTION_TOKENS)
    for row in rows:
        assert row["prompt_tokens"] == 47 + row["question_tokens"] + 6
        assert row["ratio"] == row["visual_tokens"] / row["prompt_tokens"]


def test_the_sweep_keeps_its_proportions():
    rows = list(token_counts.swept("lavida"))
    assert len(rows) == len(token_counts.ASPECTS) * len(token_counts.SIDES)
    for row in rows:
        wide, high = map(int, row["aspect"].split(":"))
        assert row["width"] / row["height"] == pytest.approx(wide / high, rel=0.03)
        assert row["visual_tokens"] == row["formula_tokens"]
    assert math.sqrt(rows[0]["width"] * rows[0]["height"]) == pytest.approx(64)


def test_measured_drawn_and_said(project, monkeypatch):
    monkeypatch.setattr(token_counts, "SIZES", ((336, 336), (1024, 768)))
    monkeypatch.setattr(token_counts, "SIDES", (128.0, 1024.0))
    (project / "analysis" / "token_counts.py").write_text("")
    run = run_context()
    result = token_counts.measure(run)
    assert result.link == "flops"
    assert len(result.rows) == 2 * (2 * len(token_counts.QUESTION_TOKENS) + 2 * len(token_counts.ASPECTS))
    drawn = figure.draw(result, run)
    drawn.draw_without_rendering()
    pyplot.close("all")
    table = figure.table(result)
    assert list(table["visual tokens"]) == [1485, 3627, 406, 834]
    text = figure.sentence(result)
    assert "LLaDA-V" in text and "agree in all 36 rows" in text and "decided by profile paper alone" in text
