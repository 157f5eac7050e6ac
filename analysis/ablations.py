"""RedVTP taken apart: one choice changed at a time, on the same samples, beside the default.

The default is the official code's: guide rows still masked after step 1, the mean over them and over all layers,
the cut after step 1, positions re-numbered, nothing protected. Changed are the guide rows, the step of the cut, the
layers, positions, protected tokens, and the maximum over rows in place of their mean.

Every change is compared with the default at the same ratio, sample by sample: `difference` in exact match with its
interval (Tango's score interval, 95%), `gained` and `lost` answers. `from_unpruned` is the same against the unpruned
run. `cut` is the share of samples that were still running when the cut came; the others ended before it, unpruned. A
change has no row where fewer than `COVERED` of the runs lasted to its cut, for it would tell of runs that were never
pruned, or where it protects more tokens than some sample's budget holds.

So many differences are tested at once that some would show by chance: the table adjusts for it (see
analysis.comparisons).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

import redvtp
from analysis import answers, subset
from analysis.benchmarks import Sample
from analysis.command import command
from analysis.comparisons import difference, named, paired, rate, turned
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row
from analysis.step_similarity import layer_groups
from analysis.subset import right
from redvtp.pruning.redvtp import ROWS
from redvtp.selection import Cut, View

BY = ("host", "model", "family", "split", "seed", "factor", "setting", "keep")
MEANS = ("score", "evidence_recall", "tokens_fed")
FAMILIES = ("doc", "info", "scene")
RATIOS = (0.5, 0.25, 0.1, 0.05, 0.02)
STEPS = (1, 2, 4, 8, 12)
MOST = 100  # samples a family and seed, where half of the run's are more
DEFAULT = ("default", "default")
UNPRUNED = ("none", "none")
COVERED = 0.9

Key = tuple[str, str]  # factor, setting


@dataclass(frozen=True)
class MaxOverRows(redvtp.RedVTP):
    """RedVTP with the maximum over the masked rows in place of their mean: a token that one row needs counts fully."""

    name: ClassVar[str] = "redvtp_max"

    def score(self, view: View) -> Tensor:
        """``[B, n]`` the largest attention that any guide row pays."""
        return view.attention.masked_fill(~view.undecided[..., None], -1.0).amax(1)


def variants(steps: int, layers: int) -> dict[Key, redvtp.RedVTP]:
    """The default and every change of it, for a run of so many steps of a model of so many layers."""
    default = redvtp.RedVTP()
    groups = {name: chosen for name, chosen in layer_groups(layers).items() if name != "all"}
    groups |= {f"layer {layer}": (layer,) for layer in range(1, layers + 1)}
    return (
        {DEFAULT: default}
        | {("guide rows", rows): replace(default, rows=rows) for rows in ROWS if rows != default.rows}
        | {("over rows", "max"): MaxOverRows()}
        | {("layers", name): replace(default, layers=chosen) for name, chosen in groups.items()}
        | {("step", f"step {step}"): replace(default, step=step) for step in STEPS if default.step < step < steps}
        | {("positions", "original"): replace(default, positions="original")}
        | {("protected", what): replace(default, protect=(what,)) for what in ("newline", "thumbnail")}
    )


def watched(host: redvtp.Model, pruners: Iterable[redvtp.RedVTP]) -> redvtp.Needs | None:
    """What these methods, which cut after the same step, need to see in it."""
    pruners = list(pruners)
    if not pruners:
        return None
    kinds = frozenset().union(*(pruner.needs(Cut(pruner.step)).attention for pruner in pruners))
    chosen = any(pruner.layers is not None for pruner in pruners)
    return redvtp.Needs(attention=kinds, layers=tuple(range(1, host.host.layers + 1)) if chosen else None)


def answer_batch(host: redvtp.Model, batch: Sequence[Sample]) -> Iterator[Row]:
    """A row for each sample, change and ratio; all go on from the steps of one unpruned run."""
    trunk = answers.start(host, batch)
    layout, chosen = trunk.state.layout, variants(trunk.settings.steps, host.host.layers)
    for step in range(1, max(pruner.step for pruner in chosen.values()) + 1):
        now = {key: pruner for key, pruner in chosen.items() if pruner.step == step}
        trunk.watch = watched(host, now.values())
        trunk.step()
        trunk.watch = None  # forks go on without it
        for key, pruner in now.items():
            for ratio in RATIOS:
                sized = replace(pruner, keep=ratio)
                if fits(sized, layout):
                    yield from _told(host, batch, key, sized, trunk.fork(sized, _history(trunk)))
    yield from _told(host, batch, UNPRUNED, None, trunk)


def fits(pruner: redvtp.RedVTP, layout) -> bool:
    """Whether every sample's budget holds the tokens that are protected."""
    try:
        pruner.check(layout)
    except ValueError:
        return False
    return True


def _history(trunk) -> redvtp.Recorder:
    return redvtp.Recorder(steps=[*trunk.recorder.steps])


def _told(host: redvtp.Model, batch: Sequence[Sample], key: Key, pruner, run) -> Iterator[Row]:
    """Finish a run; its rows by factor and setting."""
    for row in answers.rows_of(host, batch, "redvtp" if pruner else "none", pruner, run):
        yield row | dict(zip(("factor", "setting"), key)) | {"cut": row["kept"] < row["visual_tokens"]}


def summarise(rows: Sequence[Row]) -> list[Row]:
    """One row for each change and ratio from one model's answers to one family and seed, in the order they came."""
    groups: dict[tuple, dict[int, Row]] = defaultdict(dict)
    for row in rows:
        groups[row["factor"], row["setting"], row["keep"]][row["index"]] = row
    full = groups[*UNPRUNED, 1.0]
    out = []
    for (factor, setting, keep), group in groups.items():
        fitted = len(group) == len(full)  # protected tokens
        cut = sum(row["cut"] for row in group.values()) / len(group)
        if not fitted or (group is not full and cut < COVERED):
            continue
        hits = sum(row["exact_match"] for row in group.values())
        out.append(
            {name: full[min(full)][name] for name in BY[:5]}
            | {"factor": factor, "setting": setting, "keep": keep, "n": len(group)}
            | named("exact_match", rate(hits, len(group)))
            | _beside(groups.get((*DEFAULT, keep)), group)
            | named("from_unpruned", paired(*(right(rows.values()) for rows in (full, group))))
            | {"cut": cut}
            | {name: sum(row[name] for row in group.values()) / len(group) for name in MEANS}
            | {"flops_ratio": sum(row["flops"] for row in group.values()) / sum(row["flops"] for row in full.values())}
        )
    return out


def _beside(default: dict[int, Row] | None, group: dict[int, Row]) -> Row:
    """The paired difference from the default in exact match; None for the default itself, and without pruning."""
    if default is None or default is group:
        return dict.fromkeys(("difference", "difference_low", "difference_high", "gained", "lost"))
    gained, lost = turned(*(right(rows.values()) for rows in (default, group)))
    return named("difference", difference(gained, lost, len(group))) | {"gained": gained, "lost": lost}


def compute(name: str, samples: Sequence[Sample]) -> list[Row]:
    """All changes on one family and seed."""
    return summarise(subset.answered(name, samples, answer_batch))


def measure(run: RunContext) -> Result:
    """The ablations on the profile's first model."""
    name = run.profile.models[0]
    drawn = subset.draw(run, FAMILIES, MOST)
    with Measurement(
        "ablations",
        run,
        by=BY,
        link="mini",
        params={"ratios": RATIOS, "steps": STEPS, "most": MOST, "covered": COVERED, "batch": answers.BATCH,
                "split": answers.SPLIT},
        inputs=subset.inputs([name], drawn),
        # A token more or less of one answer moves these a little; the rates have their intervals.
        tolerances=dict.fromkeys((*MEANS, "cut", "flops_ratio"), 0.05) | {"gained": None, "lost": None},
    ) as m:
        m.each(
            [{"family": family, "seed": seed} for family, seed in drawn],
            lambda cell: compute(name, drawn[cell["family"], cell["seed"]]),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("ablations", measure, __doc__))
