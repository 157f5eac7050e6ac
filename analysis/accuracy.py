"""The accuracy table: models x families x keep ratios x methods, with intervals, evidence recall and compute.

Rows are means over the samples of analysis.answers; `exact_match` has its Wilson interval (95%), `chance` is what
exact match can be without the image (see analysis.chance), `flops_ratio` is the language model's FLOPs over all
steps, head included, relative to the unpruned run on the same samples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from analysis import answers, chance, storage
from analysis.command import command
from analysis.comparisons import named, rate
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row

BY = ("host", "model", "family", "split", "seed", "method", "params", "keep")
MEANS = ("score", "evidence_recall", "visual_tokens", "kept", "steps", "tokens_fed")


def summarise(rows: Sequence[Row], level: float) -> list[Row]:
    """One row for each method and ratio from one model's answers to one family and seed, in the order they came."""
    groups: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in BY)].append(row)
    full = [row["flops"] for row in rows if row["method"] == "none"]
    out = []
    for key, group in groups.items():
        hits = sum(row["exact_match"] for row in group)
        out.append(
            dict(zip(BY, key, strict=True))
            | {name: group[0][name] for name in ("step", "layer", "positions")}
            | {"n": len(group), **named("exact_match", rate(hits, len(group)))}
            | {"chance": level}
            | {name: sum(row[name] for row in group) / len(group) for name in MEANS}
            | {"flops_ratio": sum(row["flops"] for row in group) / sum(full)}
        )
    return out


def measure(run: RunContext) -> Result:
    """The table of this run's answers, which are computed where they are missing."""
    each, guesses = answers.measure(run), chance.measure(run)
    levels = chance.levels(guesses.rows)
    with Measurement(
        "accuracy",
        run,
        by=BY,
        link="mini",
        params=each.provenance["params"],
        inputs=answers.inputs(each) | {"chance": storage.digest(guesses.rows)},
        # A token more or less of one answer moves these a little; the rates have their intervals.
        tolerances={"score": 0.05, "evidence_recall": 0.02, "steps": 0.02, "tokens_fed": 0.02, "flops_ratio": 0.02},
    ) as m:
        m.each(
            answers.groups(run, run.profile.families),
            lambda cell: summarise(answers.having(each.rows, cell), levels[cell["family"]]),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("accuracy", measure, __doc__))
