"""RedVTP taken apart: what each change does to exact match at each ratio, beside the default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from analysis import plots
from analysis.ablations import DEFAULT, UNPRUNED
from analysis.comparisons import difference, holm, sign_test
from analysis.figures import rates
from analysis.figures.fewer import caption, whole
from analysis.profiles import RunContext
from analysis.results import Result

ALPHA = 0.05
KEEP = 0.25  # the ratio at which the sentence tells what later cuts cost
BY = ("model", "family", "factor", "setting", "keep")
ENDS = ("difference", "difference_low", "difference_high")


def table(result: Result) -> pd.DataFrame:
    """Every change with its difference from the default, several seeds pooled.

    `p` is of the exact sign test; `p_holm` is adjusted for all differences of the table.
    """
    raw = pd.DataFrame(result.rows)
    rows = rates.pooled(raw, BY)
    changed = raw.groupby(list(BY), sort=False)[["gained", "lost"]].sum(min_count=1).reset_index()
    rows = rows.drop(columns=["seed", "gained", "lost", *ENDS]).merge(changed, on=list(BY))
    told = rows["gained"].notna()
    counts = [(int(row.gained), int(row.lost), int(row.n)) for row in rows[told].itertuples()]
    for name, values in zip(ENDS, zip(*(difference(*one) for one in counts)), strict=True):
        rows.loc[told, name] = values
    rows.loc[told, "p"] = [sign_test(gained, lost) for gained, lost, _ in counts]
    rows.loc[told, "p_holm"] = holm(list(rows.loc[told, "p"]))
    rows = rows.assign(gained=whole(rows["gained"]), lost=whole(rows["lost"]))
    return rows[[
        *BY, "n", "cut", "exact_match", "exact_match_low", "exact_match_high", *ENDS, "gained", "lost", "p", "p_holm",
        "score", "evidence_recall", "flops_ratio",
    ]]  # fmt: skip


def draw(result: Result, run: RunContext) -> Any:
    """A panel a family: the default's exact match above, then each change's difference from it, in points."""
    plots.use_style()
    rows = table(result)
    families = list(rows["family"].unique())
    ratios = sorted(rows[rows["factor"] == DEFAULT[0]]["keep"].unique(), reverse=True)
    settings = [key for key in dict.fromkeys(zip(rows["factor"], rows["setting"])) if key != UNPRUNED]
    figure, axes = plt.subplots(1, len(families), figsize=(plots.WIDTH["page"], 0.21 * len(settings) + 1.3),
                                sharey=True, squeeze=False)
    for axis, family in zip(axes[0], families):
        image = _draw_family(axis, rows[rows["family"] == family], settings, ratios)
        axis.set_title(family)
    axes[0, 0].set_yticks(range(len(settings)), [_label(key) for key in settings])
    figure.colorbar(image, ax=axes, label="difference in exact match, points", shrink=0.6, pad=0.01)
    note = (
        f"model {rows['model'].iloc[0]}; first line: exact match of the default in %, below: points more or less on "
        f"the same samples; bold and underlined: exact sign test, Holm-adjusted p below {ALPHA} over all "
        f"{int(rows['p'].notna().sum())} differences; grey: protected tokens do not fit, or no run lasted to the cut"
    )
    plots.add_caption(figure, caption(run, result, note))
    return figure


def _label(key: tuple[str, str]) -> str:
    factor, setting = key
    return "default" if key == DEFAULT else setting if factor == "step" else f"{factor}: {setting}"


def _draw_family(axis: Any, rows: pd.DataFrame, settings: list[tuple[str, str]], ratios: list[float]) -> Any:
    found = {(row.factor, row.setting, row.keep): row for row in rows.itertuples()}
    values = np.full((len(settings), len(ratios)), np.nan)
    for line, key in enumerate(settings):
        for column, ratio in enumerate(ratios):
            row = found.get((*key, ratio))
            if row is None or (key != DEFAULT and pd.isna(row.difference)):
                continue
            real = key != DEFAULT and row.p_holm < ALPHA
            value = 100 * (row.exact_match if key == DEFAULT else row.difference)
            values[line, column] = 0 if key == DEFAULT else value
            text = f"{value:.0f}" if key == DEFAULT else f"{value:+.0f}" if round(value) else "0"
            axis.text(column, line, text, ha="center", va="center", fontsize=6.5,
                      weight="bold" if real else "normal", color="white" if abs(values[line, column]) > 55 else "black")
            if real:
                axis.plot([column - 0.3, column + 0.3], [line + 0.36] * 2, color=plots.BLACK, linewidth=0.8)
    image = axis.imshow(np.ma.masked_invalid(values), cmap="PuOr_r", vmin=-100, vmax=100, aspect="auto")
    axis.set_facecolor("#DDDDDD")
    axis.set_xticks(range(len(ratios)), [f"{100 * ratio:g}" for ratio in ratios])
    axis.set_xlabel("visual tokens kept (%)")
    axis.grid(False)
    for line in range(1, len(settings)):
        if settings[line][0] != settings[line - 1][0]:
            axis.axhline(line - 0.5, color="white", linewidth=2.5)
    return image


def sentence(result: Result) -> str:
    """Which changes differ after adjustment, what that says of the guide rows, and what later cuts cost."""
    rows = table(result)
    model, n = rows["model"].iloc[0], int(rows["n"].max())
    tested = rows[rows["p"].notna()]
    real = tested[tested["p_holm"] < ALPHA]
    worse, better = real[real["difference"] < 0], real[real["difference"] > 0]
    guides = real[real["factor"] == "guide rows"]
    below, above = (guides[sign * guides["difference"] > 0]["setting"].unique() for sign in (-1, 1))
    return " ".join([
        f"On {model}, n = {n} a family, {len(real)} of {len(tested)} differences from the default are significant at "
        f"{ALPHA:.0%} after Holm's adjustment over all of them. Worse: {_largest(worse)}. Better: "
        f"{_largest(better)}.",
        f"Guide rows that are worse than the still-masked ones somewhere: {rates.listed(below, 'none')}; better: "
        f"{rates.listed(above, 'none')}.",
        _later(rows, result.provenance["params"]["steps"]),
        "One model and one seed of training; an 8B model may behave otherwise.",
    ])  # fmt: skip


def _largest(rows: pd.DataFrame) -> str:
    """Each change once, with its largest difference and the number of others."""
    texts = []
    for (factor, setting), part in rows.groupby(["factor", "setting"], sort=False):
        row = part.loc[part["difference"].abs().idxmax()]
        more = f" and {len(part) - 1} more" if len(part) > 1 else ""
        texts.append(f"{_label((factor, setting))} ({row['family']} at {row['keep']:.0%}: "
                     f"{100 * row['difference']:+.0f} points{more})")  # fmt: skip
    return ", ".join(texts) or "none"


def _later(rows: pd.DataFrame, steps: Sequence[int]) -> str:
    """What cutting after a later step changes at one ratio: exact match, and FLOPs."""
    texts = []
    for family in rows["family"].unique():
        at = rows[(rows["family"] == family) & (rows["keep"] == KEEP)]
        later = at[at["factor"] == "step"]
        if later.empty:
            continue
        first = rates.row_of(at, factor=DEFAULT[0])
        told = ", ".join(f"{row.setting} {row.exact_match:.0%} at {row.flops_ratio:.0%}" for row in later.itertuples())
        texts.append(f"{family}: step 1 {first['exact_match']:.0%} at {first['flops_ratio']:.0%} of the FLOPs, {told}")
    if not texts:
        return "No run lasted to a later cut."
    never = [f"{step}" for step in steps[1:] if f"step {step}" not in set(rows["setting"])]
    ended = f" No run lasted to a cut after step {rates.listed(never)}." if never else ""
    return f"Later cuts at {KEEP:.0%}: {'; '.join(texts)}.{ended}"
