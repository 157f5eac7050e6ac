"""From interleaved times to result rows: ratios with intervals, the FLOPs bound beside each, tokens a second."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from analysis.speed.bench import Bench
from analysis.speed.cases import CACHES, Run
from analysis.speed.sides import Side, language_flops, task_of, tokens_left, vision_flops
from redvtp.timing import Comparison, median_interval


@dataclass(frozen=True)
class Timed:
    """What is known of one run: its side, its times in the rounds that count, its peak memory.

    Attributes:
        parts: seconds of step 1 and of the later steps, by round.
        peak: bytes allocated on the device at most; None where that is not known.
    """

    run: Run
    side: Side
    parts: Sequence[tuple[float, float]]
    peak: int | None

    @property
    def seconds(self) -> list[float]:
        """Of the denoising loop, by round."""
        return [first + later for first, later in self.parts]


def rows_of(
    bench: Bench,
    timed: Mapping[Run, Timed],
    found: Comparison,
    before: float | None,
    ceiling: float | None,
) -> list[dict]:
    """A row for each run; the first is the baseline.

    Args:
        before: seconds of image processing and vision, once an answer; None leaves latency out, and so it is for
            batches, whose images are not encoded here.
        ceiling: FLOP/s of a large matrix product in the same run.
    """
    runs = list(timed)
    base = timed[runs[0]]
    return [row(bench, one, base, timed, found, before, ceiling) for one in timed.values()]


def row(
    bench: Bench,
    one: Timed,
    base: Timed,
    all_of: Mapping[Run, Timed],
    found: Comparison,
    before: float | None,
    ceiling: float | None,
) -> dict:
    """The numbers of one run beside its baseline."""
    run, seconds = one.run, one.seconds
    task, language = task_of(bench, run), language_flops(bench, run)
    scoring = language.scoring * run.batch if run.attention == "probe" else 0
    flops, base_flops = one.side.flops + scoring, base.side.flops
    vision = vision_flops(bench, run) * run.batch
    middle = statistics.median(seconds)
    tokens = run.response * run.batch
    numbers: dict = {
        "measured": True, "why": "", "composed": one.side.composed, "visual_tokens": task.visual,
        "prompt_tokens": task.prompt, "kept_tokens": tokens_left(bench, run), "blocks": CACHES[run.cache][1],
        "nfe": one.side.nfe, "response_tokens": tokens, "committed_tokens": one.side.committed,
        "decoding_seconds": middle, "decoding_iqr": found.sides[run.name].iqr,
        "first_seconds": statistics.median(first for first, _ in one.parts),
        "later_seconds": statistics.median(later for _, later in one.parts),
        "decoding_tokens_per_second": tokens / middle,
        "decoding_committed_per_second": one.side.committed / middle,
        "baseline_seconds": statistics.median(base.seconds),
    }  # fmt: skip
    numbers |= interval("decoding_speedup", [a / b for a, b in zip(base.seconds, seconds, strict=True)])
    numbers |= latencies(seconds, base.seconds, tokens, before if run.batch == 1 else None)
    later = [(a[1], b[1]) for a, b in zip(one.parts, base.parts, strict=True)]
    numbers |= interval("later_share", [a / b for a, b in later if b > 0])
    numbers |= {
        "flops": flops, "scoring_flops": scoring, "vision_flops": vision,
        "decoding_bound_cut": 100 * (1 - flops / base_flops),
        "bound_cut": 100 * (1 - (flops + vision) / (base_flops + vision)),
        "flops_per_second": flops / middle,
        "of_product": None if ceiling is None else flops / middle / ceiling,
        "break_even_steps": break_even(one, base) if run.method != "none" and run.cache == "none" else None,
        "peak_bytes": one.peak, "weights_bytes": bench.weights,
        "memory_ratio": None if one.peak is None or not base.peak else one.peak / base.peak,
    }  # fmt: skip
    cut = 100 * (1 - 1 / numbers["decoding_speedup"])
    bound = numbers["decoding_bound_cut"]
    numbers["share_of_bound"] = cut / bound if run is not base.run and bound > 0 else None
    numbers |= beside(one, all_of)
    return asdict(run) | numbers | asdict(found.protocol)


def interval(name: str, values: Sequence[float]) -> dict:
    """Median and its 95% interval over the rounds; None without values."""
    if not values:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    low, high = median_interval(values)
    return {name: statistics.median(values), f"{name}_low": low, f"{name}_high": high}


def latencies(seconds: Sequence[float], base: Sequence[float], tokens: int, before: float | None) -> dict:
    """From the image to the answer, with what stands before the loop on both sides; percent for cut and gain."""
    if before is None:
        none = interval("speedup", ()) | interval("latency_cut", ()) | interval("throughput_gain", ())
        return {"latency_seconds": None, "tokens_per_second": None} | none
    ratios = [(b + before) / (a + before) for a, b in zip(seconds, base, strict=True)]
    latency = statistics.median(seconds) + before
    return {
        "latency_seconds": latency, "tokens_per_second": tokens / latency,
        **interval("speedup", ratios),
        **interval("latency_cut", [100 * (1 - 1 / ratio) for ratio in ratios]),
        **interval("throughput_gain", [100 * (ratio - 1) for ratio in ratios]),
    }  # fmt: skip


def break_even(one: Timed, base: Timed) -> float | None:
    """Steps from which on the run is as fast as its baseline: 1 + what its first step costs more, over what each
    later one saves (medians over rounds); None where later steps save nothing."""
    if one.run.steps < 2:
        return None
    more = statistics.median(a[0] - b[0] for a, b in zip(one.parts, base.parts, strict=True))
    saved = statistics.median(b[1] - a[1] for a, b in zip(one.parts, base.parts, strict=True)) / (one.run.steps - 1)
    return max(1.0, 1 + more / saved) if saved > 0 else None


def beside(one: Timed, all_of: Mapping[Run, Timed]) -> dict:
    """The same run without its cache, and of an official one ours at the same ratio, where they took turns."""
    found: dict = dict.fromkeys(("over_uncached", "ours_speedup", "ours_memory_ratio", "ours_same_tokens"))
    run = one.run
    for run_of, other in all_of.items():
        alike = run_of.keep == run.keep and run_of.variant == run.variant and run_of.batch == run.batch
        if run.cache != "none" and run_of.cache == "none" and alike and run_of.method == run.method:
            ratios = [a / b for a, b in zip(other.seconds, one.seconds, strict=True)]
            found["over_uncached"] = statistics.median(ratios)
        ours = run_of.method in ("redvtp", "none") and run_of.cache == "none" and run_of.attention != "maps"
        if run.method == "official" and ours and alike:
            ratios = [a / b for a, b in zip(one.seconds, other.seconds, strict=True)]
            found["ours_speedup"] = statistics.median(ratios)
            found["ours_memory_ratio"] = None if other.peak is None or not one.peak else other.peak / one.peak
    return found


FIELDS = (
    "measured", "why", "composed", "visual_tokens", "prompt_tokens", "kept_tokens", "blocks", "nfe",
    "response_tokens", "committed_tokens", "decoding_seconds", "decoding_iqr", "first_seconds", "later_seconds",
    "decoding_tokens_per_second", "decoding_committed_per_second", "baseline_seconds", "decoding_speedup",
    "decoding_speedup_low", "decoding_speedup_high", "latency_seconds", "tokens_per_second", "speedup", "speedup_low",
    "speedup_high", "latency_cut", "latency_cut_low", "latency_cut_high", "throughput_gain", "throughput_gain_low",
    "throughput_gain_high", "later_share", "later_share_low", "later_share_high", "flops", "scoring_flops",
    "vision_flops", "decoding_bound_cut", "bound_cut", "flops_per_second", "of_product", "break_even_steps",
    "peak_bytes", "weights_bytes", "memory_ratio", "share_of_bound", "over_uncached", "ours_speedup",
    "ours_memory_ratio", "ours_same_tokens", "warmup", "rounds", "order", "synchronised", "device", "threads",
)  # fmt: skip
"""What a row holds beside the run's own fields."""

COUNTED = ("visual_tokens", "prompt_tokens", "kept_tokens", "blocks", "nfe", "response_tokens", "committed_tokens")
TOLERANCES = dict.fromkeys(name for name in FIELDS if name not in COUNTED)
"""Times, and what hangs on them or on the device, are not compared with the reference."""


def filled(run: Run, **numbers: object) -> dict:
    """A measured row with these numbers and no others."""
    unknown = sorted(set(numbers) - set(FIELDS))
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r} of a row")
    return absent(run, "") | {"measured": True} | numbers


def absent(run: Run, why: str) -> dict:
    """The row of a run that was not measured."""
    return asdict(run) | dict.fromkeys(FIELDS) | {"measured": False, "why": why}
