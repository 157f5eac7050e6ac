"""RedVTP Figure 3: kept tokens over the image at r = 50% and 25%, evidence marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from analysis import answers, benchmarks, plots, pruning_maps
from analysis.examples import kept_of, sample_of
from analysis.figures import token_maps
from analysis.profiles import RunContext
from analysis.results import Result
from redvtp.metrics import exact_match
from redvtp.overlay import DIMMED
from redvtp.sequence import Layout


def draw(result: Result, run: RunContext, families: Sequence[str]) -> Any:
    """A row for each sample of the families: the image, then what is left at each ratio (dropped cells dimmed).

    Raises ValueError where there is no sample to show.
    """
    plots.use_style()
    rows = pd.DataFrame(result.rows)
    rows = rows[rows["family"].isin(families)] if len(rows) else rows
    if rows.empty:
        names = " or ".join(families)
        raise ValueError(f"no sample of {names} was answered rightly without pruning, so there is none to show")
    host = answers.model(run.profile.models[0])
    shown = [part for _, part in rows.groupby(["family", "case", "index"], sort=False)]
    samples = [sample_of(part.iloc[0]) for part in shown]
    ratios = sorted(rows["keep"].unique(), reverse=True)
    heights = [min(0.9, max(0.35, sample.image.height / sample.image.width)) for sample in samples]
    figure, axes = plt.subplots(
        len(samples), len(ratios), squeeze=False, gridspec_kw={"height_ratios": heights},
        figsize=(plots.WIDTH["page"], 2.0 * sum(heights) + 0.6 * len(samples) + 0.4),
    )  # fmt: skip
    for line, sample, part in zip(axes, samples, shown):
        layout = token_maps.layout_of(host, sample.image)
        for axis, ratio in zip(line, ratios):
            _draw_kept(axis, sample, layout, part[part["keep"] == ratio].iloc[0])
    note = "box: evidence; dimmed: dropped tile tokens; recall: share of the evidence still covered"
    plots.add_caption(figure, plots.caption(run, result.provenance, note))
    return figure


def _draw_kept(axis: Any, sample: benchmarks.Sample, layout: Layout, row: pd.Series) -> None:
    pixels = np.asarray(sample.image).astype(float) / 255
    if row["keep"] < 1:
        there = token_maps.kept_cells(layout, kept_of(row), sample.image.size)
        pixels = np.where(there[..., None], pixels, 0.5 + (pixels - 0.5) * DIMMED)
    axis.imshow(pixels, interpolation="nearest", extent=(0, sample.image.width, sample.image.height, 0))
    token_maps.outline(axis, sample.evidence)
    right = exact_match(row["prediction"], sample.answer)
    said = row["prediction"] if len(row["prediction"]) <= 16 else row["prediction"][:15] + "…"
    head = f"r = {row['keep']:.0%}, recall {row['evidence_recall']:.2f}"
    if row["keep"] == 1:
        head = f"{sample.family} {sample.index}, {row['case']}\n" + sample.question.partition("\n")[0]
    axis.set_title(f"{head}\n{'✓' if right else '✗'} {said}", fontsize=8, color=plots.BLACK if right else plots.RED)
    axis.set(xticks=[], yticks=[])
    axis.grid(False)


def table(result: Result) -> pd.DataFrame:
    """Answers and evidence recall of the samples shown."""
    return pd.DataFrame(result.rows)[
        ["family", "index", "case", "question", "answer", "keep", "prediction", "evidence_recall", "visual_tokens"]
    ]


def sentence(result: Result) -> str:
    """What the figure shows, in numbers."""
    rows = pd.DataFrame(result.rows)
    pruned = rows[rows["keep"] < 1]
    means = (
        pruned[pruned["family"].isin(pruning_maps.OF_EACH)]
        .groupby(["case", "keep"], sort=False)["evidence_recall"]
        .agg(["mean", "size"])
    )
    parts = [
        f"{case} at 25%: {means.loc[(case, 0.5), 'mean']:.2f} of the evidence covered at 50% and "
        f"{means.loc[(case, 0.25), 'mean']:.2f} at 25% (n = {int(means.loc[(case, 0.25), 'size'])})"
        for case in dict.fromkeys(case for case, _ in means.index)
    ]
    firsts = pruned[pruned["family"].isin(pruning_maps.FIRST) & (pruned["keep"] == 0.25)]
    parts += [f"{row['family']}, {row['case']}: {row['evidence_recall']:.2f} at 25%" for _, row in firsts.iterrows()]
    families = " and ".join(pruning_maps.OF_EACH)
    return f"Samples chosen by the rule, mini model; of {families}, " + "; ".join(parts) + "."
