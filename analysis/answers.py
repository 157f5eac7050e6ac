"""Every answer of the mini study, sample by sample: what the tables and figures of accuracy are made of.

A cell is a batch of samples for one model. Methods that cut after step 1 share that step: it is computed once
and each method and ratio goes on from there. Unpruned controls answer without the image (`blank`) and without the
question (`unasked`). `score` is the family's own metric, `answer_step` the step (1..K) in which the first response
token was committed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path

import redvtp
from analysis import benchmarks, paths, spread, storage
from analysis.benchmarks import Sample, blank, unasked
from analysis.command import command
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row
from redvtp.generation import Decoding
from redvtp.metrics import anls, exact_match, relaxed_accuracy
from redvtp.model import model_folder
from redvtp.pruning import Pruner
from redvtp.sequence import evidence_recall

RATIOS = (0.75, 0.5, 0.25, 0.1, 0.05)
SHUFFLED_RATIO = 0.25
BATCH = 25
SPLIT = "test"
ATTENTION = redvtp.Needs(attention=frozenset({"response"}))
BY = ("host", "model", "family", "split", "seed", "index", "method", "params", "keep")
METRICS = {
    "anls": lambda prediction, answer: anls(prediction, [answer]),
    "relaxed_accuracy": relaxed_accuracy,
    "exact_match": exact_match,
}
"""The families' own metrics, by the name in `Benchmark.metric`."""

Key = tuple[str, float]


@cache
def model(name: str) -> redvtp.Model:
    """The model of that name, loaded once a process.

    A shipped one runs on the CPU, where the reference was made; others on this process' GPU where there is one.
    """
    shipped = model_folder(name).resolve().is_relative_to(paths.DATA)
    return redvtp.load(name, device="cpu" if shipped else spread.device())


def folder(name: str) -> str:
    """A model as rows name it: "llada_v" for "mini/llada_v"."""
    return Path(name).name


def weights_hash(name: str) -> str:
    """Hash of a model's files; its card may change without changing what it answers."""
    files = (path for path in model_folder(name).iterdir() if path.suffix in (".json", ".safetensors"))
    return spread.from_first(lambda: storage.files_hash(*sorted(files)))


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


CONTROLS = {"blank": blank, "unasked": unasked}
"""What an unpruned model answers without the image, and without the question."""


def parameters(pruner: Pruner | None) -> str:
    """A method's parameters other than ratio and positions, as JSON."""
    if pruner is None:
        return "{}"
    skipped = ("keep", "positions")
    found = {f.name: getattr(pruner, f.name) for f in fields(pruner) if f.name not in skipped}
    return json.dumps(found, default=asdict)  # a scheduled method's parameters are within its schedule's


def seed_of(sample: Sample) -> int:
    """A seed of the sample's own, so that random choices differ between samples and not between batches."""
    return sample.seed * 1_000_003 + sample.index


def start(
    host: redvtp.Model,
    batch: Sequence[Sample],
    pruner: Pruner | None = None,
    extras: Mapping[str, list] | None = None,
    **options,
) -> Decoding:
    """A batch before its first step, under its family's protocol but for `options`; its history is kept.

    A pruner can ask for the samples' evidence, and for the `extras`.
    """
    options.setdefault("recorder", redvtp.Recorder())
    benchmark = benchmarks.get(batch[0].family)
    return host.start(
        [redvtp.Prompt(sample.question + benchmark.suffix(host.host.name), [sample.image]) for sample in batch],
        prune=pruner,
        seeds=[seed_of(sample) for sample in batch],
        extras={"evidence": [sample.evidence for sample in batch], **(extras or {})},
        **(asdict(benchmark.protocol) | options),
    )


def first_commits(recorder: redvtp.Recorder) -> dict[int, int]:
    """``{place in the batch: k}``, the step in which the first response token was committed.

    A model may choose the mask token itself; then nothing is committed, and perhaps never.
    """
    return {
        sample: record.step
        for record in recorder.steps
        for sample in record.samples[record.transferred[:, 0] & ~record.undecided[:, 0]].tolist()
    }


def rows_of(
    host: redvtp.Model, batch: Sequence[Sample], method: str, pruner: Pruner | None, run: Decoding
) -> Iterator[dict]:
    """Finish a run; one row a sample."""
    cuts = pruner.cuts(run.settings.steps, host.host.layers) if pruner else ()
    metric = METRICS[benchmarks.get(batch[0].family).metric]
    results = run.run()
    committed = first_commits(run.recorder)
    for place, (sample, result) in enumerate(zip(batch, results, strict=True)):
        answer = host.answer(result)
        yield {
            "host": host.host.name,
            "family": sample.family,
            "split": sample.split,
            "seed": sample.seed,
            "index": sample.index,
            "kind": sample.kind,
            "method": method,
            "params": parameters(pruner),
            "keep": getattr(pruner.keep, "ratio", None) if pruner else 1.0,
            "step": cuts[0].step if cuts else None,
            "layer": cuts[0].layer if cuts else None,
            "positions": pruner.positions if pruner else None,
            "answer": sample.answer,
            "prediction": answer.text,
            "exact_match": exact_match(answer.text, sample.answer),
            "score": float(metric(answer.text, sample.answer)),
            "answer_step": committed.get(place),
            "evidence_recall": evidence_recall(answer.layout, sample.evidence),
            "visual_tokens": answer.visual_tokens,
            "kept": len(answer.kept),
            "steps": answer.steps,
            "tokens_fed": answer.tokens_fed,
            "flops": answer.flops,
        }


def answer_batch(host: redvtp.Model, batch: Sequence[Sample]) -> Iterator[dict]:
    """All methods, ratios and controls on one batch."""
    trunk = start(host, batch, watch=ATTENTION)
    trunk.step()
    trunk.watch = None  # no fork asks for the attention of a later step
    for (method, _), pruner in after_step_one().items():
        fork = trunk.fork(pruner, redvtp.Recorder(steps=[*trunk.recorder.steps]))
        yield from rows_of(host, batch, method, pruner, fork)
    for (method, _), pruner in inside_step_one().items():
        yield from rows_of(host, batch, method, pruner, start(host, batch, pruner))
    for method, change in CONTROLS.items():
        changed = [change(sample) for sample in batch]
        yield from rows_of(host, changed, method, None, start(host, changed))


def compute_batch(name: str, batch: Sequence[Sample]) -> Iterator[dict]:
    """`answer_batch` of the model of that name, which every row tells."""
    for row in answer_batch(model(name), batch):
        yield {"model": folder(name)} | row


def data_hashes(samples: Iterable[Sample]) -> dict[str, str]:
    """sha256 over each family's samples, by seed and index, as inputs of a measurement."""
    ordered = sorted(samples, key=lambda sample: (sample.seed, sample.index))
    families = dict.fromkeys(sample.family for sample in ordered)
    return {
        f"data {family}": benchmarks.data_hash(sample for sample in ordered if sample.family == family)
        for family in families
    }


def having(rows: Iterable[Row], fields: Row) -> list[Row]:
    """The rows with these fields."""
    return [row for row in rows if row.items() >= fields.items()]


def is_long(family: str) -> bool:
    """Whether a family is answered in more than two steps."""
    return benchmarks.get(family).protocol.steps > 2


def models(run: RunContext) -> list[dict[str, str]]:
    """The field that answers summed up by model have in common."""
    return [{"model": folder(name)} for name in run.profile.models]


def groups(run: RunContext, families: Iterable[str]) -> list[dict[str, str | int]]:
    """The fields that answers summed up as one have in common: model, family and seed."""
    chosen = list(families)
    return [
        model | {"family": family, "seed": seed} for model in models(run) for family in chosen for seed in run.seeds
    ]


def inputs(each: Result) -> dict[str, str]:
    """Hashes of all answers and of what they stand on, as inputs of what is made of them."""
    return each.provenance["inputs"] | {"answers": storage.digest(each.rows)}


def measure(run: RunContext) -> Result:
    """Answer the run's samples of every family with every model under every method and ratio.

    Each model's answers are a measurement of their own, `answers_<model>`, so that one more model, or new weights
    of one, leaves the others' as they are.
    """
    drawn = {(family, seed): samples_of(run, family, seed) for family in run.profile.families for seed in run.seeds}
    hashes = data_hashes(sample for samples in drawn.values() for sample in samples)
    results = [measure_model(run, name, drawn, hashes) for name in run.profile.models]
    inputs = {name: digest for result in results for name, digest in result.provenance["inputs"].items()}
    rows = [row for result in results for row in result.rows]
    return replace(results[0], measurement="answers", rows=rows, provenance=results[0].provenance | {"inputs": inputs})


def measure_model(
    run: RunContext, name: str, drawn: Mapping[tuple[str, int], Sequence[Sample]], hashes: Mapping[str, str]
) -> Result:
    """One model's answers to the samples of every (family, seed) in `drawn`."""
    cells = {
        (family, seed, first): samples[first : first + BATCH]
        for (family, seed), samples in drawn.items()
        for first in range(0, len(samples), BATCH)
    }
    with Measurement(
        f"answers_{folder(name)}",
        run,
        by=BY,
        link="mini",
        params={"ratios": RATIOS, "batch": BATCH, "split": SPLIT},
        inputs={f"weights {folder(name)}": weights_hash(name), **hashes},
        tolerances={"flops": None, "tokens_fed": None},
        module="analysis.answers",
    ) as m:
        m.each(
            [{"family": family, "seed": seed, "first": first} for family, seed, first in cells],
            lambda cell: compute_batch(name, cells[tuple(cell.values())]),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("answers", measure, __doc__))
