"""RedVTP Figure 3: which visual tokens stay at r = 50% and 25%, on samples chosen by a fixed rule.

The rule, over the run's test samples in order: those that the unpruned model answers rightly; of them the
first two that RedVTP still gets right at 25%, and the first two that it no longer does (where there are any).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import redvtp
from analysis import answers, benchmarks, storage
from analysis.command import command
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row

RATIOS = (1.0, 0.5, 0.25)
OF_EACH = 2
BY = ("host", "family", "split", "seed", "index", "keep")


def choose(rows: Sequence[Row], family: str, seed: int) -> list[tuple[int, str]]:
    """(index, case) of the samples to show; case is "stays right" or "turns wrong"."""
    def right(method: str, keep: float) -> dict[int, bool]:
        return {
            row["index"]: row["exact_match"]
            for row in rows
            if (row["family"], row["seed"], row["method"], row["keep"]) == (family, seed, method, keep)
        }

    full, pruned = right("none", 1.0), right("redvtp", 0.25)
    known = [index for index in sorted(full) if full[index]]
    cases = {
        "stays right": [index for index in known if pruned[index]],
        "turns wrong": [index for index in known if not pruned[index]],
    }
    return [(index, case) for case, found in cases.items() for index in found[:OF_EACH]]


def compute(name: str, family: str, seed: int, index: int, case: str) -> Iterator[dict]:
    """One sample under each ratio; `kept` lists the indices of kept visual tokens, separated by spaces."""
    host = answers.model(name)
    sample = benchmarks.get(family).sample(answers.SPLIT, seed, index)
    for ratio in RATIOS:
        answer = host.answer(answers.start(host, [sample], redvtp.RedVTP(keep=ratio)).run()[0])
        yield {
            "host": host.host.name,
            "family": family,
            "split": answers.SPLIT,
            "seed": seed,
            "index": index,
            "keep": ratio,
            "case": case,
            "question": sample.question,
            "answer": sample.answer,
            "prediction": answer.text,
            "evidence_recall": redvtp.evidence_recall(answer.layout, sample.evidence),
            "visual_tokens": answer.visual_tokens,
            "kept": " ".join(map(str, answer.kept.tolist())),
        }


def measure(run: RunContext) -> Result:
    """The chosen samples' kept tokens."""
    name = run.profile.models[0]
    each = answers.measure(run)
    seed = run.seeds[0]
    with Measurement(
        "pruning_maps",
        run,
        by=BY,
        link="mini",
        params={"ratios": RATIOS, "of_each": OF_EACH},
        inputs=each.provenance["inputs"] | {"answers": storage.digest(each.rows)},
        # Which of two nearly equal tokens is kept may differ between processors.
        tolerances={"evidence_recall": 0.05, "kept": None},
    ) as m:
        m.each(
            [
                {"family": family, "seed": seed, "index": index, "case": case}
                for family in run.profile.families
                for index, case in choose(each.rows, family, seed)
            ],
            lambda cell: compute(name, **cell),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("pruning_maps", measure, __doc__))
