"""RedVTP Figure 5: answers as they form with all visual tokens and with 25%, what is kept, and the evidence.

The rule: of doc and of info, over the test samples in order that the profile's first model answers rightly without
pruning, the first that RedVTP at 25% still gets right, as in the paper, and beside it the first that it no longer
gets right, at the largest ratio up to 25% at which there is one. `formed` lists the response's tokens, as JSON,
with place, step, text and confidence.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import redvtp
from analysis import answers, benchmarks, examples
from analysis.command import command
from analysis.examples import STAYS, TURNS
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row
from analysis.trace import as_json, trace
from redvtp.metrics import exact_match

FAMILIES = ("doc", "info")
KEEP = 0.25  # as in the paper
BY = ("host", "model", "family", "split", "seed", "index", "case", "keep")


def choose(rows: Sequence[Row], model: str, family: str, seed: int) -> list[tuple[int, str, float]]:
    """(index, case, ratio) of the sample of each case; a case that there is none of is left out."""
    right = functools.partial(examples.right, rows, model, family, seed)
    full = right("none", 1.0)
    known = sorted(index for index in full if full[index])
    ratios = sorted({row["keep"] for row in rows if row["method"] == "redvtp" and row["keep"] <= KEEP}, reverse=True)
    pruned = {keep: right("redvtp", keep) for keep in ratios}
    stays = [(index, STAYS, KEEP) for index in known if pruned.get(KEEP, {}).get(index)]
    turns = [(index, TURNS, keep) for keep in ratios for index in known if not pruned[keep][index]]
    return stays[:1] + turns[:1]


def compute(name: str, family: str, seed: int, index: int, case: str, keep: float) -> Iterator[dict]:
    """One sample with all visual tokens and with the share `keep`."""
    host = answers.model(name)
    sample = benchmarks.get(family).sample(answers.SPLIT, seed, index)
    for ratio in (1.0, keep):
        found = trace(host, answers.start(host, [sample], redvtp.RedVTP(keep=ratio)))
        answer = found.answer
        yield examples.sample_fields(name, sample) | {
            "keep": ratio,
            "case": case,
            **examples.answer_fields(sample, answer),
            "right": exact_match(answer.text, sample.answer),
            "steps": answer.steps,
            "tokens_fed": answer.tokens_fed,
            "formed": as_json(found.tokens),
        }


def measure(run: RunContext) -> Result:
    """The chosen samples' answers."""
    name, seed = run.profile.models[0], run.seeds[0]
    each = answers.measure(run)
    with Measurement(
        "qualitative",
        run,
        by=BY,
        link="mini",
        params={"keep": KEEP},
        inputs=answers.inputs(each),
        # Which of two nearly equal tokens is kept may differ between processors.
        tolerances={"evidence_recall": 0.05, "kept": None, "formed": None},
    ) as m:
        m.each(
            [
                {"family": family, "seed": seed, "index": index, "case": case, "keep": keep}
                for family in FAMILIES
                if family in run.profile.families
                for index, case, keep in choose(each.rows, answers.folder(name), family, seed)
            ],
            lambda cell: compute(name, **cell),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("qualitative", measure, __doc__))
