"""Rival methods and schedules: arms that share an unpruned run, their summary, and the measurement."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from analysis import answers, benchmarks, guides, paths, profiles, rival_arms, rival_order, rivals
from analysis.agreement import compare
from analysis.profiles import RunContext, run_context
from analysis.rival_arms import Arm
from redvtp.flops import LanguageFormula
from redvtp.models.published import true_config
from redvtp.plans import Task, forwards, planned, stages
from tests.analysis.rival_rows import LAYERS, answered
from tests.untrained import untrained


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
