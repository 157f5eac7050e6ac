"""Rival methods and schedules: arms that share an unpruned run, their summary, the published order, and the figures."""

from __future__ import annotations

import dataclasses
import json

import pandas as pd
import pytest
import torch

from analysis import answers, benchmarks, guides, paths, plots, profiles, published, rival_arms, rival_order, rivals
from analysis.agreement import compare
from analysis.figures import rival_rows as shared
from analysis.figures import rival_tables as tables
from analysis.figures import rival_words as words
from analysis.figures import rivals as figure
from analysis.profiles import RunContext, run_context
from analysis.results import Result
from analysis.rival_arms import Arm
from analysis.verdicts import cases, reading
from analysis.verdicts.cases import FAILS, HOLDS
from redvtp.flops import LanguageFormula
from redvtp.models.published import true_config
from redvtp.plans import Task, forwards, planned, stages
from tests.untrained import untrained

LAYERS = 6  # as the mini models have


@pytest.fixture(scope="module")
def model():
    return untrained(LAYERS)


# arms


@pytest.mark.parametrize("layers", [6, 32])
@pytest.mark.parametrize("wide", [False, True])
def test_arms_are_told_apart_and_can_be_run(layers, wide):
    for family in ("doc", "chart", "scene"):
        steps = benchmarks.get(family).protocol.steps
        found = rival_arms.arms(family, layers, wide)
        assert found[0] == Arm("none", 1.0, None, None)
        assert len({(*arm.fields.items(), arm.steps) for arm in found}) == len(found)
        for arm in found:
            own = arm.steps or steps
            assert 0 <= arm.begins(own) <= arm.leaves(own, layers) <= max(1, own - 1)
            for cut in arm.pruner.cuts(own, layers) if arm.pruner else ():
                cut.check(own, layers)


def test_a_small_run_has_five_methods_and_what_the_claims_need():
    found = rival_arms.arms("doc", LAYERS, False)
    assert [arm.method for arm in found if arm.start == "first" and arm.comparison == "none"] == list(rival_arms.FIVE)
    assert {(arm.method, arm.start) for arm in rival_arms.arms("scene", LAYERS, False)} == {
        ("none", None), ("divprune", "half")
    }  # fmt: skip
    assert {arm.keep for arm in found} == {1.0, 0.25, 0.0}


def test_a_start_is_a_whole_number_of_steps():
    assert [rival_arms.begins(start, 16) for start in ("first", "quarter", "half", "three quarters", "last step")] == [
        0, 4, 8, 12, 15
    ]  # fmt: skip
    assert rival_arms.begins("half", 2) == 1 and not rival_arms.has("quarter", 2)
    with pytest.raises(ValueError, match="start 'quarter': 2 steps have none"):
        rival_arms.begins("quarter", 2)


def test_late_pruning_and_layer_skipping_cost_as_much(model):
    """At the published shape and at that of the models that run."""
    for layers, config, task in (
        (6, model.host.config.text_config, Task(380, 30, 32, 16)),
        (32, true_config("llada_v").text_config, Task(3699, 80, 32, 16)),
    ):
        spent = {}
        for arm in rival_arms.arms("doc", layers, True):
            if arm.comparison not in ("none", rival_arms.ORIGINAL):
                made = forwards(task, planned(arm.pruner, 16, layers), layers)
                spent[arm.comparison, arm.method] = stages(LanguageFormula(config), task, made).total
        assert len(spent) == 6 and max(spent.values()) < 1.05 * min(spent.values()), spent


# answers


@pytest.mark.parametrize(("family", "wide"), [("doc", False), ("scene", True)])
def test_each_arm_gives_what_a_run_of_its_own_gives(model, family, wide, monkeypatch):
    batch = benchmarks.get(family).samples("test", 2, 0)
    counts = answers.start(model, batch).visual_tokens
    guide = [torch.rand(count, generator=torch.Generator().manual_seed(0)) for count in counts]
    monkeypatch.setattr(guides, "scores", lambda samples: guide)
    steps = benchmarks.get(family).protocol.steps
    rows = list(rivals.answer_batch(model, batch, wide))
    arms = rival_arms.arms(family, LAYERS, wide)
    assert len(rows) == len(arms) * len(batch)
    for arm in arms:
        own = arm.steps or steps
        mine = [row for row in rows if arm.fields.items() <= row.items() and row["steps"] == own]
        assert [row["index"] for row in mine] == [sample.index for sample in batch]
        if arm.change != "none":
            continue
        run = answers.start(model, batch, arm.pruner, extras={"guide": guide}, stop=(), steps=own)
        for row, result in zip(mine, run.run(), strict=True):
            assert (row["prediction"], row["flops"]) == (model.answer(result).text, result.flops), arm


def test_a_change_begins_with_its_start(model):
    batch = benchmarks.get("chart").samples("test", 1, 0)
    arm = Arm("none", 1.0, "half", None, rival_arms.NO_ANSWERS)
    trunk = answers.start(model, batch, stop=())
    assert arm.leaves(16, LAYERS) == arm.begins(16) == 8
    for _ in range(8):
        trunk.step()
    for change, everywhere in ((rival_arms.NO_ANSWERS, False), (rival_arms.HIDDEN, True)):
        fork = rivals._fork(trunk, dataclasses.replace(arm, change=change))
        assert fork.state.unseen.everywhere == everywhere and fork.state.unseen.columns.sum() == 8
    assert trunk.state.unseen is None


def test_all_steps_happen_and_the_answer_opens_to_the_end(model):
    batch = benchmarks.get("scene").samples("test", 2, 0)
    rows = list(rivals.answer_batch(model, batch, False))
    assert {row["steps"] for row in rows} == {2}
    trunk = answers.start(model, batch, stop=())
    trunk.run()
    shown = rivals.open_shares(model, trunk)
    assert len(shown) == 3
    for first, last in zip(shown[0], shown[2], strict=True):
        assert first in (None, 1.0) and last in (None, 0.0)


# summary


def answered(right: int, n: int = 40, **fields) -> list[dict]:
    """Rows of `n` answers, the first `right` of them right."""
    row = {"host": "llada_v", "model": "llada_v", "origin": "from_scratch", "family": "doc", "split": "test",
           "seed": 0, "steps": 16, "after": 0, "flops": 8, **rivals.UNPRUNED, **fields}  # fmt: skip
    means = dict.fromkeys(rivals.MEANS, 0.5)
    return [row | means | {"index": i, "exact_match": i < right} for i in range(n)]


def test_summary_by_hand():
    vtw = {"method": "vtw", "keep": 0.0, "start": "half", "flops": 4}
    rows = answered(40) + answered(30, method="divprune", keep=0.25, start="half") + answered(20, **vtw)
    rows += answered(8, **vtw, change="no answer attention") + answered(36, start="half", change="no answer attention")
    rows += answered(30, steps=4) + answered(12, **vtw | {"steps": 4})
    found = list(rivals.summarise(rows, False))
    assert [row["exact_match"] for row in found] == [1.0, 0.75, 0.5, 0.2, 0.9, 0.75, 0.3]
    assert [row["difference"] for row in found] == [
        None, -0.25, -0.5, pytest.approx(-0.3), pytest.approx(-0.1), None, pytest.approx(-0.45)
    ]  # fmt: skip
    assert [(row["gained"], row["lost"]) for row in found[:4]] == [(None, None), (0, 10), (0, 20), (0, 12)]
    assert found[3]["difference_low"] < -0.3 < found[3]["difference_high"] < 0
    assert [row["flops_ratio"] for row in found] == [1.0, 1.0, 0.5, 0.5, 1.0, 1.0, 0.5]
    assert found[0]["share_8b"] == 1.0 and 0.5 < found[2]["share_8b"] < found[1]["share_8b"] < 0.7
    assert found[3]["share_8b"] == found[2]["share_8b"]


def test_an_empty_answer_has_nothing_open():
    rows = answered(40)
    for row in rows[:39]:
        row["open"] = None
    (row,) = rivals.summarise(rows, False)
    assert row["open"] == 0.5


# the published order


def test_every_cell_of_the_published_tables_is_there():
    assert published.missing() == set()
    cells = {(one.model, one.benchmark, one.method, one.keep, one.start): one for one in published.scores()}
    tome = cells["LLaDA-V", "AVG_relative", "tome", 0.5, "first"]
    assert (tome.score, tome.faster) == (91.3, -0.4)
    late = cells["LLaDA-V", "DocVQA", "divprune", 0.25, "half"]
    assert (late.score, late.share) == (83.1, pytest.approx(83.1 / 83.9))
    assert cells["LaViDa-Dream", "InfoVQA", "vtw", 0.0, "three quarters"].score == 18.3


def test_shares_of_the_published_scores_give_its_averages():
    """The study's own averages are the means of its shares, so that what we read is what it means."""
    shares: dict[tuple, list[float]] = {}
    for one in published.scores():
        if one.start == "first":
            cell = (one.model, one.method, one.keep, one.benchmark == published.AVERAGE)
            shares.setdefault(cell, []).append(one.share)
    for (model, method, keep, average), own in shares.items():
        if not average:
            printed = shares[model, method, keep, True][0]
            assert sum(own) / len(own) == pytest.approx(printed, abs=0.002), (model, method, keep)


def ordering(rates: dict[str, float], origin: str = "from_scratch") -> list[dict]:
    """Answers of one family from the first step at 25%, with these rates."""
    rows = answered(40, origin=origin)
    for method, rate in rates.items():
        rows += answered(round(40 * rate), method=method, keep=0.25, start="first", origin=origin)
    return rows


def test_the_same_order_has_tau_1_and_the_reverse_minus_1(monkeypatch):
    monkeypatch.setattr(rival_order, "RESAMPLES", 100)
    best = ["tome", "divprune", "sparsevlm", "trim_projector", "fastv"]  # LLaDA-V at 25%
    rates = (0.9, 0.7, 0.5, 0.3, 0.1)
    same, alike = rival_order.compare_all(ordering(dict(zip(best, rates))))
    reverse, _ = rival_order.compare_all(ordering(dict(zip(best[::-1], rates))))
    assert (alike["among"], alike["methods"], alike["kendall"]) == ("alike", 3, pytest.approx(1))
    assert "tome" not in alike["order"] and "trim" not in alike["published_order"]
    assert (same["kendall"], reverse["kendall"]) == (pytest.approx(1), pytest.approx(-1))
    assert same["chance"] == pytest.approx(1 / 120) and reverse["chance"] == 1.0
    assert same["published_order"].startswith("tome 87%, divprune 79%") and same["order"].startswith("tome 90%")
    assert -1 <= same["kendall_low"] <= 1.0 == same["kendall_high"]
    assert (same["methods"], same["published"], same["undefined"]) == (5, "LLaDA-V", 0)


def test_the_interval_tells_how_far_the_order_hangs_on_samples(monkeypatch):
    monkeypatch.setattr(rival_order, "RESAMPLES", 200)
    methods = ["tome", "divprune", "sparsevlm", "trim_projector", "fastv"]
    wide, narrow = (rival_order.compare_all(ordering(dict(zip(methods, rates))))[0]
                    for rates in ((0.5, 0.49, 0.48, 0.47, 0.46), (1.0, 0.75, 0.5, 0.25, 0.0)))  # fmt: skip
    assert wide["kendall_high"] - wide["kendall_low"] > narrow["kendall_high"] - narrow["kendall_low"]


def test_chance_counts_ties():
    """Of the orders of (1, 0, 0) three in six have the 1 first, as theirs has."""
    assert rival_order.chance((1.0, 0.0, 0.0), (3.0, 2.0, 1.0)) == pytest.approx(1 / 3)
    assert rival_order.chance((0.0, 1.0, 0.0), (3.0, 2.0, 1.0)) == pytest.approx(2 / 3)


def test_equal_values_have_no_order(monkeypatch):
    monkeypatch.setattr(rival_order, "RESAMPLES", 20)
    (row,) = rival_order.compare_all(ordering(dict.fromkeys(["tome", "divprune", "fastv"], 0.0)))
    assert row["kendall"] is row["kendall_low"] is row["chance"] is None and row["undefined"] == 1.0


def test_too_few_methods_give_no_row_and_origins_are_compared_with_their_like():
    assert rival_order.compare_all(ordering({"tome": 0.5, "divprune": 0.4})) == []
    (row,) = rival_order.compare_all(ordering({"tome": 0.5, "divprune": 0.4, "fastv": 0.3}, "autoregressive"))
    assert row["published"] == "LaViDa-Dream"


def test_a_late_start_has_vtw_among_its_methods(monkeypatch):
    monkeypatch.setattr(rival_order, "RESAMPLES", 20)
    rows = answered(40)
    for method, keep, rate in (("divprune", 0.25, 0.9), ("fastv", 0.25, 0.5), ("vtw", 0.0, 0.4), ("redvtp", 0.25, 1.0)):
        rows += answered(round(40 * rate), method=method, keep=keep, start="half")
    row, alike = rival_order.compare_all(rows)
    assert alike["methods"] == row["methods"] and alike["kendall"] == row["kendall"]
    assert (row["start"], row["methods"]) == ("half", 3)
    assert row["published_order"].startswith("divprune") and row["kendall"] == pytest.approx(1.0)


# the measurement


def small(monkeypatch, model, tmp_path, mode: str = "quick") -> RunContext:
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(paths, "DATA", tmp_path / "data")
    monkeypatch.setattr(answers, "model", lambda name: model)
    monkeypatch.setattr(answers, "weights_hash", lambda name: name)
    monkeypatch.setattr(rival_arms, "LONG", ())
    monkeypatch.setattr(rival_arms, "SHORT", ("scene",))
    monkeypatch.setitem(profiles.MODES, mode, profiles.Size(n=4, seeds=(0,)))
    return RunContext(dataclasses.replace(run_context().profile, models=("mini/a", "mini/b")), mode)


def put(tmp_path, name: str) -> None:
    (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "data" / name / "config.json").touch()


def test_the_measurement_runs_and_says_which_model_is_not_there(model, tmp_path, monkeypatch):
    run = small(monkeypatch, model, tmp_path)
    put(tmp_path, "mini/a")
    result = rivals.measure(run)
    assert {(row["method"], row["start"], row["n"]) for row in result.rows} == {
        ("none", None, 2), ("divprune", "half", 2)
    }  # fmt: skip
    assert result.provenance["params"]["skipped"] == [rivals.AUTOREGRESSIVE]
    assert set(result.provenance["inputs"]) == {"weights a", "data scene", "answers a"}
    assert compare(result, result).differ == 0
    assert rival_order.measure(run).rows == []


def test_both_origins_are_run_where_they_are(model, tmp_path, monkeypatch):
    run = small(monkeypatch, model, tmp_path)
    for name in ("mini/a", "mini/b", rivals.AUTOREGRESSIVE):
        put(tmp_path, name)
    assert rivals.origins(run) == ({"mini/a": "from_scratch", rivals.AUTOREGRESSIVE: "autoregressive"}, [])
    assert {(row["model"], row["origin"]) for row in rivals.measure(run).rows} == {
        ("a", "from_scratch"), ("llada_ar", "autoregressive")
    }  # fmt: skip


def test_a_new_model_leaves_the_others_answers_as_they_are(model, tmp_path, monkeypatch):
    run = small(monkeypatch, model, tmp_path)
    put(tmp_path, "mini/a")
    rivals.measure(run)
    put(tmp_path, rivals.AUTOREGRESSIVE)
    asked = []
    batch = rivals.answer_batch
    monkeypatch.setattr(rivals, "answer_batch", lambda *given: asked.append(given) or batch(*given))
    assert {row["model"] for row in rivals.measure(run).rows} == {"a", "llada_ar"} and len(asked) == 1


# claims and figures


def study(wide: bool = False) -> Result:
    """A run of all arms on both origins, whose story is known.

    From scratch nothing is lost but by ToMe and by VTW, which loses half, and all where answers are hidden as well; the
    autoregressive model loses all with every method but layer skipping. Short answers lose a quarter.
    """
    rows = []
    for model, origin in (("llada_v", "from_scratch"), ("llada_ar", "autoregressive")):
        for family in (*rival_arms.LONG, *rival_arms.SHORT):
            part = []
            for arm in rival_arms.arms(family, LAYERS, wide):
                right = 40 if arm.method in ("none", "layer_skipping") else 0
                if origin == "from_scratch":
                    withdrawn = 24 if arm.steps is None else 12
                    right = {"vtw": withdrawn, "tome": 10, "layer_skipping": 20}.get(arm.method, 40)
                    right = 0 if arm.change != "none" and arm.method == "vtw" else right
                    right = 30 if family in rival_arms.SHORT and arm.method == "divprune" else right
                steps = arm.steps or benchmarks.get(family).protocol.steps
                named = {"model": model, "origin": origin, "family": family, "steps": steps}
                part += answered(5 * right, 200, **named, **arm.fields)
            rows += rivals.summarise(part, wide)
    return Result("rivals", rows, {"n": 100, "seeds": [0], "link": "mini", "params": {"skipped": []}}, rivals.BY)


@pytest.fixture(scope="module", params=[False, True], ids=["default", "full"])
def story(request) -> Result:
    return study(request.param)


def outcomes(result: Result) -> dict[str, list[list[str]]]:
    """The outcomes of each check on this result, by claim."""
    found = {}
    for paper in reading.read_claims(paths.PAPERS / "claims.yaml"):
        for claim in paper.claims:
            checks = [one for one in claim.rule.get("mini", ()) if one.result == "rivals"]
            if checks:
                found[claim.id] = [[case.outcome for case in cases.cases(one, result)] for one in checks]
    return found


def test_the_claims_rules_find_what_they_ask_for(story):
    found = outcomes(story)
    assert set(found) == {"D1", "D3", "D4", "D5", "D6"}
    hold = {name: [set(check) for check in checks] for name, checks in found.items()}
    assert hold["D1"] == [{HOLDS}, {HOLDS}, {HOLDS}] and hold["D3"] == [{HOLDS}]
    assert hold["D5"] == [{HOLDS}, {HOLDS}] and hold["D6"] == [{HOLDS}, {HOLDS}]
    assert len(found["D1"][0]) == 2 and len(found["D1"][1]) == 4


def test_without_the_second_model_its_checks_lack_rows(story):
    alone = dataclasses.replace(story, rows=[row for row in story.rows if row["origin"] == "from_scratch"])
    with pytest.raises(cases.Lacking, match="rivals has no difference with origin autoregressive"):
        outcomes(alone)


def test_a_claim_fails_where_the_cut_costs_nothing(story):
    rows = [row | {"difference": 0.0, "difference_low": -0.01, "difference_high": 0.01}
            if row["method"] == "vtw" and row["change"] != "none" else row for row in story.rows]  # fmt: skip
    assert set(outcomes(dataclasses.replace(story, rows=rows))["D5"][0]) == {FAILS}


def test_differences_are_adjusted_for_their_number(story):
    rows = shared.frame(story)
    tested = rows[rows["p"].notna()]
    assert (tested["p_holm"] >= tested["p"]).all() and (tested["p_holm"] > tested["p"]).any()
    for model, part in tested.groupby("model"):
        assert set(part["tests"]) == {len(part)}, model
    assert rows.loc[rows["p"].isna(), "p_holm"].isna().all()


def test_seeds_are_pooled_from_their_answers():
    rows = []
    for seed, right in ((0, 40), (1, 20)):
        part = answered(40, seed=seed) + answered(right, seed=seed, method="divprune", keep=0.25, start="half")
        rows += rivals.summarise(part, False)
    result = Result("rivals", rows, {"n": 100, "seeds": [0, 1], "link": "mini", "params": {}}, rivals.BY)
    _, pruned = shared.frame(result).to_dict("records")
    assert (pruned["n"], pruned["exact_match"], pruned["share"], pruned["lost"]) == (80, 0.75, 0.75, 20)
    assert pruned["difference"] == -0.25 and -0.4 < pruned["difference_low"] < pruned["difference_high"] < -0.1


def test_the_sentence_says_the_story(story):
    said = words.sentence(story)
    assert "**llada_v** (from scratch, n = 200 a family, doc and info)" in said
    assert "DivPrune 100%" in said and "ToMe (projector) 25%" in said
    late = said.partition("Pruned from half of the steps on: ")[2]
    assert "DivPrune 100%" in late and "VTW, once 60%" in late
    changes = "No answer attention from half of the steps on changes exact match, with visual tokens withdrawn as well "
    assert f"{changes}in doc by -60 points [" in said and "with all visual tokens there in doc by +0 points" in said
    assert "With VTW from half of them on, 30% in 4 steps and 60% in 16 steps of the unpruned rate are left." in said
    assert "late pruning is right, against layer skipping: ranked by masked rows 100% against 50%" in said
    assert "**llada_ar** (from an autoregressive model" in said and "Not run" not in said
    assert "ranked by masked rows 0% against 100%" in said


def test_the_sentence_says_which_model_is_not_there(story):
    params = {"params": {"skipped": [rivals.AUTOREGRESSIVE]}}
    there = dataclasses.replace(story, provenance=story.provenance | params)
    assert words.sentence(there).endswith("Not run, for its folder is not there: mini/llada_ar.")


def test_the_figure_and_the_tables(story, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    run = run_context()
    drawn = figure.draw(story, run)
    assert drawn.get_figwidth() == plots.WIDTH["page"] and len(drawn.axes) == 2 * len(shared.GROUPS)
    legends = [axis.get_legend() for axis in drawn.axes if axis.get_legend()]
    methods = {row["method"] for row in story.rows if row["share_8b"] and row["family"] == "doc"} - {"none"}
    assert {text.get_text() for legend in legends for text in legend.get_texts()} == set(map(shared.label, methods))
    pooled = figure._together(shared.frame(story).query("family in ('doc', 'info')"))
    shown = pooled.query("model == 'llada_v' and method == 'tome' and start == 'first' and keep == 0.25").iloc[0]
    assert (shown["n"], shown["exact_match"]) == (400, 0.25)
    table, late, beside = tables.table(story), tables.late_table(story), tables.published_table(story)
    own = table[(table["model"] == "llada_v") & (table["r"] == "25%")].set_index("method")
    tome = own.loc["ToMe (projector)"]
    assert tome["doc"].startswith("25† [") and tome["8B study"] == "87%"
    line = late[(late["model"] == "llada_v") & (late["family"] == "doc") & (late["method"] == "VTW, once 0%")].iloc[0]
    assert line["half"] == "60%†" and line["8B half"] == "96% (80.9)"
    assert late.iloc[0]["method"] == "(answer still masked)" and late.iloc[0]["half"] == "50%"
    cell = beside[(beside["benchmark"] == "DocVQA") & (beside["method"] == "DivPrune") & (beside["start"] == "half")]
    assert dict(zip(cell["8B model"], cell["8B score"])) == {"LLaDA-V": 83.1, "LaViDa-Dream": 23.9}
    stay = tables.positions_table(story)
    wide = "original positions" in {row["comparison"] for row in story.rows}
    assert len(stay) == (2 * 2 * 5 if wide else 0)
    if wide:
        moved = stay[(stay["model"] == "llada_v") & (stay["method"] == "ToMe (projector)")].iloc[0]
        assert moved["compact"].startswith("25†") and moved["original - unpruned"] == "-75"
    causes = tables.causes_table(story)
    assert {"no answer attention"} <= set(causes["change"]) and {4, 16} <= set(causes["steps"])
    text = plots.save_table(table, "tab_rivals", run, tables.table_caption(run, story, "what"))[0].read_text()
    assert text.startswith("n = 200 a family;") and "Holm" in text
    assert len(tables.long_table(story)) == len(story.rows)


def test_the_order_is_told_or_that_there_is_none():
    result = Result("rival_order", [], {"n": 4, "seeds": [0], "link": "mini"}, rival_order.BY)
    assert "here nowhere" in words.order_sentence(result) and tables.order_table(result).empty
    (row,) = rival_order.compare_all(ordering({"tome": 0.9, "divprune": 0.5, "fastv": 0.1}))
    (flat,) = rival_order.compare_all(ordering(dict.fromkeys(["tome", "divprune", "fastv"], 0.0)))
    said = words.order_sentence(dataclasses.replace(result, rows=[row, flat]))
    assert "llada_v beside LLaDA-V, first at 25%, 3 methods: +1.00 [" in said
    assert "all values of one side are equal" in said


def test_the_cost_of_selecting_is_read_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    run = run_context()
    assert tables.scoring_table(run) is None
    run.reference.mkdir()
    cost = {"method": "divprune", "reads_attention": False, "forward": 1.0, "probe": 0.0, "select": 0.1, "apply": 0.02,
            "total": 0.12, "share": 0.12, "limit": 0.15, "within": True}  # fmt: skip
    (run.reference / "scoring_cost.jsonl").write_text(json.dumps(cost) + "\n")
    (row,) = tables.scoring_table(run).to_dict("records")
    assert (row["method"], row["select (ms)"], row["share of a forward"]) == ("DivPrune", pytest.approx(100), 0.12)
    assert isinstance(tables.scoring_table(run), pd.DataFrame)
