"""Verdicts on the papers' claims, from claims.yaml and the results, as claims.json, claims.md and report.html.

Nothing is measured here: results are read where they are, and a claim whose result is missing has no evidence. The
rules stand in claims.yaml; analysis.verdicts says what they mean and how verdicts follow from them.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis import paths, plots, storage
from analysis.command import add_run_arguments, chosen_mode
from analysis.profiles import RunContext, run_context
from analysis.storage import StorageError
from analysis.verdicts import decide, evidence, page, texts
from analysis.verdicts.reading import read_claims, read_discrepancies
from analysis.verdicts.report import Report
from analysis.verdicts.rules import RuleError


def report(run: RunContext) -> Report:
    """The verdicts on a run's results, or on the committed ones. Raises RuleError for a rule that cannot be meant."""
    find = functools.cache(functools.partial(evidence.find, run=run))
    papers = read_claims(paths.PAPERS / "claims.yaml")
    listed = read_discrepancies(paths.PAPERS / "discrepancies.yaml")
    return Report(
        run,
        papers,
        tuple(decide.decide_all(papers, find)),
        tuple((one, decide.measured(one, find)) for one in listed),
    )


def write(found: Report) -> list[Path]:
    """Writes claims.json, claims.md and report.html among the run's figures."""
    folder = found.run.figures
    written = [folder / "claims.json", folder / "claims.md", folder / "report.html"]
    storage.write_json(written[0], texts.as_json(found))
    storage.write_text(written[1], texts.markdown(found))
    storage.write_text(written[2], page.page(found))
    return written


def table(found: Report) -> Any:
    """A pandas frame: a line for each claim."""
    import pandas as pd

    return pd.DataFrame(texts.lines(found))


def sentence(found: Report) -> str:
    """How many claims came out how, and which differ from the committed verdicts."""
    return texts.sentence(found, committed(found.run))


def committed(run: RunContext) -> dict[str, str]:
    """``{id: verdict}`` of the committed report; empty where there is none."""
    path = paths.REFERENCE_FIGURES / run.profile.name / "claims.json"
    if not path.is_file():
        return {}
    return {one["id"]: one["verdict"] for one in storage.read_json(path)["claims"]}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 1 for a rule that cannot be meant, 2 for words that are not known."""
    parser = argparse.ArgumentParser(prog="python -m analysis.claims", description=__doc__.strip().splitlines()[0])
    add_run_arguments(parser)
    parser.add_argument("--from-reference", action="store_true", help="judge the committed results")
    arguments = parser.parse_args(argv)
    source = "reference" if arguments.from_reference else "run"
    try:
        run = run_context(arguments.profile, chosen_mode(arguments), source=source)
    except ValueError as error:
        parser.error(str(error))
    try:
        found = report(run)
        written = write(found)
    except (RuleError, StorageError) as error:
        print(error, file=sys.stderr)
        return 1
    print(plots.markdown(table(found)[["claim", "verdict"]]))
    print(sentence(found))
    print("\n".join(paths.shown(path) for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
