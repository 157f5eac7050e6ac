"""The benchmarks as a reader meets them: samples of every family, and how far a shortcut gets beside the model."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.patches import Rectangle

from analysis import answers, benchmarks, plots
from analysis.benchmarks import Sample
from analysis.figures import rates
from analysis.profiles import RunContext
from analysis.results import Result

ACROSS, DOWN = 4, 3  # samples of a family: in its row of the overview, rows on its own page
LOOK_AT = 24  # test samples that these are chosen from
LETTERS = 30  # in a line of text below a sample
GUESSES = ("blank", "unasked", "majority_kind")
LOOKS = {
    "full": ("model, image and question", plots.BLUE, "o"),
    "blank": ("question, blank image", plots.BLACK, "s"),
    "unasked": ("image, no question", plots.ORANGE, "D"),
    "majority_kind": ("commonest training answer of the kind", plots.GREEN, "^"),
}


def chosen(family: str, seed: int, count: int = ACROSS) -> list[Sample]:
    """The first test sample of every kind of question, then those that follow."""
    samples = benchmarks.get(family).samples(answers.SPLIT, LOOK_AT, seed)
    first = {sample.kind: sample.index for sample in reversed(samples)}
    return sorted(samples, key=lambda sample: (sample.index != first[sample.kind], sample.index))[:count]


def draw_samples(run: RunContext) -> Any:
    """A row of samples for each family: image with the evidence outlined, question, answer."""
    plots.use_style()
    families = run.profile.families
    samples = {family: chosen(family, run.seeds[0]) for family in families}
    tall = [max(sample.image.height / sample.image.width for sample in row) for row in samples.values()]
    heights = [min(1.25, max(0.85, ratio)) for ratio in tall]
    figure, axes = plt.subplots(
        len(families), ACROSS, squeeze=False, gridspec_kw={"height_ratios": heights},
        figsize=(plots.WIDTH["page"], sum(0.76 * height + 0.44 for height in heights)),
    )  # fmt: skip
    for line, (family, row) in zip(axes, samples.items()):
        benchmark = benchmarks.get(family)
        for axis, sample in zip(line, row):
            _draw_sample(axis, sample)
        protocol = benchmark.protocol
        line[0].set_ylabel(
            f"{family}\nas {benchmark.mirrors}\n{protocol.length} tokens, {protocol.steps} steps\n"
            f"{benchmark.metric.replace('_', ' ')}",
            fontsize=7, rotation=0, ha="right", va="center", labelpad=6,
        )  # fmt: skip
    text = "Test samples: the first of every kind of question, then those that follow; boxes: evidence. "
    plots.add_caption(figure, text + "Beside them: family, public benchmark that it mirrors, protocol, metric")
    return figure


def draw_page(family: str, run: RunContext) -> Any:
    """A page of one family's samples: image with the evidence outlined, question, answer."""
    plots.use_style()
    samples = chosen(family, run.seeds[0], ACROSS * DOWN)
    tall = max(sample.image.height / sample.image.width for sample in samples)
    figure, axes = plt.subplots(
        DOWN, ACROSS, figsize=(plots.WIDTH["page"], DOWN * (0.9 * min(1.5, max(0.9, tall)) + 0.6))
    )
    for axis, sample in zip(axes.flat, samples):
        _draw_sample(axis, sample)
    benchmark = benchmarks.get(family)
    protocol = benchmark.protocol
    text = f"{family}, in the manner of {benchmark.mirrors}: {protocol.length} tokens in {protocol.steps} steps"
    plots.add_caption(figure, f"{text}, {benchmark.metric.replace('_', ' ')}. Test samples; boxes: evidence")
    return figure


def _draw_sample(axis: Any, sample: Sample) -> None:
    image = sample.image
    axis.imshow(image, interpolation="nearest", extent=(0, image.width, image.height, 0))
    for x0, y0, x1, y1 in sample.evidence:
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=plots.ORANGE, linewidth=1.2))
    stem, *options = sample.question.split("\n")
    whole = "  ".join(option.replace(" ", "\N{NO-BREAK SPACE}") for option in options)
    lines = [*textwrap.wrap(stem, LETTERS), *textwrap.wrap(whole, LETTERS), f"→ {sample.answer}"]
    axis.set_xlabel("\n".join(lines), fontsize=6, labelpad=2)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.grid(False)


def frame(result: Result) -> pd.DataFrame:
    """A row for each model, family and shortcut; several seeds are pooled."""
    return rates.pooled(pd.DataFrame(result.rows), ("model", "family", "shortcut"))


def models(rows: pd.DataFrame) -> list[str]:
    """The models; the commonest answers have none."""
    return list(rows["model"].dropna().unique())


def shortcut(rows: pd.DataFrame, model: str, family: str, name: str) -> pd.Series:
    """The row of a shortcut, those that no model takes included."""
    shown = rows[rows["model"].isna() | (rows["model"] == model)]
    return rates.row_of(shown, family=family, shortcut=name)


def draw(result: Result, run: RunContext) -> Any:
    """A panel a model: exact match of the model and of every shortcut with 95% intervals, by family."""
    plots.use_style()
    rows = frame(result)
    families = list(rows["family"].unique())
    figure, axes = plt.subplots(
        1, len(models(rows)), figsize=(plots.WIDTH["page"], 0.42 * len(families) + 1.0), sharey=True, squeeze=False
    )
    for axis, model in zip(axes.flat, models(rows)):
        for place, (name, (label, color, marker)) in enumerate(LOOKS.items()):
            part = pd.DataFrame([shortcut(rows, model, family, name) for family in families])
            heights = [line + 0.17 * (place - 1.5) for line in range(len(families))]
            axis.errorbar(part["exact_match"], heights, xerr=rates.bars(part, "exact_match"), color=color,
                          marker=marker, markersize=4, linestyle="", elinewidth=0.8, capsize=1.5, label=label)
        chance = [shortcut(rows, model, family, "full")["chance"] for family in families]
        axis.vlines(chance, [line - 0.4 for line in range(len(families))],
                    [line + 0.4 for line in range(len(families))], color=plots.BLACK, linewidth=0.8,
                    linestyle=(0, (1, 2)), label="chance")  # fmt: skip
        axis.set(title=model, xlabel="exact match", xlim=(-0.03, 1.03), yticks=range(len(families)),
                 yticklabels=families)
    axes[0, 0].invert_yaxis()  # shared by all
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=7.5)
    plots.add_caption(figure, plots.caption(run, result.provenance, "bars: 95% Wilson intervals"))
    return figure


def table(result: Result) -> pd.DataFrame:
    """The rows with their family's protocol; the last column begins the data's sha256."""
    rows = pd.DataFrame(result.rows)
    family = {name: benchmarks.get(name) for name in rows["family"].unique()}
    rows["mirrors"] = [family[name].mirrors for name in rows["family"]]
    protocols = [family[name].protocol for name in rows["family"]]
    rows["tokens"], rows["steps"] = [p.length for p in protocols], [p.steps for p in protocols]
    rows["data"] = rows["data"].str[:12]
    return rows[
        ["family", "mirrors", "tokens", "steps", "seed", "model", "shortcut", "n", "exact_match", "exact_match_low",
         "exact_match_high", "chance", "data"]
    ]  # fmt: skip


def sentence(result: Result) -> str:
    """The families in which a shortcut comes near a model, or a blank image above chance; for every model."""
    rows = frame(result)
    parts = [f"{model}: {_verdict(rows, model, list(rows['family'].unique()))}" for model in models(rows)]
    return "Exact match of the mini models. " + " ".join(parts)


def _verdict(rows: pd.DataFrame, model: str, families: Sequence[str]) -> str:
    near, leaky = [], []
    for family in families:
        full, blank = (shortcut(rows, model, family, name) for name in ("full", "blank"))
        best = max((shortcut(rows, model, family, name) for name in GUESSES), key=lambda guess: guess["exact_match"])
        if not rates.above(full, best):
            said = f"{LOOKS[best['shortcut']][0]}: {best['exact_match']:.0%} against {full['exact_match']:.0%}"
            near.append(f"{family} ({said})")
        if blank["exact_match_low"] > blank["chance"]:
            leaky.append(f"{family} ({blank['exact_match']:.0%} against {blank['chance']:.0%})")
    first = f"a shortcut comes within the intervals of the model in {rates.listed(near)}; "
    return first + f"a blank image is above chance in {rates.listed(leaky)}."
