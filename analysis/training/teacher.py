"""A trained mini model that one with finer patches starts from, and how the patches of a cell are made into the cell.

All of the teacher's weights are kept as they are. In front of its tower's layers comes one more, whose four heads
look at the four patches of a patch's own cell, and which learns to put the teacher's embedding of that cell in
place of each of them. The teacher's layers then see every token four times, which changes nothing for them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlavaOnevisionForConditionalGeneration

from analysis.benchmarks.canvas import CELL, CROP
from analysis.training.losses import Result
from redvtp.model import model_folder
from redvtp.models.checkpoint import load_saved, read_tokenizer

EMBEDDINGS, LAYERS = "model.vision_tower.embeddings.", "model.vision_tower.encoder.layers."
FINER = 2  # patches along a cell's side
PLACE, SHARPNESS = 4.0, 3.0  # size of the place in an embedding, and of a head's wish for its corner of the cell


def load_causal(name: str, tokenizer) -> LlavaOnevisionForConditionalGeneration:
    """The autoregressive mini model of that folder or name in `data/`, as `load_teacher` does.

    Raises ValueError where it looks both ways already.
    """
    model = load_teacher(name, tokenizer)
    if not model.config.text_config.is_causal:
        raise ValueError(f"{name} looks both ways already, expected an autoregressive model to adapt")
    return model


@torch.no_grad()
def take_over(model: nn.Module, source: nn.Module) -> None:
    """Give the model all of the source's weights. Raises ValueError where one of them does not fit."""
    mine, theirs = model.state_dict(), source.state_dict()
    for name, weight in mine.items():
        if name not in theirs or theirs[name].shape != weight.shape:
            raise ValueError(f"the model to adapt is another network: its {name} does not fit")
    model.load_state_dict({name: theirs[name] for name in mine})


def load_teacher(name: str, tokenizer) -> LlavaOnevisionForConditionalGeneration:
    """The mini model of that folder or name in `data/`, frozen, in fp32.

    Raises ValueError where there is none, where its tokens are others than the learner's, or its patches no cells.
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
    """Give the model all of the teacher's weights but its embedding of patches, and a first layer that gathers.

    Raises ValueError where one of them does not fit.
    """
    mine, theirs = model.state_dict(), teacher.state_dict()
    taken = {}
    for name, weight in mine.items():
        place, _, rest = name.removeprefix(LAYERS).partition(".")
        if name.startswith(EMBEDDINGS) or name.startswith(LAYERS) and place == "0":
            taken[name] = weight
        else:
            source = f"{LAYERS}{int(place) - 1}.{rest}" if name.startswith(LAYERS) else name
            if source not in theirs or theirs[source].shape != weight.shape:
                raise ValueError(f"the teacher is another network: its {source} does not fit")
            taken[name] = theirs[source]
    model.load_state_dict(taken)
    gather(model.model.vision_tower)


@torch.no_grad()
def gather(tower: nn.Module) -> None:
    """Let head 2 a + b of the first layer look at the patch of the own cell in row a and column b of it.

    A place is written as the cell's row and column, one of each set, and which half of the cell it is in: a query
    asks for its own cell and the head's halves.
    """
    cells, attention = CROP // CELL, tower.encoder.layers[0].self_attn
    code, width = places(cells), attention.head_dim
    known, cell = code.shape[1], 2 * cells
    embeddings = tower.embeddings
    embeddings.position_embedding.weight.zero_()[:, :known] = PLACE * code
    embeddings.patch_embedding.weight[:known] = 0
    embeddings.patch_embedding.bias.zero_()
    for projection in (attention.q_proj, attention.k_proj):
        projection.weight.zero_()
        projection.bias.zero_()
    for head in range(FINER**2):
        first = head * width
        attention.q_proj.weight[first:first + cell, :cell] = torch.eye(cell)
        attention.k_proj.weight[first:first + known, :known] = torch.eye(known)
        halves = torch.tensor(divmod(head, FINER)) * 2.0 - 1
        attention.q_proj.bias[first + cell:first + known] = SHARPNESS * halves


def places(cells: int) -> Tensor:
    """`[(2 cells)^2, 2 cells + 2]` for the patches, row by row: the cell's row, its column, and the halves."""
    side = cells * FINER
    row, column = (place.flatten() for place in torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"))
    sets = [F.one_hot(place // FINER, cells) - 1 / cells for place in (row, column)]
    halves = torch.stack((row, column), 1) % FINER - 0.5
    return torch.cat((*sets, halves), 1)


def distil_loss(model: nn.Module, teacher: nn.Module, pixels: Tensor) -> Result:
    """How far the first layer's outputs are from the teacher's embeddings of their cells, over these' variance.

    pixels: float [B, crops, 3, 96, 96].
    """
    tower, pixels = model.model.vision_tower, pixels.flatten(0, 1)
    with torch.no_grad():
        wanted = teacher.model.vision_tower.embeddings(pixels).float()
    given = tower.encoder.layers[0](tower.embeddings(pixels), None).float()
    distance = F.mse_loss(given, of_patches(wanted)) / wanted.var()
    return Result(distance, {"distance": distance.detach()})


def of_patches(tokens: Tensor) -> Tensor:
    """`[n, 4 cells, D]`: each patch of a square gets its cell's token of `[n, cells, D]`."""
    side = round(tokens.shape[1] ** 0.5)
    grid = tokens.unflatten(1, (side, side))
    return grid.repeat_interleave(FINER, 1).repeat_interleave(FINER, 2).flatten(1, 2)
