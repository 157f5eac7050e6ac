"""Failures, the effect of evidence recall, differences between methods and the main table, from made-up answers."""

from __future__ import annotations

import dataclasses
import json
from itertools import product

import matplotlib
import numpy as np
import pandas as pd
import pytest
from scipy import stats

matplotlib.use("Agg")

from analysis import failures, main_table, method_differences, plots, recall_effect
from analysis.comparisons import difference, holm
from analysis.figures import failures as failures_figure
from analysis.figures import main_table as main_figure
from analysis.figures import method_differences as differences_figure
from analysis.figures import rates
from analysis.figures import recall_effect as effect_figure
from analysis.paths import NOTEBOOKS
from analysis.profiles import run_context
from analysis.results import Result
from analysis.survival import LONG, SHORT, at_risk, cases, sets, things
from redvtp.metrics import wilson_interval

N = 40
KEEPS = (0.5, 0.25, 0.1, 0.05)
PROVENANCE = {"n": N, "seeds": [0], "link": "mini"}


def row(family: str, index: int, method: str, keep: float, right: bool, recall: float, model: str = "m") -> dict:
    return {
        "model": model, "family": family, "split": "test", "seed": 0, "index": index, "kind": "ab"[index % 2],
        "method": method, "keep": keep, "answer": "x" * (1 + index % 3), "prediction": "", "exact_match": right,
        "score": float(right), "answer_step": 1 if family == "scene" and index % 4 == 0 else 2,
        "evidence_recall": recall, "visual_tokens": 300 + 100 * (index % 2), "kept": 9, "steps": 2, "tokens_fed": 90.0,
        "layer": 3 if method == "llada_fastv" else None,
        "flops": 9,
    }  # fmt: skip


def story() -> list[dict]:
    """All right unpruned, but one; RedVTP right where half of the evidence is left, evidence first always, random
    never; recall is by index. In scene every fourth answer comes in step 1."""
    rows = []
    for family, i in product(("doc", "scene"), range(N)):
        recall = i / (N - 1)
        rows.append(row(family, i, "none", 1.0, i != 7, 1.0))
        for keep in KEEPS:
            rows.append(row(family, i, "redvtp", keep, recall >= 0.5, recall))
            rows.append(row(family, i, "random", keep, False, recall))
            rows.append(row(family, i, "oracle", keep, True, 1.0))
            rows.append(row(family, i, "llada_fastv", keep, i % 3 != 0, recall))
        rows.append(row(family, i, "shuffled", 0.25, False, recall))
        rows.append(row(family, i, "blank", 1.0, False, 1.0))
    return rows


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return story()


def result(name: str, found) -> Result:
    return Result(name, list(found), PROVENANCE)


@pytest.fixture(scope="module")
def survived(rows) -> Result:
    return result("failures", failures.summarise(failures.of_model(rows, "m")))


@pytest.fixture(scope="module")
def effect(rows) -> Result:
    return result("recall_effect", recall_effect.compute(failures.of_model(rows, "m", recall_effect.METHODS)))


@pytest.fixture(scope="module")
def differences(rows) -> Result:
    return result("method_differences", method_differences.compare(rows))


@pytest.fixture(scope="module")
def grid() -> Result:
    """LLaDA-FastV in the layer grid: best after layer 4, as good after 2 as after 3."""
    shares = {1: 0.1, 2: 0.3, 3: 0.3, 4: 0.9}
    cuts = [("none", None, 1.0, 1.0)] + [("llada_fastv", layer, 0.25, share) for layer, share in shares.items()]
    columns = ("method", "layer", "keep", "exact_match")
    return result("layer_grid", [dict(zip(columns, cut)) | {"model": "m", "family": "doc", "n": N, "flops_ratio": 0.5}
                                 for cut in cuts])  # fmt: skip


@pytest.fixture(scope="module")
def main(rows) -> Result:
    return result("main_table", main_table.summarise(rows))


def test_at_risk_is_right_unpruned_and_still_open(rows):
    risk = at_risk(rows, "redvtp")
    assert len([one for one in risk if one[1] == "doc"]) == N - 1
    assert {one[3] for one in risk if one[1] == "scene"} == {i for i in range(N) if i != 7 and i % 4}


def test_a_cut_inside_step_1_puts_answers_committed_there_at_risk(rows):
    risk = at_risk(rows, "llada_fastv")
    assert {one[3] for one in risk if one[1] == "scene"} == {i for i in range(N) if i != 7}
    assert at_risk(rows, "random") == at_risk(rows, "redvtp") < risk
    counts = {method: len([case for case in cases(rows, (method,)) if case.family == "scene"])
              for method in ("redvtp", "llada_fastv")}  # fmt: skip
    assert counts == {"redvtp": 29 * len(KEEPS), "llada_fastv": 39 * len(KEEPS)}


def test_cases_tell_what_is_on_the_page(rows):
    found = list(cases(rows, ("redvtp",)))
    assert len(found) == len(at_risk(rows, "redvtp")) * len(KEEPS)
    assert {case.things for case in found if case.family == "doc"} <= set(range(2, 9))
    assert all(case.things == things(case.family, "test", 0, case.index) for case in found[:5])
    assert set(sets(found)) == {"doc", "scene", LONG, SHORT}
    assert set(sets([case for case in found if case.family == "doc"])) == {"doc", LONG}


def test_survival_is_counted_in_every_group(survived):
    def one(**fields) -> dict:
        (found,) = [row for row in survived.rows if row.items() >= fields.items()]
        return found

    whole = one(family="doc", method="redvtp", keep=0.25, group="all")
    assert (whole["n"], whole["survived"]) == (N - 1, pytest.approx(20 / 39))
    assert (whole["survived_low"], whole["survived_high"]) == wilson_interval(20, 39)
    assert one(family="doc", method="random", keep=0.25, group="all")["survived"] == 0
    for group, value, survival in (
        ("evidence recall", "0% to 25%", 0), ("evidence recall", "75% to 100%", 1), ("evidence recall", "all", 1),
    ):  # fmt: skip
        assert one(family="doc", method="redvtp", keep=0.1, group=group, value=value)["survived"] == survival
    for group in ("kind", "things", "visual tokens", "answer length", "evidence recall"):
        parts = [row for row in survived.rows
                 if row.items() >= {"family": "doc", "method": "redvtp", "keep": 0.25, "group": group}.items()]
        assert sum(row["n"] for row in parts) == N - 1
    assert not [row for row in survived.rows if row["family"] == LONG and row["group"] == "kind"]


def test_bins_have_names_in_order():
    case = next(cases(story(), ("redvtp",)))
    named = [failures.recall_bin(dataclasses.replace(case, recall=recall)) for recall in (0.0, 0.25, 0.6, 0.999, 1.0)]
    assert [name for _, name in named] == ["0% to 25%", "25% to 50%", "50% to 75%", "75% to 100%", "all"]
    counts = [failures.thing_bin(dataclasses.replace(case, things=count)) for count in (2, 4, 5, 8)]
    assert counts == [(0, "up to 3"), (1, "4 to 5"), (1, "4 to 5"), (2, "6 or more")]


def test_auc_is_the_share_of_pairs_within_a_group():
    one = (np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, True, False, True]))
    assert recall_effect.auc([one]) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    easy = (np.array([0.9, 0.9]), np.array([True, True]))
    assert recall_effect.auc([one, easy]) == recall_effect.auc([one])
    assert recall_effect.auc([easy]) is None
    # Two groups whose levels differ, without an effect in either: pairs across them would tell one.
    flat = [(np.full(6, level), np.array([True, False] * 3)) for level in (0.2, 0.8)]
    assert recall_effect.auc(flat) == 0.5


def test_the_interval_holds_the_auc_and_mirrors():
    generator = np.random.default_rng(0)
    recall = generator.random(200)
    right = generator.random(200) < recall
    low, high = recall_effect.auc_interval([(recall, right)])
    assert 0.5 < low < recall_effect.auc([(recall, right)]) < high < 1
    assert recall_effect.auc_interval([(-recall, right)]) == pytest.approx((1 - high, 1 - low))
    assert recall_effect.auc_interval([(np.full(6, 0.5), np.array([True, False] * 3))]) is None


@pytest.mark.parametrize("won", [0, 3, 12])
def test_the_interval_of_lone_pairs_is_wilsons(won):
    """Groups of one right and one wrong answer each: the AUC is the rate of pairs won."""
    groups = [(np.array([0.2, 0.8]), np.array([place >= won, place < won])) for place in range(12)]
    assert recall_effect.auc_interval(groups) == pytest.approx(wilson_interval(won, 12))


def few_losers() -> tuple[np.ndarray, np.ndarray]:
    """89 answers that stay right, of which 59 keep all of their evidence, and 5 that turn wrong and all keep it."""
    return np.array([1.0] * 59 + [0.9] * 30 + [1.0] * 5), np.array([True] * 89 + [False] * 5)


def test_few_losers_that_are_all_alike_do_not_pass_for_certainty():
    few = few_losers()
    low, high = recall_effect.auc_interval([few])
    assert recall_effect.auc([few]) == pytest.approx(0.33, abs=0.01) and low < 0.2 and 0.5 < high
    assert recall_effect.mann_whitney([few]) == pytest.approx(0.13, abs=0.02)


def test_the_interval_covers_the_true_auc():
    generator, covered = np.random.default_rng(5), 0
    true = stats.norm.cdf(1 / 2**0.5)  # of two normal scores whose means are one standard deviation apart
    for _ in range(400):
        score = np.concatenate([generator.normal(1, 1, 80), generator.normal(0, 1, 12)])
        low, high = recall_effect.auc_interval([(score, np.arange(92) < 80)])
        covered += low <= true <= high
    assert 0.92 < covered / 400 < 0.98


def test_the_p_value_is_that_of_mann_whitney():
    recall, right = np.array([0.1, 0.4, 0.4, 0.9, 0.7, 0.4, 1.0]), np.array([0, 1, 0, 1, 1, 0, 1], bool)
    theirs = stats.mannwhitneyu(recall[right], recall[~right], method="asymptotic").pvalue
    assert recall_effect.mann_whitney([(recall, right)]) == pytest.approx(theirs)
    alike = (np.full(4, 0.3), np.array([True, False] * 2))
    one_sided = (np.array([0.2, 0.9]), np.array([True, True]))
    assert recall_effect.mann_whitney([(recall, right), alike, one_sided]) == pytest.approx(theirs)
    assert recall_effect.mann_whitney([alike]) is None
    assert recall_effect.mann_whitney([(recall, right)] * 4) < theirs


def test_the_slope_is_that_of_a_logistic_regression():
    generator = np.random.default_rng(1)
    groups = []
    for level in (-1.5, -0.5):
        recall = generator.random(4000)
        groups.append((recall, generator.random(4000) < 1 / (1 + np.exp(-(level + 3 * recall)))))
    slope, error = recall_effect.slope(groups)
    assert slope == pytest.approx(3, abs=4 * error) and 0.05 < error < 0.15
    assert recall_effect.slope([(np.array([0.1, 0.2, 0.8, 0.9] * 5), np.array([False, False, True, True] * 5))]) is None
    assert recall_effect.slope([(np.full(20, 0.5), np.array([True, False] * 10))]) is None
    assert recall_effect.slope([]) is None


def test_the_effect_is_none_without_both_outcomes(effect):
    by = {(row["family"], row["method"], row["keep"]): row for row in effect.rows}
    redvtp, random = by["doc", "redvtp", 0.25], by["doc", "random", 0.25]
    assert (redvtp["auc"], redvtp["auc_high"], redvtp["odds"]) == (1.0, 1.0, None)  # parted without overlap
    assert 0.8 < redvtp["auc_low"] < 0.95 and redvtp["p"] < 1e-6
    assert redvtp["correlation"] == pytest.approx(0.87, abs=0.03)
    assert random["auc"] is None and random["correlation"] is None and (random["n"], random["right"]) == (39, 0)
    fastv = by[LONG, "llada_fastv", 0.25]
    assert fastv["auc_low"] < 0.5 < fastv["auc_high"] and fastv["odds_low"] < 1 < fastv["odds_high"]
    assert 0.05 < fastv["p"] <= 1 and 0.05 < fastv["odds_p"] <= 1


def test_a_set_needs_ten_of_each_outcome(rows):
    found = failures.of_model(rows, "m", ("redvtp",))
    part = [case for case in found if case.family == "doc" and case.keep == 0.25]
    right, wrong = ([case for case in part if case.right is flag] for flag in (True, False))
    assert recall_effect.compute(right + wrong[:9])[0]["auc"] is None
    assert recall_effect.compute(right + wrong[:10])[0]["auc"] == 1.0


def test_holm_takes_each_methods_families_and_pooled_sets_apart(effect):
    for method, pooled in product(recall_effect.METHODS, (True, False)):
        part = [row for row in effect.rows
                if row["method"] == method and (row["family"] in (LONG, SHORT)) == pooled and row["p"] is not None]
        assert [row["p_holm"] for row in part] == holm([row["p"] for row in part])
        assert {row["tests"] for row in part} <= {len(part)}
    assert all(row["p_holm"] is None for row in effect.rows if row["p"] is None)


def test_differences_are_paired_and_adjusted(differences):
    by = {(row["family"], row["first"], row["second"], row["keep"]): row for row in differences.rows}
    one = by["doc", "random", "redvtp", 0.25]
    assert (one["n"], one["gained"], one["lost"], one["difference"]) == (N, 20, 0, 0.5)
    assert one["difference_low"] < 0.5 < one["difference_high"]
    assert by["doc", "none", "redvtp", 0.25]["lost"] == 19
    assert ("doc", "random", "shuffled", 0.25) in by and ("doc", "random", "shuffled", 0.5) not in by
    assert by["doc", "random", "shuffled", 0.25]["p_holm"] == 1
    assert [row["p_holm"] for row in differences.rows] == holm([row["p"] for row in differences.rows])
    assert {row["tests"] for row in differences.rows} == {len(differences.rows)}
    assert {row["layer"] for row in differences.rows if row["first"] == "llada_fastv"} == {3}
    assert {row["layer"] for row in differences.rows if row["first"] != "llada_fastv"} == {None}


def test_the_main_table_has_scores_differences_and_the_cost_at_8b(main):
    by = {(row["family"], row["method"], row["keep"]): row for row in main.rows}
    assert ("doc", "blank", 1.0) not in by and ("doc", "shuffled", 0.25) in by
    full, pruned = by["doc", "none", 1.0], by["doc", "redvtp", 0.25]
    assert (full["score"], full["difference"], full["share_8b"]) == (39 / 40, 0.0, 1.0)
    assert pruned["difference"] == pytest.approx(20 / 40 - 39 / 40)
    assert pruned["difference_low"] < pruned["difference"] < pruned["difference_high"] < 0
    assert pruned["score_low"] < 0.5 < pruned["score_high"]
    assert pruned["share_8b"] == pytest.approx(0.2956, abs=1e-4)
    assert by["scene", "redvtp", 0.25]["share_8b"] > 0.6  # two steps, of which the first is whole
    assert by["doc", "llada_fastv", 0.25]["share_8b"] < pruned["share_8b"]
    assert by["doc", "oracle", 0.25]["tflops_8b"] < pruned["tflops_8b"]  # it scores nothing


def test_the_cost_at_8b_is_that_of_the_compute_study():
    from analysis import compute

    rows = {(row["place"], row["keep"]): row for row in compute.compute("llada_v", 32, 16)}
    assert main_table.cost("redvtp", 0.25, 32, 16) == rows["after step 1", 0.25]["total"]
    assert main_table.cost("llada_fastv", 0.5, 32, 16) == rows["inside step 1, layer 16", 0.5]["total"]
    assert main_table.cost("none", 1.0, 32, 16) == rows["none", 1.0]["total"]


def test_intervals_of_scores_that_are_no_rates():
    low, high = main_table.mean([0.2, 0.4, 0.9] * 10)[1:]
    assert 0.2 < low < 0.5 < high < 0.9
    assert main_table.mean([1.0] * 10)[1] == wilson_interval(10, 10)[0]
    middle, low, high = main_table.gain([1.0] * 9, [0.5, 0.7, 0.9] * 3)
    assert middle == pytest.approx(-0.3) and low < middle < high < 0
    assert main_table.gain([1.0] * 9, [1.0] * 9) == difference(0, 0, 9)


def test_sentences_say_what_holds(survived, effect, differences, grid, main):
    said = failures_figure.sentence(survived, effect, differences, grid)
    assert f"of 39 {LONG} at risk, at 25%, 10% and 5%, RedVTP 51%, 51% and 51% and random 0%, 0% and 0%" in said
    assert "RedVTP above random in 8 of 8, above LLaDA-FastV in 0 of 8" in said
    assert "shuffled scores above random in 0 of 2" in said
    told = "(n = 10, mean recall 63%)"  # the next bin has nine
    assert f"at 25%, recall 50% to below 75%, RedVTP 100% [72%, 100%] {told} and random 0% [0%, 28%] {told};" in said
    assert "stay right than for those that turn wrong in 8 of the 8 pairs of family and ratio with at least 10" in said
    assert "Under random no pair of family and ratio has 10 answers that stay right and 10 that turn wrong" in said
    assert "LLaDA-FastV cuts after layer 3 here" in said
    assert "(layer_grid: mean of doc, n = 40 each) its exact match at 25% is 30% after that layer" in said
    assert "and higher after layer 4 (90%), so" in said  # as good after 2
    told = main_figure.sentence(main)
    assert "RedVTP at 50% (at the 8B shape 52% of the FLOPs at 32 tokens in 16 steps) below unpruned in doc" in told
    assert "cells of the paper's five tables are not known to us" in told


def test_recall_is_compared_at_the_same_ratio():
    """RedVTP alone has a higher bin at 50%, and no bin of 5% has enough of both."""
    columns = ("method", "keep", "place", "value", "n", "survived")
    values = (
        ("redvtp", 0.5, 3, "75% to 100%", 200, 1.0), ("redvtp", 0.5, 2, "50% to 75%", 20, 0.9),
        ("random", 0.5, 2, "50% to 75%", 30, 0.3), ("redvtp", 0.05, 2, "50% to 75%", 90, 0.4),
        ("random", 0.05, 2, "50% to 75%", 9, 0.1),
    )  # fmt: skip
    ends = {"survived_low": 0.0, "survived_high": 1.0, "recall": 0.6, "family": LONG, "group": "evidence recall"}
    said = failures_figure._same_recall(pd.DataFrame([dict(zip(columns, one)) | ends for one in values]))
    assert "at 50%, recall 50% to below 75%, RedVTP 90% [0%, 100%] (n = 20, mean recall 60%) and random 30%" in said
    assert "n = 200" not in said and "at 5%" not in said
    none = failures_figure._same_recall(pd.DataFrame([dict(zip(columns, values[0])) | ends]))
    assert none == "At no ratio do RedVTP and random have 10 long answers each in the same bin of evidence recall."


def told_effect() -> list[dict]:
    """Of doc at 5% the interval is off 0.5, yet the adjusted p value is not below 0.05; the last was not tested."""
    columns = ("family", "keep", "auc", "auc_low", "auc_high", "p_holm")
    values = (
        ("doc", 0.25, 0.8, 0.7, 0.9, 0.001), ("doc", 0.1, 0.2, 0.1, 0.3, 0.002), ("doc", 0.05, 0.64, 0.51, 0.74, 0.3),
        (LONG, 0.25, 0.8, 0.7, 0.9, 0.01), ("doc", 0.5, 0.5, None, None, None),
    )  # fmt: skip
    return [{"model": "m", "method": "redvtp", **dict(zip(columns, one))} for one in values]


def test_an_effect_is_told_after_the_adjustment():
    said = effect_figure.verdict(rates.of_first_model(result("recall_effect", told_effect())))
    assert "in 1 of the 3 pairs of family and ratio with at least 10 of both" in said
    assert "Holm's adjustment): doc at 25% (AUC 0.80); lower in 1: doc at 10% (AUC 0.20)." in said
    assert "Over all long answers its AUC (95% interval) is 0.80 [0.70, 0.90] at 25%." in said


def test_an_undefined_interval_has_no_bar():
    drawn = effect_figure.draw_auc(result("recall_effect", told_effect()), run_context())
    by_ratio = {axis.get_title(): axis.containers[0] for axis in drawn.axes}
    points, _, (bar,) = by_ratio["r = 50%"].lines
    assert list(points.get_xdata()) == [0.5] and not np.size(bar.get_segments())
    _, _, (bar,) = by_ratio["r = 10%"].lines
    assert bar.get_segments()[0][:, 0] == pytest.approx([0.1, 0.3])


def test_tables_and_figures_are_drawn(survived, effect, differences, main, tmp_path, monkeypatch):
    from analysis import paths

    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    run = run_context()
    figures = {
        "groups": failures_figure.draw_groups(survived, run),
        "recall": effect_figure.draw_recall(survived, run),
        "auc": effect_figure.draw_auc(effect, run),
        "main": main_figure.draw(main, run),
    }
    for name, figure in figures.items():
        assert figure.get_figwidth() == plots.WIDTH["page"] and figure.get_figheight() < 10
        (path,) = plots.save_figure(figure, name, run)
        assert path.stat().st_size > 15_000
    wide = main_figure.table(main)
    assert list(wide["method"][:2]) == ["no pruning", "RedVTP"] and "†" in wide["doc"][1]
    for frame in (failures_figure.table(survived), effect_figure.table(effect), differences_figure.table(differences),
                  wide, main_figure.long_table(main)):  # fmt: skip
        assert len(frame) and plots.markdown(frame)


@pytest.mark.parametrize("number", [11, 12, 13, 14])
def test_the_notebooks_are_thin_and_take_the_parameters(number):
    from analysis.notebooks import check_parameters, imported_modules, run_parameters

    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    check_parameters(path, run_parameters(run_context()))
    assert "analysis.figures" in imported_modules(path)
    cells = json.loads(path.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    assert "sentence(" in "".join(cells[-1]["source"])
