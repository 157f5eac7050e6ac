"""LLaDA-FastV's grid: exact match over the layer of the cut and the keep ratio, with FastV beside.

LLaDA-FastV cuts inside step 1, after a layer, for good; FastV cuts after layer 2 of every step, for that step only.
All cuts of a batch go on from one encoding of its images. `exact_match` has its Wilson interval (95%); `from_unpruned`
is its paired difference to the unpruned run and `over_fastv` that to FastV at the same ratio, on the same samples, with
Tango's interval. `flops_ratio` is the language model's FLOPs over all steps, head included, relative to the unpruned
run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import redvtp
from analysis import answers, subset
from analysis.benchmarks import Sample
from analysis.command import command
from analysis.comparisons import named, paired, rate
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row
from analysis.subset import right
from redvtp.pruning import Pruner

BY = ("host", "model", "family", "split", "seed", "method", "layer", "keep")
MEANS = ("score", "evidence_recall", "kept", "steps", "tokens_fed")
FAMILIES = ("doc", "info", "chart")
RATIOS = (0.75, 0.5, 0.25, 0.1)
MOST = 100  # samples a family and seed, where half of the run's are more


def grid(layers: int) -> Iterator[Pruner | None]:
    """No pruning; LLaDA-FastV after every layer but the last, after which this step saves nothing; FastV."""
    yield None
    for ratio in RATIOS:
        yield from (redvtp.LladaFastV(keep=ratio, layer=layer) for layer in range(1, layers))
        yield redvtp.FastV(keep=ratio)


def answer_batch(host: redvtp.Model, batch: Sequence[Sample]) -> Iterator[Row]:
    """A row for each sample and cut; the images are encoded once."""
    trunk = answers.start(host, batch)
    for pruner in grid(host.host.layers):
        fork = trunk.fork(pruner, redvtp.Recorder())
        yield from answers.rows_of(host, batch, pruner.name if pruner else "none", pruner, fork)


def summarise(rows: Sequence[Row]) -> list[Row]:
    """One row for each cut from one model's answers to one family and seed, in the order they came."""
    groups: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in BY)].append(row)
    full = [row for row in rows if row["method"] == "none"]
    fastv = {row["keep"]: group for group in groups.values() for row in group[:1] if row["method"] == "fastv"}
    out = []
    for key, group in groups.items():
        hits, ratio = sum(row["exact_match"] for row in group), group[0]["keep"]
        out.append(
            dict(zip(BY, key, strict=True))
            | {"n": len(group), **named("exact_match", rate(hits, len(group)))}
            | {name: sum(row[name] for row in group) / len(group) for name in MEANS}
            | named("from_unpruned", paired(right(full), right(group)))
            | named("over_fastv", paired(right(fastv[ratio]), right(group)) if ratio in fastv else (None,) * 3)
            | {"flops_ratio": sum(row["flops"] for row in group) / sum(row["flops"] for row in full)}
        )
    return out


def compute(name: str, samples: Sequence[Sample]) -> list[Row]:
    """The grid of one family and seed."""
    return summarise(subset.answered(name, samples, answer_batch))


def measure(run: RunContext) -> Result:
    """The grid on the profile's first model."""
    name = run.profile.models[0]
    drawn = subset.draw(run, FAMILIES, MOST)
    with Measurement(
        "layer_grid",
        run,
        by=BY,
        link="mini",
        params={"ratios": RATIOS, "most": MOST, "batch": answers.BATCH, "split": answers.SPLIT},
        inputs=subset.inputs([name], drawn),
        # A token more or less of one answer moves these a little; the rates have their intervals.
        tolerances=dict.fromkeys((*MEANS, "flops_ratio"), 0.05),
    ) as m:
        m.each(
            [{"family": family, "seed": seed} for family, seed in drawn],
            lambda cell: compute(name, drawn[cell["family"], cell["seed"]]),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("layer_grid", measure, __doc__))
