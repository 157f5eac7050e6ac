"""The samples of measurements of many runs a sample: the first half of each family's, or fewer, or what was drawn from
published data sets; and how they are split into batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import redvtp
from analysis import answers, drawn
from analysis.benchmarks import Sample
from analysis.benchmarks.published import Drawn
from analysis.profiles import RunContext
from analysis.results import Row

T = TypeVar("T")

Chosen = dict[tuple[str, int], Sequence[Sample]]


def draw(run: RunContext, families: Sequence[str], most: int, share: float = 0.5) -> Chosen:
    """``{(family, seed): samples}``: the first `share` of the run's, at most `most`.

    Those of equal size stand next to each other. Families that the profile does not have are left out. Of published
    data sets it is all that the run draws, of all its families.
    """
    if run.draw:
        return drawn.samples(run)
    count = max(1, min(most, int(run.n * share)))
    return {
        (family, seed): [sample for sample in answers.samples_of(run, family, seed) if sample.index < count]
        for family in run.profile.families if family in families
        for seed in run.seeds
    }  # fmt: skip


def inputs(names: Sequence[str], chosen: Chosen) -> dict[str, str]:
    """Hashes of these models' weights and of the samples, as inputs of a measurement."""
    weights = {f"weights {answers.folder(name)}": answers.weights_hash(name) for name in names}
    if any(isinstance(samples, Drawn) for samples in chosen.values()):
        return weights | drawn.inputs(chosen)
    return weights | answers.data_hashes(sample for samples in chosen.values() for sample in samples)


def batches(samples: Sequence[Sample], size: int) -> dict[str, Sequence[Sample]]:
    """Batches of at most `size`, by the indices of their samples. Published ones stand alone, as the official
    evaluation has them."""
    if isinstance(samples, Drawn):
        return {f"sample {index}": samples[place : place + 1] for place, index in enumerate(samples.indices)}
    parts = in_batches(list, samples, size)
    return {"samples " + " ".join(str(sample.index) for sample in part): part for part in parts}


def in_batches(compute: Callable[[Sequence[Sample]], T], samples: Sequence[Sample], size: int) -> list[T]:
    """What `compute` gives for each batch of at most `size`."""
    return [compute(samples[first : first + size]) for first in range(0, len(samples), size)]


def fields_of(name: str, samples: Sequence[Sample]) -> Mapping[str, str | int]:
    """The fields that a model's rows on one family and seed have in common."""
    first = samples[0]
    return {"model": answers.folder(name), "family": first.family, "split": first.split, "seed": first.seed}


def answered(
    name: str, samples: Sequence[Sample], answer_batch: Callable[[redvtp.Model, Sequence[Sample]], Iterable[Row]]
) -> list[Row]:
    """All rows that a model gives batch by batch, with the fields that they have in common."""
    host, common = answers.model(name), fields_of(name, samples)
    found = in_batches(lambda batch: list(answer_batch(host, batch)), samples, answers.BATCH)
    return [common | row for rows in found for row in rows]


def right(rows: Iterable[Row]) -> list[bool]:
    """Whether each sample's answer is right, in the samples' order."""
    return [bool(row["exact_match"]) for row in sorted(rows, key=lambda row: row["index"])]


def cells(names: Sequence[str], chosen: Chosen) -> list[dict[str, str | int]]:
    """A cell for each model, family and seed."""
    return [{"model": name, "family": family, "seed": seed} for name in names for family, seed in chosen]
