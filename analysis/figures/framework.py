"""RedVTP Figure 2, from one real run: step 1's attention, scores, kept tokens, and the shorter steps to scale."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.colors import ListedColormap

from analysis import answers, plots
from analysis.benchmarks import Sample
from analysis.examples import sample_of
from analysis.figures import token_maps
from analysis.framework import KEEP, LEVELS
from analysis.profiles import RunContext
from analysis.results import Result
from analysis.trace import shown
from redvtp.metrics import exact_match
from redvtp.sequence import Layout, count_kinds

SEGMENTS = {
    "thumbnail": ("thumbnail", plots.BLUE),
    "tiles": ("tiles", plots.SKY),
    "newlines": ("newlines", plots.GREEN),
    "prompt": ("prompt", plots.ORANGE),
    "response": ("response", plots.PINK),
}
NOW, EARLIER, MASKED = plots.ORANGE, "#F6DDA8", "#EEEEEE"


def part(result: Result, name: str) -> pd.DataFrame:
    """Rows of one part, in order."""
    rows = pd.DataFrame([row for row in result.rows if row["part"] == name])
    return rows.sort_values("place").reset_index(drop=True)


def draw(result: Result, run: RunContext) -> Any:
    """Above: the image, scores and kept tokens. Middle: attention and sorted scores. Below: every step to scale."""
    plots.use_style()
    sample, tokens = sample_of(result.rows[0]), part(result, "token")
    layout = token_maps.layout_of(answers.model(run.profile.models[0]), sample.image)
    count = len(part(result, "step"))
    heights = (3.2 if wide(sample) else 2.3, 2.2, 0.8 + 0.26 * count)
    figure = plt.figure(figsize=(plots.WIDTH["page"], sum(heights) + 0.3))
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=heights)
    _draw_maps(top, sample, layout, tokens)
    _draw_attention(middle, result, layout, tokens)
    _draw_steps(bottom, result, layout, tokens)
    note = (
        f"model {result.rows[0]['model']}, {sample.family} test sample {sample.index}: the first that is answered "
        f"rightly without pruning; r = {KEEP:.0%}; ∎: end of the turn, which ends the run"
    )
    plots.add_caption(figure, plots.caption(run, result.provenance | {"n": 1}, note))
    return figure


def wide(sample: Sample) -> bool:
    """Whether two images beside each other fill the page better than four."""
    return sample.image.width > sample.image.height


def _draw_maps(figure: Any, sample: Sample, layout: Layout, tokens: pd.DataFrame) -> None:
    scores, size = torch.tensor(tokens["score"].to_numpy(dtype=float)), sample.image.size
    kept = set(tokens.index[tokens["kept"].astype(bool)])
    counts, stay = count_kinds(layout), count_kinds(layout, kept)
    axes = figure.subplots(2, 2).flat if wide(sample) else figure.subplots(1, 4)
    asked = sample.question.partition("\n")[0]
    token_maps.draw_image(axes[0], sample.image, sample.evidence)
    axes[0].set_title(f"a  image, evidence outlined: {asked}", fontsize=8)
    top = float(scores.max())
    for axis, thumbnail, name, letter in ((axes[1], True, "thumbnail", "b"), (axes[2], False, "tiles", "c")):
        values = token_maps.cell_values(layout, scores, size, thumbnail)
        heat = token_maps.draw_scores(axis, sample.image, values, top)
        axis.set_title(f"{letter}  scores of the {counts[name]} {name.removesuffix('s')} tokens", fontsize=8)
    figure.colorbar(heat, ax=list(axes), shrink=0.7, pad=0.01, aspect=30).ax.tick_params(labelsize=6)
    token_maps.draw_kept(axes[3], sample.image, token_maps.kept_cells(layout, kept, size), sample.evidence)
    axes[3].set_title(f"d  r = {KEEP:.0%}: {stay['tiles']} of {counts['tiles']} tile tokens stay", fontsize=8)


def _draw_attention(figure: Any, result: Result, layout: Layout, tokens: pd.DataFrame) -> None:
    rows = part(result, "row")
    left, right = figure.subplots(1, 2, width_ratios=(2.1, 1))
    matrix = np.array([list(map(int, levels.split())) for levels in rows["levels"]]) / LEVELS
    masked = rows["masked"].astype(bool).to_numpy()
    left.imshow(np.sqrt(matrix), aspect="auto", cmap=token_maps.HEAT, interpolation="nearest")
    for place in np.flatnonzero(~masked):
        left.axhspan(place - 0.5, place + 0.5, color="white", alpha=0.6, linewidth=0)
        left.annotate("committed", (1.005, place), xycoords=left.get_yaxis_transform(), fontsize=6, va="center",
                      color=plots.RED)  # fmt: skip
    edges = np.cumsum(list(count_kinds(layout).values()))[:1]
    for edge in edges:
        left.axvline(edge - 0.5, color="white", linewidth=1)
    left.set_title("e  attention in step 1, mean over heads and layers (square root)", fontsize=8)
    left.set(xlabel="visual token: thumbnail | tiles with newlines", ylabel="response token")
    left.grid(False)
    order = tokens["score"].astype(float).to_numpy().argsort()[::-1]
    values, kept = tokens["score"].to_numpy(dtype=float)[order], tokens["kept"].to_numpy(dtype=bool)[order]
    place = np.arange(len(values))
    for flag, colour, name in ((True, plots.BLUE, "kept"), (False, plots.GREY, "dropped")):
        right.bar(place[kept == flag], values[kept == flag], width=1.0, color=colour,
                  label=f"{(kept == flag).sum()} {name}")  # fmt: skip
    right.set_title(f"f  mean of the {int(masked.sum())} masked rows", fontsize=8)
    right.set(xlabel="visual tokens by score", ylabel="score")
    right.legend()


def _draw_steps(figure: Any, result: Result, layout: Layout, tokens: pd.DataFrame) -> None:
    steps, commits = part(result, "step"), part(result, "commit")
    kept = set(tokens.index[tokens["kept"].astype(bool)])
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.5), sharey=True)
    whole, short = count_kinds(layout), count_kinds(layout, kept)
    for height, step in steps.iterrows():
        visual = whole if step["visual"] == sum(whole.values()) else short
        lengths = visual | {"prompt": step["prompt"], "response": step["response"]}
        start = 0.0
        for name, (label, colour) in SEGMENTS.items():
            left.barh(height, lengths[name], 0.7, left=start, color=colour, edgecolor="white", linewidth=0.4,
                      label=label if not height else None)  # fmt: skip
            start += lengths[name]
        left.text(start + 6, height, f"{step['fed']:.0f}", fontsize=6.5, va="center")
    longest = float(steps["fed"].max())
    left.set(xlim=(0, 1.13 * longest), ylim=(len(steps) - 0.4, -0.6), xlabel="tokens fed, to scale")
    left.set_yticks(range(len(steps)), [f"step {k}" for k in steps["place"]])
    left.grid(False, axis="y")
    left.set_title(f"g  visual tokens: {sum(whole.values())} in step 1, then {len(kept)}", fontsize=8)
    left.legend(fontsize=6.5, loc="lower right", handlelength=1.0, labelspacing=0.3)
    places = int(steps["response"].iloc[0])
    state = np.zeros((len(steps), places))  # masked
    for height, k in enumerate(steps["place"]):
        there = commits[commits["step"] <= k]
        state[height, there["place"]] = np.where(there["step"] == k, 2, 1)
        for place, text in zip(there["place"], there["text"]):
            # Left out of the layout, which would measure each of these hundreds of letters.
            right.text(place, height, shown(text), ha="center", va="center", fontsize=6.5).set_in_layout(False)
    right.pcolormesh(np.arange(places + 1) - 0.5, np.arange(len(steps) + 1) - 0.5, state, vmin=0, vmax=2,
                     cmap=ListedColormap((MASKED, EARLIER, NOW)), edgecolor="white", linewidth=1.2)  # fmt: skip
    first = commits.iloc[0]
    right.set(xlim=(-0.7, places - 0.3), xticks=range(0, places, 4), xlabel="place in the response")
    right.set_title(f"h  committed (orange: in this step); {first['prediction']} for {first['answer']}", fontsize=8)
    right.tick_params(axis="y", left=False)
    right.grid(False)


def table(result: Result) -> pd.DataFrame:
    """Every step: tokens fed by kind, and what was committed."""
    steps, commits = part(result, "step"), part(result, "commit")
    said = {
        k: " ".join(f"{row['place']}:{shown(row['text'])}" for _, row in rows.iterrows())
        for k, rows in commits.groupby("step")
    }
    steps["tokens"] = [said.get(k, "") for k in steps["place"]]
    columns = ["step", "visual", "prompt", "response", "fed", "committed", "tokens"]
    return steps.rename(columns={"place": "step"})[columns]


def sentence(result: Result) -> str:
    """What the figure shows, in numbers."""
    tokens, steps, commits = (part(result, name) for name in ("token", "step", "commit"))
    score, kept = tokens["score"].astype(float), tokens["kept"].astype(bool)
    last, whole = commits.iloc[0], steps["fed"].iloc[0] * len(steps)
    said, expected = last["prediction"], last["answer"]
    gave = "the right answer" if exact_match(said, expected) else f"{said!r}, not {expected!r}"
    masked = int(part(result, "row")["masked"].sum())
    return (
        f"On {last['model']}, {last['family']} sample {last['index']} (n = 1, chosen by the rule), {len(tokens)} "
        f"visual tokens were scored by {masked} rows still masked after step 1; the {kept.sum()} kept hold "
        f"{score[kept].sum() / score.sum():.0%} of the scores' sum and {last['evidence_recall']:.0%} of the evidence's "
        f"area. From step 2 on {steps['fed'].iloc[-1]:.0f} tokens were fed instead of {steps['fed'].iloc[0]:.0f}, over "
        f"its {len(steps)} steps {steps['fed'].sum() / whole:.0%} of the unpruned sequence's; it gave {gave}."
    )
