"""What sets each host's mini model apart from the others: patches, canvases, and how it is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.benchmarks.canvas import CELL, CROP
from redvtp.caching import CachePolicy, PrefixDLM
from redvtp.models.lavida import Lavida
from redvtp.models.lavida_layout import CROP as LAVIDA_CROP
from redvtp.models.lavida_layout import PINPOINTS as LAVIDA_CANVASES
from redvtp.models.llada_v import LladaV
from redvtp.models.llava import LlavaHost

GRID = 6
PACKED = "redvtp_training"  # the attention of mini_model.py


@dataclass(frozen=True)
class Design:
    """The mini model of one host.

    patch: side of the tower's patches in pixels; smaller than a cell, they are pooled to one token a cell.
    tower_layers: one more where such patches have to be gathered.
    canvases: what an image may be laid out on, (height, width) in pixels. aspect: the config's word for the
    tiling. cache: what its dev scores are taken with. taught: whether it starts from a trained mini model.
    tower_attention: what its tower is trained with, the faster one for so many patches.
    """

    host: type[LlavaHost]
    patch: int
    canvases: tuple[tuple[int, int], ...]
    aspect: str
    tower_layers: int = 4
    cache: CachePolicy | None = None
    taught: bool = False
    tower_attention: str = PACKED


# LaViDa's own five canvases have no single crop, since its images are larger than one. Four families draw pages
# within a crop: on the five alone, these would be scaled up, off the grid of the labels, or cut through the middle.
_ONE_CROP = (CROP, CROP)
_SCALED = tuple((high * CROP // LAVIDA_CROP, wide * CROP // LAVIDA_CROP) for high, wide in LAVIDA_CANVASES)

DESIGNS = {
    design.host.name: design
    for design in (
        Design(LladaV, CELL, tuple((CROP * high, CROP * wide) for wide in range(1, GRID + 1)
                                   for high in range(1, GRID + 1)), "anyres_max_4"),
        Design(Lavida, CELL // 2, (_ONE_CROP, *_SCALED), "anyres", tower_layers=5, cache=PrefixDLM(),
               taught=True, tower_attention="sdpa"),
    )
}
DEFAULT = LladaV.name


def get(host: str) -> Design:
    """The design of that host's mini model; ValueError names the hosts there are."""
    if host not in DESIGNS:
        raise ValueError(f"unknown host {host!r}, expected one of {', '.join(DESIGNS)}")
    return DESIGNS[host]
