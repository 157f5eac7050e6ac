"""One training step's forward and its losses.

The main loss is LLaDA's: mask each response token with probability t, cross-entropy on the masked
ones over t, divided by the response length (Nie et al. 2025, eq. 3). The auxiliary losses name what
the pixels show (glyph, place in the value, field) at visual tokens, and the place and the field asked
for at response tokens. They train representations; no attention map is ever a target.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analysis.benchmarks.glyphs import BLANK, CHARACTERS, END, FIELDS, GLYPHS, IGNORE, INDICES
from analysis.training.batches import Batch
from analysis.training.mini_model import visual_tokens
from analysis.training.tokenizer import EOT

MIDDLE = 3  # the auxiliary heads read the language model after this layer
THUMBNAIL = 64


class Trainee(nn.Module):
    """The model and the heads that exist in training only."""

    def __init__(self, model, tokenizer, hidden: int = 128):
        super().__init__()
        self.model = model
        self.tower_heads = nn.ModuleList(nn.Linear(hidden, n) for n in (GLYPHS, INDICES, FIELDS))
        self.middle_heads = nn.ModuleList(nn.Linear(hidden, n) for n in (GLYPHS, INDICES, FIELDS))
        ids = torch.full((GLYPHS,), IGNORE)
        for place, character in enumerate(CHARACTERS):
            ids[1 + place] = tokenizer.convert_tokens_to_ids(character)
        ids[END] = tokenizer.convert_tokens_to_ids(EOT)
        self.register_buffer("glyph_tokens", ids, persistent=False)
        self.mask_id = tokenizer.mask_token_id


@dataclass
class Weights:
    """Weights of the losses; a weight of 0 leaves the loss out."""

    answer: float = 1.0
    tower: float = 1.0
    middle: float = 1.0
    naming: float = 0.2


@dataclass
class Result:
    """The total (with gradient) and detached numbers to log."""

    total: Tensor
    log: dict[str, float] = field(default_factory=dict)


def draw_masks(answers: Tensor, generator: torch.Generator, low: float = 0.05, full: float = 0.3):
    """(masked bool [B, Q, R], t [B, Q]): t stratified in (low, 1), `full` of the questions at t = 1."""
    count = answers.shape[0] * answers.shape[1]
    order = torch.randperm(count, generator=generator)
    t = low + (1 - low) * (order + torch.rand(count, generator=generator)) / count
    t[torch.rand(count, generator=generator) < full] = 1.0
    t = t.view(answers.shape[:2])
    masked = torch.rand(answers.shape, generator=generator) < t[..., None]
    return masked, t


def dense_loss(heads, hidden: Tensor, labels: Tensor, log: dict, name: str) -> Tensor:
    """Cross-entropy of glyph, index and field at map tokens; blanks count a tenth.

    hidden [B, Hm, Wm, D], labels [B, 3, Hm, Wm].
    """
    hidden = F.layer_norm(hidden.float(), hidden.shape[-1:]).flatten(0, 2)
    total = hidden.new_zeros(())
    inked = (labels[:, 0] != BLANK) & (labels[:, 0] != IGNORE)
    weight = torch.where(inked, 1.0, 0.1) * (labels[:, 0] != IGNORE)
    weight = (weight / weight.sum()).flatten()
    for place, (head, kind) in enumerate(zip(heads, ("glyph", "index", "field"))):
        target = labels[:, place].flatten()
        scores = head(hidden)
        total = total + (F.cross_entropy(scores, target, ignore_index=IGNORE, reduction="none") * weight).sum()
        with torch.no_grad():
            right = (scores.argmax(-1) == target)[inked.flatten()]
            log[f"{name}_{kind}"] = right.float().mean()
    return total


def run_layers(language, hidden: Tensor, positions: Tensor, first: int, last: int, **packing) -> Tensor:
    """Decoder layers first..last - 1 on hidden [B, T, D], bidirectional, through the training attention."""
    rotary = language.rotary_emb(hidden, position_ids=positions)
    for layer in language.layers[first:last]:
        hidden = layer(hidden, attention_mask=None, position_embeddings=rotary, **packing)
    return hidden


def step_loss(trainee: Trainee, batch: Batch, weights: Weights, packed: bool, generator: torch.Generator) -> Result:
    """Forward and losses of one batch.

    packed: all questions of a page in one sequence, blind to each other and unseen by the image.
    Otherwise plain full attention with the first question of each page. With weights.answer = 0
    only the image runs, through the tower and MIDDLE layers.
    """
    model, log = trainee.model, {}
    language = model.model.language_model
    visual, tower = visual_tokens(model, batch.pixels, batch.size)
    pages, seen = visual.shape[:2]
    total = visual.new_zeros((), dtype=torch.float32)
    if weights.tower:
        total = total + weights.tower * dense_loss(trainee.tower_heads, tower, batch.labels, log, "tower")
    head = language.embed_tokens(batch.head).expand(pages, -1, -1)
    sequence, shared = [head, visual.to(head.dtype)], batch.head.numel() + seen
    positions, packing, masked = [torch.arange(shared, device=visual.device)], {}, None
    if weights.answer:
        count = batch.asked.shape[1] if packed else 1
        answers = batch.answers[:, :count]
        masked, t = (x.to(visual.device) for x in draw_masks(answers, generator))
        response = torch.where(masked, trainee.mask_id, answers)
        tail = torch.cat((batch.asked[:, :count], response), -1)
        sequence.append(language.embed_tokens(tail).flatten(1, 2))
        positions += [shared + torch.arange(tail.shape[-1], device=visual.device)] * count
        packing = {"shared": shared, "questions": count} if packed else {}
    hidden, positions = torch.cat(sequence, 1), torch.cat(positions)[None]
    hidden = run_layers(language, hidden, positions, 0, MIDDLE, **packing)
    rows, columns = batch.labels.shape[2:]

    def as_map(x: Tensor) -> Tensor:
        return x[:, shared - seen + THUMBNAIL:shared].unflatten(1, (rows, columns + 1))[:, :, :columns]

    if weights.middle:
        total = total + weights.middle * dense_loss(trainee.middle_heads, as_map(hidden), batch.labels, log, "middle")
    if not weights.answer:
        return Result(total, log)

    length = answers.shape[-1]

    def responses(x: Tensor) -> Tensor:
        return x[:, shared:].unflatten(1, (count, -1))[:, :, -length:]

    if weights.middle:
        echo = F.layer_norm(responses(hidden).float(), hidden.shape[-1:])
        index = trainee.middle_heads[1](echo).flatten(0, 2)
        asked = trainee.middle_heads[2](echo).flatten(0, 2)
        places = torch.arange(length, device=index.device).expand(pages, count, -1).flatten()
        total = total + weights.middle * 0.5 * (
            F.cross_entropy(index, places)
            + F.cross_entropy(asked, batch.fields[:, :count, None].expand(-1, -1, length).flatten()))
    hidden = run_layers(language, hidden, positions, MIDDLE, len(language.layers), **packing)
    hidden = language.norm(hidden)
    if weights.naming:
        names = trainee.glyph_tokens[batch.labels[:, 0].clamp(min=0)]
        names = torch.where(batch.labels[:, 0] == IGNORE, IGNORE, names)
        scores = model.lm_head(as_map(hidden)).float()
        total = total + weights.naming * F.cross_entropy(scores.flatten(0, 2), names.flatten(), ignore_index=IGNORE)
    scores = model.lm_head(responses(hidden)).float()
    loss = F.cross_entropy(scores.flatten(0, 2), answers.flatten(), reduction="none").view(masked.shape)
    answer = (loss * masked / t[..., None]).sum(-1).div(length).mean()
    with torch.no_grad():
        letters = masked & (answers != trainee.glyph_tokens[END])
        log["answer"], log["letter_nll"] = answer.detach(), loss[letters].mean()
        right = (scores.argmax(-1) == answers)
        log["letter"] = right[letters].float().mean()
        log["whole"] = (right | ~masked).all(-1)[masked.all(-1)].float().mean()
    return Result(total + weights.answer * answer, log)
