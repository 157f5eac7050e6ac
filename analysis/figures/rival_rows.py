"""Rival methods: how each is drawn and called, and the rows that figures, tables and sentences share."""

from __future__ import annotations

import pandas as pd

from analysis import plots
from analysis.comparisons import difference, holm, named, rate, sign_test
from analysis.results import Result

GROUPS = {
    "masked rows rate": {
        "redvtp": plots.METHODS["redvtp"],
        "staged": plots.Look("staged, as chosen", plots.RED, "*", ""),
        "llada_fastv": plots.Look("LLaDA-FastV", plots.GREEN, "s", "--"),
        "fastv": plots.Look("FastV, once", plots.ORANGE, "D", "-."),
        "fastv_each": plots.Look("FastV, each step", plots.SKY, "d", ":"),
        "maskkv": plots.Look("MaskKV (one set)", plots.PINK, "p", ":"),
    },
    "text or a guide rates": {
        "sparsevlm": plots.Look("SparseVLM, once", plots.GREEN, "s", "-."),
        "sparsevlm_each": plots.Look("SparseVLM, each step", plots.BLUE, "v", ":"),
        "pyramiddrop": plots.Look("PyramidDrop", plots.ORANGE, "^", ":"),
        "zipvl": plots.Look("ZipVL", plots.PINK, "h", "-."),
        "trim_projector": plots.Look("TRIM (projector)", plots.RED, "d", ":"),
        "sgl": plots.Look("SGL (AR guide)", plots.SKY, "P", "--"),
    },
    "likeness or norms": {
        "divprune": plots.Look("DivPrune", plots.PINK, "D", "--"),
        "tome": plots.Look("ToMe (projector)", plots.SKY, "v", "--"),
        "d3tom": plots.Look("D3ToM", plots.GREEN, "P", ":"),
        "vnorm": plots.Look("V-norm", plots.ORANGE, "<", ":"),
    },
    "controls, schedules": {
        "random": plots.Look("random", plots.GREY, "<", ":"),
        "uniform": plots.METHODS["uniform"],
        "oracle": plots.METHODS["oracle"],
        "vtw": plots.Look("VTW, once", plots.BLACK, "X", ":"),
        "vtw_each": plots.Look("VTW, each step", plots.PINK, "P", ":"),
        "late": plots.Look("late, half of the steps", plots.RED, "o", ":"),
        "layer_skipping": plots.Look("layer skipping", plots.ORANGE, "s", ":"),
    },
}
"""Methods as figures show them: in a column a group, told apart within it."""

LOOKS = {name: look for group in GROUPS.values() for name, look in group.items()} | {"none": plots.METHODS["none"]}
KEY = ("origin", "model", "family", "method", "keep", "start", "change", "steps", "comparison")
MEANS = ("score", "evidence_recall", "open", "tokens_fed", "flops_ratio", "tflops_8b", "share_8b", "after")
ALPHA = 0.05


def label(method: str) -> str:
    """A method as tables and figures name it."""
    return LOOKS.get(method, plots.look(method)).label


def frame(result: Result) -> pd.DataFrame:
    """A row for each model, family and arm; several seeds are pooled, intervals from the pooled answers.

    `share` is of unpruned exact match in as many steps; `p_holm` is the exact sign test's p of the difference, adjusted
    by Holm for all differences of the model at once (`tests`).
    """
    rows = pd.DataFrame(result.rows)
    rows = rows.assign(start=rows["start"].fillna("none"))
    found = []
    for key, part in rows.groupby(list(KEY), sort=False):
        n, hits = int(part["n"].sum()), round(float((part["exact_match"] * part["n"]).sum()))
        told = dict(zip(KEY, key)) | {"n": n} | named("exact_match", rate(hits, n))
        told |= {name: pd.to_numeric(part[name]).mean() for name in MEANS}
        if part["gained"].isna().all():
            apart = dict.fromkeys(("difference", "difference_low", "difference_high", "gained", "lost", "p"))
        else:
            gained, lost = int(part["gained"].sum()), int(part["lost"].sum())
            apart = named("difference", difference(gained, lost, n))
            apart |= {"gained": gained, "lost": lost, "p": sign_test(gained, lost)}
        found.append(told | apart)
    made = pd.DataFrame(found)
    numbers = ["difference", "difference_low", "difference_high", "p"]
    made[numbers] = made[numbers].astype(float)
    full = made[(made["method"] == "none") & (made["start"] == "none")].set_index(["model", "family", "steps"])
    whole = [full.loc[place, "exact_match"] for place in zip(made["model"], made["family"], made["steps"])]
    made["share"] = [own / all_ if all_ else float("nan") for own, all_ in zip(made["exact_match"], whole)]
    made["p_holm"], made["tests"] = float("nan"), 0
    for model in made["model"].unique():
        tested = made[(made["model"] == model) & made["p"].notna()].index
        made.loc[tested, "p_holm"] = holm(list(made.loc[tested, "p"]))
        made.loc[tested, "tests"] = len(tested)
    return made


def plain(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the study's tables: no intervention, no comparison, the family's own number of steps."""
    own = rows[(rows["change"] == "none") & (rows["comparison"] == "none")]
    most = own.groupby("family")["steps"].transform("max")
    return own[own["steps"] == most]


def models_of(rows: pd.DataFrame) -> list[str]:
    """Models in the result's order."""
    return list(dict.fromkeys(rows["model"]))
