"""Staged pruning on the test split, with the settings that analysis.contender picked on development samples.

For each ratio: RedVTP as the official code has it, RedVTP with tokens left at their positions (which tells what of the
gain is that alone), and the best setting with the budget that gave it RedVTP's FLOPs on the development samples of the
same family. `from_redvtp` is the paired difference in exact match with Tango's interval (95%).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import redvtp
from analysis import answers, contender, storage, subset
from analysis.benchmarks import Sample
from analysis.command import command
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row
from redvtp.pruning import Pruner

BY = ("model", "family", "split", "seed", "setting", "ratio")


def chosen(rows: Sequence[Row], family: str, model: str, ratio: float) -> dict[str, Pruner]:
    """What is compared: RedVTP, RedVTP at the original positions, and the best setting with its budget."""
    name = contender.best(rows, ratio)
    found = answers.having(rows, {"model": model, "family": family, "setting": name, "ratio": ratio})
    pruner, (row,) = contender.grid()[name], found
    base = redvtp.RedVTP(keep=ratio)
    return {
        contender.BASELINE: base,
        "redvtp, original positions": replace(base, positions="original"),
        name: replace(pruner, keep=type(pruner.keep)(row["budget"])),
    }


def compute(rows: Sequence[Row], name: str, samples: Sequence[Sample]) -> list[Row]:
    """The comparison on one family and seed; ``rows`` are those of the development split."""
    batches, common = contender.batches_of(answers.model(name), samples), subset.fields_of(name, samples)
    full = contender.answered(batches, None)
    made = [contender.unpruned(full)]
    for ratio in contender.RATIOS:
        compared = chosen(rows, samples[0].family, answers.folder(name), ratio)
        made += contender.compare(batches, compared, ratio, full)
    return [common | row for row in made]


def measure(run: RunContext) -> Result:
    """The comparison on the run's test samples; the search is run where it is missing."""
    search = contender.measure(run)
    families = [family for family in run.profile.families if family in contender.FAMILIES]
    drawn = {(family, seed): answers.samples_of(run, family, seed) for family in families for seed in run.seeds}
    with Measurement(
        "contender_test",
        run,
        by=BY,
        link="mini",
        params={"ratios": contender.RATIOS, "batch": answers.BATCH, "split": answers.SPLIT},
        inputs=subset.inputs(run.profile.models, drawn) | {"search": storage.digest(search.rows)},
        tolerances={"budget": 0.05, "kept": 0.05, "flops_ratio": 0.05, "flops_to_redvtp": 0.05},
    ) as m:
        m.each(
            [{"model": name, "family": family, "seed": seed} for name in run.profile.models for family, seed in drawn],
            lambda cell: compute(search.rows, cell["model"], drawn[cell["family"], cell["seed"]]),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("contender_test", measure, __doc__))
