"""Compute on the true shapes: how far latency can fall by the number of steps, and where the FLOPs are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.lines import Line2D

from analysis import plots
from analysis.compute import OFFICIAL
from analysis.profiles import RunContext
from analysis.results import Result

HOSTS = {"llada_v": ("LLaDA-V", "o", "-"), "lavida": ("LaViDa", "^", "--")}
RATIO_COLORS = {0.75: plots.SKY, 0.5: plots.BLUE, 0.25: plots.RED, 0.1: plots.ORANGE}
PAPER_CUTS = {"llada_v": 64.97, "lavida": 21.87}  # RedVTP, abstract: "up to", benchmark and ratio not stated
FASTV_CUT, LATE_SPEEDUP = 65.0, 1.44  # LLaDA-FastV, abstract; arXiv 2511.15098, Table 3 (DivPrune, 25% kept)
STAGES = {
    "vision": ("tower and projector", plots.GREEN, ""),
    "first": ("step 1", plots.BLUE, ""),
    "later": ("later steps", plots.SKY, "////"),
    "head": ("head", plots.ORANGE, ""),
}
SHOWN = {
    "none": "{}, not pruned",
    "after step 1": "RedVTP: after step 1",
    "inside step 1, layer 16": "LLaDA-FastV: step 1, layer 16",
    "inside every step, layer 2": "FastV: every step, layer 2",
    "before step 1": "before step 1",
}
SETTING, KEEP = (32, 16), 0.25  # DocVQA and InfoVQA
SWEPT = (8, 32, 128)            # response tokens of the table by steps


def frame(result: Result) -> pd.DataFrame:
    """The rows with what follows from them: cuts in percent, speed-ups, the papers' formulas beside ours."""
    rows = pd.DataFrame(result.rows)
    rows["cut"] = 100 * (1 - rows["share"])
    rows["cut_with_vision"] = 100 * (1 - rows["share_with_vision"])
    rows["own_cut"] = 100 * (1 - rows["own_share"])
    rows["speedup"] = 1 / rows["share"]
    rows["vision"] = rows["tower"] + rows["projector"]
    rows["limit"] = 100 * (1 - 1 / rows["steps"])
    full = rows[rows["place"] == "none"].set_index(["host", "response", "steps"])
    key = pd.MultiIndex.from_frame(rows[["host", "response", "steps"]])
    for name in ("plain", "gated"):
        macs = rows[f"{name}_macs"]
        rows[f"{name}_cut"] = 100 * (1 - macs.to_numpy() / full.loc[key, f"{name}_macs"].to_numpy())
        rows[f"{name}_gap"] = 100 * (2 * macs / rows["total"] - 1)
    return rows


def draw(result: Result, run: RunContext) -> Any:
    """Left: the bound for RedVTP by steps and ratio. Right: stages by place, of the unpruned run with its tower."""
    plots.use_style()
    rows = frame(result)
    figure, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH["page"], 4.3), width_ratios=(1, 1.05))
    response, steps = SETTING
    draw_bounds(left, rows[(rows["response"] == response) & (rows["place"] == "after step 1")])
    draw_stages(right, rows[(rows["response"] == response) & (rows["steps"] == steps)])
    visual = rows.drop_duplicates("host").set_index("host")["visual_tokens"]
    note = (
        f"{visual['llada_v']} (LLaDA-V) and {visual['lavida']} (LaViDa) visual, {rows['prompt_tokens'].iloc[0]} prompt "
        f"tokens; left: {response} response tokens, language model alone, a bound where time follows these FLOPs; "
        "dotted: the paper's maxima of measured latency cuts, their settings not stated; at the bars: TFLOPs"
    )
    plots.add_caption(figure, plots.caption(run, result.provenance, note))
    return figure


def draw_bounds(axes: Any, rows: pd.DataFrame) -> None:
    """1 - share over the number of steps."""
    for host, (_, marker, line) in HOSTS.items():
        for keep, color in RATIO_COLORS.items():
            part = rows[(rows["host"] == host) & (rows["keep"] == keep)].sort_values("steps")
            axes.plot(part["steps"], part["cut"], color=color, marker=marker, linestyle=line, markersize=3.5)
    limit = rows.drop_duplicates("steps").sort_values("steps")
    axes.plot(limit["steps"], limit["limit"], color=plots.GREY, linewidth=0.9, linestyle=(0, (1, 1)))
    margin = {"transform": axes.get_yaxis_transform(), "fontsize": 7, "va": "center"}
    axes.text(1.02, limit["limit"].iloc[-1], "all but\nstep 1", color=plots.GREY, **margin)
    for host, value in PAPER_CUTS.items():
        axes.axhline(value, color=plots.BLACK, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.text(1.02, value, f"paper,\n{HOSTS[host][0]}\n{value}%", **margin)
    axes.set(xscale="log", ylim=(0, 103), xlabel="denoising steps K", ylabel="FLOPs saved, %")
    axes.set_title("Bound on RedVTP's latency cut")
    axes.set_xticks(sorted(rows["steps"].unique()), sorted(rows["steps"].unique()))
    axes.minorticks_off()
    ratios = [Line2D([], [], color=color, label=f"r = {keep:.0%}") for keep, color in RATIO_COLORS.items()]
    hosts = [Line2D([], [], color=plots.GREY, marker=marker, markersize=3.5, linestyle=line, label=label)
             for label, marker, line in HOSTS.values()]  # fmt: skip
    below(axes, 0.55, handles=[*ratios, *hosts])


def draw_stages(axes: Any, rows: pd.DataFrame) -> None:
    """Stacked bars in percent of each host's unpruned run, tower and projector included."""
    ticks, labels = [], []
    place = 0.0
    for host, (host_label, _, _) in HOSTS.items():
        full = None
        for where, label in SHOWN.items():
            row = rows[(rows["host"] == host) & (rows["place"] == where) & rows["keep"].isin((1.0, KEEP))].iloc[0]
            total = row["total"] + row["vision"]
            full = full or total
            start = 0.0
            for stage, (name, color, hatch) in STAGES.items():
                width = 100 * row[stage] / full
                axes.barh(place, width, 0.75, left=start, color=color, hatch=hatch, edgecolor="white", linewidth=0,
                          label=name if not ticks else None)  # fmt: skip
                start += width
            axes.text(start + 1, place, f"{total / 1e12:.0f}", fontsize=7, va="center")
            ticks.append(place)
            labels.append(label.format(host_label))
            place -= 1
        place -= 0.6
    response, steps = SETTING
    axes.set_yticks(ticks, labels, fontsize=7)
    axes.set(xlim=(0, 113), xlabel="% of unpruned FLOPs")
    axes.set_title(f"{response} tokens, {steps} steps, r = {KEEP:.0%}")
    axes.set_xticks(range(0, 101, 25))
    axes.grid(False, axis="y")
    below(axes, 0.25)


def below(axes: Any, middle: float, **legend: Any) -> None:
    """A legend of two lines under the axis label."""
    place = {"loc": "upper center", "bbox_to_anchor": (middle, -0.13)}
    axes.legend(**place, **legend, ncols=3, columnspacing=1.0, handlelength=1.8)


def bounds(result: Result) -> pd.DataFrame:
    """A line for each host, official setting and place: the bound on the latency cut at each ratio, in percent."""
    rows = frame(result)
    official = pd.MultiIndex.from_frame(rows[["response", "steps"]]).isin(OFFICIAL)
    rows = rows[(rows["place"] != "none") & official]
    lines = []
    for (host, response, steps, place), shown in rows.groupby(["host", "response", "steps", "place"], sort=False):
        by = shown.set_index("keep")
        lines.append(
            {"host": HOSTS[host][0], "tokens / steps": f"{response} / {steps}", "cut": place}
            | {f"r = {keep:.0%}": by.loc[keep, "cut"] for keep in RATIO_COLORS}
            | {
                f"with tower, {KEEP:.0%}": by.loc[KEEP, "cut_with_vision"],
                f"own loop, {KEEP:.0%}": by.loc[KEEP, "own_cut"],
                f"formula 2ndm, {KEEP:.0%}": by.loc[KEEP, "plain_cut"],
                f"speed-up, {KEEP:.0%}": by.loc[KEEP, "speedup"],
            }
        )
    return pd.DataFrame(lines)


def table(result: Result) -> pd.DataFrame:
    """FLOPs by stage at the setting of the figure, counted, by formula, and by the papers' formulas."""
    rows = frame(result)
    rows = rows[(rows["response"] == SETTING[0]) & (rows["steps"] == SETTING[1]) & rows["keep"].isin((1.0, 0.5, KEEP))]
    out = pd.DataFrame({"host": [HOSTS[host][0] for host in rows["host"]], "cut": rows["place"].to_numpy()})
    out["keep"] = [f"{keep:.0%}" for keep in rows["keep"]]
    for name, label in (("tower", "tower"), ("projector", "projector"), ("first", "step 1"), ("later", "later steps"),
                        ("head", "head"), ("scoring", "scoring"), ("total", "LM in all")):  # fmt: skip
        out[f"{label}, TFLOPs"] = (rows[name] / 1e12).to_numpy()
    out["count - formula"] = rows["difference"].to_numpy()
    out["LM, TMACs"] = (rows["total"] / 2e12).to_numpy()
    for name, label in (("plain", "2ndm"), ("gated", "3ndm")):
        out[f"{label}, TMACs"] = (rows[f"{name}_macs"] / 1e12).to_numpy()
        out[f"{label} differs, %"] = rows[f"{name}_gap"].to_numpy()
    return out


def by_steps(result: Result) -> pd.DataFrame:
    """RedVTP's speed-up bound by response length and ratio, a column for each number of steps."""
    rows = frame(result)
    powers = (rows["steps"] & (rows["steps"] - 1)) == 0
    rows = rows[(rows["place"] == "after step 1") & powers & rows["response"].isin(SWEPT)]
    wide = rows.pivot_table(index=["host", "response", "keep"], columns="steps", values="speedup", sort=False)
    wide = wide[sorted(wide.columns)].rename(columns=lambda steps: f"K = {steps}").reset_index()
    wide["host"] = [HOSTS[host][0] for host in wide["host"]]
    wide["keep"] = [f"{keep:.0%}" for keep in wide["keep"]]
    return wide.rename_axis(columns=None)


def sentence(result: Result) -> str:
    """What the numbers bound, claim by claim, as a list."""
    return "\n".join(f"- {line}" for line in statements(frame(result)))


def statements(rows: pd.DataFrame) -> Iterator[str]:
    """The list of `sentence`."""
    exact = "are equal" if (rows["difference"] == 0).all() else "are NOT equal"
    inside, half_way, short = "inside step 1, layer 16", "after half of the steps", (2, 2)
    ours, before = at(rows, "llada_v"), at(rows, "llada_v", "before step 1")
    full = rows[rows["place"] == "none"]
    yield (
        f"Count and formula {exact} in all {len(rows)} rows. FLOPs are not time: what follows bounds a latency cut "
        "where time follows these FLOPs, says what a claim would need, and decides no claim about time."
    )
    yield (
        f"In {SETTING[1]} steps of {SETTING[0]} tokens with {KEEP:.0%} kept after step 1: {bound(rows, 'llada_v')}; "
        f"{bound(rows, 'lavida')}. Scoring adds {ours['scoring'] / ours['first']:.2%} to step 1."
    )
    claimed, half = PAPER_CUTS["llada_v"], at(rows, "llada_v", keep=0.5)
    yield (
        f"R2, R3 (LLaDA-V, up to {claimed}% and {1 / (1 - claimed / 100):.2f}x): within the bound "
        f"{reach(rows, 'llada_v', claimed)} in {SETTING[1]} steps, and "
        f"{reach(rows, 'llada_v', claimed, setting=short)} in 2 steps, where step 1 is half of the work. Half of the "
        f"tokens bound it to {half['cut']:.1f}%, or {quadratic_cut(half):.1f}% if all time were quadratic in length, "
        "as of attention maps written out."
    )
    claimed = PAPER_CUTS["lavida"]
    yield (
        f"R4, R5 (LaViDa, up to {claimed}%): within the bound {reach(rows, 'lavida', claimed)} "
        f"({at(rows, 'lavida', keep=0.75)['cut']:.1f}% at 75%, {at(rows, 'lavida', keep=0.5)['cut']:.1f}% at 50%)."
    )
    late, early = (at(rows, "llada_v", f"inside step 1, layer {layer}")["cut"] for layer in (24, 8))
    yield (
        f"F2 (LLaDA-FastV, up to {FASTV_CUT:.0f}% of compute): passed {reach(rows, 'llada_v', FASTV_CUT, inside)} in "
        f"{SETTING[1]} steps ({late:.1f} to {early:.1f}% at {KEEP:.0%}, layers 24 to 8), and "
        f"{reach(rows, 'llada_v', FASTV_CUT, inside, short)} in 2 steps at layer 16; the paper's layer and ratio are "
        f"not known to us. F5: {ours['cut'] / at(rows, 'llada_v', inside)['cut']:.0%} of what a lasting cut at layer "
        "16 saves, it saves in the later steps."
    )
    yield (
        f"D3: a cut at half of the steps allows {at(rows, 'llada_v', half_way)['speedup']:.2f}x (reported: "
        f"{LATE_SPEEDUP}x). R12: a cut after step 1 has {ours['cut'] / before['cut']:.0%} of the saving of one before "
        "step 1."
    )
    yield (
        f"The papers' formula 4nd^2 + 2n^2d + 2ndm counts multiply-adds; doubled, it is {-full['plain_gap'].max():.0f} "
        f"to {-full['plain_gap'].min():.0f}% below the count, for it lacks one of three MLP matrices and the head. "
        f"By it the cut would be {ours['plain_cut']:.1f}% instead of {ours['cut']:.1f}%."
    )


def at(
    rows: pd.DataFrame,
    host: str,
    place: str = "after step 1",
    keep: float = KEEP,
    setting: tuple[int, int] = SETTING,
) -> pd.Series:
    """One row."""
    found = rows[(rows["host"] == host) & (rows["place"] == place) & (rows["keep"] == keep)]
    return found[(found["response"] == setting[0]) & (found["steps"] == setting[1])].iloc[0]


def reach(
    rows: pd.DataFrame, host: str, value: float, place: str = "after step 1", setting: tuple[int, int] = SETTING
) -> str:
    """From which of the ratios on a cut of ``value`` percent is within the bound."""
    reaching = [keep for keep in RATIO_COLORS if at(rows, host, place, keep, setting)["cut"] >= value]
    return f"from r = {max(reaching):.0%} down" if reaching else "at none of the ratios"


def bound(rows: pd.DataFrame, host: str) -> str:
    """The bound of a host, in words."""
    one = at(rows, host)
    return (
        f"{HOSTS[host][0]} {one['cut']:.1f}% ({one['cut_with_vision']:.1f}% with the vision tower), "
        f"a speed-up of {one['speedup']:.2f}x"
    )


def quadratic_cut(row: pd.Series) -> float:
    """Percent saved after step 1 by a cost that goes with the square of the length."""
    text = row["prompt_tokens"] + row["response"]
    share = ((text + int(row["keep"] * row["visual_tokens"])) / (text + row["visual_tokens"])) ** 2
    return 100 * (1 - share) * (1 - 1 / row["steps"])
