"""Rival methods and schedules: exact match over the compute of the same answers."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from analysis import plots
from analysis.comparisons import named, rate
from analysis.figures import rates
from analysis.figures.fewer import caption
from analysis.figures.rival_rows import GROUPS, frame, models_of
from analysis.profiles import RunContext
from analysis.results import Result
from analysis.rival_arms import EQUAL, LONG


def draw(result: Result, run: RunContext) -> Any:
    """Exact match with its interval over the FLOPs of the same answers: a line of panels a model, a column a group of
    methods; RedVTP in grey in all of them. Long answers together: the families of many steps that all methods have."""
    plots.use_style()
    rows = frame(result)
    shown = rows[rows["family"].isin(rows.loc[rows["method"] == "redvtp", "family"].unique())]
    shown = shown if len(shown) else rows
    long = shown[shown.groupby("family")["steps"].transform("max") > 2]
    shown = _together(long if len(long) else shown)
    models = models_of(shown)
    groups = {name: looks for name, looks in GROUPS.items() if shown["method"].isin(looks).any()}
    figure, axes = plt.subplots(len(models), len(groups), sharex=True, sharey=True, squeeze=False,
                                figsize=(plots.WIDTH["page"], 2.2 + 1.9 * len(models)))  # fmt: skip
    for line, model in zip(axes, models):
        for axis, looks in zip(line, groups.values()):
            own = shown[shown["model"] == model]
            _draw_panel(axis, own, looks)
            axis.set_title(model, fontsize=8.5)
            axis.set(ylim=(-0.03, 1.05), xscale="log", xlim=(0.13, 1.2))
            axis.set_xticks((0.15, 0.25, 0.5, 1), labels=("15%", "25%", "50%", "100%"))
            axis.minorticks_off()
        line[0].set_ylabel("exact match")
    for axis, (name, looks) in zip(axes[0], groups.items()):
        handles, labels = _legend(axes.flat, looks)
        axis.legend(handles, labels, title=name, title_fontsize=7.5, loc="lower center", bbox_to_anchor=(0.5, 1.12),
                    fontsize=6.5, handlelength=2.2)  # fmt: skip
    for axis in axes[-1]:
        axis.set_xlabel("FLOPs, of unpruned")
    names = rates.listed(dict.fromkeys(long["family"] if len(long) else rows["family"]))
    note = (
        f"{names} together (late, layer skipping: {rates.listed(LONG)}); line: no pruning, grey: RedVTP; filled: as "
        "early as the method can, a line joins its ratios; hollow: the same at 25% (VTW: 0%) from a quarter, half or "
        "three quarters of the steps, or the last step; bars: 95% Wilson intervals; FLOPs of these answers by this "
        "model, counted; SGL's guide comes on top; all steps are taken"
    )
    plots.add_caption(figure, caption(run, result, note))
    return figure


def _together(rows: pd.DataFrame) -> pd.DataFrame:
    """Families pooled: hits with their interval, means of FLOPs. Arms that not all families have are left out, but for
    late pruning and layer skipping, which have families of their own."""
    most = rows.groupby("family")["steps"].transform("max")
    rows, found = rows[rows["steps"] == most], []
    by = ["origin", "model", "method", "keep", "start", "change", "comparison"]
    count = rows.groupby("model")["family"].nunique()
    for key, part in rows.groupby(by, sort=False):
        told = dict(zip(by, key))
        if part["family"].nunique() == count[told["model"]] or told["comparison"] == EQUAL:
            n, hits = int(part["n"].sum()), round(float((part["exact_match"] * part["n"]).sum()))
            told |= {"n": n, "flops_ratio": float(part["flops_ratio"].mean())}
            found.append(told | named("exact_match", rate(hits, n)))
    return pd.DataFrame(found)


def _draw_panel(axis: Any, rows: pd.DataFrame, looks: dict[str, plots.Look]) -> None:
    common = {"capsize": 1.2, "elinewidth": 0.5, "linewidth": 1.0, "markersize": 4}
    plain = rows[(rows["change"] == "none") & (rows["comparison"] == "none")]
    whole = plain[(plain["method"] == "none") & (plain["start"] == "none")]
    axis.axhline(whole["exact_match"].iloc[0], color=plots.BLACK, linewidth=0.8)
    base = plain[(plain["method"] == "redvtp") & (plain["start"] == "first")].sort_values("flops_ratio")
    if "redvtp" not in looks:
        axis.plot(base["flops_ratio"], base["exact_match"], color=plots.GREY, linewidth=2.2, alpha=0.45, marker=".")
    for method, look in looks.items():
        own = plain[(plain["method"] == method) & (plain["start"] != "none")]
        is_early = own["start"] == "first"
        early, late = own[is_early].sort_values("flops_ratio"), own[~is_early]
        if len(early):
            axis.errorbar(early["flops_ratio"], early["exact_match"], yerr=rates.bars(early, "exact_match"),
                          **common, **look.line())  # fmt: skip
        hollow = pd.concat([late, rows[(rows["comparison"] == "equal compute") & (rows["method"] == method)]])
        if len(hollow):
            line = look.line() | {"linestyle": "", "label": look.label if early.empty else None}
            axis.errorbar(hollow["flops_ratio"], hollow["exact_match"], yerr=rates.bars(hollow, "exact_match"),
                          markerfacecolor="white", **common, **line)  # fmt: skip


def _legend(axes: Any, looks: dict[str, plots.Look]) -> tuple[list[Any], list[str]]:
    found = {name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels())}
    labels = [look.label for look in looks.values() if look.label in found]
    return [found[label] for label in labels], labels
