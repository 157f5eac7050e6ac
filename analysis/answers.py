"""Every answer of the mini study, sample by sample: what the tables and figures of accuracy are made of.

A cell is a batch of samples. Methods that cut after step 1 share that step: it is computed once and each
method and ratio goes on from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import cache

import redvtp
from analysis import benchmarks, paths, storage
from analysis.benchmarks import Sample, blank
from analysis.command import command
from analysis.profiles import RunContext
from analysis.results import Measurement, Result
from redvtp.generation import Decoding
from redvtp.metrics import anls, exact_match
from redvtp.pruning import Pruner
from redvtp.sequence import evidence_recall

RATIOS = (0.75, 0.5, 0.25, 0.1, 0.05)
SHUFFLED_RATIO = 0.25
BATCH = 25
SPLIT = "test"
ATTENTION = redvtp.Needs(attention=frozenset({"response"}))
BY = ("host", "family", "split", "seed", "index", "method", "params", "keep")

Key = tuple[str, float]


@cache
def model(name: str) -> redvtp.Model:
    """The model of that name, loaded once a process."""
    return redvtp.load(name)


def weights_hash(name: str) -> str:
    """Hash of a shipped model's files; its card may change without changing what it answers."""
    files = (path for path in (paths.DATA / name).iterdir() if path.suffix in (".json", ".safetensors"))
    return storage.files_hash(*sorted(files))


def samples_of(run: RunContext, family: str, seed: int) -> list[Sample]:
    """The run's test samples of one family, those of equal size next to each other."""
    drawn = benchmarks.get(family).samples(SPLIT, run.n, seed)
    return sorted(drawn, key=lambda sample: (sample.image.size, sample.index))


def after_step_one() -> dict[Key, Pruner | None]:
    """The methods and ratios that share step 1, the unpruned run first."""
    methods: dict[Key, Pruner | None] = {("none", 1.0): None}
    for kind in (redvtp.RedVTP, redvtp.Random, redvtp.Uniform, redvtp.Oracle):
        methods |= {(kind.name, ratio): kind(keep=ratio) for ratio in RATIOS}
    methods["shuffled", SHUFFLED_RATIO] = redvtp.Shuffled(keep=SHUFFLED_RATIO)
    return methods


def inside_step_one() -> dict[Key, Pruner]:
    """LLaDA-FastV, which cuts within step 1."""
    return {("llada_fastv", ratio): redvtp.LladaFastV(keep=ratio) for ratio in RATIOS}


def parameters(pruner: Pruner | None) -> str:
    """A method's parameters other than ratio and positions, as JSON."""
    if pruner is None:
        return "{}"
    skipped = ("keep", "positions")
    return json.dumps({f.name: getattr(pruner, f.name) for f in fields(pruner) if f.name not in skipped})


def seed_of(sample: Sample) -> int:
    """A seed of the sample's own, so that random choices differ between samples and not between batches."""
    return sample.seed * 1_000_003 + sample.index


def start(host: redvtp.Model, batch: Sequence[Sample], pruner: Pruner | None = None, **options) -> Decoding:
    """A batch before its first step, under its family's protocol."""
    protocol = benchmarks.get(batch[0].family).protocol
    return host.start(
        [redvtp.Prompt(sample.question, [sample.image]) for sample in batch],
        prune=pruner,
        seeds=[seed_of(sample) for sample in batch],
        extras={"evidence": [sample.evidence for sample in batch]},
        length=protocol.length,
        block_length=protocol.block_length,
        steps=protocol.steps,
        **options,
    )


def rows_of(
    host: redvtp.Model, batch: Sequence[Sample], method: str, pruner: Pruner | None, run: Decoding
) -> Iterator[dict]:
    """Finish a run; one row a sample."""
    cuts = pruner.cuts(run.settings.steps, host.host.layers) if pruner else ()
    for sample, result in zip(batch, run.run(), strict=True):
        answer = host.answer(result)
        yield {
            "host": host.host.name,
            "family": sample.family,
            "split": sample.split,
            "seed": sample.seed,
            "index": sample.index,
            "method": method,
            "params": parameters(pruner),
            "keep": getattr(pruner.keep, "ratio", None) if pruner else 1.0,
            "step": cuts[0].step if cuts else None,
            "layer": cuts[0].layer if cuts else None,
            "positions": pruner.positions if pruner else None,
            "answer": sample.answer,
            "prediction": answer.text,
            "exact_match": exact_match(answer.text, sample.answer),
            "anls": anls(answer.text, [sample.answer]),
            "evidence_recall": evidence_recall(answer.layout, sample.evidence),
            "visual_tokens": answer.visual_tokens,
            "kept": len(answer.kept),
            "steps": answer.steps,
            "tokens_fed": answer.tokens_fed,
            "flops": answer.flops,
        }


def compute_batch(name: str, batch: Sequence[Sample]) -> Iterator[dict]:
    """All methods and ratios on one batch."""
    host = model(name)
    trunk = start(host, batch, watch=ATTENTION)
    trunk.step()
    for (method, _), pruner in after_step_one().items():
        yield from rows_of(host, batch, method, pruner, trunk.fork(pruner))
    for (method, _), pruner in inside_step_one().items():
        yield from rows_of(host, batch, method, pruner, start(host, batch, pruner))
    blanks = [blank(sample) for sample in batch]
    yield from rows_of(host, blanks, "blank", None, start(host, blanks))


def measure(run: RunContext) -> Result:
    """Answer the run's samples of every family under every method and ratio."""
    name = run.profile.models[0]
    drawn = {(family, seed): samples_of(run, family, seed) for family in run.profile.families for seed in run.seeds}
    data = benchmarks.data_hash(sample for samples in drawn.values() for sample in samples)
    cells = {
        (family, seed, first): samples[first : first + BATCH]
        for (family, seed), samples in drawn.items()
        for first in range(0, len(samples), BATCH)
    }
    with Measurement(
        "answers",
        run,
        by=BY,
        link="mini",
        params={"ratios": RATIOS, "batch": BATCH, "split": SPLIT},
        inputs={"weights": weights_hash(name), "data": data},
        tolerances={"flops": None, "tokens_fed": None},
    ) as m:
        m.each(
            [{"family": family, "seed": seed, "first": first} for family, seed, first in cells],
            lambda cell: compute_batch(name, cells[cell["family"], cell["seed"], cell["first"]]),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("answers", measure, __doc__))
