"""Training batches: pages of one size, their crops, labels, and several questions a page.

Everything is a function of (seed, step), so a resumed run sees the batches it would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from analysis.benchmarks import get
from analysis.benchmarks.base import Query
from analysis.benchmarks.canvas import CROP, IGNORE
from analysis.benchmarks.concepts import CONCEPT_ID
from analysis.training.tokenizer import answer_ids, prompt_ids
from redvtp.models.prompts import MARKER, render, user_text


@dataclass
class Batch:
    """One step's data. B pages, Q questions a page, L prompt tokens after the image, R response tokens.

    pixels float [B, 1 + tiles, 3, 96, 96]; labels long [B, 7, Hm, Wm]; head long [5], the ids before
    the image; asked long [B, Q, L], filled up on the left; pads long [B, Q], how many of them are fill;
    answers long [B, Q, R]; subject, content long [B, Q], the concepts asked for and answering (IGNORE
    where there is none); size (width, height).
    """

    pixels: Tensor
    labels: Tensor
    head: Tensor
    asked: Tensor
    pads: Tensor
    answers: Tensor
    subject: Tensor
    content: Tensor
    size: tuple[int, int]

    def to(self, device) -> Batch:
        """The same batch on another device."""
        move = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return Batch(size=self.size, **move)


def crops(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] to uint8 [1 + tiles, 3, 96, 96]: the squashed thumbnail, then the crops row by row.

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
    """Prompts and answers as token ids, for one tokenizer."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.head = torch.tensor(prompt_ids(tokenizer, "?")[0])

    def asked(self, questions: list[str]) -> list[list[int]]:
        """Ids after the image, one list a question: those of `prompt_ids`, in one call of the tokenizer."""
        tails = [render(None, user_text(question, 1)).split(MARKER)[1] for question in questions]
        return [ids[1:] for ids in self.tokenizer(tails, add_special_tokens=False)["input_ids"]]

    def answer(self, value: str, length: int) -> list[int]:
        """Response ids of a value."""
        return answer_ids(self.tokenizer, value, length)


def choose(rng: np.random.Generator, queries: tuple[Query, ...], count: int) -> list[Query]:
    """`count` queries of a page: kinds in turn, so that none is rare, and none twice while others are left."""
    kinds: dict[str, list[Query]] = {}
    for place in rng.permutation(len(queries)):
        kinds.setdefault(queries[place].kind, []).append(queries[place])
    turns = [query for turn in range(max(map(len, kinds.values()))) for group in kinds.values()
             for query in group[turn:turn + 1]]
    return [turns[place % len(turns)] for place in range(count)]


def training_batch(texts: Texts, families: tuple[str, ...], step: int, seed: int, pages: int, questions: int,
                   length: int | None, count: tuple[int, int] | None = None) -> Batch:
    """Batch number `step`: a family leads and gives the size; those that share its sizes are mixed with it.

    length: most response tokens; None for the protocol's own, and then only families of that protocol
    are mixed. `count` bounds the number of things on a page (curriculum); None leaves the family's own range.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, step, 77]))
    lead = get(families[int(rng.integers(len(families)))])
    size = lead.sizes[int(rng.integers(len(lead.sizes)))]
    able = [get(name) for name in families if get(name).sizes == lead.sizes
            and (length is not None or get(name).protocol == lead.protocol)]
    long = lead.protocol.length if length is None else min(length, *(family.protocol.length for family in able))
    drawn, first = [], step * pages
    for place in range(pages):
        family = able[int(rng.integers(len(able)))]
        drawn.append(family.page("train", seed, first + place, size, count))
    chosen = [query for page in drawn for query in choose(rng, page.queries, questions)]
    asked = texts.asked([query.question for query in chosen])
    longest = max(map(len, asked))
    shape = (pages, questions)

    def concepts(names) -> Tensor:
        return torch.tensor([IGNORE if name is None else CONCEPT_ID[name] for name in names]).view(shape)

    return Batch(
        normalise(np.stack([crops(page.pixels) for page in drawn])),
        torch.from_numpy(np.stack([page.labels for page in drawn])).long(), texts.head,
        torch.tensor([[ids[0]] * (longest - len(ids)) + ids for ids in asked]).view(*shape, longest),
        torch.tensor([longest - len(ids) for ids in asked]).view(shape),
        torch.tensor([texts.answer(query.answer, long) for query in chosen]).view(*shape, long),
        concepts(query.subject for query in chosen), concepts(query.content for query in chosen), size)
