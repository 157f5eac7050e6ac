"""Times and peak memory, taken one way everywhere: warm-up, synchronisation, interleaved sides, medians.

Sides that are compared take turns, and every second round runs them in reverse, so that drift of the machine
and the order meet all of them alike. How a number was taken stands beside it (``Protocol``).
"""

from __future__ import annotations

import math
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Protocol:
    """How times were taken.

    Attributes:
        warmup: rounds before the first that counts.
        rounds: rounds that count; each runs every side once.
        order: "alternating" reverses the sides in every second round.
        synchronised: whether the device had finished its work before the clock was read.
        device: as torch names it.
        threads: of torch's CPU kernels.
    """

    warmup: int
    rounds: int
    order: str
    synchronised: bool
    device: str
    threads: int


@dataclass(frozen=True)
class Timing:
    """Seconds of one side's runs, in order."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)

    @property
    def iqr(self) -> float:
        """Distance between the quartiles; 0 for a single run."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return high - low


@dataclass(frozen=True)
class Comparison:
    """Interleaved times of named sides."""

    sides: Mapping[str, Timing]
    protocol: Protocol

    def ratios(self, slow: str, fast: str) -> tuple[float, ...]:
        """The time of ``slow`` over that of ``fast`` in each round."""
        pairs = zip(self.sides[slow].seconds, self.sides[fast].seconds, strict=True)
        return tuple(a / b for a, b in pairs)

    def ratio(self, slow: str, fast: str) -> float:
        """Median of the `ratios`."""
        return statistics.median(self.ratios(slow, fast))

    def summary(self) -> dict[str, float | int | str | bool]:
        """Flat: median and IQR of each side, and the protocol."""
        found: dict[str, float | int | str | bool] = {}
        for name, timing in self.sides.items():
            found[f"{name}_seconds"], found[f"{name}_seconds_iqr"] = timing.median, timing.iqr
        return found | asdict(self.protocol)


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The narrowest pair of order statistics, one from each end, between which the true median lies with 95%
    probability or more, whatever the values' distribution; smallest and largest where there are too few for that.

    Raises:
        ValueError: no value.
    """
    if not values:
        raise ValueError("no values: expected at least one")
    ordered, n = sorted(values), len(values)
    outside, drop = 0.0, 0
    for rank in range(n // 2):
        outside += 2 * math.comb(n, rank) / 2**n  # the median beyond the value of this rank, at either end
        if outside > 0.05:
            break
        drop = rank
    return ordered[drop], ordered[n - 1 - drop]


def synchronize(device: str | torch.device = "cpu") -> None:
    """Wait until the device has done what it was given; the CPU always has."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def timed(call: Callable[[], object], device: str | torch.device = "cpu") -> float:
    """Seconds of one call, the device's work included."""
    synchronize(device)
    started = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - started


def compare(
    sides: Mapping[str, Callable[[], float]],
    rounds: int,
    warmup: int = 1,
    device: str | torch.device = "cpu",
    warmed: int = 0,
) -> Comparison:
    """Time sides in turns: A B, B A, A B, ...

    Args:
        sides: each runs once and returns its own seconds: ``lambda: timed(call, device)``, or a request to
            another process.
        rounds: how often each side counts.
        warmup: rounds before that.
        warmed: rounds that the caller has run already, say to see what fits into its time; the protocol counts them.

    Raises:
        ValueError: no side, no round, or a negative warm-up.
    """
    if not sides or rounds < 1 or warmup < 0:
        raise ValueError(f"{len(sides)} sides, rounds={rounds}, warmup={warmup}: expected at least one side and round")
    for _ in range(warmup):
        for run in sides.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in in_turn(list(sides), number):
            seconds[name].append(sides[name]())
    protocol = Protocol(
        warmup=warmup + warmed,
        rounds=rounds,
        order="alternating",
        synchronised=True,
        device=str(device),
        threads=torch.get_num_threads(),
    )
    return Comparison({name: Timing(tuple(values)) for name, values in seconds.items()}, protocol)


def in_turn(names: Sequence[str], number: int) -> list[str]:
    """The order of round ``number``, counted from 0."""
    return list(names) if number % 2 == 0 else list(reversed(names))


def measure(
    call: Callable[[], object], repeats: int = 5, warmup: int = 1, device: str | torch.device = "cpu"
) -> Comparison:
    """Time one call; the only side of the result is "call"."""
    return compare({"call": lambda: timed(call, device)}, repeats, warmup, device)


def reset_peak_memory(device: str | torch.device = "cpu") -> None:
    """Start a new peak on a CUDA device. A CPU process has one peak in its life: use a process a side."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: str | torch.device = "cpu") -> int:
    """Bytes at the peak: tensors on a CUDA device since the last reset; on the CPU the resident memory of this
    whole process since its start, interpreter and libraries included.

    Linux's VmHWM is read where it is there: ``ru_maxrss``, else used, also counts the process that started
    this one, up to the moment it became Python.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        status = ""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
