"""What the rivals' rows say: claims, figure, tables and sentences on a made-up story."""

from __future__ import annotations

import dataclasses
import json

import pandas as pd
import pytest

from analysis import benchmarks, paths, plots, rival_arms, rival_order, rivals
from analysis.figures import rival_rows as shared
from analysis.figures import rival_tables as tables
from analysis.figures import rival_words as words
from analysis.figures import rivals as figure
from analysis.profiles import run_context
from analysis.results import Result
from analysis.verdicts import cases, reading
from analysis.verdicts.cases import FAILS, HOLDS
from tests.analysis.rival_rows import LAYERS, answered, ordering


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
