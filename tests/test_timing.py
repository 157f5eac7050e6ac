"""Interleaving, medians and peak memory."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from redvtp.timing import Comparison, Timing, compare, measure, median_interval, peak_memory, timed


def test_sides_take_turns_and_swap():
    order = []
    sides = {name: lambda name=name: order.append(name) or 1.0 for name in "ab"}
    found = compare(sides, rounds=3, warmup=1)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert found.sides["a"].seconds == (1.0, 1.0, 1.0)
    assert found.protocol.rounds == 3 and found.protocol.warmup == 1


def test_ratio_is_the_median_of_the_rounds():
    sides = {"slow": Timing((2.0, 30.0, 4.0)), "fast": Timing((1.0, 3.0, 1.0))}
    found = Comparison(sides, measure(lambda: None, repeats=1, warmup=0).protocol)
    assert found.ratio("slow", "fast") == 4.0
    assert found.summary()["slow_seconds"] == 4.0


def test_median_and_iqr():
    timing = Timing((1.0, 2.0, 3.0, 4.0, 100.0))
    assert timing.median == 3.0
    assert timing.iqr == 2.0
    assert Timing((1.0,)).iqr == 0.0


def test_measure_counts_only_after_the_warm_up():
    calls = []
    found = measure(lambda: calls.append(1), repeats=4, warmup=2)
    assert len(calls) == 6
    assert len(found.sides["call"].seconds) == 4
    assert timed(lambda: None) >= 0


@pytest.mark.parametrize("words", [{"rounds": 0}, {"rounds": 1, "warmup": -1}])
def test_refuses_nothing_to_do(words):
    with pytest.raises(ValueError, match="expected at least one"):
        compare({"a": lambda: 1.0}, **words)


def test_peak_memory_is_the_process_own():
    code = (
        "from redvtp.timing import peak_memory; before = peak_memory(); x = bytearray(b'1') * 200_000_000; del x;"
        "print(peak_memory() - before)"
    )
    held = bytearray(b"1") * 400_000_000  # of this process, not of the child
    gain = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 190e6 < gain < 260e6
    assert peak_memory() > len(held)


@pytest.mark.parametrize(("n", "low", "high"), [(1, 0, 0), (3, 0, 2), (6, 0, 5), (9, 1, 7), (10, 1, 8), (20, 5, 14)])
def test_the_medians_interval_is_of_order_statistics(n, low, high):
    """95% and more: ranks 2 and 9 of ten hold the median in 97.9% of samples, 3 and 8 in 89.1%."""
    assert median_interval(list(range(n))[::-1]) == (low, high)


def test_the_medians_interval_covers_it_as_often_as_it_says():
    draws = np.random.default_rng(0).exponential(size=(4000, 11))
    held = [low <= math.log(2) <= high for low, high in map(median_interval, draws.tolist())]
    assert 0.95 < sum(held) / len(held) < 0.995


def test_rounds_run_by_the_caller_count_as_warm_up():
    found = compare({"a": lambda: 1.0}, rounds=2, warmup=0, warmed=1)
    assert found.protocol.warmup == 1 and len(found.sides["a"].seconds) == 2
