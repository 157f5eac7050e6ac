"""Scores that one run takes from another: a guide model's attention, a blank image's, how much each layer changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from redvtp.attention import AttentionProbe
from redvtp.flops import Work, step_flops
from redvtp.images import read_image
from redvtp.model import Model
from redvtp.models.base import Prompt, State
from redvtp.models.decoder import key_mask, run_parts
from redvtp.sequence import PROMPT, THUMBNAIL, VISUAL, Layout


@dataclass(frozen=True)
class Guidance:
    """Scores of a batch and what they cost.

    Attributes:
        scores: for each sample ``[n]``, one number for each visual token of the model that is to be pruned.
        flops: of each sample's forwards of the language model that gave them.
    """

    scores: list[Tensor]
    flops: list[int]


def guide_scores(guide: Model, prompts: Sequence[Prompt], model: Model, **settings: Any) -> Guidance:
    """The guide's attention to each visual token, for SGL: ``extras={"guide": guide_scores(...).scores}``.

    The guide answers, unpruned; one more forward over prompt, image and its answer sums the attention from the
    prompt's text and the answer's tokens, mean over heads and layers. Where the guide's visual tokens are not those
    of ``model``, each of the latter gets the mean of the former by the area that they share.

    Source: arXiv 2412.03324 (scores from prompt and generated tokens, all heads and layers).

    Args:
        settings: of the guide's run (see redvtp.generation.Settings).
    """
    run = guide.start(prompts, **settings)
    state, length = run.state, run.settings.length
    results = run.run()
    canvas = torch.stack([result.canvas for result in results]).to(state.embeds.device)
    suffix = torch.tensor(run.suffix_ids, dtype=torch.long, device=canvas.device).expand(len(canvas), -1)
    written = torch.tensor([len(result.ids) - len(run.suffix_ids) for result in results], device=canvas.device)
    first = state.layout.prompt_length
    rows = torch.arange(first, first + length, device=canvas.device).expand(len(canvas), -1)
    rows = rows.masked_fill(rows - first >= written[:, None], -1)
    rows = torch.cat([rows, state.layout.columns_of(PROMPT)], 1)
    mass, flops = watch(guide, state, torch.cat([canvas, suffix], 1), rows)
    target = model.host.begin(prompts, 1).layout
    scores = [
        moved(score, state.layout.rows(torch.tensor([b])), target.rows(torch.tensor([b])))
        for b, score in enumerate(mass)
    ]
    return Guidance(scores, [result.flops + more for result, more in zip(results, flops, strict=True)])


def blank_scores(
    model: Model, prompts: Sequence[Prompt], length: int, layers: Sequence[int] | None = None
) -> Guidance:
    """What the masked rows of step 1 attend to where the image is of one colour: the part of a score that says
    nothing about the image, as ``extras={"prior": blank_scores(...).scores}``. One forward.

    Args:
        length: response tokens.
        layers: decoder layers, 1..L, to average over; None for all.
    """
    empty = [Prompt(prompt.question, [blank(image) for image in prompt.images]) for prompt in prompts]
    state = model.host.begin(empty, length)
    canvas = torch.full((len(prompts), length), model.host.mask_id, device=state.embeds.device)
    first = state.layout.prompt_length
    rows = torch.arange(first, first + length, device=canvas.device).expand(len(canvas), -1)
    return Guidance(*watch(model, state, canvas, rows, layers))


def blank(image: Any) -> Image.Image:
    """An image of the same size in its mean colour."""
    read = read_image(image)
    return Image.new("RGB", read.size, read.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)))


def watch(model: Model, state: State, canvas: Tensor, rows: Tensor, layers: Sequence[int] | None = None):
    """One forward; for each sample ``[n]`` the attention from ``rows`` (-1 pads) to its visual tokens, summed over
    rows and averaged over layers, and its FLOPs."""
    columns = state.layout.columns_of(VISUAL)
    probe = AttentionProbe(rows, columns, layers)
    none = torch.zeros_like(canvas, dtype=torch.bool)
    output = model.host.forward(state, canvas, none, probe)
    mass = (probe.mean() * (rows >= 0)[..., None]).sum(1)
    counts = (columns >= 0).sum(1).tolist()
    work = output.work or Work.whole(output.lengths, canvas.shape[1])
    flops = step_flops(model.host.config.text_config, work, none.sum(1))
    return [one[:count].cpu() for one, count in zip(mass, counts, strict=True)], flops


def moved(score: Tensor, source: Layout, target: Layout) -> Tensor:
    """A score ``[n]`` of one layout's visual tokens for those of another, ``[m]``, of the same images.

    A cell gets the mean of the source's cells by shared area, those of the thumbnail and of the tiles apart; a
    newline token that of the source's newline tokens of its image, or of the tiles where the source has none.
    """
    fields = ("image", "tile", "newline", "row", "column", "box")
    old, new = ({name: getattr(layout, name)[0][layout.kind[0] == VISUAL] for name in fields}
                for layout in (source, target))  # fmt: skip
    same = len(old["image"]) == len(new["image"]) and all(
        torch.equal(old[name], new[name]) if name != "box" else torch.allclose(old[name], new[name], equal_nan=True)
        for name in fields
    )
    if same:
        return score
    made = torch.zeros(len(new["image"]), dtype=score.dtype)
    for image in new["image"].unique().tolist():
        own, mine = old["image"] == image, new["image"] == image
        for thumbnail in (True, False):
            source_cells = own & ~old["newline"] & ((old["tile"] == THUMBNAIL) == thumbnail)
            source_cells = source_cells if bool(source_cells.any()) else own & ~old["newline"]
            cells = mine & ~new["newline"] & ((new["tile"] == THUMBNAIL) == thumbnail)
            weight = shared_area(new["box"][cells], old["box"][source_cells]).to(score.dtype)
            made[cells] = weight @ score[source_cells] / weight.sum(1).clamp(min=1e-12)
        newlines = own & old["newline"]
        tiles = own & ~old["newline"] & (old["tile"] != THUMBNAIL)
        rest = newlines if bool(newlines.any()) else tiles if bool(tiles.any()) else own
        made[mine & new["newline"]] = score[rest].mean()
    return made


def shared_area(boxes: Tensor, others: Tensor) -> Tensor:
    """``[m, n]`` area that boxes ``[m, 4]`` and ``[n, 4]`` (x0, y0, x1, y1) have in common; NaN has none."""
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return torch.nan_to_num((high - low).clamp(min=0), nan=0.0).prod(2)


@torch.no_grad()
def layer_importance(model: Model, prompts: Sequence[Prompt], length: int) -> tuple[float, ...]:
    """How much the attention of each layer changes its input: 1 - mean cosine of the hidden states before and after
    it, over all columns of a fully masked step; for MaskKV, on prompts set aside for it.

    Source: arXiv 2510.09309 (layer budgets, calibrated offline).
    """
    state = model.host.begin(prompts, length)
    canvas = torch.full((len(prompts), length), model.host.mask_id, device=state.embeds.device)
    decoder, real = model.host.decoder, state.layout.real
    hidden = state.with_rows(decoder.embed_tokens(canvas))
    rotary = decoder.rotary_emb(hidden, position_ids=state.positions)
    keywords = {"attention_mask": key_mask(state.layout, state.size, hidden.dtype), "is_causal": False}
    found = []
    for layer in decoder.layers:
        attended, grown = run_parts(layer, hidden, position_embeddings=rotary, **keywords)
        cosine = torch.nn.functional.cosine_similarity(hidden.float(), (hidden + attended).float(), dim=-1)
        found.append(1 - float(cosine[real].mean()))
        hidden = hidden + attended + grown
    return tuple(max(0.0, one) for one in found)
