"""Staged pruning on the test split, with the settings that analysis.contender picked on development samples.

The committed search decides: for each ratio its best setting, with the budget that gave it RedVTP's FLOPs on the
development samples of the same model and family. Beside it stand RedVTP as the official code has it, and RedVTP with
tokens left at their positions, which tells what of the gain is that alone. `from_redvtp` and `from_original` are the
paired differences in exact match to these two with Tango's interval (95%), with the answers gained and lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import redvtp
from analysis import answers, contender, paths, storage, subset
from analysis.benchmarks import Sample
from analysis.command import command
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row, read_result
from redvtp.pruning import Pruner

ORIGINAL = "redvtp, original positions"
PAIRS = {contender.BASELINE: "redvtp", ORIGINAL: "original"}
MOST = {"default": 50, "quick": 4, "full": 100}  # samples a family and seed
BY = ("model", "family", "split", "seed", "setting", "ratio")


def chosen(rows: Sequence[Row], family: str, model: str, ratio: float) -> dict[str, Pruner]:
    """What is compared: RedVTP, RedVTP at the original positions, and the best setting with its budget."""
    name = contender.best(rows, ratio)
    found = answers.having(rows, {"model": model, "family": family, "setting": name, "ratio": ratio})
    pruner, (row,) = contender.grid()[name], found
    base = redvtp.RedVTP(keep=ratio)
    return {
        contender.BASELINE: base,
        ORIGINAL: replace(base, positions="original"),
        name: replace(pruner, keep=type(pruner.keep)(row["budget"])),
    }


def compute(rows: Sequence[Row], name: str, samples: Sequence[Sample]) -> list[Row]:
    """The comparison on one family and seed; ``rows`` are those of the development split."""
    batches, common = contender.batches_of(answers.model(name), samples), subset.fields_of(name, samples)
    full = contender.answered(batches, None)
    made = [contender.unpruned(full)]
    for ratio in contender.RATIOS:
        compared = chosen(rows, samples[0].family, answers.folder(name), ratio)
        made += contender.compare(batches, compared, ratio, full, PAIRS)
    return [common | row for row in made]


def searched(run: RunContext) -> list[Row]:
    """The committed search's rows.

    Raises ValueError where it was made with other models than those that are there now.
    """
    search = read_result(run.reference / "contender.json")
    known = search.provenance["inputs"]
    for name in contender.models(run):
        if known.get(f"weights {answers.folder(name)}") != answers.weights_hash(name):
            raise ValueError(
                f"{paths.shown(run.reference / 'contender.json')} was made with another {name}: run "
                "python -m analysis.contender, look at it, and put its result there"
            )
    return search.rows


def measure(run: RunContext) -> Result:
    """The comparison on the run's test samples (see analysis.subset)."""
    rows = searched(run)
    drawn = subset.draw(run, contender.FAMILIES, MOST[run.mode])
    with Measurement(
        "contender_test",
        run,
        by=BY,
        link="mini",
        params={"ratios": contender.RATIOS, "batch": answers.BATCH, "split": answers.SPLIT},
        inputs=subset.inputs(contender.models(run), drawn) | {"search": storage.digest(rows)},
        tolerances={"budget": 0.05, "kept": 0.05, "flops_ratio": 0.05, "flops_to_redvtp": 0.05},
    ) as m:
        m.each(
            subset.cells(contender.models(run), drawn),
            lambda cell: compute(rows, cell["model"], drawn[cell["family"], cell["seed"]]),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("contender_test", measure, __doc__))
