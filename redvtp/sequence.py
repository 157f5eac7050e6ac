"""What each column of a sequence is: visual (image, tile, row, column, newline), prompt, response, padding.

A batch is padded on the left, so that the response is the same tail slice in every sample.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import LongTensor, Tensor

from redvtp.selection import pad_rows
from redvtp.transfers import sent

PADDING, PROMPT, VISUAL, RESPONSE, SUFFIX = range(5)
THUMBNAIL = 0
_FILL = {"kind": PADDING, "image": -1, "tile": -1, "row": -1, "column": -1, "newline": False, "box": float("nan")}


@dataclass(frozen=True)
class Layout:
    """What each column of a batch of sequences is.

    Attributes:
        kind: ``[B, T]`` one of PADDING, PROMPT, VISUAL, RESPONSE, SUFFIX.
        image: ``[B, T]`` index of the image that a visual token belongs to, else -1.
        tile: ``[B, T]`` 0 for the thumbnail, 1.. for the tiles in row-major order, else -1.
        row, column: ``[B, T]`` place in the thumbnail's or the assembled tiles' map, else -1; a newline
            token stands in the column behind its row.
        newline: ``[B, T]`` True for the learned vector at the end of a map row.
        box: ``[B, T, 4]`` x0, y0, x1, y1 of the cell in pixels of the original image; NaN where there is none.
    """

    kind: Tensor
    image: Tensor
    tile: Tensor
    row: Tensor
    column: Tensor
    newline: Tensor
    box: Tensor

    @property
    def length(self) -> int:
        """Columns, padding included."""
        return self.kind.shape[1]

    @property
    def real(self) -> Tensor:
        """``[B, T]`` True where a column is not padding."""
        return self.kind != PADDING

    @property
    def host_kind(self) -> Tensor:
        """``kind`` in the host's memory; asked for once, for a device is waited for."""
        if self.kind.device.type == "cpu":
            return self.kind
        if "_host_kind" not in self.__dict__:
            self.__dict__["_host_kind"] = self.kind.cpu()
        return self.__dict__["_host_kind"]

    @property
    def prompt_length(self) -> int:
        """Columns before the response, padding included (the same in every sample)."""
        return self.length - int(((self.host_kind[0] == RESPONSE) | (self.host_kind[0] == SUFFIX)).sum())

    @property
    def padded(self) -> bool:
        """Whether any column of any sample is padding."""
        return bool((self.host_kind == PADDING).any())

    @property
    def lengths(self) -> LongTensor:
        """``[B]`` real columns of each sample, in the host's memory."""
        return (self.host_kind != PADDING).sum(1)

    def columns_of(self, kind: int) -> LongTensor:
        """``[B, n]`` columns of that kind in ascending order, -1 pads on the right."""
        return sent(pad_rows([torch.nonzero(k == kind).flatten() for k in self.host_kind]), self.kind.device)

    def count(self, kind: int) -> LongTensor:
        """``[B]`` how many columns are of that kind."""
        return (self.kind == kind).sum(1)

    def to(self, device: torch.device | str) -> Layout:
        """The same layout on a device."""
        moved = Layout(**{name: getattr(self, name).to(device) for name in _FILL})
        if moved.kind.device.type != "cpu":
            moved.__dict__["_host_kind"] = self.host_kind
        return moved

    def own_kind(self) -> Layout:
        """The same layout with a ``kind`` in memory of its own, which take_kind overwrites."""
        made = replace(self, kind=self.kind.clone())
        if "_host_kind" in self.__dict__:
            made.__dict__["_host_kind"] = self.host_kind
        return made

    def take_kind(self, other: Layout) -> None:
        """Overwrite ``kind`` in place with that of a layout of the same shape."""
        self.kind.copy_(other.kind)
        if self.kind.device.type != "cpu":
            self.__dict__["_host_kind"] = other.host_kind

    def take(self, columns: LongTensor) -> Layout:
        """The layout of the sequence made of ``columns [B, T']``, where -1 becomes padding."""
        pad = columns < 0
        index = columns.clamp(min=0)
        fields = {}
        for name, fill in _FILL.items():
            value = getattr(self, name)
            wide = index if value.dim() == 2 else index[..., None].expand(-1, -1, value.shape[2])
            mask = pad if value.dim() == 2 else pad[..., None]
            fields[name] = value.gather(1, wide).masked_fill(mask, fill)
        return Layout(**fields)

    def rows(self, index: LongTensor) -> Layout:
        """The layout of the samples ``index``."""
        return Layout(**{name: getattr(self, name)[index] for name in _FILL})

    def keep_visual(self, visual: LongTensor, keep: LongTensor) -> LongTensor:
        """Columns left when only ``keep [B, m]`` of the ``visual [B, n]`` columns stay.

        Returns:
            ``[B, T']`` ascending columns of this layout, -1 pads on the left, equal lengths.
        """
        kind = self.host_kind
        stays = (kind != VISUAL) & (kind != PADDING)
        keep, chosen = keep.cpu(), visual.gather(1, keep.clamp(min=0)).cpu()
        for b in range(len(stays)):
            stays[b, chosen[b, keep[b] >= 0]] = True
        lengths = stays.sum(1)
        width = int(lengths.max())
        columns = stays.new_full((len(stays), width), -1, dtype=torch.long)
        for b in range(len(stays)):
            columns[b, width - int(lengths[b]) :] = torch.nonzero(stays[b]).flatten()
        return sent(columns, self.kind.device)

    @staticmethod
    def stack(samples: Sequence[Layout]) -> Layout:
        """A batch from layouts of one sample each, padded on the left."""
        width = max(s.length for s in samples)
        fields = {}
        for name, fill in _FILL.items():
            values = []
            for s in samples:
                value = getattr(s, name)
                gap = value.new_full((1, width - s.length, *value.shape[2:]), fill)
                values.append(torch.cat([gap, value], 1))
            fields[name] = torch.cat(values)
        return Layout(**fields)

    @staticmethod
    def concatenate(parts: Sequence[Layout]) -> Layout:
        """One sequence from consecutive parts of one sample."""
        return Layout(**{name: torch.cat([getattr(p, name) for p in parts], 1) for name in _FILL})


def plain_layout(kind: int, length: int) -> Layout:
    """``length`` columns of one kind that come from no image."""
    def full(fill, dtype, *extra):
        return torch.full((1, length, *extra), fill, dtype=dtype)

    return Layout(
        kind=full(kind, torch.int8),
        image=full(-1, torch.int32),
        tile=full(-1, torch.int32),
        row=full(-1, torch.int32),
        column=full(-1, torch.int32),
        newline=full(False, torch.bool),
        box=full(float("nan"), torch.float64, 4),
    )


def grid_layout(image: int, tile: Tensor, box: Tensor, newline: bool) -> Layout:
    """A map of visual tokens, row by row, each row ended by a newline token where ``newline``.

    Args:
        tile: ``[rows, columns]`` tile index of each cell.
        box: ``[rows, columns, 4]`` the cells in pixels of the original image.
    """
    rows, columns = tile.shape
    width = columns + int(newline)
    layout = plain_layout(VISUAL, rows * width)
    grid_row, grid_column = torch.meshgrid(torch.arange(rows), torch.arange(width), indexing="ij")
    is_newline = grid_column == columns
    full_tile = torch.full((rows, width), -1, dtype=torch.int32)
    full_box = torch.full((rows, width, 4), float("nan"), dtype=torch.float64)
    full_tile[:, :columns] = tile
    full_box[:, :columns] = box
    return Layout(
        kind=layout.kind,
        image=torch.full_like(layout.image, image),
        tile=full_tile.reshape(1, -1),
        row=grid_row.reshape(1, -1).int(),
        column=grid_column.reshape(1, -1).int(),
        newline=is_newline.reshape(1, -1),
        box=full_box.reshape(1, -1, 4),
    )


def even_cells(x0: float, y0: float, x1: float, y1: float, rows: int, columns: int) -> Tensor:
    """``[rows, columns, 4]`` equal cells of a rectangle."""
    xs = torch.linspace(x0, x1, columns + 1, dtype=torch.float64)
    ys = torch.linspace(y0, y1, rows + 1, dtype=torch.float64)
    box = torch.empty(rows, columns, 4, dtype=torch.float64)
    box[..., 0], box[..., 2] = xs[:-1], xs[1:]
    box[..., 1], box[..., 3] = ys[:-1, None], ys[1:, None]
    return box


def is_tile(layout: Layout) -> Tensor:
    """``[B, T]`` True for tokens of the tiles: neither thumbnail nor newline."""
    return (layout.kind == VISUAL) & (layout.tile > THUMBNAIL) & ~layout.newline


def count_kinds(layout: Layout, kept: Collection[int] | None = None) -> dict[str, int]:
    """How many of the first sample's visual tokens are thumbnail, tile and newline tokens.

    Args:
        kept: indices of those that count; None for all.
    """
    columns = torch.nonzero(layout.kind[0] == VISUAL).flatten()
    chosen = columns if kept is None else columns[sorted(kept)]
    newline, thumbnail = layout.newline[0, chosen], layout.tile[0, chosen] == THUMBNAIL
    return {
        "thumbnail": int(thumbnail.sum()),
        "tiles": int((~thumbnail & ~newline).sum()),
        "newlines": int(newline.sum()),
    }


def coverage(box: Tensor, evidence: Sequence[Sequence[float]]) -> Tensor:
    """Share of each cell's area that lies inside the evidence boxes (taken as disjoint, capped at 1).

    Args:
        box: ``[n, 4]`` cells in pixels; NaN counts as no area.
        evidence: boxes x0, y0, x1, y1 in pixels.
    """
    area = ((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])).clamp(min=1e-12)
    inside = torch.zeros(len(box), dtype=torch.float64)
    for x0, y0, x1, y1 in evidence:
        width = box[:, 2].clamp(max=x1) - box[:, 0].clamp(min=x0)
        height = box[:, 3].clamp(max=y1) - box[:, 1].clamp(min=y0)
        inside += width.clamp(min=0) * height.clamp(min=0)
    return torch.nan_to_num(inside / area, nan=0.0).clamp(max=1.0)


def evidence_recall(layout: Layout, evidence: Sequence[Sequence[float]], sample: int = 0) -> float:
    """Share of the evidence boxes' area that the cells of this layout's tile tokens cover.

    Thumbnail and newline tokens count for nothing. Exact: areas are summed over the rectangles that the
    edges of cells and boxes cut out.

    Raises:
        ValueError: no evidence box, or one without area.
    """
    boxes = torch.tensor([tuple(e) for e in evidence], dtype=torch.float64).reshape(-1, 4)
    if not len(boxes) or bool(((boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])).any()):
        raise ValueError(f"evidence {list(map(list, evidence))}: expected boxes x0, y0, x1, y1 with an area")
    cells = layout.box[sample][is_tile(layout)[sample]].cpu()
    everything = torch.cat([boxes, cells])
    xs = torch.unique(everything[:, [0, 2]])
    ys = torch.unique(everything[:, [1, 3]])
    middle_x, middle_y = (xs[:-1] + xs[1:]) / 2, (ys[:-1] + ys[1:]) / 2
    area = (ys[1:] - ys[:-1])[:, None] * (xs[1:] - xs[:-1])[None]

    def painted(rectangles: Tensor) -> Tensor:
        canvas = torch.zeros(len(middle_y), len(middle_x), dtype=torch.bool)
        for x0, y0, x1, y1 in rectangles.tolist():
            canvas |= ((middle_y > y0) & (middle_y < y1))[:, None] & ((middle_x > x0) & (middle_x < x1))[None]
        return canvas

    wanted = painted(boxes)
    return float((area * (wanted & painted(cells))).sum() / (area * wanted).sum())
