"""The front-end that every `python -m analysis.NAME` shares."""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence

from analysis import paths, spread
from analysis.profiles import PROFILES, Draw, RunContext, run_context
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


def add_draw_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the profile with published data sets takes: --data, --fraction, --seed, --models, --families."""
    group = parser.add_argument_group("with --profile paper")
    group.add_argument("--data", metavar="FOLDER", help="holds the data sets' parquet files (default: the hub)")
    group.add_argument("--fraction", type=float, metavar="F", help="share of each data set (default: 0.2)")
    group.add_argument("--seed", type=int, metavar="N", help="of the draw (default: 0)")
    group.add_argument("--models", nargs="+", default=[], metavar="FOLDER", help="instead of the published ones")
    group.add_argument("--families", nargs="+", default=[], metavar="NAME", help="these data sets alone")


def chosen_mode(arguments: argparse.Namespace) -> str:
    """The mode that --quick or --full ask for."""
    return "quick" if arguments.quick else "full" if arguments.full else "default"


def chosen_run(arguments: argparse.Namespace, name: str, published: bool) -> RunContext:
    """The run that the command line asks for. Raises ValueError."""
    given = {
        field: value
        for field in ("data", "fraction", "seed")
        if (value := getattr(arguments, field, None)) is not None
    }
    models, families = getattr(arguments, "models", []), getattr(arguments, "families", [])
    profile = PROFILES.get(arguments.profile)
    if profile and not profile.published and (given or models or families):
        named = [f"--{word}" for word in (*given, *["models"][: len(models)], *["families"][: len(families)])]
        raise ValueError(f"{', '.join(named)}: for --profile paper, not for {arguments.profile}")
    if profile and profile.published and not published:
        raise ValueError(f"{name} is not measured on profile {arguments.profile}")
    run = run_context(
        arguments.profile, chosen_mode(arguments), arguments.force, draw=Draw(**given) if given else None
    )
    if families:
        from analysis.benchmarks import PUBLISHED  # slow, and only needed here

        unknown = [family for family in families if family not in PUBLISHED]
        if unknown:
            raise ValueError(f"unknown data set {unknown[0]!r}, expected one of: {', '.join(PUBLISHED)}")
    chosen = tuple(family for family in run.profile.families if family in families)
    profile = dataclasses.replace(
        run.profile, models=tuple(models) or run.profile.models, families=chosen or run.profile.families
    )
    return dataclasses.replace(run, profile=profile)


def command(
    name: str,
    measure: Callable[[RunContext], object],
    description: str,
    argv: Sequence[str] | None = None,
    published: bool = False,
) -> int:
    """Runs the measurement `name` from the command line and says where its rows are. Returns the exit code.

    `published` says whether it measures published data sets, too. Wrong words exit with code 2 and one line, before any
    work. Under torchrun each process does its share and the first one writes; --processes N starts N of them.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m analysis.{name}", description=description.strip().splitlines()[0]
    )
    add_run_arguments(parser)
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="share the work out among N on this machine, a GPU each"
    )
    if published:
        add_draw_arguments(parser)
    arguments = parser.parse_args(argv)
    try:
        run = chosen_run(arguments, name, published)
        here = spread.process()
        if arguments.processes < 1:
            raise ValueError(f"--processes is {arguments.processes}, expected 1 or more")
    except ValueError as error:
        parser.error(str(error))
    if arguments.processes > 1 and here.world == 1 and argv is None:
        return spread.launch(arguments.processes, name, run)
    if here.world > 1:
        signal.signal(signal.SIGTERM, lambda *_: _stop(name, run))
    try:
        measure(run)
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept, run it again to go on", file=sys.stderr)
        return 130
    except spread.ProcessLost as error:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        spread.say(f"{name}: {error}. {_kept(run)}")
        time.sleep(3)  # so that torchrun finds the one that died before it finds this one
        return spread.LOST
    except (StorageError, *_expected()) as error:
        spread.say(f"{name}: {error}")
        return 1
    if here.first:
        path = run.results / f"{name}.json"
        print(paths.shown(path if path.is_file() else run.results))  # several files have names of their own
    return 0


def _expected() -> tuple[type[Exception], ...]:
    """Errors of the user's data and models, which are told in a line."""
    from analysis.benchmarks.parquet import DataError  # imports that a wrong word should not wait for
    from redvtp.models.checkpoint import CheckpointError

    return DataError, CheckpointError


def _kept(run: RunContext) -> str:
    return f"What is finished is kept in {spread.shown_folder(run.results)}; give the same command again to go on"


def _stop(name: str, run: RunContext) -> None:
    """What torchrun ends the others with when one process has died."""
    spread.say(
        f"{name}: stopped, most likely because another rank ended: torchrun's report names it and its exit code. "
        + _kept(run)
    )
    sys.stderr.flush()
    os._exit(128 + signal.SIGTERM)  # no waiting for the others at exit
