"""Rotary positions of the tokens that stay: re-numbered without gaps (`compact`), or left as they were (`original`).

The official code re-numbers them. Here RedVTP and random pruning run both ways on every trained model, on the same
samples and from one first step. A method keeps the same tokens both ways, for the choice is made before positions are.

`difference` is the paired difference in exact match of original less compact positions, at the same method and ratio,
with `gained` and `lost` answers; `from_unpruned` that from the unpruned run. Both have Tango's interval (95%).

So many differences are tested at once that some would show by chance: the table adjusts for it (see
analysis.comparisons).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import redvtp
from analysis import answers, hosts, subset
from analysis.benchmarks import Sample
from analysis.command import command
from analysis.comparisons import difference, named, paired, rate, turned
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row
from analysis.subset import right
from redvtp.pruning import Pruner

BY = ("host", "model", "family", "split", "seed", "method", "positions", "keep")
MEANS = ("score", "evidence_recall", "kept", "tokens_fed")
FAMILIES = ("doc", "info", "chart", "scene")
RATIOS = (0.5, 0.25, 0.1)
METHODS = ("redvtp", "random")
POSITIONS = ("compact", "original")  # the official ones first: the other is compared with them
MOST = 100  # samples a family and seed, where half of the run's are more


def pruners() -> list[Pruner]:
    """Each method at each ratio, both ways."""
    return [
        redvtp.pruning.get(method)(keep=keep, positions=positions)
        for method in METHODS
        for keep in RATIOS
        for positions in POSITIONS
    ]


def answer_batch(model: redvtp.Model, batch: Sequence[Sample]) -> Iterator[Row]:
    """A row for each sample, method, ratio and kind of positions, and one unpruned, without positions."""
    trunk = answers.start(model, batch, watch=answers.ATTENTION)
    trunk.step()
    trunk.watch = None  # no fork asks for the attention of a later step
    for pruner in (None, *pruners()):
        fork = trunk.fork(pruner, redvtp.Recorder(steps=[*trunk.recorder.steps]))
        yield from answers.rows_of(model, batch, pruner.name if pruner else "none", pruner, fork)


def summarise(rows: Sequence[Row]) -> list[Row]:
    """One row for each method, ratio and kind of positions from one model's answers to one family and seed."""
    groups: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["method"], row["keep"], row["positions"]].append(row)
    whole, out = groups["none", 1.0, None], []
    for (method, keep, positions), group in groups.items():
        n = len(group)
        out.append(
            {name: group[0][name] for name in BY} | {"positions": positions or "none", "n": n}
            | named("exact_match", rate(sum(row["exact_match"] for row in group), n))
            | _beside(groups[method, keep, POSITIONS[0]] if positions == "original" else None, group)
            | named("from_unpruned", (None,) * 3 if group is whole else paired(right(whole), right(group)))
            | {name: sum(row[name] for row in group) / n for name in MEANS}
        )  # fmt: skip
    return out


def _beside(compact: Sequence[Row] | None, group: Sequence[Row]) -> Row:
    """The paired difference from compact positions in exact match; None for what is not compared with them."""
    if compact is None:
        return dict.fromkeys(("difference", "difference_low", "difference_high", "gained", "lost"))
    gained, lost = turned(right(compact), right(group))
    return named("difference", difference(gained, lost, len(group))) | {"gained": gained, "lost": lost}


def compute(name: str, samples: Sequence[Sample]) -> list[Row]:
    """Both methods both ways, on one model, family and seed."""
    return summarise(subset.answered(name, samples, answer_batch))


def models(run: RunContext) -> tuple[list[str], list[str]]:
    """(models to run, models left out because their folder is not there): the profile's, LaViDa's, the adapted one."""
    return hosts.beside(run.profile.models, [hosts.LAVIDA, hosts.ADAPTED])


def measure(run: RunContext) -> Result:
    """Both kinds of positions on every trained model; `skipped` names one that is not there."""
    names, skipped = models(run)
    drawn = subset.draw(run, FAMILIES, MOST)
    with Measurement(
        "positions",
        run,
        by=BY,
        link="mini",
        params={"ratios": RATIOS, "methods": METHODS, "most": MOST, "batch": answers.BATCH, "split": answers.SPLIT,
                "skipped": skipped},
        inputs=subset.inputs(names, drawn),
        # A token more or less of one answer moves these a little; the rates have their intervals.
        tolerances=dict.fromkeys(MEANS, 0.05) | {"gained": None, "lost": None},
    ) as m:
        m.each(
            subset.cells(names, drawn),
            lambda cell: compute(cell["model"], drawn[cell["family"], cell["seed"]]),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("positions", measure, __doc__))
