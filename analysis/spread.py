"""Work shared out among processes, and kept piece by piece, so that a killed run loses the piece it was at.

A run is one process, or several that torchrun started (it sets RANK, WORLD_SIZE and LOCAL_RANK). Each process appends
what it finished to a log of its own; at the end all processes have everybody's values, and the first one writes the
result. Values are what JSON holds, also in the process that computed them, so a run that was interrupted ends with the
same bytes as one that was not.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from analysis import paths, storage
from analysis.profiles import RunContext
from analysis.storage import StorageError

T = TypeVar("T")

LOST = 75
"""Exit code of a process that another one's end has stopped."""

RUNS = 8
"""How many runs of neighbours each process gets."""

PATIENCE = timedelta(days=7)
"""How long a process waits for the others; torchrun ends it at once where another one dies."""


class ProcessLost(RuntimeError):
    """Another process of this run has ended."""


@dataclass(frozen=True)
class Process:
    """This process among those of the run: its rank, their number, and its rank on this machine."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether it is the one that writes results."""
        return self.rank == 0

    def share(self, pieces: list[T]) -> list[T]:
        """Its part of the work: runs of neighbours, which stand in the same part of a file, dealt out in turn, so that
        no process gets all that takes long."""
        size = len(pieces) // (RUNS * self.world)
        dealt = size * RUNS * self.world
        runs = [pieces[first : first + size] for first in range(0, dealt, size or 1)]
        runs += [[one] for one in pieces[dealt:]]
        return [one for run in runs[self.rank :: self.world] for one in run]


def process() -> Process:
    """As torchrun's environment says. Raises ValueError where that makes no sense."""
    if "WORLD_SIZE" not in os.environ:
        return Process()
    words = {name: os.environ.get(name, "0") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    if not all(word.isdigit() for word in words.values()) or int(words["RANK"]) >= int(words["WORLD_SIZE"]):
        told = ", ".join(f"{name}={word}" for name, word in words.items())
        raise ValueError(f"{told}: expected whole numbers with RANK below WORLD_SIZE, as torchrun sets them")
    return Process(*map(int, words.values()))


def device() -> str:
    """Where a process of this rank computes: a GPU of its own where there is one, else the CPU."""
    import torch

    return f"cuda:{process().local % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"


# ---- between the processes -------------------------------------------------------------------------------


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes; the others wait for it."""
    here = process()
    if here.world == 1:
        return make()
    found = [make() if here.first else None]
    _together(lambda group: group.broadcast_object_list(found, src=0))
    return found[0]


def from_all(mine: T) -> list[T]:
    """Everybody's `mine`, by rank."""
    here = process()
    if here.world == 1:
        return [mine]
    found: list[Any] = [None] * here.world
    _together(lambda group: group.all_gather_object(found, mine))
    return found


def _together(exchange: Callable[[Any], object]) -> None:
    import torch.distributed as group

    try:
        if not group.is_initialized():
            group.init_process_group("gloo", timeout=PATIENCE)
            # An interpreter that ends with the group's threads still running can abort.
            atexit.register(group.destroy_process_group)
        exchange(group)
    except RuntimeError as error:
        raise ProcessLost(
            "another process of this run has ended; what started them names its rank and exit code "
            f"({str(error).splitlines()[0][:100]})"
        ) from error


# ---- what is finished ------------------------------------------------------------------------------------


class Log:
    """Finished pieces of one measurement, a JSON line each, in one file a rank.

    A line that a kill or a full disk left torn is dropped. Lines count under the `key` of the file's first line alone.
    """

    def __init__(self, folder: Path, name: str, key: str) -> None:
        self._folder, self._name, self._key = folder, name, key
        self._path = self._file(process().rank)
        self._ready = False

    def _file(self, rank: int | str) -> Path:
        return self._folder / f"{self._name}.{rank}.jsonl"

    def read(self) -> dict[str, dict[str, Any]]:
        """What all ranks' files hold, of earlier runs and of this one: ``{piece: {"value": ..., "seconds": ...}}``."""
        found = {}
        for path in sorted(self._folder.glob(self._file("*").name)):
            lines = list(_whole_lines(path))
            if lines and lines[0].get("key") == self._key:
                found |= {line["piece"]: {name: line[name] for name in ("value", "seconds")} for line in lines[1:]}
        return found

    def forget(self) -> None:
        """Removes all ranks' files."""
        for path in self._folder.glob(self._file("*").name):
            path.unlink()

    def append(self, piece: str, value: Any, seconds: float) -> dict[str, Any]:
        """Keeps a piece and returns it as a reader will find it. Raises StorageError where it cannot be written."""
        kept = {"value": value, "seconds": round(seconds, 3)}
        text = json.dumps({"piece": piece} | kept, ensure_ascii=False, allow_nan=False)
        self._write(text + "\n")
        found = json.loads(text)
        return {name: found[name] for name in kept}

    def _write(self, line: str) -> None:
        try:
            if not self._ready:
                self._prepare()
            with self._path.open("ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            self._ready = False  # what was written of the line goes with the next one
            raise StorageError(storage.reason(self._path, error)) from error

    def _prepare(self) -> None:
        """A file of this key without a torn end."""
        lines = list(_whole_lines(self._path)) if self._path.is_file() else []
        if not lines or lines[0].get("key") != self._key:
            storage.write_text(self._path, json.dumps({"key": self._key}) + "\n")
        else:
            with self._path.open("rb+") as file:
                content = file.read()
                file.truncate(content.rfind(b"\n") + 1)
        self._ready = True


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log that were written to their end."""
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and (found.keys() == {"key"} or found.keys() == {"piece", "value", "seconds"}):
            yield found


# ---- the work --------------------------------------------------------------------------------------------


def work(
    log: Log, pieces: Mapping[str, str], compute: Callable[[str], Any], tell: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Everything in `pieces`, ``{key: what it is called}``: read from the logs, or computed by one of the processes.

    Returns ``{key: {"value": ..., "seconds": ...}}`` in all of them. `compute(key)` gives what JSON holds; `tell` is
    given a line on how far this process is.
    """
    if not pieces:
        return {}
    # The first process alone says what is missing: the others might see more of what is being written.
    found = from_first(lambda: {key: one for key, one in log.read().items() if key in pieces})
    mine = process().share([key for key in pieces if key not in found])
    if found:
        tell(f"{len(found)} of {len(pieces)} pieces are there already")
    own, started, told = {}, time.perf_counter(), float("-inf")
    for key in mine:
        before = time.perf_counter()
        value = compute(key)
        own[key] = log.append(key, value, time.perf_counter() - before)
        now = time.perf_counter()
        if now - told > 2 or len(own) == len(mine):  # samples may take milliseconds
            left = (now - started) / len(own) * (len(mine) - len(own))
            tell(f"{len(own)}/{len(mine)}  {pieces[key]}" + (f", {_duration(left)} left" if left else ""))
            told = now
    for others in from_all(own):
        found |= others
    return {key: found[key] for key in pieces}


def _duration(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {seconds:.0f} s"


def say(text: str) -> None:
    """A line on the terminal, with the rank where there are several."""
    here = process()
    print(f"[rank {here.rank}] {text}" if here.world > 1 else text, file=sys.stderr, flush=True)


def shown_folder(run_folder: Path) -> str:
    """The folder of a run's logs, as messages name it."""
    return paths.shown(run_folder / "pieces")


# ---- starting them ---------------------------------------------------------------------------------------


def launch(count: int, name: str, run: RunContext) -> int:
    """Runs this very command in `count` processes on this machine, through torchrun. Returns the exit code.

    Where one of them ends early, says which, how, and what to do.
    """
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    command = ["--standalone", "--nproc-per-node", str(count), "--no-python", sys.executable, *sys.orig_argv[1:]]
    try:
        torchrun.run(torchrun.parse_args(command))
    except ChildFailedError as error:
        others = (LOST, 128 + signal.SIGTERM, -signal.SIGTERM)  # ended because that one did
        rank, failure = min(error.failures.items(), key=lambda one: (one[1].exitcode in others, one[1].timestamp))
        print(
            f"{name}: rank {rank} of {count} {_ending(failure.exitcode)}. What the ranks had finished is kept in "
            f"{shown_folder(run.results)}; give the same command again to go on (fewer --processes need less memory)",
            file=sys.stderr,
        )
        return 1
    except (SignalException, KeyboardInterrupt):
        print("interrupted: what is finished is kept, run it again to go on", file=sys.stderr)
        return 130
    return 0


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}; what it said stands above"
    killed = signal.Signals(-code).name
    why = ", as the system does where memory runs out" if killed == "SIGKILL" else ""
    return f"was killed by {killed} (exit code {code}){why}"
