"""RedVTP Figure 3: which visual tokens stay at r = 50% and 25%, on samples chosen by a fixed rule.

The rule, over the test samples in order that the profile's first model answers rightly without pruning: of doc and
info the first two that RedVTP still gets right at 25%, and the first two that it no longer does (where there are
any); of chart and scene the first one, whichever case it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import redvtp
from analysis import answers, benchmarks, examples
from analysis.command import command
from analysis.examples import CASES, STAYS, TURNS
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row

RATIOS = (1.0, 0.5, 0.25)
OF_EACH = {"doc": 2, "info": 2}  # samples of each case
FIRST = ("chart", "scene")
BY = ("host", "model", "family", "split", "seed", "index", "keep")


def choose(rows: Sequence[Row], model: str, family: str, seed: int) -> list[tuple[int, str]]:
    """(index, case) of the samples to show."""
    full, pruned = (examples.right(rows, model, family, seed, *cell) for cell in (("none", 1.0), ("redvtp", 0.25)))
    known = [(index, STAYS if pruned[index] else TURNS) for index in sorted(full) if full[index]]
    if family in FIRST:
        return known[:1]
    cases = [[found for found in known if found[1] == case] for case in CASES]
    return [found for case in cases for found in case[:OF_EACH[family]]]


def compute(name: str, family: str, seed: int, index: int, case: str) -> Iterator[dict]:
    """One sample under each ratio."""
    host = answers.model(name)
    sample = benchmarks.get(family).sample(answers.SPLIT, seed, index)
    for ratio in RATIOS:
        answer = host.answer(answers.start(host, [sample], redvtp.RedVTP(keep=ratio)).run()[0])
        yield (
            examples.sample_fields(name, sample)
            | {"keep": ratio, "case": case}
            | examples.answer_fields(sample, answer)
        )


def measure(run: RunContext) -> Result:
    """The chosen samples' kept tokens."""
    name = run.profile.models[0]
    each = answers.measure(run)
    model, seed = answers.folder(name), run.seeds[0]
    with Measurement(
        "pruning_maps",
        run,
        by=BY,
        link="mini",
        params={"ratios": RATIOS, "of_each": OF_EACH, "first": FIRST},
        inputs=answers.inputs(each),
        # Which of two nearly equal tokens is kept may differ between processors.
        tolerances={"evidence_recall": 0.05, "kept": None},
    ) as m:
        m.each(
            [
                {"family": family, "seed": seed, "index": index, "case": case}
                for family in (*OF_EACH, *FIRST)
                for index, case in choose(each.rows, model, family, seed)
            ],
            lambda cell: compute(name, **cell),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("pruning_maps", measure, __doc__))
