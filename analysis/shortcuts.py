"""Do the benchmarks need the image and the question? Exact match of every shortcut beside the model's own.

Shortcuts: the question with a blank image, the image without its question (options stay), the commonest training
answer, and the commonest to that kind of question. A shortcut near the model means that the family measures
something else than reading the image; a blank image above chance means that the questions give answers away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from analysis import answers, chance, storage
from analysis.command import command
from analysis.comparisons import named, rate
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row
from redvtp.metrics import exact_match

BY = ("host", "model", "family", "split", "seed", "shortcut")
RUNS = {"none": "full", "blank": "blank", "unasked": "unasked"}
"""Methods of analysis.answers that are the model, or a shortcut of it, by what they are called here."""


def guesses(row: Row, commonest: Mapping[tuple[str, str], str]) -> dict[str, bool]:
    """Whether the commonest answers are right for one sample, an unpruned row of its answers."""
    said = {"majority": chance.ANY, "majority_kind": row["kind"]}
    return {name: exact_match(commonest[row["family"], kind], row["answer"]) for name, kind in said.items()}


def summarise(rows: Iterable[Row], guessed: Sequence[Row], data: str) -> list[Row]:
    """One row for each model and shortcut, from the answers of all models to one family and seed.

    Args:
        guessed: rows of analysis.chance.
        data: sha256 over the family's samples.
    """
    commonest, hits = chance.commonest(guessed), defaultdict(list)
    first: Row = {}
    for row in rows:
        if row["method"] not in RUNS:
            continue
        first = first or row
        hits[row["host"], row["model"], RUNS[row["method"]]].append(row["exact_match"])
        if row["method"] == "none" and row["model"] == first["model"]:
            for name, right in guesses(row, commonest).items():
                hits[None, None, name].append(right)
    out = []
    for (host, model, shortcut), found in hits.items():
        out.append(
            {"host": host, "model": model}
            | {name: first[name] for name in ("family", "split", "seed")}
            | {"shortcut": shortcut, "n": len(found), **named("exact_match", rate(sum(found), len(found)))}
            | {"chance": chance.levels(guessed)[first["family"]], "data": data}
        )
    return out


def measure(run: RunContext) -> Result:
    """Every family's shortcuts; the answers are computed where they are missing."""
    each, guessed = answers.measure(run), chance.measure(run)
    data = each.provenance["inputs"]
    with Measurement(
        "shortcuts",
        run,
        by=BY,
        link="mini",
        params=each.provenance["params"],
        inputs=answers.inputs(each) | {"chance": storage.digest(guessed.rows)},
    ) as m:
        m.each(
            [{"family": family, "seed": seed} for family in run.profile.families for seed in run.seeds],
            lambda cell: summarise(answers.having(each.rows, cell), guessed.rows, data[f"data {cell['family']}"]),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("shortcuts", measure, __doc__))
