"""One sample's run, watched: tokens as they are committed, scores and layout of every step, what is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

import redvtp
from redvtp.generation import Decoding
from redvtp.models.prompts import END_OF_TURN
from redvtp.sequence import Layout

DIGITS = 4  # of a confidence


@dataclass(frozen=True)
class Token:
    """A response token: its place from 0, the step 1..K in which it was committed, its text and confidence."""

    place: int
    step: int
    text: str
    confidence: float


@dataclass(frozen=True)
class Step:
    """One forward.

    Attributes:
        layout: of its sequence.
        attention: ``[G, n]`` of the response rows to the visual tokens that were there, mean over heads and layers.
        undecided: ``[G]`` rows still masked after its transfer.
        fed: tokens that the model ran on, averaged over layers.
    """

    layout: Layout
    attention: Tensor
    undecided: Tensor
    fed: float

    @property
    def scores(self) -> Tensor | None:
        """``[n]`` RedVTP's importance: mean over the rows still masked; None where there is none."""
        return self.attention[self.undecided].mean(0) if bool(self.undecided.any()) else None


@dataclass(frozen=True)
class Trace:
    """A finished run of one sample.

    Attributes:
        answer: what it ended with.
        tokens: by place; places that stayed masked are not there.
        steps: in order.
        length: response tokens, masked ones included.
    """

    answer: redvtp.Answer
    tokens: tuple[Token, ...]
    steps: tuple[Step, ...]
    length: int

    def after(self, step: int) -> dict[int, Token]:
        """Tokens committed in ``step`` or before, by place."""
        return {token.place: token for token in self.tokens if token.step <= step}


def trace(host: redvtp.Model, run: Decoding) -> Trace:
    """Take all steps of a run that has not begun.

    Raises:
        ValueError: several samples, or steps taken already.
    """
    if run.batch != 1 or run.done_steps:
        raise ValueError(f"{run.batch} samples, {run.done_steps} steps taken: expected one sample before any step")
    run.recorder = redvtp.Recorder(attention=True)
    layouts, more = [], bool(len(run.active))
    while more:
        layouts.append(run.state.layout)
        more = run.step()
    tokens, steps = [], []
    for layout, record in zip(layouts, run.recorder.steps, strict=True):
        steps.append(Step(layout, record.attention[0], record.undecided[0], float(record.fed[0])))
        for place in torch.nonzero(record.transferred[0] & ~record.undecided[0]).flatten().tolist():
            text = host.host.tokenizer.decode([int(record.tokens[0, place])])
            tokens.append(Token(place, record.step, text, round(float(record.confidence[0, place]), DIGITS)))
    tokens.sort(key=lambda token: token.place)
    return Trace(host.answer(run.results()[0]), tuple(tokens), tuple(steps), run.settings.length)


def as_json(tokens: Sequence[Token]) -> str:
    """Tokens as a result file holds them."""
    return json.dumps([asdict(token) for token in tokens])


def from_json(text: str) -> tuple[Token, ...]:
    """`as_json`, read back."""
    return tuple(Token(**token) for token in json.loads(text))


def shown(text: str) -> str:
    """A token as a figure shows it: the end of the turn as a square, a space as an open box."""
    return {END_OF_TURN: "∎", " ": "␣", "\n": "↵"}.get(text, text)


def spelled(tokens: dict[int, Token], length: int) -> str:
    """The response as far as it is there: a dot where a token is still masked."""
    return "".join(shown(tokens[place].text) if place in tokens else "·" for place in range(length))
