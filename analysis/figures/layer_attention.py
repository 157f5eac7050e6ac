"""Where response rows attend, by layer and step, with the autoregressive control beside."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from analysis import plots
from analysis.answers import is_long
from analysis.figures import rates
from analysis.figures.fewer import caption
from analysis.layer_attention import KINDS, VALUES
from analysis.profiles import RunContext
from analysis.results import Result

CONTROL = "autoregressive"  # the control's host
BANDS = (
    "bands: from the mean of the families' lower ends to that of their upper ends, of 95% bootstrap intervals over "
    "each family's samples; not an interval of the mean"
)
LOOKS = {"visual": (plots.BLUE, "o", "-"), "prompt": (plots.ORANGE, "s", "--"), "response": (plots.GREEN, "^", "-.")}
ROWS = {
    "masked": ("still masked", plots.BLUE, "o", "-"),
    "response": ("all response rows", plots.SKY, "^", "--"),
    "writing": ("rows that write the answer", plots.RED, "s", "-."),
}


def frame(result: Result) -> pd.DataFrame:
    """The rows, several seeds as the mean of their values and interval ends; step 0 is the mean over the steps."""
    rows = pd.DataFrame(result.rows)
    rows["step"] = rows["step"].fillna(0).astype(int)
    rows["long"] = [is_long(family) for family in rows["family"]]
    by = ["host", "model", "family", "long", "rows", "layer", "step"]
    return rows.groupby(by, sort=False).mean(numeric_only=True).drop(columns="seed").reset_index()


def over_families(rows: pd.DataFrame, model: str, kind: str, long: bool = True) -> pd.DataFrame:
    """A row for each layer and step of one model's rows of one kind: the mean of the families, long or short ones."""
    shown = rows[(rows["model"] == model) & (rows["rows"] == kind) & (rows["long"] == long)]
    return shown.groupby(["layer", "step"]).mean(numeric_only=True).reset_index()


def models_of(rows: pd.DataFrame) -> tuple[list[str], str | None]:
    """The diffusion models, and the control where it was measured."""
    controls = rows[rows["host"] == CONTROL]["model"].unique()
    return list(rows[rows["host"] != CONTROL]["model"].unique()), (controls[0] if len(controls) else None)


def draw(result: Result, run: RunContext) -> Any:
    """Above: by layer, mean over the steps. Below: visual share by step and layer, and beside the control."""
    plots.use_style()
    rows = frame(result)
    (first, *others), control = models_of(rows)
    figure, axes = plt.subplots(2, 3, figsize=(plots.WIDTH["page"], 5.0))
    _draw_shares(axes[0, 0], rows, first, others)
    _draw_efficiency(axes[0, 1], rows, first, others)
    _draw_concentration(axes[0, 2], rows, first, others)
    for axis, kind in zip(axes[1], ("masked", "response")):
        _draw_steps(axis, over_families(rows, first, kind), ROWS[kind][0])
    axes[1, 1].sharey(axes[1, 0])
    _draw_control(axes[1, 2], rows, [first, *others], control)
    families = list(dict.fromkeys(rows[rows["long"]]["family"]))
    short = list(dict.fromkeys(rows[~rows["long"]]["family"]))
    note = f"means of {rates.listed(families)}" + (f", dotted: {rates.listed(short)}" if short else "")
    thin = f"; thin: {rates.listed(others)}" if others else ""
    plots.add_caption(figure, caption(run, result, f"{note}{thin}; {BANDS}"))
    return figure


def _line(axis: Any, part: pd.DataFrame, name: str, look: tuple, **changes: Any) -> None:
    color, marker, style = look
    if part.empty:
        return
    keywords = {"color": color, "marker": marker, "linestyle": style, "markersize": 4, "linewidth": 1.4} | changes
    axis.plot(part["layer"], part[name], **keywords)
    if f"{name}_low" in part and "label" in changes:
        axis.fill_between(part["layer"], part[f"{name}_low"], part[f"{name}_high"], color=color, alpha=0.15,
                          linewidth=0)


def _averaged(rows: pd.DataFrame, model: str, kind: str, long: bool = True) -> pd.DataFrame:
    part = over_families(rows, model, kind, long)
    return part[part["step"] == 0]


LEGEND = {"loc": "lower center", "bbox_to_anchor": (0.5, -0.02), "columnspacing": 0.8, "handletextpad": 0.5}


def _share_axis(axis: Any) -> None:
    """Shares from 0 to 1, with room for a legend below them, where no line can cross it."""
    axis.set(ylim=(-0.34, 1.05), yticks=[0, 0.2, 0.4, 0.6, 0.8, 1])


THIN = {"linewidth": 0.8, "markersize": 2, "alpha": 0.6}
DOTTED = {"linestyle": ":", "markersize": 2.5, "linewidth": 1.0}


def _layers(axis: Any, rows: pd.DataFrame, title: str, **settings: Any) -> None:
    axis.set(title=title, xlabel="layer", xticks=sorted(rows["layer"].unique()), **settings)
    axis.title.set_fontsize(9)


def _draw_shares(axis: Any, rows: pd.DataFrame, first: str, others: list[str]) -> None:
    """Share of the still-masked rows' attention, by kind of column."""
    for kind, look in LOOKS.items():
        _line(axis, _averaged(rows, first, "masked"), kind, look, label=kind)
        for model in others:
            _line(axis, _averaged(rows, model, "masked"), kind, look, **THIN)
    _line(axis, _averaged(rows, first, "masked", long=False), "visual", LOOKS["visual"], **DOTTED)
    _layers(axis, rows, "Share of attention", ylabel="of still-masked rows")
    _share_axis(axis)
    axis.legend(fontsize=6.5, ncols=2, **LEGEND)


def _draw_efficiency(axis: Any, rows: pd.DataFrame, first: str, others: list[str]) -> None:
    """The same for each column of a kind; 1 is even attention."""
    for kind, look in LOOKS.items():
        name = f"{kind}_efficiency"
        _line(axis, _averaged(rows, first, "masked"), name, look, label=kind)
        for model in others:
            _line(axis, _averaged(rows, model, "masked"), name, look, **THIN)
    axis.axhline(1, color=plots.BLACK, linewidth=0.8, linestyle=(0, (1, 2)))
    _layers(axis, rows, "Attention per token (1: even)", yscale="log")
    low, high = axis.get_ylim()
    ticks = [tick for tick in (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100) if low < tick < high]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.legend(fontsize=6.5)


def _draw_concentration(axis: Any, rows: pd.DataFrame, first: str, others: list[str]) -> None:
    """What the most attended tenth of the visual tokens holds of S."""
    for kind, (label, *look) in ROWS.items():
        if kind == "response":
            continue
        _line(axis, _averaged(rows, first, kind), "concentration", tuple(look), label=label)
        for model in others:
            _line(axis, _averaged(rows, model, kind), "concentration", tuple(look), **THIN)
    _line(axis, _averaged(rows, first, "masked", long=False), "concentration", ROWS["masked"][1:], **DOTTED)
    axis.axhline(0.1, color=plots.BLACK, linewidth=0.8, linestyle=(0, (1, 2)))
    _layers(axis, rows, "Held by the top 10% of tokens", ylim=(0, 1.02))
    axis.legend(fontsize=6.5, loc="lower right", bbox_to_anchor=(1, 0.1))


def _draw_steps(axis: Any, part: pd.DataFrame, label: str) -> None:
    """Visual share over the steps, a line a layer."""
    part = part[part["step"] > 0]
    colors = plt.get_cmap("viridis_r")
    layers = sorted(part["layer"].unique())
    for place, layer in enumerate(layers):
        line = part[part["layer"] == layer]
        axis.plot(line["step"], line["visual"], color=colors(0.1 + 0.85 * place / max(1, len(layers) - 1)),
                  linewidth=1.2, label=f"layer {layer}")
    axis.set(title=f"Visual share, {label}", xlabel="step k")
    _share_axis(axis)
    axis.title.set_fontsize(9)
    if label == ROWS["masked"][0]:
        axis.set_ylabel("visual share")
        axis.legend(fontsize=6, ncols=3, **LEGEND)


def _draw_control(axis: Any, rows: pd.DataFrame, models: list[str], control: str | None) -> None:
    """Visual share of the rows that write the answer, diffusion beside autoregressive."""
    for place, model in enumerate(models):
        thin = THIN if place else {"label": f"{model} (diffusion)"}
        _line(axis, _averaged(rows, model, "writing"), "visual", ROWS["writing"][1:], **thin)
    if control:
        look = (plots.BLACK, "D", "--")
        _line(axis, _averaged(rows, control, "writing"), "visual", look, label=f"{control} (autoregressive)")
        _line(axis, _averaged(rows, control, "writing", long=False), "visual", look, **DOTTED)
    else:
        axis.text(0.63, 0.42, "the autoregressive control\nwas not measured", fontsize=7, ha="center",
                  transform=axis.transAxes, color=plots.GREY)
    _layers(axis, rows, "Visual share, rows that write")
    _share_axis(axis)
    axis.legend(fontsize=6.5, **LEGEND)


def table(result: Result) -> pd.DataFrame:
    """Means over the steps, by model, family, rows and layer."""
    rows = pd.DataFrame(result.rows)
    ends = [f"{name}_{end}" for name in ("visual", "visual_efficiency", "concentration") for end in ("low", "high")]
    columns = ["model", "family", "seed", "rows", "layer", "n", *VALUES]
    ordered = [part for name in columns for part in (name, f"{name}_low", f"{name}_high") if part in (*columns, *ends)]
    return rows[rows["step"].isna()][ordered]


def sentence(result: Result) -> str:
    """What the figure shows, in numbers, and what it cannot decide."""
    rows = frame(result)
    models, control = models_of(rows)
    families = rates.listed(dict.fromkeys(rows[rows["long"]]["family"]))
    parts = [
        f"Means of {families}, n = {int(rows['n'].max())} a family.",
        *(_told(_averaged(rows, model, "masked"), model, "still-masked rows") for model in models),
    ]
    if control:
        mine = _averaged(rows, control, "writing")
        parts.append(_told(mine, f"the autoregressive control {control} ({mine['right'].mean():.0%} right)",
                           "the rows that write its answer"))
        parts += [_told(_averaged(rows, model, "writing"), model, "such rows") for model in models[:1]]
    else:
        parts.append(f"The autoregressive control: {result.provenance['params']['control']}.")
    return " ".join([
        *parts, "Training shaped this: auxiliary heads read layers 2 and 4, and in part of one stage two-token "
        "questions did not see the image in the last two layers. So where attention gathers in these models decides "
        "claim F1, which is about 32 layers of an 8B model, only weakly.",
    ])  # fmt: skip


def _told(part: pd.DataFrame, model: str, rows: str) -> str:
    part = part.set_index("layer")
    middle = part.index.max() / 2
    early, late = (part[chosen].mean() for chosen in (part.index <= middle, part.index > middle))
    peak, sharp = part["visual"].idxmax(), part["concentration"].idxmax()
    kinds = ", ".join(f"{kind} {part.loc[peak, f'{kind}_efficiency']:.2f}" for kind in KINDS)
    return (
        f"On {model}, {rows} give {early['visual']:.0%} of their attention to visual tokens in the first half of the "
        f"layers and {late['visual']:.0%} in the second, most in layer {peak} ({part.loc[peak, 'visual']:.0%}; per "
        f"token, of even attention: {kinds}); the top tenth of visual tokens holds most in layer {sharp} "
        f"({part.loc[sharp, 'concentration']:.0%}) and least in layer {part['concentration'].idxmin()} "
        f"({part['concentration'].min():.0%})."
    )
