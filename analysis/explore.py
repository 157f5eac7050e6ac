"""One question at a time, unpruned and pruned: for notebooks/explore.ipynb, in which everything is looked at by hand.

The image is a test sample of a family, with its own question, answer and evidence, or a file with a question of one's
own. A sample is answered under its family's protocol unless steps and length are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

import redvtp
from analysis import answers, benchmarks
from analysis.trace import Trace, shown, spelled, trace
from redvtp.images import read_image
from redvtp.pruning import Pruner, get

Row = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A question about an image; answer and evidence where they are known."""

    title: str
    image: Image.Image
    question: str
    answer: str | None
    evidence: tuple[Sequence[float], ...]
    seed: int
    settings: dict[str, int]


@dataclass(frozen=True)
class Compared:
    """The same question answered without and with pruning."""

    asked: Asked
    pruner: Pruner
    full: Trace
    pruned: Trace


def sample(family: str, index: int, question: str = "", **settings: int | None) -> Asked:
    """A test sample of a family, or another question about its image, which then has no known answer."""
    found = benchmarks.get(family).sample(answers.SPLIT, 0, index)
    own = bool(question) and question != found.question
    return Asked(
        title=f"{family} {index}",
        image=found.image,
        question=question or found.question,
        answer=None if own else found.answer,
        evidence=() if own else found.evidence,
        seed=answers.seed_of(found),
        settings=asdict(benchmarks.get(family).protocol) | given(settings),
    )


def own(path: str | Path, question: str, **settings: int | None) -> Asked:
    """An image file with a question.

    Raises:
        ValueError: no question, or a file that is no image.
    """
    if not question.strip():
        raise ValueError(f"{path}: an image of one's own needs a question")
    return Asked(Path(path).name, read_image(path), question, None, (), 0, given(settings))


def given(settings: dict[str, int | None]) -> dict[str, int]:
    """The settings that are not None. A length or step count of one's own does away with the family's blocks."""
    found = {name: value for name, value in settings.items() if value is not None}
    return found | ({"block_length": None} if found and "block_length" not in found else {})


def compare(host: redvtp.Model, asked: Asked, method: str = "redvtp", keep: float = 0.25) -> Compared:
    """Answer without and with pruning.

    Raises:
        ValueError: an unknown method, a ratio outside (0, 1], or a method that needs evidence that is not known.
    """
    pruner = get(method)(keep=keep)
    if not asked.evidence and any("evidence" in pruner.needs(cut).extras for cut in pruner.cuts(2, host.host.layers)):
        raise ValueError(f"{method} needs the evidence, which is known for samples with their own question only")

    def run(with_: Pruner | None) -> Trace:
        return trace(
            host,
            host.start(
                [redvtp.Prompt(asked.question, [asked.image])],
                prune=with_,
                seeds=[asked.seed],
                extras={"evidence": [asked.evidence]} if asked.evidence else None,
                **asked.settings,
            ),
        )

    return Compared(asked, pruner, run(None), run(pruner))


def steps(found: Trace) -> list[Row]:
    """What each step committed, with its confidence, and the response after it."""
    rows = []
    for number, step in enumerate(found.steps, 1):
        new = [token for token in found.tokens if token.step == number]
        rows.append(
            {
                "step": number,
                "committed": "  ".join(f"{token.place}:{shown(token.text)} {token.confidence:.3f}" for token in new),
                "response": spelled(found.after(number), found.length),
                "visual tokens": int(step.attention.shape[1]),
                "tokens fed": step.fed,
            }
        )
    return rows


def changes(found: Compared) -> list[Row]:
    """Places that hold another token when pruned, or the same one from another step, up to the later end of turn."""
    full, pruned = ({token.place: token for token in one.tokens} for one in (found.full, found.pruned))
    last = max(end(found.full), end(found.pruned))
    rows = []
    for place in range(last + 1):
        one, other = full.get(place), pruned.get(place)
        if (one and (one.text, one.step)) == (other and (other.text, other.step)):
            continue
        rows.append({"place": place} | described("unpruned", one) | described("pruned", other))
    return rows


def described(name: str, token: Any) -> Row:
    """A token's text, step and confidence under column names; None where there is none."""
    return {
        name: shown(token.text) if token else None,
        f"{name} step": token.step if token else None,
        f"{name} confidence": token.confidence if token else None,
    }


def end(found: Trace) -> int:
    """The place of the first end of turn, or the last committed one."""
    ends = [token.place for token in found.tokens if shown(token.text) == "∎"]
    return min(ends) if ends else max((token.place for token in found.tokens), default=0)


def recall(found: Compared) -> float | None:
    """Share of the evidence that the pruned run's tokens cover at its end; None where it is not known."""
    evidence = found.asked.evidence
    return redvtp.evidence_recall(found.pruned.answer.layout, evidence) if evidence else None


def at_step(found: Trace, step: int) -> int:
    """A step that the run had: ``step``, or the last one with a row still masked after it, if that is earlier.

    Raises:
        ValueError: a step below 1.
    """
    if step < 1:
        raise ValueError(f"step {step}: expected a step from 1 on")
    scored = [number for number, one in enumerate(found.steps, 1) if one.scores is not None]
    return max([number for number in scored if number <= step], default=1)
