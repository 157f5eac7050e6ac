"""Measures and redraws the papers' figures and tables: `./reproduce.sh` or `python -m analysis.reproduce`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from analysis import needs, paths, registry
from analysis.command import add_run_arguments, chosen_mode
from analysis.notebooks import Stamp, check_parameters, data_hash, run_parameters, valid_stamp
from analysis.profiles import MODES, PROFILES, RunContext, run_context
from analysis.registry import Notebook
from analysis.storage import StorageError

EPILOG = """\
./reproduce.sh test [ARGUMENTS]   runs the tests (arguments go to pytest)
./reproduce.sh test --lmms ...    runs those of the lmms-eval plug-in, in an environment of their own
./reproduce.sh --here ...         uses the active Python environment and installs nothing

A run computes into data/runs/, draws into figures/ and edits no tracked file. Interrupted, it goes on where
it was. Exit code: 0, 1 where something failed or is missing, 2 for words that are not known.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    arguments = _parser().parse_args(argv)
    if arguments.list:
        print(listing())
        return 0
    try:
        run, notebooks = _checked(arguments)
    except ValueError as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return 2
    lacking = needs.lacking(run.profile.name) if run.source == "run" else []
    if lacking:
        print(needs.told(run.profile.name, lacking), file=sys.stderr)
        return 1
    applicable = [notebook for notebook in notebooks if run.profile.name in notebook.profiles]
    for notebook in notebooks:
        if notebook not in applicable:
            print(f"{notebook.name}: not applicable to profile {run.profile.name}")
    if not applicable:
        print(f"reproduce: {missing(run)}", file=sys.stderr)
        return 1
    try:
        return _reproduce(run, applicable, arguments.accept)
    except KeyboardInterrupt:
        print("\nreproduce: interrupted; finished cells are kept, run it again to go on", file=sys.stderr)
        return 130
    except StorageError as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./reproduce.sh",
        description=__doc__.partition(":")[0] + ".",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run_arguments(parser)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these notebooks; see --list")
    parser.add_argument("--list", action="store_true", help="print the notebooks and profiles, and stop")
    parser.add_argument("--accept", action="store_true", help="make this run the committed reference")
    parser.add_argument(
        "--from-reference", action="store_true", help="only draw, from the committed results"
    )
    return parser


def _checked(arguments: argparse.Namespace) -> tuple[RunContext, tuple[Notebook, ...]]:
    """The run and notebooks asked for. Raises ValueError before anything runs."""
    if arguments.from_reference and (arguments.accept or arguments.quick or arguments.full):
        raise ValueError("--from-reference only draws: it does not go with --accept, --quick or --full")
    if arguments.accept and arguments.quick:
        raise ValueError("--quick makes no reference: it does not go with --accept")
    source = "reference" if arguments.from_reference else "run"
    run = run_context(arguments.profile, chosen_mode(arguments), arguments.force, source)
    notebooks = registry.chosen(tuple(arguments.only))
    for notebook in notebooks:
        if run.profile.name in notebook.profiles:
            check_parameters(notebook.path, run_parameters(run))
    return run, notebooks


def listing() -> str:
    """The notebooks and profiles, for --list."""
    width = max((len(notebook.name) for notebook in registry.NOTEBOOKS), default=0)
    lines = ["notebooks (--only NAME ...):"]
    for notebook in registry.NOTEBOOKS:
        lines.append(f"  {notebook.name:{width}}  {notebook.draws}  [{', '.join(notebook.profiles)}]")
    lines.append("profiles (--profile NAME):")
    for profile in PROFILES.values():
        lines.append(f"  {profile.name:{width}}  {profile.hardware}; decides {profile.decides}")
    lines.append("sizes:")
    for mode, size in MODES.items():
        flag = "" if mode == "default" else f" (--{mode})"
        lines.append(f"  {mode + flag:{width}}  n = {size.n} a family, {_seeds(size.seeds)}")
    return "\n".join(lines)


def missing(run: RunContext) -> str:
    """Why nothing can be run on a profile."""
    able = sorted({name for notebook in registry.NOTEBOOKS for name in notebook.profiles})
    needs = f"it needs {run.profile.needs}, and " if run.profile.needs else ""
    return (
        f"profile {run.profile.name}: {needs}none of the chosen notebooks measures it "
        f"(profiles with notebooks: {', '.join(able)})"
    )


def _seeds(seeds: tuple[int, ...]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _reproduce(run: RunContext, notebooks: list[Notebook], accepting: bool) -> int:
    if run.source == "reference":
        print(f"profile {run.profile.name}: drawing from {paths.shown(run.reference)}", flush=True)
    else:
        print(f"profile {run.profile.name}: n = {run.n} a family, {_seeds(run.seeds)}", flush=True)
    failed = run_all(run, notebooks)
    finished = [notebook for notebook in notebooks if notebook not in failed]
    if run.source == "run" and finished:
        _compare(run, finished)
    if run.figures.is_dir():
        print(f"\nfigures and tables: {paths.shown(run.figures)}")
    if accepting:
        if failed:
            print("reproduce: not accepted, because a notebook failed", file=sys.stderr)
        else:
            _accept(run, notebooks)
    return 1 if failed else 0


def run_all(run: RunContext, notebooks: Sequence[Notebook]) -> list[Notebook]:
    """Runs what is not up to date, a line each. Returns those that failed; a failure stops no other."""
    data = data_hash(run)
    stamps = {} if run.force else {one: valid_stamp(one, run, data) for one in notebooks}
    width = max(len(notebook.name) for notebook in notebooks)
    heads = {one: f"[{i}/{len(notebooks)}] {one.name:{width}}" for i, one in enumerate(notebooks, 1)}
    if all(stamps.get(one) for one in notebooks):
        for one in notebooks:
            print(f"{heads[one]}  up to date, not run again")
        return []
    return _run_stale(run, notebooks, heads, stamps, data)


def _run_stale(
    run: RunContext,
    notebooks: Sequence[Notebook],
    heads: dict[Notebook, str],
    stamps: dict[Notebook, Stamp | None],
    data: str,
) -> list[Notebook]:
    from analysis.execution import Outcome, log_path, own_kernel, run_notebook

    def ending(outcome: Outcome) -> str:
        if outcome.error:
            log = paths.shown(log_path(outcome.notebook, run))
            return f"failed after {outcome.seconds:.0f} s: {outcome.error} (log: {log})"
        cells = f"{outcome.computed} cells computed, {outcome.reused} reused, " if run.source == "run" else ""
        return f"{outcome.seconds:.0f} s: {cells}{len(outcome.figures)} files drawn"

    failed = []
    with own_kernel() as kernel:
        for one in notebooks:
            if stamps.get(one) and valid_stamp(one, run, data):  # one before it may have written its results anew
                print(f"{heads[one]}  up to date, not run again", flush=True)
                continue
            outcome = run_notebook(one, run, kernel, data, _live(heads[one]))
            clear = "\r\x1b[K" if sys.stdout.isatty() else ""
            print(f"{clear}{heads[one]}  {ending(outcome)}", flush=True)
            failed += [one] if outcome.error else []
    return failed


def _live(head: str):
    """Shows on a terminal, on one line, what a running notebook last said."""
    if not sys.stdout.isatty():
        return lambda line: None
    print(f"{head}  ...", end="", flush=True)
    return lambda line: print(f"\r\x1b[K{head}  {line}"[:120], end="", flush=True)


def _compare(run: RunContext, notebooks: Sequence[Notebook]) -> None:
    from analysis.agreement import agreement, agreement_table

    names = list(dict.fromkeys(name for notebook in notebooks for name in notebook.measurements))
    found = [agreement(name, run) for name in names if (run.results / f"{name}.json").is_file()]
    if found:
        print(f"\nagreement with the committed reference ({paths.shown(run.reference)}):")
        print(agreement_table(found))


def _accept(run: RunContext, notebooks: Sequence[Notebook]) -> None:
    from analysis.agreement import accept
    from analysis.results import load_result

    data = data_hash(run)
    names = list(dict.fromkeys(name for notebook in notebooks for name in notebook.measurements))
    stamps = [valid_stamp(notebook, run, data) for notebook in notebooks]
    figures = [path for stamp in stamps if stamp for path in stamp.figures()]
    written = accept(run, names, figures)
    print(f"accepted as the reference: {len(written)} files ({run.mode} size); commit them to make it so")
    dirty = [name for name in names if load_result(name, run).provenance["dirty"]]
    if dirty:
        print(f"note: uncommitted changes were there when these were computed: {', '.join(dirty)}")


if __name__ == "__main__":
    sys.exit(main())
