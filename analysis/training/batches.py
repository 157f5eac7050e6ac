"""Training batches: pages of one size, their crops, labels, and several questions a page.

Everything is a function of (seed, step), so a resumed run sees the batches it would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from analysis.benchmarks import get, question
from analysis.benchmarks.glyphs import CROP, KEYS
from analysis.training.tokenizer import MASK, answer_ids, prompt_ids


@dataclass
class Batch:
    """One step's data. B pages, Q questions a page, L prompt tokens after the image, R response tokens.

    pixels float [B, 1 + tiles, 3, 64, 64]; labels long [B, 3, Hm, Wm]; head long [5], the ids before
    the image; asked long [B, Q, L]; answers long [B, Q, R]; fields long [B, Q], the key asked for;
    size (width, height).
    """

    pixels: Tensor
    labels: Tensor
    head: Tensor
    asked: Tensor
    answers: Tensor
    fields: Tensor
    size: tuple[int, int]

    def to(self, device) -> Batch:
        """The same batch on another device."""
        move = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return Batch(size=self.size, **move)


def crops(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] to uint8 [1 + tiles, 3, 64, 64]: the squashed thumbnail, then the crops row by row.

    Holds for sizes that the anyres choice does not rescale: it centres the page on black.
    """
    height, width = pixels.shape[:2]
    high, wide = -(-height // CROP), -(-width // CROP)
    canvas = np.zeros((high * CROP, wide * CROP, 3), np.uint8)
    top, left = (high * CROP - height) // 2, (wide * CROP - width) // 2
    canvas[top:top + height, left:left + width] = pixels
    tiles = canvas.reshape(high, CROP, wide, CROP, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, CROP, CROP)
    thumbnail = Image.fromarray(pixels).resize((CROP, CROP), Image.Resampling.BICUBIC)
    return np.concatenate((np.asarray(thumbnail).transpose(2, 0, 1)[None], tiles))


def normalise(crops: np.ndarray | Tensor) -> Tensor:
    """uint8 to float in -1..1, as the image processor does with mean = std = 0.5."""
    return (torch.as_tensor(crops).float() * (1 / 255) - 0.5) / 0.5


class Texts:
    """The token ids of every prompt, made once for a tokenizer."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        pieces = {key: prompt_ids(tokenizer, question(key)) for key in KEYS}
        self.head = torch.tensor(next(iter(pieces.values()))[0])
        self.asked = {key: piece[1] for key, piece in pieces.items()}
        self.mask = tokenizer.convert_tokens_to_ids(MASK)

    def answer(self, value: str, length: int) -> list[int]:
        """Response ids of a value."""
        return answer_ids(self.tokenizer, value, length)


def training_batch(texts: Texts, families: tuple[str, ...], step: int, seed: int, pages: int, questions: int,
                   length: int, fields: tuple[int, int] | None = None) -> Batch:
    """Batch number `step`: a size drawn for the batch, families mixed where they share it.

    `fields` bounds the number of fields on a page (curriculum); None leaves the family's own range.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, step, 77]))
    lead = get(families[int(rng.integers(len(families)))])
    size = lead.sizes[int(rng.integers(len(lead.sizes)))]
    able = [get(name) for name in families if size in get(name).sizes]
    drawn, first = [], step * pages
    for place in range(pages):
        family = able[int(rng.integers(len(able)))]
        drawn.append(family.page("train", seed, first + place, size, fields))
    asked, answers, keys = [], [], []
    for page in drawn:
        order = np.concatenate([rng.permutation(len(page.fields)) for _ in range(questions)])[:questions]
        chosen = [page.fields[place] for place in order]
        asked.append([texts.asked[field.key] for field in chosen])
        answers.append([texts.answer(field.value, length) for field in chosen])
        keys.append([KEYS.index(field.key) for field in chosen])
    return Batch(normalise(np.stack([crops(page.pixels) for page in drawn])),
                 torch.from_numpy(np.stack([page.labels for page in drawn])).long(), texts.head,
                 torch.tensor(asked), torch.tensor(answers), torch.tensor(keys), size)
