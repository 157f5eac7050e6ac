"""Layouts: taking, keeping, stacking columns; evidence recall against counted pixels."""

from __future__ import annotations

import pytest
import torch

from redvtp.sequence import (
    PADDING,
    PROMPT,
    RESPONSE,
    VISUAL,
    Layout,
    coverage,
    even_cells,
    evidence_recall,
    grid_layout,
    is_tile,
    plain_layout,
)


def sample(rows: int, columns: int, prompt: int = 2, response: int = 3) -> Layout:
    """Prompt, one map of tiles over a 10 x 10 image, response."""
    tile = torch.ones(rows, columns, dtype=torch.int32)
    grid = grid_layout(0, tile, even_cells(0, 0, 10, 10, rows, columns), newline=True)
    return Layout.concatenate([plain_layout(PROMPT, prompt), grid, plain_layout(RESPONSE, response)])


def test_stacking_pads_on_the_left_and_keeps_the_response_at_the_end():
    batch = Layout.stack([sample(2, 2), sample(1, 3, prompt=4)])
    assert batch.prompt_length == batch.length - 3
    assert bool((batch.kind[:, -3:] == RESPONSE).all())
    assert batch.count(VISUAL).tolist() == [6, 4]
    assert batch.count(PROMPT).tolist() == [2, 4]
    assert batch.columns_of(VISUAL)[1].tolist()[-2:] == [-1, -1]


def test_padding_is_the_only_difference_between_stacked_and_single():
    single = sample(1, 2)
    batch = Layout.stack([sample(3, 3), single])
    gap = batch.length - single.length
    assert bool((batch.kind[1, :gap] == PADDING).all())
    for name, value in vars(single).items():
        torch.testing.assert_close(getattr(batch, name)[1:, gap:], value, equal_nan=True)


def test_keeping_visual_tokens_leaves_all_else_and_the_boxes():
    batch = Layout.stack([sample(2, 2), sample(2, 3, prompt=5)])
    visual = batch.columns_of(VISUAL)
    keep = torch.tensor([[0, 3, 5], [2, -1, -1]])
    columns = batch.keep_visual(visual, keep)
    cut = batch.take(columns)
    assert cut.count(VISUAL).tolist() == [3, 1]
    assert cut.count(PROMPT).tolist() == [2, 5]
    assert cut.count(RESPONSE).tolist() == [3, 3]
    for b in range(2):
        kept = keep[b][keep[b] >= 0]
        for name in ("box", "tile", "row", "column", "image", "newline"):
            before = getattr(batch, name)[b, visual[b, kept]]
            after = getattr(cut, name)[b, cut.columns_of(VISUAL)[b, : len(kept)]]
            torch.testing.assert_close(before, after, equal_nan=True)
    real = columns[columns >= 0]
    assert bool((columns[0].diff() > 0).all())
    assert len(real) == int(cut.real.sum())


def test_even_cells_are_disjoint_and_cover_their_rectangle():
    cells = even_cells(3, 1, 10, 6, 4, 3).reshape(-1, 4)
    area = (cells[:, 2] - cells[:, 0]) * (cells[:, 3] - cells[:, 1])
    assert float(area.sum()) == pytest.approx(35)
    for i, a in enumerate(cells):
        for b in cells[i + 1 :]:
            across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            assert min(float(across), float(down)) <= 1e-9


def test_recall_of_all_tiles_is_one_and_of_none_is_zero():
    layout = sample(3, 4)
    assert evidence_recall(layout, [(1, 2, 7, 9)]) == pytest.approx(1)
    none = layout.take(layout.keep_visual(layout.columns_of(VISUAL), torch.empty(1, 0, dtype=torch.long)))
    assert evidence_recall(none, [(1, 2, 7, 9)]) == 0


def test_thumbnail_and_newline_count_for_nothing():
    tile = torch.tensor([[0, 1]], dtype=torch.int32)
    layout = grid_layout(0, tile, even_cells(0, 0, 10, 10, 1, 2), newline=True)
    assert is_tile(layout)[0].tolist() == [False, True, False]
    assert evidence_recall(layout, [(0, 0, 10, 10)]) == pytest.approx(0.5)


def test_half_a_box_is_half_the_recall_and_overlaps_count_once():
    layout = sample(1, 2)  # cells 0..5 and 5..10
    left = layout.take(layout.keep_visual(layout.columns_of(VISUAL), torch.tensor([[0]])))
    assert evidence_recall(left, [(4, 0, 6, 10)]) == pytest.approx(0.5)
    assert evidence_recall(left, [(4, 0, 6, 10), (4, 0, 6, 10)]) == pytest.approx(0.5)
    assert evidence_recall(left, [(0, 0, 5, 10), (6, 0, 8, 10)]) == pytest.approx(50 / 70)


@pytest.mark.parametrize("seed", range(8))
def test_recall_equals_counted_pixels(seed):
    generator = torch.Generator().manual_seed(seed)
    layout = sample(5, 4)
    layout.box.copy_((layout.box * 4).round())  # whole pixels of a 40 x 40 image
    kept = torch.randperm(layout.count(VISUAL).item(), generator=generator)[:9].sort().values[None]
    cut = layout.take(layout.keep_visual(layout.columns_of(VISUAL), kept))
    corners = torch.randint(0, 30, (3, 2), generator=generator)
    boxes = torch.cat([corners, corners + torch.randint(1, 10, (3, 2), generator=generator)], 1).tolist()

    def painted(rectangles):
        canvas = torch.zeros(40, 40, dtype=torch.bool)
        for x0, y0, x1, y1 in rectangles:
            canvas[int(y0) : int(y1), int(x0) : int(x1)] = True
        return canvas

    wanted = painted(boxes)
    seen = painted(cut.box[0][is_tile(cut)[0]].tolist())
    assert evidence_recall(cut, boxes) == pytest.approx(float((wanted & seen).sum() / wanted.sum()))


@pytest.mark.parametrize("evidence", [[], [(3, 3, 3, 9)], [(5, 0, 1, 9)]])
def test_evidence_without_area_is_refused(evidence):
    with pytest.raises(ValueError, match="expected boxes"):
        evidence_recall(sample(2, 2), evidence)


def test_coverage_is_the_share_of_each_cell():
    cells = torch.tensor([[0, 0, 2, 2], [2, 0, 4, 2], [float("nan")] * 4], dtype=torch.float64)
    assert coverage(cells, [(1, 0, 2, 2), (2, 0, 4, 2)]).tolist() == [0.5, 1.0, 0.0]
