"""RedVTP's main LLaDA-V table in kind: each family's own metric by method and keep ratio, against the unpruned run.

Scores, evidence recall and tokens fed are the mini model's. `difference` is the mean difference in score to the
unpruned run on the same samples, `from_unpruned` that in exact match. All have intervals (95%): of rates Wilson's, of
differences of right and wrong answers Tango's (see analysis.comparisons), of other scores a percentile bootstrap,
seeded. `tflops_8b` and `share_8b` are no
measurement of the mini model: they are the FLOPs of the published 8B LLaDA-V at the family's official setting
(response tokens and steps as here, an image of 3699 visual tokens, 80 prompt tokens, all steps taken), counted as the
official code runs, head and last layer on every token, scoring included, the vision tower left out (see
analysis.compute). Seeds are pooled.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator, Sequence

import redvtp
from analysis import answers, benchmarks, compute
from analysis.command import command
from analysis.comparisons import RESAMPLES, Interval, difference, named, paired, rate
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row
from redvtp.flops import LanguageFormula
from redvtp.metrics import paired_bootstrap
from redvtp.models.published import true_config
from redvtp.plans import forwards, planned, stages
from redvtp.pruning import Pruner

BY = ("model", "family", "method", "keep")
HOST = "llada_v"
MEANS = ("evidence_recall", "tokens_fed", "exact_match")


@functools.cache
def cost(method: str, keep: float, response: int, steps: int) -> int:
    """FLOPs of one answer of the 8B model under a method and ratio; "none" for no pruning."""
    answer, config = compute.answer_of(HOST, response, steps), true_config(HOST).text_config
    plan = planned(None if method == "none" else pruner(method, keep), steps, config.num_hidden_layers)
    made = forwards(answer, plan, config.num_hidden_layers)
    return stages(LanguageFormula(config), answer, made, official=True).total


def pruner(method: str, keep: float) -> Pruner:
    """The method at its default parameters, as analysis.answers runs it."""
    return redvtp.pruning.get(method)(keep=keep)


def mean(score: Sequence[float]) -> Interval:
    """The mean with its interval: Wilson's where all scores are 0 or 1."""
    if set(score) <= {0.0, 1.0}:
        return rate(round(sum(score)), len(score))
    return paired_bootstrap([0.0] * len(score), score, resamples=RESAMPLES)


def gain(before: Sequence[float], after: Sequence[float]) -> Interval:
    """The mean difference of scores of the same samples with its interval."""
    changes = [new - old for old, new in zip(before, after, strict=True)]
    if set(changes) <= {-1.0, 0.0, 1.0}:
        return difference(changes.count(1.0), changes.count(-1.0), len(changes))
    return paired_bootstrap(before, after, resamples=RESAMPLES)


def summarise(rows: Sequence[Row]) -> Iterator[Row]:
    """A row for every family, method and ratio from one model's answers; controls without a ratio are left out."""
    groups: dict[tuple[str, str, float], dict[tuple, Row]] = defaultdict(dict)
    for row in rows:
        if row["method"] == "none" or row["method"] in redvtp.pruning.METHODS:
            groups[row["family"], row["method"], row["keep"]][row["seed"], row["index"]] = row
    for (family, method, keep), found in groups.items():
        full = groups[family, "none", 1.0]
        order = sorted(found)
        score, before = ([part[one]["score"] for one in order] for part in (found, full))
        right = [[bool(part[one]["exact_match"]) for one in order] for part in (full, found)]
        protocol = benchmarks.get(family).protocol
        flops = cost(method, keep, protocol.length, protocol.steps)
        yield {
            "model": rows[0]["model"], "family": family, "method": method, "keep": keep, "n": len(order),
            "metric": benchmarks.get(family).metric,
            **named("score", mean(score)),
            **named("difference", gain(before, score) if method != "none" else (0.0, 0.0, 0.0)),
            **named("from_unpruned", paired(*right) if method != "none" else (0.0, 0.0, 0.0)),
            **{name: sum(found[one][name] for one in order) / len(order) for name in MEANS},
            "response": protocol.length, "steps": protocol.steps, "tflops_8b": flops / 1e12,
            "share_8b": flops / cost("none", 1.0, protocol.length, protocol.steps),
        }  # fmt: skip


def measure(run: RunContext) -> Result:
    """The table of this run's answers, which are computed where they are missing."""
    each = answers.measure(run)
    with Measurement(
        "main_table",
        run,
        by=BY,
        link="mini",
        params=each.provenance["params"] | {"resamples": RESAMPLES, "image": list(compute.SIZE)},
        inputs=answers.inputs(each),
        tolerances={"score": 0.05, "evidence_recall": 0.02, "tokens_fed": 0.02, "exact_match": 0.05},
    ) as m:
        m.each(
            answers.models(run),
            lambda cell: summarise(answers.having(each.rows, cell)),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("main_table", measure, __doc__))
