"""RedVTP Figure 1, by image size: visual tokens, and the prompt's beside them."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from analysis import plots
from analysis.profiles import RunContext
from analysis.results import Result
from redvtp.models.prompts import TOKENS_BEFORE_IMAGE, TOKENS_BEHIND_QUESTION

HOSTS = {"llada_v": ("LLaDA-V", plots.BLUE, "-"), "lavida": ("LaViDa", plots.ORANGE, "--")}
ASPECT_COLORS = (plots.SKY, plots.BLUE, plots.BLACK, plots.RED, plots.ORANGE)
PAPER_RATIOS = (10, 50)  # "roughly 10-50x": secondary text on RedVTP's Figure 1
LARGE = 448 * 448        # pixels; a square of this size is the first to get four tiles


def draw(result: Result, run: RunContext) -> Any:
    """Left: visual tokens over the image's area, by aspect ratio. Right: the listed sizes, and the prompt's range."""
    plots.use_style()
    rows = pd.DataFrame(result.rows)
    figure, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH["page"], 4.4), width_ratios=(1.15, 1))
    draw_sweep(left, rows[rows["use"] == "swept"])
    draw_list(right, rows[rows["use"] == "listed"])
    questions = rows["question_tokens"].dropna()
    note = (
        f"prompt: 53 template tokens and an assumed question of {questions.min():.0f} to {questions.max():.0f} tokens; "
        "the data sets' own sizes are not here"
    )
    plots.add_caption(figure, plots.caption(run, result.provenance, note))
    return figure


def draw_sweep(axes: Any, rows: pd.DataFrame) -> None:
    """Visual tokens over megapixels; a colour for each aspect ratio, a line style for each host."""
    for host, (_, _, line) in HOSTS.items():
        for (_, part), color in zip(rows[rows["host"] == host].groupby("aspect", sort=False), ASPECT_COLORS):
            area = part["width"] * part["height"] / 1e6
            axes.plot(area, part["visual_tokens"], color=color, linestyle=line, linewidth=1.2,
                      drawstyle="steps-mid")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="image area in megapixels", ylabel="visual tokens")
    axes.set(title="Any size", ylim=(150, 10000))
    axes.set_xticks((0.01, 0.1, 1, 10), ("0.01", "0.1", "1", "10"))
    axes.set_yticks((200, 500, 1000, 2000, 4000), ("200", "500", "1000", "2000", "4000"))
    axes.minorticks_off()
    aspects = [Line2D([], [], color=color, label=aspect)
               for aspect, color in zip(rows["aspect"].unique(), ASPECT_COLORS)]  # fmt: skip
    hosts = [Line2D([], [], color=plots.GREY, linestyle=line, label=label) for label, _, line in HOSTS.values()]
    axes.add_artist(axes.legend(handles=hosts, loc="lower right"))
    narrow = {"columnspacing": 1.0, "handlelength": 1.2}
    axes.legend(handles=aspects, title="width : height", title_fontsize=8, loc="upper center", ncols=5, **narrow)


def draw_list(axes: Any, rows: pd.DataFrame) -> None:
    """Bars of both hosts for each listed size, and a band for the prompt."""
    sizes = list(dict.fromkeys(zip(rows["width"], rows["height"])))
    place = np.arange(len(sizes))[::-1]
    for (host, (label, color, _)), shift in zip(HOSTS.items(), (0.2, -0.2)):
        counts = rows[rows["host"] == host].drop_duplicates(["width", "height"])["visual_tokens"]
        hatch = None if host == "llada_v" else "////"
        axes.barh(place + shift, counts, 0.4, color=color, label=f"visual, {label}", hatch=hatch, edgecolor="white",
                  linewidth=0)  # fmt: skip
    low, high = rows["prompt_tokens"].min(), rows["prompt_tokens"].max()
    label = f"prompt, {low:.0f} to {high:.0f}"
    axes.axvspan(low, high, color=plots.BLACK, alpha=0.3, linewidth=0, zorder=3, label=label)
    axes.set(xscale="log", xlim=(30, 6000), xlabel="tokens", title="Stated sizes (width x height)")
    axes.set_yticks(place, [f"{width} x {height}" for width, height in sizes], fontsize=7)
    axes.grid(False, axis="y")
    axes.set_xticks((50, 100, 200, 500, 1000, 3000), ("50", "100", "200", "500", "1000", "3000"))
    axes.minorticks_off()
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.08), ncols=3, columnspacing=1.0, handlelength=1.4)


def table(result: Result) -> pd.DataFrame:
    """A line for each host and listed size, with the ratio at the shortest and the longest question."""
    rows = pd.DataFrame(result.rows)
    rows = rows[rows["use"] == "listed"]
    lines = []
    for (host, width, height), shown in rows.groupby(["host", "width", "height"], sort=False):
        first = shown.iloc[0]
        lines.append(
            {
                "host": HOSTS[host][0],
                "image": f"{width} x {height}",
                "tiles": f"{first['tiles_wide']:.0f} x {first['tiles_high']:.0f}",
                "map": f"{first['map_width']:.0f} x {first['map_height']:.0f}",
                "map used": f"{first['used_width']:.0f} x {first['used_height']:.0f}",
                "thumbnail": int(first["thumbnail"]),
                "newlines": int(first["newlines"]),
                "visual tokens": int(first["visual_tokens"]),
                "prompt tokens": f"{shown['prompt_tokens'].min():.0f} to {shown['prompt_tokens'].max():.0f}",
                "visual : prompt": f"{shown['ratio'].min():.1f} to {shown['ratio'].max():.1f}",
            }
        )
    return pd.DataFrame(lines)


def sentence(result: Result) -> str:
    """What the figure shows, in numbers."""
    rows = pd.DataFrame(result.rows)
    equal = (rows["visual_tokens"] == rows["formula_tokens"]).all()
    listed = rows[rows["use"] == "listed"]
    large = listed[listed["width"] * listed["height"] >= LARGE]
    bare = large["visual_tokens"] / large["question_tokens"]

    def ratios(host: str, shown: pd.DataFrame) -> str:
        values = shown.loc[shown["host"] == host, "ratio"]
        return f"{values.min():.1f} to {values.max():.1f}"

    parts = []
    for host, (label, _, _) in HOSTS.items():
        counts = rows.loc[rows["host"] == host, "visual_tokens"]
        parts.append(
            f"{label} makes {counts.min():.0f} to {counts.max():.0f} visual tokens of an image, "
            f"{ratios(host, listed)} times its prompt over the list ({ratios(host, large)} for images of at least "
            "0.2 megapixels)"
        )
    low, high = PAPER_RATIOS
    inside = large["ratio"].between(low, high).mean()
    return (
        f"{'; '.join(parts)}. The package's layout and the closed form of the official code "
        f"{'agree in all' if equal else 'DO NOT agree in all of the'} {len(rows)} rows. Of a prompt's tokens, "
        f"{TOKENS_BEFORE_IMAGE} are stated by the official code, {TOKENS_BEHIND_QUESTION} are inferred from its "
        "template, and the question's "
        f"{listed['question_tokens'].min():.0f} to {listed['question_tokens'].max():.0f} are assumed. Claim R7 (visual "
        f"tokens outnumber prompt tokens about {low} to {high} times, on InfoVQA) is decided by profile paper alone: "
        f"{inside:.0%} of the list's rows of at least 0.2 megapixels lie in that range, a share that depends on the "
        "list, and if a prompt is taken to be the question alone, their ratios are "
        f"{bare.min():.0f} to {bare.max():.0f}."
    )
