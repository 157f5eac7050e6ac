"""The first half of each family's samples, or fewer: what measurements of many runs a sample make do with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from analysis import answers
from analysis.benchmarks import Sample
from analysis.profiles import RunContext

T = TypeVar("T")

Drawn = dict[tuple[str, int], list[Sample]]


def draw(run: RunContext, families: Sequence[str], most: int, share: float = 0.5) -> Drawn:
    """``{(family, seed): samples}``: the first `share` of the run's, at most `most`.

    Those of equal size stand next to each other. Families that the profile does not have are left out.
    """
    count = max(1, min(most, int(run.n * share)))
    return {
        (family, seed): [sample for sample in answers.samples_of(run, family, seed) if sample.index < count]
        for family in run.profile.families if family in families
        for seed in run.seeds
    }  # fmt: skip


def inputs(names: Sequence[str], drawn: Drawn) -> dict[str, str]:
    """Hashes of these models' weights and of the samples, as inputs of a measurement."""
    weights = {f"weights {answers.folder(name)}": answers.weights_hash(name) for name in names}
    return weights | answers.data_hashes(sample for samples in drawn.values() for sample in samples)


def in_batches(compute: Callable[[Sequence[Sample]], T], samples: Sequence[Sample], size: int) -> list[T]:
    """What `compute` gives for each batch of at most `size`."""
    return [compute(samples[first : first + size]) for first in range(0, len(samples), size)]


def fields_of(name: str, samples: Sequence[Sample]) -> Mapping[str, str | int]:
    """The fields that a model's rows on one family and seed have in common."""
    first = samples[0]
    return {"model": answers.folder(name), "family": first.family, "split": first.split, "seed": first.seed}
