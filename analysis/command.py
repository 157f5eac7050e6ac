"""The front-end that every `python -m analysis.NAME` shares."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from analysis import paths
from analysis.profiles import PROFILES, RunContext, run_context
from analysis.storage import StorageError


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --profile, --quick or --full, and --force."""
    parser.add_argument(
        "--profile",
        default="mini",
        metavar="NAME",
        help=f"what is measured: {', '.join(PROFILES)} (default: mini)",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="n = 16, into folders of its own")
    size.add_argument("--full", action="store_true", help="n = 300 and three seeds: hours, can be resumed")
    parser.add_argument("--force", action="store_true", help="compute again what is already there")


def chosen_mode(arguments: argparse.Namespace) -> str:
    """The mode that --quick or --full ask for."""
    return "quick" if arguments.quick else "full" if arguments.full else "default"


def command(
    name: str,
    measure: Callable[[RunContext], object],
    description: str,
    argv: Sequence[str] | None = None,
) -> int:
    """Runs the measurement `name` from the command line and says where its rows are. Returns the exit code.

    Wrong words exit with code 2 and one line, before any work.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m analysis.{name}", description=description.strip().splitlines()[0]
    )
    add_run_arguments(parser)
    arguments = parser.parse_args(argv)
    try:
        run = run_context(arguments.profile, chosen_mode(arguments), arguments.force)
    except ValueError as error:
        parser.error(str(error))
    try:
        measure(run)
    except KeyboardInterrupt:
        print("interrupted: finished cells are kept, run it again to go on", file=sys.stderr)
        return 130
    except StorageError as error:
        print(error, file=sys.stderr)
        return 1
    path = run.results / f"{name}.json"
    print(paths.shown(path if path.is_file() else run.results))  # several files have names of their own
    return 0
