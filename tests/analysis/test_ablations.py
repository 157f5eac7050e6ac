"""Ablations: changes of the default, forks that share its steps, comparisons, and a figure whose story is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import redvtp
from analysis import ablations, answers, benchmarks, paths, plots, profiles
from analysis.agreement import compare
from analysis.comparisons import difference, holm, sign_test
from analysis.figures import ablations as figure
from analysis.profiles import RunContext, run_context
from analysis.results import Result
from redvtp.selection import Cut, View
from tests.untrained import untrained


@pytest.fixture(scope="module")
def model():
    return untrained()


def test_every_change_differs_from_the_default_in_one_field():
    chosen = ablations.variants(16, 6)
    assert len(set(chosen.values())) == len(chosen) == 1 + 4 + 1 + 3 + 6 + 4 + 1 + 2
    default = vars(chosen[ablations.DEFAULT])
    for (factor, setting), pruner in chosen.items():
        changed = {name for name, value in vars(pruner).items() if value != default[name]}
        wanted = {"default": set(), "over rows": set(), "guide rows": {"rows"}, "protected": {"protect"}}
        assert changed == wanted.get(factor, {factor}), setting
    assert chosen["layers", "late"].layers == (5, 6) and chosen["layers", "layer 2"].layers == (2,)
    assert not any(factor == "step" for factor, _ in ablations.variants(2, 6))
    assert {pruner.step for pruner in ablations.variants(8, 6).values()} == {1, 2, 4}


def test_the_maximum_over_rows_reads_masked_rows_only():
    attention = torch.tensor([[[0.1, 0.2, 0.0], [0.3, 0.1, 0.0], [0.9, 0.9, 0.9]]])
    undecided = torch.tensor([[True, True, False]])
    view = View(Cut(1), None, torch.arange(3)[None], torch.tensor([3]), undecided, ~undecided, [0], attention)
    assert ablations.MaxOverRows().score(view).tolist() == [pytest.approx([0.3, 0.2, 0.0])]
    assert ablations.MaxOverRows.name not in redvtp.pruning.METHODS  # an ablation, not a method


@pytest.mark.parametrize("key", [
    ("default", "default"), ("guide rows", "prompt+response"), ("guide rows", "committed"), ("layers", "layer 2"),
    ("over rows", "max"), ("positions", "original"), ("step", "step 2"), ("step", "step 4"),
])  # fmt: skip
def test_shared_steps_give_what_a_run_of_its_own_gives(model, shared, batch, key):
    pruner = dataclasses.replace(ablations.variants(16, 3)[key], keep=0.25)
    own = list(answers.rows_of(model, batch, "redvtp", pruner, answers.start(model, batch, pruner)))
    mine = [row for row in shared if (row["factor"], row["setting"]) == key]
    assert [{name: row[name] for name in own[0]} for row in mine] == own
    assert all(row["cut"] for row in mine)


@pytest.fixture(scope="module")
def batch():
    return benchmarks.get("chart").samples("test", 2, 0)


@pytest.fixture(scope="module")
def shared(model, batch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablations, "RATIOS", (0.25,))
        patch.setattr(ablations, "STEPS", (1, 2, 4))
        return list(ablations.answer_batch(model, batch))


def test_unpruned_rows_come_last_and_protection_that_does_not_fit_not_at_all(shared, batch):
    assert [(row["factor"], row["cut"]) for row in shared[-2:]] == [("none", False)] * 2
    keys = {(row["factor"], row["setting"]) for row in shared}
    assert ("protected", "newline") in keys and ("protected", "thumbnail") not in keys  # 144 are more than 25%
    assert len(shared) == len(batch) * (len(keys))


def answered(factor: str, setting: str, keep: float, hits: list[bool], family: str = "doc", cut: bool = True):
    """A row for each hit."""
    return [
        {"host": "h", "model": "m", "family": family, "split": "test", "seed": 0, "index": i, "factor": factor,
         "setting": setting, "keep": keep, "exact_match": hit, "cut": cut, "flops": 4 if factor == "none" else 1}
        | dict.fromkeys(ablations.MEANS, 0.5) for i, hit in enumerate(hits)
    ]  # fmt: skip


def test_summary_pairs_every_change_with_the_default():
    rows = (
        answered("default", "default", 0.5, [True, True, False, False])
        + answered("positions", "original", 0.5, [True, False, True, True])
        + answered("protected", "thumbnail", 0.5, [True])          # fitted one batch only
        + answered("step", "step 8", 0.5, [True] * 4, cut=False)   # no run lasted so long
        + answered("none", "none", 1.0, [True] * 4, cut=False)
    )
    default, changed, full = ablations.summarise(rows)
    assert (default["difference"], default["gained"], default["exact_match"]) == (None, None, 0.5)
    assert (changed["difference"], changed["gained"], changed["lost"]) == (0.25, 2, 1)
    assert changed["difference_low"] <= 0.25 <= changed["difference_high"]
    assert (full["factor"], full["keep"], full["difference"]) == ("none", 1.0, None)
    assert (changed["flops_ratio"], changed["cut"], full["cut"]) == (0.25, 1, 0)


def test_differences_and_their_ends():
    found = difference(10, 2, 40)
    assert found[0] == pytest.approx(0.2) and 0 < found[1] < 0.2 < found[2] < 0.45
    middle, low, high = difference(0, 0, 50)
    assert middle == 0 and low == -high and 0.06 < high < 0.08  # what 50 pairs cannot exclude
    assert difference(50, 0, 50) == (1.0, pytest.approx(1 - 2 * high), 1.0)
    assert difference(0, 50, 50) == (-1.0, -1.0, pytest.approx(2 * high - 1))
    assert difference(0, 1, 50)[2] > 0.05  # one answer lost does not narrow what could be gained


def test_the_interval_of_differences_covers_where_few_answers_turn():
    generator = np.random.default_rng(0)
    for gain, loss in ((0.02, 0.06), (0.0, 0.05), (0.2, 0.1)):
        drawn = generator.multinomial(50, (gain, loss, 1 - gain - loss), size=1000).tolist()
        ends = {(gained, lost): difference(gained, lost, 50)[1:] for gained, lost, _ in drawn}
        inside = [ends[gained, lost][0] <= gain - loss <= ends[gained, lost][1] for gained, lost, _ in drawn]
        assert 0.93 < sum(inside) / len(inside) <= 1


def test_sign_test_and_holm_by_hand():
    assert sign_test(0, 0) == 1.0
    assert sign_test(6, 0) == pytest.approx(2 / 2**6) and sign_test(3, 3) == 1.0
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


@pytest.fixture
def story() -> Result:
    """Prompt rows lose all in doc and nothing in scene; a cut after step 2 changes nothing; no run reaches step 4."""
    rows = []
    for family, prompt in (("doc", False), ("scene", True)):
        part = []
        for keep in (0.5, 0.25):
            part += answered("default", "default", keep, [True] * 40, family)
            part += answered("guide rows", "prompt", keep, [prompt] * 40, family)
            part += answered("positions", "original", keep, [True] * 39 + [False], family)
            if family == "doc":
                part += answered("step", "step 2", keep, [True] * 40, family)
        rows += ablations.summarise(part + answered("none", "none", 1.0, [True] * 40, family, cut=False))
    return Result("ablations", rows, {"n": 100, "seeds": [0], "link": "mini", "params": {"steps": [1, 2, 4]}},
                  ablations.BY)


def test_the_table_adjusts_over_all_differences(story):
    rows = figure.table(story)
    told = rows[rows["p"].notna()]
    assert len(told) == 10
    prompt = told[(told["setting"] == "prompt") & (told["family"] == "doc")]
    assert list(prompt["difference"]) == [-1, -1]
    assert prompt["p_holm"].iloc[0] == pytest.approx(10 * prompt["p"].iloc[0])
    assert (told[told["factor"] == "positions"]["p_holm"] == 1).all()


def test_seeds_are_pooled_by_their_counts(story):
    twice = story.rows + [row | {"seed": 1} for row in story.rows]
    pooled = figure.table(dataclasses.replace(story, rows=twice))
    row = pooled[(pooled["setting"] == "original") & (pooled["family"] == "doc")].iloc[0]
    assert (row["n"], row["lost"], row["gained"], row["difference"]) == (80, 2, 0, -2 / 80)


def test_the_sentence_says_the_story(story):
    said = figure.sentence(story)
    assert "On m, n = 40 a family, 2 of 10 differences from the default are significant at 5% after Holm's" in said
    assert "Worse: guide rows: prompt (doc at 50%: -100 points and 1 more). Better: none." in said
    assert "Guide rows that are worse than the still-masked ones somewhere: prompt; better: none." in said
    assert "doc: step 1 100% at 25% of the FLOPs, step 2 100% at 25%." in said
    assert "No run lasted to a cut after step 4." in said


def test_the_figure_and_the_table_file(story, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    run = run_context()
    drawn = figure.draw(story, run)
    assert drawn.get_figwidth() == plots.WIDTH["page"]
    texts = [text.get_text() for text in drawn.axes[0].texts]
    assert texts == ["100", "100", "-100", "-100", "-2", "-2", "0", "0"]
    assert [text.get_weight() for text in drawn.axes[0].texts][1:4] == ["normal", "bold", "bold"]
    text = plots.save_table(figure.table(story), "ablations", run, figure.caption(run, story))[0].read_text()
    assert text.startswith("n = 40 a family;") and "| positions  | original" in text


def test_the_measurement_runs(model, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    monkeypatch.setattr(answers, "model", lambda name: model)
    monkeypatch.setattr(answers, "weights_hash", lambda name: name)
    monkeypatch.setattr(ablations, "RATIOS", (0.5, 0.1))
    monkeypatch.setattr(ablations, "FAMILIES", ("scene",))
    monkeypatch.setitem(profiles.MODES, "quick", profiles.Size(n=6, seeds=(0,)))
    run = RunContext(dataclasses.replace(run_context().profile, models=("mini/a", "mini/b")), "quick")
    result = ablations.measure(run)
    assert {(row["model"], row["family"], row["n"]) for row in result.rows} == {("a", "scene", 3)}
    assert compare(result, result).differ == 0
    assert figure.sentence(result).endswith("an 8B model may behave otherwise.")
