"""A trained mini model that another one starts from: its weights, and its visual tokens as targets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlavaOnevisionForConditionalGeneration

from analysis.benchmarks.canvas import CELL
from redvtp.model import model_folder
from redvtp.models.checkpoint import load_saved, read_tokenizer

PLACES = "embeddings.position_embedding.weight"


def load_teacher(name: str, tokenizer) -> LlavaOnevisionForConditionalGeneration:
    """The mini model of that folder or name in `data/`, frozen, in fp32.

    Raises ValueError where there is none, or where its tokens are others than the learner's, or its patches no cells.
    """
    folder = model_folder(name)
    model = load_saved(LlavaOnevisionForConditionalGeneration, folder, torch.float32)
    if read_tokenizer(folder).get_vocab() != tokenizer.get_vocab():
        raise ValueError(f"teacher {name} has another vocabulary, expected that of the mini models")
    patch = model.config.vision_config.patch_size
    if patch != CELL:
        raise ValueError(f"teacher {name} has patches of {patch} px, expected {CELL}, the cells of the labels")
    return model.eval().requires_grad_(False)


@torch.no_grad()
def inherit(model: nn.Module, teacher: nn.Module) -> None:
    """Copy all of the teacher's weights that fit, and its places in a crop, stretched to finer patches.

    What a patch of another size looks like has to be learned, so the patch embedding stays as it is.

    Raises ValueError where anything else differs.
    """
    mine, theirs = model.state_dict(), teacher.state_dict()
    differing = sorted(name for name in mine if name not in theirs or theirs[name].shape != mine[name].shape)
    unexpected = [name for name in differing if not name.endswith(("patch_embedding.weight", PLACES))]
    if unexpected:
        raise ValueError(f"the teacher is another network: {unexpected[0]} differs")
    taken = {name: theirs[name] for name in mine if name not in differing}
    for name in differing:
        if name.endswith(PLACES):
            taken[name] = stretched(theirs[name], len(mine[name]))
    model.load_state_dict(mine | taken)


def stretched(places: Tensor, count: int) -> Tensor:
    """`[count, D]` from embeddings `[n, D]` of the places in a square grid, read at the places of a finer one."""
    side, finer = round(len(places) ** 0.5), round(count ** 0.5)
    grid = places.view(1, side, side, -1).permute(0, 3, 1, 2)
    return F.interpolate(grid, size=(finer, finer), mode="bilinear", align_corners=False).flatten(2)[0].T


def distance(mine: Tensor, theirs: Tensor) -> Tensor:
    """How far visual tokens are from the teacher's: squared distance over the variance of the teacher's."""
    mine, theirs = mine.float(), theirs.float()
    return F.mse_loss(mine, theirs) / theirs.var()
