"""Caches beside pruning: every cache with RedVTP at every ratio, on the same samples.

Caches by name (`block`: response tokens a block, where a response is longer; else one block):

    none             everything in every step; `none_blocks` the same with blocks of 8
    prefix           LaViDa's prefix-DLM: the prompt encoded once, without sight of the response; a cut drops columns
    prefix_reencode  the same, but the pruned prompt is encoded once more after the cut
    fast_dllm        Fast-dLLM's prefix cache: in one block, the prompt as it was in step 1
    fast_dllm_dual   its dual cache in blocks of 8, where it differs from the prefix cache
    dllm_cache       dLLM-Cache

`difference` is the paired difference in exact match from the same ratio without a cache, in the same blocks (for
`none_blocks`, in one block); `from_unpruned` that from the same cache without pruning: what pruning costs once there is
a cache. Both have Tango's interval.

`flops_ratio` is of the mini model's FLOPs, to no cache and no pruning. `tflops_8b` and `share_8b` are of the published
8B shape at the family's protocol, from what the cache asks for (see analysis.cached_flops), the share to no cache and
no pruning in one block; `saved_8b` is the share of FLOPs that pruning saves beside the same cache. `seconds_ratio` is
time on this CPU for this small model, with recording; it is not compared with anything.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import redvtp
from analysis import answers, benchmarks, hosts, subset
from analysis.benchmarks import Sample
from analysis.cached_flops import true_flops
from analysis.command import command
from analysis.comparisons import named, paired, rate
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row
from analysis.subset import right
from redvtp.caching import CachePolicy

BY = ("host", "model", "family", "split", "seed", "cache", "method", "keep")
MEANS = ("score", "kept", "steps", "tokens_fed")
FAMILIES = ("doc", "info", "scene")
RATIOS = (1.0, 0.5, 0.25, 0.1)
BLOCK = 8
MOST = 100  # samples a family and seed, where the run's are more; with 50 a loss of 0.05 could not be ruled out


@dataclass(frozen=True)
class Setting:
    """A cache as it is run; `beside` names the setting without a cache that it is compared with."""

    cache: CachePolicy | None = None
    block: int | None = None
    beside: str = "none"


SETTINGS = {
    "none": Setting(),
    "prefix": Setting(redvtp.PrefixDLM()),
    "prefix_reencode": Setting(redvtp.PrefixDLM(reencode=True)),
    "fast_dllm": Setting(redvtp.FastDLLM()),
    "none_blocks": Setting(block=BLOCK),
    "fast_dllm_dual": Setting(redvtp.FastDLLM(dual=True), BLOCK, "none_blocks"),
    "dllm_cache": Setting(redvtp.DLLMCache()),
}


def settings_of(family: str) -> dict[str, Setting]:
    """The settings that a family can run: blocks where its response is longer than one."""
    length = benchmarks.get(family).protocol.length
    return {name: one for name, one in SETTINGS.items() if one.block is None or length > one.block}


def answer_batch(host: redvtp.Model, batch: Sequence[Sample]) -> Iterator[Row]:
    """A row for each sample, cache and ratio. All ratios of a cache go on from one first step."""
    for name, setting in settings_of(batch[0].family).items():
        options = {} if setting.block is None else {"block_length": setting.block}
        started = time.perf_counter()
        trunk = answers.start(host, batch, cache=setting.cache, watch=answers.ATTENTION, **options)
        trunk.step()
        trunk.watch = None  # no fork asks for the attention of a later step
        shared = time.perf_counter() - started
        for keep in RATIOS:
            pruner = redvtp.RedVTP(keep=keep) if keep < 1.0 else None
            started = time.perf_counter()
            fork = trunk.fork(pruner, redvtp.Recorder(steps=[*trunk.recorder.steps]))
            rows = list(answers.rows_of(host, batch, pruner.name if pruner else "none", pruner, fork))
            seconds = (shared + time.perf_counter() - started) / len(batch)
            yield from (row | {"cache": name, "seconds": seconds} for row in rows)


def summarise(rows: Sequence[Row]) -> list[Row]:
    """One row for each cache and ratio from one model's answers to one family and seed, in the order they came."""
    groups: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["cache"], row["keep"]].append(row)
    plain = groups["none", 1.0]
    out = []
    for (cache, keep), group in groups.items():
        setting, whole, alike = SETTINGS[cache], groups[cache, 1.0], groups[SETTINGS[cache].beside, keep]
        own, cached, full = (
            _true_cost(group[0], one, ratio) for one, ratio in ((cache, keep), (cache, 1.0), ("none", 1.0))
        )
        out.append(
            {name: group[0][name] for name in BY} | {"beside": setting.beside, "n": len(group)}
            | named("exact_match", rate(sum(row["exact_match"] for row in group), len(group)))
            | named("difference", (None,) * 3 if alike is group else paired(right(alike), right(group)))
            | named("from_unpruned", (None,) * 3 if whole is group else paired(right(whole), right(group)))
            | {name: _mean(group, name) for name in MEANS}
            | {"flops_ratio": _mean(group, "flops") / _mean(plain, "flops"),
               "tflops_8b": own / 1e12, "share_8b": own / full, "saved_8b": 1 - own / cached,
               "seconds_ratio": _mean(group, "seconds") / _mean(plain, "seconds")}
        )  # fmt: skip
    return out


def _true_cost(row: Row, cache: str, keep: float) -> int:
    """FLOPs of the published shape of the row's host at its family's protocol."""
    protocol, setting = benchmarks.get(row["family"]).protocol, SETTINGS[cache]
    return true_flops(row["host"], protocol.length, protocol.steps, keep, setting.cache, setting.block)


def _mean(rows: Sequence[Row], name: str) -> float:
    return sum(row[name] for row in rows) / len(rows)


def compute(name: str, samples: Sequence[Sample]) -> list[Row]:
    """All caches and ratios on one model, family and seed."""
    return summarise(subset.answered(name, samples, answer_batch))


def measure(run: RunContext) -> Result:
    """Caches and ratios on the profile's first model, and on LaViDa's; `skipped` names a model that is not there."""
    names, skipped = hosts.both(run)
    drawn = subset.draw(run, FAMILIES, MOST, share=1.0)
    with Measurement(
        "caches",
        run,
        by=BY,
        link="mini",
        params={"ratios": RATIOS, "caches": {name: repr(one) for name, one in SETTINGS.items()}, "most": MOST,
                "batch": answers.BATCH, "split": answers.SPLIT, "skipped": skipped},
        inputs=subset.inputs(names, drawn),
        # A token more or less of one answer moves these a little; the rates have their intervals.
        tolerances=dict.fromkeys((*MEANS, "flops_ratio"), 0.05) | {"seconds_ratio": None},
    ) as m:
        m.each(
            subset.cells(names, drawn),
            lambda cell: compute(cell["model"], drawn[cell["family"], cell["seed"]]),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("caches", measure, __doc__))
