"""Pictures of kept cells: where they are painted, and what they show."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from redvtp import Prompt, RedVTP
from redvtp.overlay import coloured, dimmed, is_cell, kept_picture, over_columns, painted
from redvtp.sequence import VISUAL
from tests.tiny import picture


def layout_of(host, image):
    return host.begin([Prompt("?", [image])], length=2).layout


def test_cells_cover_the_image_once(host):
    image = picture(70, 40)
    layout = layout_of(host, image)
    for thumbnail in (False, True):
        value = torch.arange(layout.length, dtype=torch.float64)
        found = painted(layout, value, image.size, thumbnail=thumbnail)
        assert not np.isnan(found).any()
        shown = torch.nonzero(is_cell(layout, 0, thumbnail)).flatten().tolist()
        assert set(np.unique(found)) <= set(shown)
        assert len(np.unique(painted(layout, value, (700, 400), 0, thumbnail, 10.0))) == len(shown)


def test_values_go_to_visual_columns_only(host):
    layout = layout_of(host, picture(70, 40))
    visual = layout.kind[0] == VISUAL
    values = over_columns(layout, torch.ones(int(visual.sum())))
    assert torch.equal(~values.isnan(), visual)


def test_left_out_cells_stay_empty(host):
    image = picture(70, 40)
    layout = layout_of(host, image)
    values = torch.full((layout.length,), float("nan"))
    column = int(torch.nonzero(is_cell(layout, 0, False))[0])
    values[column] = 3.0
    found = painted(layout, values, image.size)
    x0, y0, x1, y1 = (round(edge) for edge in layout.box[0, column].tolist())
    assert (found[y0:y1, x0:x1] == 3).all() and np.isnan(found).sum() == found.size - (y1 - y0) * (x1 - x0)


def test_colours_and_dimming():
    pixels = np.full((1, 3, 3), 200.0)
    heat = np.array([[0.0, 0.5, np.nan]])
    shown = coloured(pixels, heat)
    assert shown[0, 1, :].tolist() != shown[0, 0, :].tolist() and shown[0, 2].tolist() == [200] * 3
    assert not np.isnan(coloured(pixels, np.full((1, 3), np.nan))).any()
    assert dimmed(pixels, np.array([[True, False, False]]))[0, :, 0].tolist() == [127 + 73 * 0.25, 200, 200]


def test_a_picture_of_a_run(model):
    image = picture(100, 40)
    before = layout_of(model.host, image)
    answer = model.generate(image, "?", prune=RedVTP(keep=0.25), length=4, steps=2)
    page = kept_picture(image, before, torch.rand(answer.visual_tokens), answer.layout)
    assert isinstance(page, Image.Image) and page.width > 2 * 480 and page.height > 2 * 192
    kept = np.asarray(page)[28:220, 496:976].reshape(-1, 3)
    assert len(np.unique(kept, axis=0)) > 10
