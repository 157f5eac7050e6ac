"""What RedVTP's Figure 4 leaves open: why scores drift over the steps, and whether the kept tokens drift with them.

S_k of every step (see analysis.step_similarity) is compared with S_1, in unpruned runs through all steps:

similarity: the cosine, Sim_k.
same_rows: the cosine of S_k and what the same rows, those still masked after step k, attended to in step 1. Sim_k
    differs from 1 because attention changes, and because rows leave the mean; this one only for the former.
rank: Spearman's correlation over the visual tokens.
agreement: share of the tokens that S_1 keeps at `KEEP` which S_k would keep as well.

They are told by step, and by how many of the answer's tokens are still masked after it (`left`); the end of the turn
and what follows it are not counted as answer. Families are answered under one protocol, 32 tokens in 16 steps, so
that their answers' spelling differs and nothing else: long answers are spelled a glyph a token, short ones are one
token. The latter were trained in two tokens; `right` says how well they do in 32.

Each value is the mean over a sample's steps, then over samples; intervals are bootstrapped over samples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from scipy import stats
from torch import Tensor

import redvtp
from analysis import answers, subset
from analysis.benchmarks import Sample
from analysis.command import command
from analysis.profiles import RunContext
from analysis.results import Measurement, Result
from analysis.step_similarity import RESAMPLES, mean_interval
from redvtp.metrics import exact_match
from redvtp.models.prompts import END_OF_TURN
from redvtp.selection import Share

BY = ("host", "model", "family", "split", "seed", "against", "at")
FAMILIES = ("doc", "info", "chart", "scene", "perception")
LENGTH, STEPS = 32, 16
KEEP = Share(0.25)
MOST = 100  # samples a family and seed, where half of the run's are more
VALUES = ("similarity", "same_rows", "rank", "agreement")


@dataclass(frozen=True)
class Compared:
    """One sample's S_k beside its S_1.

    Attributes:
        step: k. left: tokens of the answer still masked after it.
    """

    sample: int
    step: int
    left: int
    similarity: float
    same_rows: float
    rank: float
    agreement: float


def cosine(one: Tensor, other: Tensor) -> float:
    """Of two vectors ``[n]``."""
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))


def kept(scores: Tensor) -> set[int]:
    """The tokens that stay at `KEEP` by these scores ``[n]``."""
    order = scores.sort(descending=True, stable=True).indices
    return set(order[: KEEP.count(len(scores), scores)].tolist())


def compare(first: Tensor, now: Tensor, before: Tensor, after: Tensor) -> tuple[float, ...]:
    """The VALUES of step-1 and present attention ``[G, n]`` with the rows masked after step 1 and now ``[G]``."""
    ours, theirs = now[after].mean(0), first[before].mean(0)
    stay = kept(theirs)
    return (
        cosine(theirs, ours),
        cosine(first[after].mean(0), ours),
        float(stats.spearmanr(theirs.numpy(), ours.numpy()).statistic),
        len(stay & kept(ours)) / len(stay),
    )


def answer_lengths(canvas: Tensor, end: int) -> list[int]:
    """Tokens before the first end token of each response ``[B, G]``; all G where there is none."""
    before = (canvas == end).cumsum(1) == 0
    return before.sum(1).tolist()


def compared(host: redvtp.Model, batch: Sequence[Sample]) -> tuple[list[Compared], list[int], list[bool]]:
    """All steps of a batch after the first in which something was masked; lengths of answers; which were right."""
    recorder = redvtp.Recorder(attention=True)
    prompts = [redvtp.Prompt(sample.question, [sample.image]) for sample in batch]
    run = host.start(prompts, recorder=recorder, length=LENGTH, steps=STEPS, stop=())
    visual = run.visual_tokens
    run.run()
    end = host.host.tokenizer.convert_tokens_to_ids(END_OF_TURN)
    lengths = answer_lengths(run.canvas, end)
    found, start = [], recorder.steps[0]
    for record in recorder.steps[1:]:
        for place, sample in enumerate(record.samples.tolist()):
            after, columns = record.undecided[place], slice(visual[sample])
            if bool(after.any()):
                seen = (one[:, columns] for one in (start.attention[sample], record.attention[place]))
                values = compare(*seen, start.undecided[sample], after)
                found.append(Compared(sample, record.step, int(after[: lengths[sample]].sum()), *values))
    texts = [host.host.tokenizer.decode(ids[:length]) for ids, length in zip(run.canvas, lengths, strict=True)]
    right = [exact_match(text, sample.answer) for text, sample in zip(texts, batch, strict=True)]
    return found, lengths, right


def summarise(found: Sequence[Compared]) -> Iterator[dict]:
    """A row for each step, and for each number of answer tokens left."""
    for against in ("step", "left"):
        groups: dict[int, dict[int, list[Compared]]] = defaultdict(lambda: defaultdict(list))
        for one in found:
            groups[getattr(one, against)][one.sample].append(one)
        for at, samples in sorted(groups.items()):
            row = {"against": against, "at": at, "n": len(samples)}
            for name in VALUES:
                means = [sum(getattr(one, name) for one in own) / len(own) for own in samples.values()]
                row |= zip((name, f"{name}_low", f"{name}_high"), mean_interval(means))
            yield row


def compute(name: str, samples: Sequence[Sample]) -> Iterator[dict]:
    """Rows of one family and seed."""
    host = answers.model(name)
    found, lengths, right = [], [], []
    for batch in subset.in_batches(lambda batch: compared(host, batch), samples, answers.BATCH):
        shift = len(lengths)
        found += [replace(one, sample=one.sample + shift) for one in batch[0]]
        lengths += batch[1]
        right += batch[2]
    common = {"host": host.host.name} | subset.fields_of(name, samples)
    for row in summarise(found):
        yield common | row | {"answer_tokens": sum(lengths) / len(lengths), "right": sum(right) / len(right)}


def measure(run: RunContext) -> Result:
    """Drift of the scores of the profile's first model."""
    name = run.profile.models[0]
    drawn = subset.draw(run, FAMILIES, MOST)
    with Measurement(
        "score_drift",
        run,
        by=BY,
        link="mini",
        params={"length": LENGTH, "steps": STEPS, "keep": KEEP.ratio, "most": MOST, "resamples": RESAMPLES,
                "batch": answers.BATCH, "split": answers.SPLIT},
        inputs=subset.inputs([name], drawn),
        tolerances={"answer_tokens": 0.05, "right": 0.05},
    ) as m:
        m.each(
            [{"family": family, "seed": seed} for family, seed in drawn],
            lambda cell: compute(name, drawn[cell["family"], cell["seed"]]),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("score_drift", measure, __doc__))
