"""MaskKV's budgets by head and layer in the cache, beside methods that keep one set of tokens for all heads.

All run with Fast-dLLM's prefix cache, from one first step, and hold as many keys and values of visual tokens: `keep` of
them. By name:

    redvtp               RedVTP as the official code has it
    redvtp_original      the same with tokens left at their positions, as the methods below
    maskkv               MaskKV's votes, one set of tokens for all heads and layers
    maskkv_heads         each head of each layer keeps tokens of its own in the cache
    maskkv_heads_layers  the same, with layers' budgets from how much each changes its input, on development samples

`held` is the share of the visual tokens' keys and values that are held after the cut. The cache stays dense: a token
that any head of any layer has is stored whole, so that budgets by head save neither time nor memory here.

`from_unpruned` is the paired difference in exact match from the same cache unpruned, `from_original` that from
`redvtp_original` at the same share, both with Tango's interval; `gained` and `lost` answers belong to the latter.
`flops_ratio` is of the same cache unpruned; what heads have forgotten is not counted, though masks compute it here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial

import redvtp
from analysis import answers, benchmarks, contender, subset
from analysis.benchmarks import Sample
from analysis.command import command
from analysis.comparisons import named, paired, rate, turned
from analysis.profiles import RunContext
from analysis.results import Measurement, Result, Row
from analysis.subset import right
from redvtp.generation import Decoding
from redvtp.guidance import layer_importance
from redvtp.pruning import Pruner
from redvtp.sequence import VISUAL

BY = ("model", "family", "split", "seed", "method", "keep")
FAMILIES = ("doc", "info", "chart")
RATIOS = (0.5, 0.25, 0.1)
MOST = {"default": 50, "quick": 4, "full": 100}  # samples a family and seed
CALIBRATION = 8  # development samples that layers' budgets are taken from
BASE = "redvtp_original"
CACHE = redvtp.FastDLLM()
WATCHED = redvtp.Needs(attention=frozenset({"response"}), heads=True)


def pruners(keep: float, importance: tuple[float, ...]) -> dict[str, Pruner]:
    """The methods by name."""
    heads = redvtp.MaskKV(keep=keep, positions="original", per_head=True)
    return {
        "redvtp": redvtp.RedVTP(keep=keep),
        BASE: redvtp.RedVTP(keep=keep, positions="original"),
        "maskkv": redvtp.MaskKV(keep=keep, positions="original"),
        "maskkv_heads": heads,
        "maskkv_heads_layers": redvtp.MaskKV(keep=keep, positions="original", per_head=True, importance=importance),
    }


def calibrated(host: redvtp.Model, family: str) -> tuple[float, ...]:
    """One number a layer (see redvtp.guidance.layer_importance), from development samples of a family."""
    benchmark = benchmarks.get(family)
    prompts = [redvtp.Prompt(one.question, [one.image]) for one in benchmark.samples("dev", CALIBRATION, 0)]
    return layer_importance(host, prompts, benchmark.protocol.length)


def answer_batch(host: redvtp.Model, batch: Sequence[Sample], importance: tuple[float, ...]) -> Iterator[Row]:
    """A row for each sample, method and ratio, and one unpruned. All go on from one first step."""
    trunk = answers.start(host, batch, cache=CACHE, watch=WATCHED)
    trunk.step()
    trunk.watch = None  # no fork asks for the attention of a later step
    chosen: list[tuple[str, Pruner | None]] = [("none", None)]
    chosen += [one for keep in RATIOS for one in pruners(keep, importance).items()]
    for name, pruner in chosen:
        fork = trunk.fork(pruner, redvtp.Recorder(steps=[*trunk.recorder.steps]))
        fork.step()
        held = held_shares(host, fork)
        for place, row in enumerate(answers.rows_of(host, batch, name, pruner, fork)):
            yield row | {"held": held.get(place)}


def held_shares(host: redvtp.Model, run: Decoding) -> dict[int, float]:
    """``{place in the batch: share}`` of the visual tokens' keys and values that are held, of samples still running."""
    if not run.samples:
        return {}
    text, layout = host.host.config.text_config, run.state.layout
    each = text.num_key_value_heads * host.host.layers
    visual = run.state.original.tolist()
    texts = (layout.lengths - layout.count(VISUAL).cpu()).tolist()
    entries = run.state.cache.entries(layout.lengths, text.num_key_value_heads).tolist()
    return {
        sample: (held / each - own) / total
        for sample, held, own, total in zip(run.samples, entries, texts, visual, strict=True)
    }


def summarise(rows: Sequence[Row]) -> list[Row]:
    """One row for each method and ratio from one model's answers to one family and seed, in the order they came."""
    groups: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["method"], row["keep"]].append(row)
    full, out = groups["none", 1.0], []
    for (_, keep), group in groups.items():
        base = groups.get((BASE, keep), full)
        gained, lost = (None, None) if base is group else turned(right(base), right(group))
        held = [row["held"] for row in group if row["held"] is not None]
        out.append(
            {name: group[0][name] for name in BY} | {"n": len(group)}
            | named("exact_match", rate(sum(row["exact_match"] for row in group), len(group)))
            | named("from_unpruned", (None,) * 3 if full is group else paired(right(full), right(group)))
            | named("from_original", (None,) * 3 if base is group else paired(right(base), right(group)))
            | {"gained": gained, "lost": lost, "held": sum(held) / len(held) if held else None}
            | {"flops_ratio": sum(row["flops"] for row in group) / sum(row["flops"] for row in full)}
        )  # fmt: skip
    return out


def compute(name: str, samples: Sequence[Sample]) -> list[Row]:
    """All methods and ratios on one model, family and seed."""
    importance = calibrated(answers.model(name), samples[0].family)
    return summarise(subset.answered(name, samples, partial(answer_batch, importance=importance)))


def measure(run: RunContext) -> Result:
    """All methods and ratios on the diffusion models of the LLaDA-V kind."""
    drawn, names = subset.draw(run, FAMILIES, MOST[run.mode]), contender.models(run)
    with Measurement(
        "head_budgets",
        run,
        by=BY,
        link="mini",
        params={"ratios": RATIOS, "cache": repr(CACHE), "most": MOST[run.mode], "batch": answers.BATCH,
                "split": answers.SPLIT, "calibration": CALIBRATION},
        inputs=subset.inputs(names, drawn),
        tolerances=dict.fromkeys(("held", "flops_ratio"), 0.05) | {"gained": None, "lost": None},
    ) as m:
        m.each(
            subset.cells(names, drawn),
            lambda cell: compute(cell["model"], drawn[cell["family"], cell["seed"]]),
        )
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("head_budgets", measure, __doc__))
