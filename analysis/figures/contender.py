"""Staged pruning beside RedVTP at equal FLOPs: what the search found, and what the test samples say of it."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from analysis import contender, plots
from analysis.comparisons import difference, holm, named, rate, sign_test
from analysis.contender_test import ORIGINAL, PAIRS
from analysis.figures import rates
from analysis.figures.fewer import caption
from analysis.profiles import RunContext
from analysis.results import Result, Row, read_result

ALPHA = 0.05
ALL = "all"
LOOKS = {
    contender.BASELINE: plots.METHODS["redvtp"],
    ORIGINAL: plots.Look("RedVTP, original positions", plots.SKY, "s", "--"),
}
STAGED = plots.Look("our contender", plots.RED, "D", "-")


def look(setting: str) -> plots.Look:
    """How a setting is drawn and called."""
    return LOOKS.get(setting, STAGED)


def frame(result: Result) -> pd.DataFrame:
    """A row for each model, family, ratio and setting, and one for each model's families together (`all`).

    Several seeds are pooled. `p_NAME` is the exact sign test's of the difference to that setting; `p_holm_NAME` is
    adjusted for all differences of the same kind: all families by themselves, or all models.
    """
    raw = pd.DataFrame([row for row in result.rows if row["setting"] != contender.NONE])
    found = []
    for family in [*dict.fromkeys(raw["family"]), ALL]:
        rows = raw if family == ALL else raw[raw["family"] == family]
        for (model, ratio, setting), part in rows.groupby(["model", "ratio", "setting"], sort=False):
            found.append({"model": model, "family": family, "ratio": ratio, "setting": setting} | _pooled(part))
    made = pd.DataFrame(found)
    for name in PAIRS.values():
        tested = made["setting"].map(PAIRS) != name
        for kind in (made["family"] == ALL, made["family"] != ALL):
            made.loc[tested & kind, f"p_holm_{name}"] = holm(list(made.loc[tested & kind, f"p_{name}"]))
    return made


def _pooled(part: pd.DataFrame) -> Row:
    n, hits = int(part["n"].sum()), round(float((part["exact_match"] * part["n"]).sum()))
    row = {"n": n, "kept": float((part["kept"] * part["n"]).sum() / n)} | named("exact_match", rate(hits, n))
    row |= {name: float(part[name].mean()) for name in ("flops_ratio", "flops_to_redvtp")}
    for name in PAIRS.values():
        gained, lost = (int(part[f"{what}_{name}"].sum()) for what in ("gained", "lost"))
        row |= named(f"from_{name}", difference(gained, lost, n)) | {f"p_{name}": sign_test(gained, lost)}
        row |= {f"gained_{name}": gained, f"lost_{name}": lost}
    return row


def unpruned(result: Result) -> dict[tuple[str, str], float]:
    """``{(model, family): exact match}`` without pruning, and of all families together (`all`)."""
    rows = pd.DataFrame([row for row in result.rows if row["setting"] == contender.NONE])
    rows = pd.concat([rows, rows.assign(family=ALL)])
    return {key: float((part["exact_match"] * part["n"]).sum() / part["n"].sum())
            for key, part in rows.groupby(["model", "family"], sort=False)}  # fmt: skip


def draw(result: Result, run: RunContext) -> Any:
    """Exact match with 95% intervals by family: a line of panels a ratio, a column a model."""
    plots.use_style()
    rows = frame(result)
    rows, full = rows[rows["family"] != ALL], unpruned(result)
    models, families = list(dict.fromkeys(rows["model"])), list(dict.fromkeys(rows["family"]))
    ratios = sorted(dict.fromkeys(rows["ratio"]), reverse=True)
    figure, axes = plt.subplots(len(ratios), len(models), sharex=True, sharey=True, squeeze=False,
                                figsize=(plots.WIDTH["page"], 1.3 + 1.8 * len(ratios)))  # fmt: skip
    for line, ratio in zip(axes, ratios):
        for axis, model in zip(line, models):
            _draw_panel(axis, rows[(rows["model"] == model) & (rows["ratio"] == ratio)], families)
            for place, family in enumerate(families):
                axis.hlines(full[model, family], place - 0.35, place + 0.35, color=plots.BLACK, linewidth=0.8,
                            linestyle=":", label="unpruned" if not place else None)  # fmt: skip
            axis.set_title(f"{model}, FLOPs of r = {ratio:.0%}", fontsize=8.5)
        line[0].set_ylabel("exact match")
    figure.legend(*rates.legend_of(axes.flat), loc="outside upper center", ncols=4, fontsize=7)
    chosen = {row.ratio: row.setting for row in rows.itertuples() if row.setting not in PAIRS}
    named = rates.listed(f'"{setting}" at {ratio:.0%}' for ratio, setting in chosen.items())
    note = (f"our contender: staged pruning, as development samples chose it: {named}; budgets set to RedVTP's planned "
            "FLOPs on them; bars: 95% Wilson intervals; dotted: unpruned")  # fmt: skip
    plots.add_caption(figure, caption(run, result, note))
    return figure


def _draw_panel(axis: Any, rows: pd.DataFrame, families: list[str]) -> None:
    settings = list(dict.fromkeys(rows["setting"]))
    for place, setting in enumerate(settings):
        part, own = rows[rows["setting"] == setting], look(setting)
        at = [families.index(family) + 0.22 * (place - (len(settings) - 1) / 2) for family in part["family"]]
        axis.errorbar(at, part["exact_match"], yerr=rates.bars(part, "exact_match"), color=own.color, marker=own.marker,
                      linestyle="", label=own.label, markersize=4, capsize=1.5, elinewidth=0.7)  # fmt: skip
    axis.set(ylim=(-0.03, 1.05), xlim=(-0.5, len(families) - 0.5))
    axis.set_xticks(range(len(families)), labels=families)


def table(result: Result) -> pd.DataFrame:
    """A line a model, family and ratio: exact match in percent, the staged one's differences in points."""
    rows, full, lines = frame(result), unpruned(result), []
    for (model, family, ratio), part in rows.groupby(["model", "family", "ratio"], sort=False):
        base, original, staged = (part.iloc[place] for place in range(3))
        line = {"model": model, "family": family, "FLOPs of r": f"{ratio:.0%}", "n": int(base["n"])}
        line |= {"unpruned": f"{full[model, family]:.0%}"}
        line |= {look(row["setting"]).label: rates.percent(row) for row in (base, original)}
        line |= {STAGED.label: rates.percent(staged), "setting": staged["setting"], "tokens kept": staged["kept"]}
        line |= {"FLOPs / RedVTP's": staged["flops_to_redvtp"]}
        line |= {"contender - RedVTP": _points(staged, "redvtp"), "contender - original": _points(staged, "original")}
        lines.append(line | {"original - RedVTP": _points(original, "redvtp")})
    return pd.DataFrame(lines)


def _points(row: pd.Series, name: str) -> str:
    """A difference in points with its interval, † where it is significant."""
    return rates.points(row, f"from_{name}", "†" if row[f"p_holm_{name}"] < ALPHA else "")


def search(run: RunContext) -> Result:
    """The committed search (see analysis.contender)."""
    return read_result(run.reference / "contender.json")


def search_table(searched: Result) -> pd.DataFrame:
    """What the search found: a line a setting; right answers over all families, in percent, a column a model and ratio.

    The last columns are over all models; settings are chosen by them, * marks the best. None where a family lacks one.
    """
    raw = pd.DataFrame(searched.rows)
    raw = raw.assign(hits=(raw["exact_match"] * raw["n"]).round())
    groups = raw[raw["setting"] != contender.NONE].groupby(["setting", "model", "ratio"], sort=False)
    share = (groups["hits"].sum() / groups["n"].sum())[groups.size() == raw["family"].nunique()]
    full, lines = raw[raw["setting"] == contender.NONE], []  # a row for each model and family
    for setting in dict.fromkeys(raw.loc[raw["setting"] != contender.NONE, "setting"]):
        line = {"setting": setting}
        for ratio in contender.RATIOS:
            for model in dict.fromkeys(raw["model"]):
                found = share.get((setting, model, ratio))
                line[f"{model}, {ratio:.0%}"] = None if found is None else f"{found:.0%}"
        for ratio in contender.RATIOS:
            own = raw[(raw["setting"] == setting) & (raw["ratio"] == ratio)]
            best = "*" if setting == contender.best(searched.rows, ratio) else ""
            complete = len(own) == len(full)
            line[f"all, {ratio:.0%}"] = f"{own['hits'].sum() / own['n'].sum():.1%}{best}" if complete else None
        lines.append(line)
    return pd.DataFrame(lines)


def table_caption(run: RunContext, result: Result) -> str:
    """What the table's columns are."""
    return caption(
        run, result,
        "exact match in percent; differences are paired, in points; brackets: 95% intervals; †: significant (exact "
        f"sign test, p below {ALPHA} after Holm's adjustment over all families and ratios of all models, or over all "
        "models and ratios where families are taken together)",
    )  # fmt: skip


def search_caption(run: RunContext, searched: Result) -> str:
    """What the search's table is."""
    return caption(
        run, searched,
        "development samples; right answers in percent, every setting at RedVTP's planned FLOPs; the best setting of "
        "each ratio (*) goes to the test samples; - where no budget is that cheap, for one family at least",
    )  # fmt: skip


def sentence(result: Result) -> str:
    """Whether the staged method beats RedVTP at equal FLOPs, and RedVTP with original positions."""
    rows = frame(result)
    rows = rows[rows["family"] == ALL]
    told = []
    for ratio in sorted(dict.fromkeys(rows["ratio"]), reverse=True):
        staged = rows[(rows["ratio"] == ratio) & ~rows["setting"].isin(PAIRS)]
        told.append(
            f"**At the FLOPs of r = {ratio:.0%}** development samples chose \"{staged['setting'].iloc[0]}\". On test "
            f"samples, compared with RedVTP as the official code has it, it is {_verdict(staged, 'redvtp')}. Compared "
            f"with RedVTP with original positions it is {_verdict(staged, 'original')}. Counted on the test samples, "
            f"its FLOPs are {staged['flops_to_redvtp'].min():.2f} to {staged['flops_to_redvtp'].max():.2f} times "
            "RedVTP's: other answers end after other steps."
        )
    return "\n\n".join([*told, "Points of exact match over all families, paired, 95% intervals in brackets; told apart "
                        "by exact sign tests after Holm over all models and ratios. Small models; an 8B model may "
                        "behave otherwise."])  # fmt: skip


def _verdict(staged: pd.DataFrame, name: str) -> str:
    is_real, points = staged[f"p_holm_{name}"] < ALPHA, staged[f"from_{name}"]
    kinds = {"better on": is_real & (points > 0), "worse on": is_real & (points < 0), "not told apart on": ~is_real}
    told = [f"{word} {_listed(staged[chosen], name)}" for word, chosen in kinds.items() if chosen.any()]
    return rates.listed(told)


def _listed(staged: pd.DataFrame, name: str) -> str:
    return rates.listed(f"{row['model']} ({_points(row, name).replace('†', '')})" for _, row in staged.iterrows())
