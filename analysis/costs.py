"""What the `paper` profile will cost: GPU memory and hours for each benchmark. `python -m analysis.costs`.

An ESTIMATE, not a measurement: FLOPs of the true 8B shapes, counted exactly at a stated image size, over the FLOPs a
second that a GPU is assumed to reach. Time spent elsewhere (reading images, cutting tiles, scoring answers) comes on
top. Numbers of samples are those of the benchmarks' splits; sizes of images are assumed, one for each benchmark.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from analysis import paths
from analysis.flop_pieces import Formula
from analysis.token_counts import PACKINGS, geometry
from redvtp.models.prompts import prompt_tokens
from redvtp.models.published import true_config
from redvtp.plans import Task, forwards, planned, stages
from redvtp.pruning import Pruner, RedVTP

PEAK = 312e12
"""Dense 16-bit FLOPs a second of an A100, by its data sheet."""

UTILISATION = 0.35
"""Share of the peak that is assumed to be reached at batch 1."""

QUESTION = 27
"""Assumed tokens of a question, as in analysis.compute."""

METHODS: dict[str, Pruner | None] = {"unpruned": None, "RedVTP 50%": RedVTP(keep=0.5), "RedVTP 25%": RedVTP(keep=0.25)}


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's samples, an assumed image size, and its protocol (official_code §3.3)."""

    samples: int
    size: tuple[int, int]
    response: int
    steps: int


BENCHMARKS = {
    "docvqa": Benchmark(5349, (1700, 2200), 32, 16),
    "infovqa": Benchmark(2801, (1000, 2500), 32, 16),
    "chartqa": Benchmark(2500, (850, 600), 16, 16),
    "ai2d": Benchmark(3088, (600, 450), 2, 2),
    "mme": Benchmark(2374, (1024, 768), 2, 2),
    "mmbench": Benchmark(4329, (512, 384), 2, 2),
    "realworldqa": Benchmark(765, (1920, 1080), 2, 2),
}


def answer_flops(host: str, benchmark: Benchmark, pruner: Pruner | None) -> int:
    """One answer of this package: vision, then all steps."""
    config, shape = true_config(host), geometry(host, *benchmark.size)
    task = Task(shape.tokens, prompt_tokens(QUESTION), benchmark.response, benchmark.steps)
    layers = config.text_config.num_hidden_layers
    made = forwards(task, planned(pruner, task.steps, layers), layers)
    parts = Formula(config)
    return parts.tower(shape.crops) + parts.projector(shape.crops) + stages(parts, task, made).total


def memory_bytes(host: str, benchmark: Benchmark) -> int:
    """16-bit weights, and the larger of what the tower and a decoder layer hold at once; logits of the response."""
    config, shape = true_config(host), geometry(host, *benchmark.size)
    text, vision = config.text_config, config.vision_config
    per_layer = 4 * text.hidden_size**2 + 3 * text.hidden_size * text.intermediate_size
    weights = text.num_hidden_layers * per_layer + 2 * text.vocab_size * text.hidden_size
    tower = vision.num_hidden_layers * (4 * vision.hidden_size**2 + 2 * vision.hidden_size * vision.intermediate_size)
    columns = shape.tokens + prompt_tokens(QUESTION) + benchmark.response
    decoder = columns * (3 * text.intermediate_size + 6 * text.hidden_size)
    crops = shape.crops * (vision.image_size // vision.patch_size) ** 2
    seeing = crops * (2 * vision.intermediate_size + 6 * vision.hidden_size)
    # Logits in 16 bits and fp32, and their softmax in fp64.
    head = benchmark.response * text.vocab_size * (2 + 4 + 8)
    return 2 * (weights + tower + max(decoder, seeing)) + head


def table(peak: float, utilisation: float) -> str:
    """The estimate as Markdown, a row for each model and benchmark, sums below."""
    heads = ["model", "benchmark", "samples", "image (assumed)", "visual tokens", "GPU memory"]
    lines = ["| " + " | ".join(heads + [f"{name}, h" for name in METHODS]) + " |"]
    lines.append("|" + " --- |" * (len(heads) + len(METHODS)))
    for host in PACKINGS:
        sums = dict.fromkeys(METHODS, 0.0)
        for name, one in BENCHMARKS.items():
            hours = {
                method: one.samples * answer_flops(host, one, pruner) / (peak * utilisation) / 3600
                for method, pruner in METHODS.items()
            }
            sums = {method: sums[method] + hours[method] for method in METHODS}
            cells = [host, name, str(one.samples), "{}x{}".format(*one.size)]
            cells += [str(geometry(host, *one.size).tokens), f"{memory_bytes(host, one) / 1e9:.0f} GB"]
            lines.append("| " + " | ".join(cells + [f"{hours[method]:.1f}" for method in METHODS]) + " |")
        cells = [host, "all of these", str(sum(one.samples for one in BENCHMARKS.values())), "", "", ""]
        lines.append("| " + " | ".join(cells + [f"{sums[method]:.1f}" for method in METHODS]) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and what it stands on."""
    parser = argparse.ArgumentParser(prog="python -m analysis.costs", description=__doc__.splitlines()[0])
    parser.add_argument("--peak-tflops", type=float, default=PEAK / 1e12, metavar="N", help="of the GPU, 16-bit, dense")
    parser.add_argument("--utilisation", type=float, default=UTILISATION, metavar="SHARE", help="of that, reached")
    given = parser.parse_args(argv)
    if not given.peak_tflops > 0 or not 0 < given.utilisation <= 1:
        parser.error("expected a peak above 0 and a share in (0, 1]")
    print(table(given.peak_tflops * 1e12, given.utilisation))
    print(
        f"\nEstimate, nothing measured: exact FLOPs over {given.utilisation:.0%} of {given.peak_tflops:g} TFLOPs a "
        "second, one GPU; images of one assumed size."
    )
    measured = sorted((paths.RESULTS / "speed").glob("*.json"))
    if measured:
        print(f"Measured speeds, which stand above this: {', '.join(paths.shown(path) for path in measured)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
