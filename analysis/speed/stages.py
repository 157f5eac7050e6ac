"""The stages of one answer, each timed by itself: image, vision, step 1 with and without scoring, later steps, head.

A forward is the host's alone; "loop" is the same step as the denoising loop takes it, sampling, cut and
book-keeping included. Scoring is timed three ways: without, by the probe, and with attention maps written out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import LongTensor, Tensor

from analysis.speed.bench import Bench
from analysis.speed.cases import RATIOS, Run, pruned, pruner_of
from analysis.speed.ceiling import matrix_product
from analysis.speed.maps import maps_of
from analysis.speed.sides import vision_flops
from redvtp.attention import AttentionProbe
from redvtp.flops import forward_flops, head_flops, scoring_flops
from redvtp.generation import Decoding
from redvtp.generation.sampling import confidence, pick_tokens, transfer_rows
from redvtp.models.base import State
from redvtp.sequence import VISUAL
from redvtp.timing import compare, median_interval, peak_memory, reset_peak_memory, timed

BY = ("host", "image", "response", "stage", "keep")

PRODUCT, PROCESSING, VISION = "matrix product", "image processing", "vision tower and projector"
FIRST, PROBED, MAPPED, LATER = "step 1", "step 1, scored by the probe", "step 1, attention maps written", "later step"
LOOP_FIRST, LOOP_CUT = "loop: step 1", "loop: step 1, scored and cut"
HEAD, SAMPLING = "head", "sampling"
TOLERANCES = dict.fromkeys(
    (
        "measured", "why", "seconds", "seconds_low", "seconds_high", "flops_per_second", "of_product", "peak_bytes",
        "composed_seconds", "composed_over_whole", "warmup", "rounds", "device", "threads",
    )
)  # fmt: skip
BEFORE = (PRODUCT, PROCESSING, VISION)
LOOP = (FIRST, PROBED, MAPPED, LOOP_FIRST, LOOP_CUT, LATER, HEAD, SAMPLING)


@dataclass(frozen=True)
class Stage:
    """Something to time, and its FLOPs where those are counted."""

    name: str
    call: Callable[[], object]
    keep: float = 1.0
    flops: int | None = None
    tokens: int | None = None


def before_loop(bench: Bench, run: Run) -> Iterator[Stage]:
    """What is done once, before any step."""
    yield Stage(PROCESSING, lambda: bench.process(run.image))
    yield Stage(VISION, lambda: bench.encode(run.image, run.response), flops=vision_flops(bench, run))


def in_loop(bench: Bench, run: Run) -> Iterator[Stage]:
    """The steps of an unpruned ``run``, its later steps at each ratio, and what a step ends with."""
    host, state, canvas = bench.host, bench.state(run), bench.canvas(run)
    rows = torch.ones_like(canvas, dtype=torch.bool)
    text, layers, first = host.config.text_config, host.layers, state.layout.prompt_length
    length, masked = state.layout.length, run.response
    watched = torch.arange(first, first + masked, device=bench.device)[None]
    columns = state.layout.columns_of(VISUAL)

    def cost(one: State, asked: int) -> int:
        lengths = torch.full((layers, 1), one.layout.length)
        return sum(forward_flops(text, lengths, torch.tensor([asked]), masked))

    whole, scoring = cost(state, masked), layers * scoring_flops(text, masked, length)
    about = {"tokens": length}
    yield Stage(FIRST, lambda: host.forward(state, canvas, rows), flops=whole, **about)
    probed = Stage(
        PROBED, lambda: host.forward(state, canvas, rows, AttentionProbe(watched, columns)), flops=whole + scoring,
        **about,
    )  # fmt: skip
    yield probed

    def mapped() -> None:
        with maps_of(host):
            probed.call()

    yield Stage(MAPPED, mapped, flops=whole, **about)
    yield Stage(LOOP_FIRST, lambda: Decoding(host, state, run.settings).step(), flops=whole, **about)
    half = pruned(run.host, 0.5, response=run.response, steps=run.steps, image=run.image)
    method = pruner_of(half, layers)
    yield Stage(LOOP_CUT, lambda: Decoding(host, state, run.settings, method).step(), 0.5, whole + scoring, **about)

    left = masked - masked // run.steps
    some = bench.canvas(run, left)
    asked = some == host.mask_id
    for keep in (1.0, *RATIOS) if run.steps > 1 else ():
        cut = cut_state(bench, replace(half, keep=keep), state)
        yield Stage(
            LATER, lambda cut=cut: host.forward(cut, some, asked), keep, cost(cut, left), tokens=cut.layout.length
        )
    hidden = torch.randn(masked, text.hidden_size, device=bench.device).to(state.embeds.dtype)
    yield Stage(
        HEAD, lambda: host.model.lm_head(host.decoder.norm(hidden)).float(), flops=head_flops(text, masked),
        tokens=masked,
    )  # fmt: skip
    logits = host.model.lm_head(hidden).float()
    quota = torch.tensor([max(1, masked // run.steps)], device=bench.device)
    yield Stage(SAMPLING, lambda: sample(logits, quota), tokens=masked)


def sample(logits: Tensor, quota: LongTensor) -> Tensor:
    """Tokens, confidences and transfer of one step."""
    tokens = pick_tokens(logits, 0.0, None)
    return transfer_rows(confidence(logits, tokens, "low_confidence")[None], quota)


def cut_state(bench: Bench, run: Run, state: State) -> State:
    """The state behind the cut of a run; itself where nothing is cut."""
    if run.keep == 1:
        return state
    decoding = Decoding(bench.host, state, run.settings, pruner_of(run, bench.host.layers))
    decoding.step()
    return decoding.state


@torch.no_grad()
def measure_before(bench: Bench, run: Run, rounds: int) -> list[dict]:
    """Rows of a large matrix product, by itself, and of what stands before the loop."""
    product, flops = matrix_product(bench.device, bench.scale.dtype, rounds, product_side(bench))
    ceiling = flops / product.median
    rows = in_turn(bench, run, list(before_loop(bench, run)), rounds, ceiling)
    about = {"host": run.host, "image": run.image, "response": run.response, "peak_bytes": None}
    protocol = {name: rows[0][name] for name in ("rounds", "order", "synchronised", "device", "threads")}
    return [about | row(PRODUCT, 1.0, product.seconds, flops, ceiling) | protocol | {"warmup": 3}, *rows]


@torch.no_grad()
def measure_loop(bench: Bench, run: Run, rounds: int, ceiling: float) -> list[dict]:
    """Rows of the stages of the loop; ``ceiling`` is a large matrix product's FLOP/s."""
    return in_turn(bench, run, list(in_loop(bench, run)), rounds, ceiling)


def in_turn(bench: Bench, run: Run, stages: Sequence[Stage], rounds: int, ceiling: float) -> list[dict]:
    """A row for each of the stages, which take turns."""
    peaks: list[int | None] = []
    for stage in stages:  # the warm-up
        reset_peak_memory(bench.device)
        stage.call()
        peaks.append(peak_memory(bench.device) if bench.device != "cpu" else None)
    sides = {
        f"{place} {stage.name}": lambda call=stage.call: timed(call, bench.device)
        for place, stage in enumerate(stages)
    }
    found = compare(sides, rounds, warmup=0, device=bench.device, warmed=1)
    return [
        {"host": run.host, "image": run.image, "response": run.response}
        | row(stage.name, stage.keep, timing.seconds, stage.flops, ceiling)
        | {"peak_bytes": peak, "tokens": stage.tokens}
        | asdict(found.protocol)
        for stage, timing, peak in zip(stages, found.sides.values(), peaks, strict=True)
    ]


def product_side(bench: Bench) -> int | None:
    """A tiny model gets a product to match; else the device's own size."""
    return None if bench.scale.hidden >= 512 else 512


def row(stage: str, keep: float, seconds: tuple[float, ...], flops: int | None, ceiling: float) -> dict:
    """The numbers of one stage."""
    middle = statistics.median(seconds)
    low, high = median_interval(seconds)
    rate = None if flops is None else flops / middle
    return {
        "stage": stage, "keep": keep, "measured": True, "why": "", "seconds": middle, "seconds_low": low,
        "seconds_high": high, "flops": flops, "flops_per_second": rate,
        "of_product": None if rate is None else rate / ceiling,
    }  # fmt: skip
