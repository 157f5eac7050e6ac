"""Figures of the speed harness: latency against the FLOPs bound, stages, memory, batches, break-even."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from analysis import plots
from analysis.figures import speed_rows as rows_of
from analysis.figures.speed_rows import HOSTS, MARKERS, PLAIN, RATIOS, caption, frame, one, pick, pruning
from analysis.profiles import RunContext
from analysis.results import Result
from analysis.speed import stages as names
from analysis.speed.cases import SETTINGS

MAIN = (32, 16)
PRUNED = tuple(keep for keep in RATIOS if keep < 1)
PARTS = {
    "processing": ("image processing", plots.YELLOW, ""),
    "vision": ("tower and projector", plots.GREEN, ""),
    "first_seconds": ("step 1", plots.BLUE, ""),
    "later_seconds": ("later steps", plots.SKY, "////"),
}
SCORING = {names.FIRST: "plain", names.PROBED: "probe", names.MAPPED: "maps"}


def latency(found: Result, run: RunContext) -> Any:
    """What pruning cuts from the loop's time by setting and ratio, beside what the FLOPs allow; a panel a host."""
    plots.use_style()
    rows = frame(found)
    figure, panels = plt.subplots(1, 2, figsize=(plots.WIDTH["page"], 3.4), sharey=True)
    for axes, (host, label) in zip(panels, HOSTS.items()):
        where = PLAIN | {"host": host, "batch": 1, "image": rows_of.main_image(rows)}
        known = False
        for place, (response, steps) in enumerate(SETTINGS):
            points = [one(rows, **where, response=response, steps=steps, **pruning(keep)) for keep in PRUNED]
            if all(row is None for row in points):
                rows_of.not_measured(axes, place)
                continue
            known = True
            for shift, keep, row in zip((-0.27, -0.09, 0.09, 0.27), PRUNED, points):
                if row is None:
                    rows_of.not_measured(axes, place + shift)
                else:
                    draw_cut(axes, place + shift, row, keep)
        axes.axhline(0, color=plots.BLACK, linewidth=0.7)
        axes.set_xticks(range(len(SETTINGS)), [f"{a}/{b}" for a, b in SETTINGS])
        axes.set(title=label if known else f"{label}: not measured", xlabel="response tokens / denoising steps")
        axes.set_xlim(-0.5, len(SETTINGS) - 0.5)
    panels[0].set_ylabel("time of the loop saved, %")
    handles = [Line2D([], [], color=RATIOS[keep], marker=MARKERS[keep], linestyle="", label=f"r = {keep:.0%}")
               for keep in PRUNED]  # fmt: skip
    handles.append(Line2D([], [], color=plots.GREY, marker="_", linestyle="", markersize=9, label="FLOPs allow"))
    figure.legend(handles=handles, loc="outside upper center", ncols=5)
    plots.add_caption(figure, caption(run, found, "against the same loop unpruned; bars: FLOPs bound, scoring counted"))
    return figure


def draw_cut(axes: Any, place: float, row: pd.Series, keep: float) -> None:
    """A point with its interval and the bound as a bar."""
    middle, low, high = (100 * (1 - 1 / row[f"decoding_speedup{end}"]) for end in ("", "_low", "_high"))
    axes.errorbar([place], [middle], yerr=[[max(0, middle - low)], [max(0, high - middle)]], color=RATIOS[keep],
                  marker=MARKERS[keep], markersize=4, elinewidth=0.9, capsize=1.5)  # fmt: skip
    axes.plot([place], [row["decoding_bound_cut"]], marker="_", markersize=9, color=plots.GREY)


def breakdown(found: Result, stages: Result, run: RunContext) -> Any:
    """Left: an answer's seconds by stage and ratio. Right: step 1's forward plain, probed, with maps: time, memory."""
    plots.use_style()
    rows, parts = frame(found), frame(stages)
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(plots.WIDTH["page"], 3.3), width_ratios=(1.7, 1, 1)
    )
    draw_answers(left, rows, parts)
    for axes, value, scale, label in ((middle, "seconds", 1e3, "ms"), (right, "peak_bytes", 1e-9, "GB at most")):
        draw_scoring(axes, parts, value, scale, label)
    middle.set_title("step 1: time")
    right.set_title("step 1: memory")
    note = (
        f"{MAIN[0]} tokens in {MAIN[1]} steps; step 1's forward plain, scored by the probe, and with attention maps "
        "written out; a CPU process has one peak of memory, so that its stages have none"
    )
    plots.add_caption(figure, caption(run, found, note))
    return figure


def draw_answers(axes: Any, rows: pd.DataFrame, parts: pd.DataFrame) -> None:
    """Stacked bars, a bar for each host and ratio."""
    place, ticks, labels, named = 0.0, [], [], set()
    for host, host_label in HOSTS.items():
        once = {
            "processing": one(parts, host=host, stage=names.PROCESSING),
            "vision": one(parts, host=host, stage=names.VISION),
        }
        for keep in RATIOS:
            where = PLAIN | {"host": host, "batch": 1, "response": MAIN[0], "steps": MAIN[1]}
            row = one(rows, **where, image=rows_of.main_image(rows), **pruning(keep))
            start = 0.0
            for part, (label, color, hatch) in PARTS.items():
                known = once[part] if part in once else row
                if row is None or known is None:
                    continue
                width = known["seconds"] if part in once else row[part]
                axes.barh(place, width, 0.75, left=start, color=color, hatch=hatch, edgecolor="white", linewidth=0,
                          label=None if label in named else label)  # fmt: skip
                named.add(label)
                start += width
            if row is None:
                axes.text(0, place, " not measured", fontsize=7, color=plots.GREY, va="center")
            ticks.append(place)
            labels.append(f"{host_label}, {keep:.0%}")
            place -= 1
        place -= 0.5
    axes.set_yticks(ticks, labels, fontsize=7)
    axes.set(xlabel="seconds an answer", title="Where the time goes")
    axes.grid(False, axis="y")
    if named:
        axes.legend(fontsize=6.5, loc="lower right")


def draw_scoring(axes: Any, parts: pd.DataFrame, value: str, scale: float, label: str) -> None:
    """Bars of step 1's forward by how it is scored, a colour a host."""
    known = False
    axes.set_ylabel(label)
    if parts.get(value) is None or parts[value][parts["stage"].isin(SCORING)].isna().all():
        rows_of.empty(axes)
        return
    for shift, (host, color) in zip((-0.2, 0.2), zip(HOSTS, (plots.BLUE, plots.ORANGE))):
        for place, stage in enumerate(SCORING):
            row = one(parts, host=host, stage=stage)
            if row is None or row[value] is None or row[value] != row[value]:
                rows_of.not_measured(axes, place + shift)
                continue
            axes.bar(place + shift, scale * row[value], 0.38, color=color, label=None if place else HOSTS[host])
            known = True
    axes.set_xticks(range(len(SCORING)), list(SCORING.values()))
    if known:
        axes.legend(fontsize=6.5)
        axes.margins(y=0.25)
    axes.set_xlim(-0.6, len(SCORING) - 0.4)


def memory(found: Result, stages: Result, run: RunContext) -> Any:
    """Peak memory by tokens of step 1: ours, with maps written out, and the official procedure."""
    plots.use_style()
    rows = frame(found)
    figure, panels = plt.subplots(1, 2, figsize=(plots.WIDTH["page"], 3.0))
    sides = {
        "no pruning": ({"method": "none", "attention": "none"}, plots.BLACK, "D"),
        "RedVTP, probe": ({"method": "redvtp", "attention": "probe"}, plots.BLUE, "o"),
        "RedVTP, maps written": ({"method": "redvtp", "attention": "maps"}, plots.ORANGE, "s"),
        "official procedure": ({"method": "official", "attention": "maps"}, plots.RED, "^"),
    }
    for axes, (host, label) in zip(panels, HOSTS.items()):
        known = pick(rows, host=host, batch=1, **PLAIN)
        known = known[known["measured"].astype(bool) & known["peak_bytes"].notna()]
        for name, (where, color, marker) in sides.items():
            part = pick(known, **where)
            tokens = part["visual_tokens"] + part["prompt_tokens"] + part["response"]
            axes.scatter(tokens, part["peak_bytes"] / 1e9, color=color, marker=marker, s=18, label=name)
        if known.empty:
            rows_of.empty(axes)
        else:
            axes.axhline(known["weights_bytes"].iloc[0] / 1e9, color=plots.GREY, linewidth=0.8, linestyle=":")
        axes.set(title=label, xlabel="tokens in step 1", ylabel="peak memory, GB")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    note = "dotted: weights; on a CPU the peak of a whole process, interpreter included, of few runs"
    plots.add_caption(figure, caption(run, found, note))
    return figure


def batches(found: Result, run: RunContext) -> Any:
    """Response tokens a second of the loop by batch and ratio; a panel a host."""
    plots.use_style()
    rows = frame(found)
    sizes = [1, *sorted(set(rows["batch"]) - {1})]
    figure, panels = plt.subplots(1, 2, figsize=(plots.WIDTH["page"], 3.0))
    for axes, (host, label) in zip(panels, HOSTS.items()):
        known = False
        for keep in (1.0, 0.5, 0.25):
            where = PLAIN | {"host": host, "image": rows_of.main_image(rows), "response": MAIN[0], "steps": MAIN[1]}
            points = [(place, one(rows, **where, batch=size, **pruning(keep))) for place, size in enumerate(sizes)]
            there = [(place, row["decoding_tokens_per_second"]) for place, row in points if row is not None]
            known |= bool(there)
            axes.plot(*(zip(*there) if there else ((), ())), color=RATIOS[keep], marker=MARKERS[keep],
                      label="no pruning" if keep == 1 else f"r = {keep:.0%}")  # fmt: skip
            for place in {place for place, row in points if row is None} if keep == 1 else ():
                rows_of.not_measured(axes, place)
        axes.set_xticks(range(len(sizes)), sizes)
        axes.set(title=label, xlabel="batch", ylabel="response tokens a second", xlim=(-0.5, len(sizes) - 0.5))
        axes.set_ylim(bottom=0)
        if not known:
            rows_of.empty(axes)
    panels[0].legend()
    note = f"{MAIN[0]} tokens in {MAIN[1]} steps, the denoising loop alone"
    plots.add_caption(figure, caption(run, found, note))
    return figure


def break_even(found: Result, run: RunContext) -> Any:
    """Speed-up of the loop over the number of steps, from the measured first and later steps; 1 is break-even."""
    plots.use_style()
    rows = frame(found)
    figure, panels = plt.subplots(1, 2, figsize=(plots.WIDTH["page"], 3.2), sharey=True)
    steps = np.arange(1, 129)
    for axes, (host, label) in zip(panels, HOSTS.items()):
        where = PLAIN | {"host": host, "batch": 1, "image": rows_of.main_image(rows), "response": MAIN[0],
                         "steps": MAIN[1]}  # fmt: skip
        base, known = one(rows, **where, **pruning(1.0)), False
        for keep in PRUNED:
            row = one(rows, **where, **pruning(keep))
            if row is None or base is None:
                continue
            known = True
            whole, cut = (one_["first_seconds"] + (steps - 1) * one_["later_seconds"] / (MAIN[1] - 1)
                          for one_ in (base, row))  # fmt: skip
            even = row["break_even_steps"]
            told = "never even" if even is None or even != even else f"even at K = {np.ceil(even):.0f}"
            axes.plot(steps, whole / cut, color=RATIOS[keep], label=f"r = {keep:.0%}, {told}")
        axes.axhline(1, color=plots.BLACK, linewidth=0.7)
        axes.set(title=label, xscale="log", xlabel="denoising steps K")
        axes.set_xticks((1, 2, 4, 8, 16, 32, 64, 128), (1, 2, 4, 8, 16, 32, 64, 128))
        axes.minorticks_off()
        if known:
            axes.legend(fontsize=6.5)
        else:
            rows_of.empty(axes, bare=False)
    panels[0].set_ylabel("speed-up of the loop")
    note = f"from step 1 and the mean later step of {MAIN[0]} tokens in {MAIN[1]} steps"
    plots.add_caption(figure, caption(run, found, note))
    return figure


def none_yet(run: RunContext) -> str:
    """What a notebook says without results."""
    return (
        f"**No results of profile {run.profile.name} are committed yet**, and none were measured here: every figure "
        "and table would read \"not measured\". `python -m analysis.efficiency --profile "
        f"{run.profile.name} --out DIR` measures them" + (", on a GPU in ten minutes." if run.profile.needs else ".")
    )


def sentence(found: Result) -> str:
    """What the numbers show, as a list."""
    rows, lines = frame(found), []
    for host, label in HOSTS.items():
        where = PLAIN | {"host": host, "batch": 1, "image": rows_of.main_image(rows), "response": MAIN[0],
                         "steps": MAIN[1]}  # fmt: skip
        told = []
        for keep in (0.5, 0.25):
            row = one(rows, **where, **pruning(keep))
            if row is not None:
                told.append(
                    f"r = {keep:.0%} makes the loop {row['decoding_speedup']:.2f}x as fast "
                    f"[{row['decoding_speedup_low']:.2f}, {row['decoding_speedup_high']:.2f}], "
                    f"where the FLOPs allow {100 / (100 - row['decoding_bound_cut']):.2f}x"
                )
        cached = one(rows, **{**where, "cache": "fast_dllm"}, **pruning(0.5))
        if cached is not None:
            told.append(f"with Fast-dLLM's cache and r = 50% it is {cached['decoding_speedup']:.2f}x as fast")
        lines.append(f"- {label}, {MAIN[0]} tokens in {MAIN[1]} steps: {'; '.join(told) or 'not measured'}.")
    absent = int((~rows["measured"].astype(bool)).sum())
    about = found.provenance
    lines.append(
        f"- {len(rows) - absent} of {len(rows)} runs were measured on {about['device']} ({about['params']['words']}); "
        "the others stand in the table with the reason."
    )
    if found.provenance["link"] != "speed":
        lines.append("- A reduced shape on a CPU shows how it is measured, and nothing about 8B times on a GPU.")
    return "\n".join(lines)
