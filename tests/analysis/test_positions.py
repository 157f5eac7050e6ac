"""Compact and original positions side by side: what is run, the summary, and a figure whose story is known."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from analysis import answers, benchmarks, hosts, paths, plots, positions, profiles
from analysis.agreement import compare
from analysis.figures import positions as figure
from analysis.profiles import run_context
from analysis.results import Result
from tests.untrained import untrained

PRUNED = len(positions.METHODS) * len(positions.RATIOS) * len(positions.POSITIONS)


@pytest.fixture(scope="module")
def model():
    return untrained()


def test_the_same_tokens_are_kept_both_ways():
    asked = [(one.name, one.keep.ratio, one.positions) for one in positions.pruners()]
    assert sorted(asked) == sorted(itertools.product(positions.METHODS, positions.RATIOS, positions.POSITIONS))
    pairs = zip(positions.pruners()[::2], positions.pruners()[1::2], strict=True)
    assert all(dataclasses.replace(compact, positions="original") == original for compact, original in pairs)


def test_forks_answer_as_runs_of_their_own(model):
    samples = benchmarks.get("scene").samples("test", 2, 0)
    rows = list(positions.answer_batch(model, samples))
    assert len(rows) == 2 * (1 + PRUNED)
    assert {row["positions"] for row in rows if row["method"] == "none"} == {None}
    for pruner in (None, *positions.pruners()):
        name = pruner.name if pruner else "none"
        alone = list(answers.rows_of(model, samples, name, pruner, answers.start(model, samples, pruner)))
        place = alone[0]["method"], alone[0]["keep"], alone[0]["positions"]
        assert alone == [row for row in rows if (row["method"], row["keep"], row["positions"]) == place]


def test_both_ways_are_two_runs(model):
    batch = benchmarks.get("doc").samples("test", 1, 0)
    trunk = answers.start(model, batch, watch=answers.ATTENTION)
    trunk.step()
    compact, original = (trunk.fork(pruner) for pruner in positions.pruners()[:2])
    for run in (compact, original):
        run.step()
    assert compact.kept[0].equal(original.kept[0])
    assert len(compact.kept[0]) < trunk.visual_tokens[0]
    places = [run.state.positions[0] for run in (compact, original)]
    assert len(places[0]) == len(places[1])
    assert places[0].tolist() == list(range(len(places[0])))
    assert places[1].max() > places[0].max()


def answered(method, keep, where, right, n=40, family="doc", model="a"):
    """Rows of `n` answers to the same samples, those whose index is in `right` being right."""
    return [
        {"host": "llada_v", "model": model, "family": family, "split": "test", "seed": 0, "index": i, "method": method,
         "positions": where, "keep": keep, "exact_match": i in right} | dict.fromkeys(positions.MEANS, 0.5)
        for i in reversed(range(n))
    ]  # fmt: skip


def test_summary_by_hand():
    rows = answered("none", 1.0, None, range(40)) + answered("redvtp", 0.5, "compact", range(10))
    rows += answered("redvtp", 0.5, "original", range(4, 34))
    whole, compact, original = positions.summarise(rows)
    assert (whole["positions"], whole["exact_match"], whole["from_unpruned"]) == ("none", 1.0, None)
    assert whole["difference"] is compact["difference"] is compact["gained"] is None
    assert (compact["from_unpruned"], original["from_unpruned"]) == (-0.75, -0.25)
    assert (original["gained"], original["lost"], original["difference"], original["n"]) == (24, 4, 0.5, 40)
    assert 0 < original["difference_low"] < 0.5 < original["difference_high"] < 1


def told(kept: dict[str, dict[str, int]]) -> list:
    """Rows of models on which RedVTP keeps so many of 40 answers with such positions, and chance none."""
    rows = []
    for model, family in itertools.product(kept, ("doc", "info")):
        part = answered("none", 1.0, None, range(40), family=family, model=model)
        for method, keep, where in itertools.product(positions.METHODS, positions.RATIOS, positions.POSITIONS):
            right = kept[model][where] if method == "redvtp" and keep == 0.25 else 0
            part += answered(method, keep, where, range(right), family=family, model=model)
        rows += positions.summarise(part)
    return rows


@pytest.fixture
def story() -> Result:
    """Model a loses at 25% by compact positions alone, model b either way."""
    rows = told({"a": {"compact": 10, "original": 40}, "b": {"compact": 20, "original": 20}})
    return Result("positions", rows, {"n": 100, "seeds": [0], "link": "mini"}, positions.BY)


def test_the_sentence_says_the_story(story):
    first, second, both = figure.sentence(story).split("\n\n")
    assert first.startswith("a (n = 40 a family): at 25% RedVTP changes exact match by -75 [")
    assert "] against +0 [" in first and "differ from compact ones in doc at 25% (+75) and info at 25% (+75)." in first
    assert second.endswith("After adjustment, original positions differ from compact ones in no family.")
    assert "changes 2 of 24 rates" in both and "RedVTP 2 better and 0 worse of 12; random 0 better and 0 worse" in both


def test_a_loss_by_original_positions_is_told():
    rows = told({"a": {"compact": 40, "original": 10}})
    said = figure.sentence(Result("positions", rows, {"n": 100, "seeds": [0], "link": "mini"}, positions.BY))
    assert "doc at 25% (-75)" in said and "RedVTP 0 better and 2 worse of 6" in said


def test_seeds_are_pooled_by_their_counts(story):
    again = [row | {"seed": 1} for row in story.rows]
    rows = figure.frame(Result("positions", story.rows + again, {}, positions.BY))
    one = rows[(rows["model"] == "a") & (rows["positions"] == "original") & (rows["keep"] == 0.25)].iloc[0]
    assert (one["n"], one["gained"], one["lost"], one["difference"]) == (80, 60, 0, 0.75)
    alone = figure.frame(story)
    assert len(alone) == len(rows)
    before = alone[(alone["model"] == "a") & (alone["positions"] == "original") & (alone["keep"] == 0.25)].iloc[0]
    assert before["difference_low"] < one["difference_low"] < 0.75 < one["difference_high"] < before["difference_high"]


def test_the_figure_and_the_table(story, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    run = run_context()
    drawn = figure.draw(story, run)
    assert drawn.get_figwidth() == plots.WIDTH["page"]
    styles = [(line.get_linestyle(), line.get_fillstyle()) for line in drawn.axes[0].get_lines() if line.get_label()]
    assert {("-", "full"), ("--", "none")} <= set(styles)
    text = plots.save_table(figure.table(story), "positions", run, figure.table_caption(run, story))[0].read_text()
    assert text.startswith("n = 40 a family;")
    lines = [line for line in text.splitlines() if "| redvtp | 25% " in line]
    assert len(lines) == 4 and sum("+75 [" in line for line in lines) == 2


def test_the_measurement_runs(model, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    monkeypatch.setattr(answers, "model", lambda name: model)
    monkeypatch.setattr(answers, "weights_hash", lambda name: name)
    mini = dataclasses.replace(profiles.PROFILES["mini"], families=("scene", "choice"))
    monkeypatch.setitem(profiles.PROFILES, "mini", mini)
    monkeypatch.setitem(profiles.MODES, "quick", profiles.Size(n=4, seeds=(0,)))
    result = positions.measure(run_context(mode="quick"))
    assert len(result.rows) == 4 * (1 + PRUNED)
    assert {row["n"] for row in result.rows} == {2}
    names = ["llada_v", "llada_v_seed1", "lavida", "llada_ar"]
    assert list(dict.fromkeys(row["model"] for row in result.rows)) == names
    assert compare(result, result).differ == 0
    assert result.provenance["params"]["skipped"] == []


def test_a_model_that_is_not_there_is_left_out(monkeypatch):
    own, others = ["mini/llada_v", "mini/llada_v_seed1"], ["mini/lavida", "mini/llada_ar"]
    assert positions.models(run_context()) == ([*own, *others], [])
    monkeypatch.setattr(hosts, "LAVIDA", "mini/not_there")
    assert positions.models(run_context()) == ([*own, "mini/llada_ar"], ["mini/not_there"])
