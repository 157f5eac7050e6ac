"""One training step's forward and its losses.

Diffusion: LLaDA's loss: mask each response token with probability t, cross-entropy on the masked ones
over t, divided by the response length (Nie et al. 2025, eq. 3). Autoregressive: cross-entropy of the
next token up to the end token. The auxiliary losses name what the pixels show at visual tokens, the
place, the concept asked for and the concept that answers at response tokens, and letter and concept
at options. They train representations; no attention map is ever a target.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analysis.benchmarks.base import LETTERS
from analysis.benchmarks.canvas import BLANK, CELL, CROP, END, GLYPH, IGNORE, NO_OBJECT, OBJECT, PLANES
from analysis.benchmarks.concepts import CONCEPTS, OBJECTS
from analysis.benchmarks.glyphs import CHARACTERS
from analysis.training.batches import Batch
from analysis.training.mini_model import visual_tokens
from analysis.training.tokenizer import EOT

MIDDLE = 2  # the heads for what is shown and asked read the language model after this layer
DEEP = 4  # the head for what answers reads it after this one
THUMBNAIL = (CROP // CELL) ** 2
EMPHASIS = {"count": 3.0}  # weights of planes other than 1: counting is learned last
HIDDEN = -1e9  # finite, for a fill that sees nothing else must see itself


class Trainee(nn.Module):
    """The model and the heads that exist in training only."""

    def __init__(self, model, tokenizer, hidden: int = 128):
        super().__init__()
        self.model = model
        self.tower_heads = nn.ModuleList(nn.Linear(hidden, n) for n in PLANES.values())
        self.middle_heads = nn.ModuleList(nn.Linear(hidden, n) for n in PLANES.values())
        self.subject_head = nn.Linear(hidden, len(CONCEPTS))
        self.content_head = nn.Linear(hidden, len(CONCEPTS))
        self.letter_head = nn.Linear(hidden, len(LETTERS))
        self.causal = model.config.text_config.is_causal
        glyphs = torch.full((PLANES["glyph"],), IGNORE)
        for place, character in enumerate(CHARACTERS):
            glyphs[1 + place] = tokenizer.convert_tokens_to_ids(character)
        glyphs[END] = tokenizer.convert_tokens_to_ids(EOT)
        concepts = torch.full((len(tokenizer),), IGNORE)
        concepts[tokenizer.convert_tokens_to_ids(list(CONCEPTS))] = torch.arange(len(CONCEPTS))
        objects = torch.tensor([*tokenizer.convert_tokens_to_ids(list(OBJECTS)), IGNORE])
        self.register_buffer("glyph_tokens", glyphs, persistent=False)
        self.register_buffer("object_tokens", objects, persistent=False)
        self.register_buffer("concepts", concepts, persistent=False)
        self.letter_tokens = tokenizer.convert_tokens_to_ids([f"\n{letter}. " for letter in LETTERS])
        self.register_buffer("letter_names", torch.tensor(tokenizer.convert_tokens_to_ids(list(LETTERS)) + [IGNORE]),
                             persistent=False)
        self.mask_id = tokenizer.mask_token_id

    def names(self, labels: Tensor) -> Tensor:
        """[B, 7, Hm, Wm] labels to [B, Hm, Wm], the token that names what a cell shows, or IGNORE."""
        glyph, shown = labels[:, GLYPH], labels[:, OBJECT]
        named = self.glyph_tokens[glyph.clamp(min=0)]
        named = torch.where(glyph == BLANK, self.object_tokens[shown.clamp(min=0)], named)
        return torch.where(glyph == IGNORE, IGNORE, named)

    def letters(self, asked: Tensor) -> Tensor:
        """[.., L] prompt ids to [.., L], the place of the option that begins at a token, or IGNORE."""
        before = F.pad(asked, (1, 0))[..., :-1]
        places = torch.full_like(asked, IGNORE)
        for place, token in enumerate(self.letter_tokens):
            places[before == token] = place
        return places


@dataclass
class Weights:
    """Weights of the losses; a weight of 0 leaves the loss out."""

    answer: float = 1.0
    tower: float = 0.0
    middle: float = 0.5
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
    """Sum over the planes of labels of the cross-entropy at map tokens; empty cells count a tenth.

    hidden [B, Hm, Wm, D], labels [B, 7, Hm, Wm].
    """
    hidden = F.layer_norm(hidden.float(), hidden.shape[-1:]).flatten(0, 2)
    total = hidden.new_zeros(())
    shown = (labels[:, GLYPH] != BLANK) | (labels[:, OBJECT] != NO_OBJECT)
    known = labels[:, GLYPH] != IGNORE
    weight = torch.where(shown, 1.0, 0.1) * known
    weight = (weight / weight.sum()).flatten()
    scores = F.linear(hidden, torch.cat([head.weight for head in heads]), torch.cat([head.bias for head in heads]))
    for place, (scored, kind) in enumerate(zip(scores.split(list(PLANES.values()), -1), PLANES)):
        target = labels[:, place].flatten()
        loss = (F.cross_entropy(scored, target, ignore_index=IGNORE, reduction="none") * weight).sum()
        total = total + EMPHASIS.get(kind, 1.0) * loss
        with torch.no_grad():
            empty = PLANES[kind] - 1 if place else BLANK  # the last class says that there is nothing to say
            at = (target != empty) & (target != IGNORE)
            log[f"{name}_{kind}"] = (scored.argmax(-1) == target)[at].float().mean()
    return total


def run_layers(language, hidden: Tensor, positions: Tensor, first: int, last: int, **packing) -> Tensor:
    """Decoder layers first..last - 1 on hidden [B, T, D], through the training attention."""
    rotary = language.rotary_emb(hidden, position_ids=positions)
    for layer in language.layers[first:last]:
        hidden = layer(hidden, attention_mask=None, position_embeddings=rotary, **packing)
    return hidden


def until_end(answers: Tensor, end: int) -> Tensor:
    """bool like answers [.., R]: the tokens up to the first end token, which counts too."""
    ended = (answers == end).int()
    return ended.cumsum(-1) - ended == 0


def step_loss(trainee: Trainee, batch: Batch, weights: Weights, packed: bool, generator: torch.Generator,
              frozen: bool = False, blind: bool = False, prefix: bool = False) -> Result:
    """Forward and losses of one batch.

    packed: all questions of a page in one sequence, blind to each other and unseen by the image.
    Otherwise plain full attention with the first question of each page (an autoregressive model is
    always packed: the same to it). frozen: the tower gets no gradient. blind: packed
    questions do not see the image after DEEP layers. prefix: nothing before the response sees the response,
    as a cached prompt does not. With weights.answer = 0 only
    the image runs, through the tower and, with weights.middle, MIDDLE layers.
    """
    model, log = trainee.model, {}
    language, device = model.model.language_model, batch.pixels.device
    visual, tower = visual_tokens(model, batch.pixels, batch.size, frozen)
    pages, seen = visual.shape[:2]
    total = visual.new_zeros((), dtype=torch.float32)
    if weights.tower:
        total = total + weights.tower * dense_loss(trainee.tower_heads, tower, batch.labels, log, "tower")
    if not weights.answer and not weights.middle:
        return Result(total, log)
    packed = packed or trainee.causal
    count = (batch.asked.shape[1] if packed else 1) if weights.answer else 0
    head = language.embed_tokens(batch.head).expand(pages, -1, -1)
    shared, length = batch.head.numel() + seen, batch.answers.shape[-1]
    sequence = [head, visual.to(head.dtype)]
    positions = [torch.arange(shared, device=device).expand(pages, -1)]
    answers, pads = batch.answers[:, :count], batch.pads[:, :count]
    if count:
        if trainee.causal:
            masked = until_end(answers, int(trainee.glyph_tokens[END]))
            t = masked.float().mean(-1)
            tail = torch.cat((batch.asked[:, :count], answers[..., :-1]), -1)
        else:
            masked, t = (x.to(device) for x in draw_masks(answers, generator))
            tail = torch.cat((batch.asked[:, :count], torch.where(masked, trainee.mask_id, answers)), -1)
        sequence.append(language.embed_tokens(tail).flatten(1, 2))
        places = torch.arange(tail.shape[-1], device=device)
        real = places >= pads[..., None]
        positions.append((shared + (places - pads[..., None]).clamp(min=0)).flatten(1))
        bias = torch.zeros(real.shape, device=device).masked_fill(~real, HIDDEN)
    else:
        bias = None
    hidden, positions = torch.cat(sequence, 1), torch.cat(positions, 1)
    how = {"shared": shared, "questions": count, "bias": bias, "packed": packed, "causal": trainee.causal,
           "prefix": batch.asked.shape[-1] if prefix else 0}
    hidden = run_layers(language, hidden, positions, 0, MIDDLE, **how)
    rows, columns = batch.labels.shape[2:]

    def as_map(x: Tensor) -> Tensor:
        return x[:, shared - seen + THUMBNAIL:shared].unflatten(1, (rows, columns + 1))[:, :, :columns]

    if weights.middle:
        total = total + weights.middle * dense_loss(trainee.middle_heads, as_map(hidden), batch.labels, log, "middle")
    if not count:
        return Result(total, log)

    def responses(x: Tensor) -> Tensor:
        return x[:, shared:].unflatten(1, (count, -1))[:, :, -length:]

    def concept(head: nn.Module, x: Tensor, target: Tensor, name: str) -> Tensor:
        scores = head(F.layer_norm(responses(x).float(), x.shape[-1:])).flatten(0, 2)
        target = target[:, :count, None].expand(-1, -1, length).flatten()
        known = target != IGNORE
        if not known.any():
            return scores.new_zeros(())
        log[name] = (scores.argmax(-1) == target)[known].float().mean().detach()
        return F.cross_entropy(scores, target, ignore_index=IGNORE)

    def prompts(x: Tensor) -> Tensor:
        return x[:, shared:].unflatten(1, (count, -1))[:, :, :batch.asked.shape[-1]]

    def prompt(head: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        if not (target != IGNORE).any():
            return total.new_zeros(())
        scores = head(F.layer_norm(prompts(x).float(), x.shape[-1:])).flatten(0, 2)
        return F.cross_entropy(scores, target.flatten(), ignore_index=IGNORE)

    asked = batch.asked[:, :count]
    letters = trainee.letters(asked)

    def spelled(x: Tensor) -> Tensor:
        """The LM head on options must name their letters, so that what copies a glyph can copy a letter."""
        if not (letters != IGNORE).any():
            return total.new_zeros(())
        names = trainee.letter_names[letters.where(letters != IGNORE, -1)].flatten()
        return F.cross_entropy(model.lm_head(prompts(x)).float().flatten(0, 2), names, ignore_index=IGNORE)

    if weights.middle:
        echo = F.layer_norm(responses(hidden).float(), hidden.shape[-1:])
        index = trainee.middle_heads[1](echo).flatten(0, 2)
        places = torch.arange(length, device=device).expand(pages, count, -1).flatten()
        total = total + weights.middle * (F.cross_entropy(index, places)
                                          + concept(trainee.subject_head, hidden, batch.subject, "subject"))
        total = total + weights.middle * prompt(trainee.letter_head, hidden, letters)
    hidden = run_layers(language, hidden, positions, MIDDLE, DEEP, **how)
    if weights.middle:
        total = total + weights.middle * (concept(trainee.content_head, hidden, batch.content, "content")
                                          + prompt(trainee.content_head, hidden, trainee.concepts[asked])
                                          + spelled(language.norm(hidden)))
    hidden = run_layers(language, hidden, positions, DEEP, len(language.layers), **how, blind=blind and packed)
    hidden = language.norm(hidden)
    if weights.naming:
        scores = model.lm_head(as_map(hidden)).float().flatten(0, 2)
        total = total + weights.naming * F.cross_entropy(scores, trainee.names(batch.labels).flatten(),
                                                         ignore_index=IGNORE)
        total = total + weights.naming * spelled(hidden)
    scores = model.lm_head(responses(hidden)).float()
    loss = F.cross_entropy(scores.flatten(0, 2), answers.flatten(), reduction="none").view(masked.shape)
    answer = (loss * masked / t[..., None]).sum(-1).div(length).mean()
    with torch.no_grad():
        letters = masked & (answers != trainee.glyph_tokens[END])
        kind = "short" if length == 2 else "long"
        right = (scores.argmax(-1) == answers)
        log[f"{kind}_answer"] = answer.detach()
        log[f"{kind}_letter"] = right[letters].float().mean()
    return Result(total + weights.answer * answer, log)
