"""One sample's run, watched: the trace, Figures 2 and 5 made of it, and the notebook that explores one question."""

from __future__ import annotations

import dataclasses
import json

import matplotlib
import pytest
import torch

matplotlib.use("Agg")

import redvtp
from analysis import answers, benchmarks, explore, framework, paths, plots, profiles, qualitative
from analysis.figures import explore as explore_figure
from analysis.figures import framework as framework_figure
from analysis.figures import qualitative as qualitative_figure
from analysis.figures import token_maps
from analysis.profiles import RunContext, run_context
from analysis.trace import Token, as_json, from_json, spelled, trace
from redvtp.sequence import VISUAL, count_kinds
from tests.untrained import untrained

NOTEBOOK = paths.NOTEBOOKS / "explore.ipynb"


@pytest.fixture(scope="module")
def host():
    return untrained()


@pytest.fixture
def patched(host, monkeypatch):
    monkeypatch.setattr(answers, "model", lambda name: host)
    monkeypatch.setattr(answers, "weights_hash", lambda name: name)
    monkeypatch.setattr(framework, "exact_match", lambda said, answer: True)
    monkeypatch.setattr(qualitative, "exact_match", lambda said, answer: False)
    return host


@pytest.fixture(scope="module")
def sample():
    return benchmarks.get("doc").sample("test", 0, 0)


@pytest.fixture(scope="module")
def traced(host, sample):
    return trace(host, answers.start(host, [sample], redvtp.RedVTP(keep=0.25), stop=()))


def test_a_trace_is_the_run(host, sample, traced):
    (result,) = answers.start(host, [sample], redvtp.RedVTP(keep=0.25), stop=()).run()
    assert traced.answer.ids == host.answer(result).ids
    assert traced.answer.kept.tolist() == result.kept.tolist()
    canvas = result.canvas.tolist()
    assert [host.host.tokenizer.decode([canvas[token.place]]) for token in traced.tokens] == [
        token.text for token in traced.tokens]  # fmt: skip
    assert sum(step.fed for step in traced.steps) == result.tokens_fed
    assert len(traced.steps) == result.steps


def test_scores_are_those_that_kept_the_tokens(traced):
    first = traced.steps[0]
    assert first.scores.argsort(descending=True, stable=True)[: len(traced.answer.kept)].sort().values.tolist() == (
        traced.answer.kept.tolist())  # fmt: skip
    assert first.attention.shape[1] == traced.answer.visual_tokens
    assert traced.steps[1].attention.shape[1] == len(traced.answer.kept)
    assert not bool(traced.steps[-1].undecided.any()) and traced.steps[-1].scores is None


def test_the_response_after_a_step_holds_what_was_committed(traced):
    assert len(traced.after(1)) == int((~traced.steps[0].undecided).sum())
    assert traced.after(len(traced.steps)) == {token.place: token for token in traced.tokens}


def test_a_trace_wants_one_fresh_sample(host, sample):
    with pytest.raises(ValueError, match="2 samples, 0 steps taken"):
        trace(host, answers.start(host, [sample, sample]))
    run = answers.start(host, [sample])
    run.step()
    with pytest.raises(ValueError, match="1 samples, 1 steps taken"):
        trace(host, run)


def test_tokens_are_written_and_read_back():
    tokens = (Token(0, 2, "A", 0.5), Token(2, 1, "<|eot_id|>", 1.0))
    assert from_json(as_json(tokens)) == tokens
    assert spelled({token.place: token for token in tokens}, 4) == "A·∎·"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(paths, "FIGURES", tmp_path / "figures")
    monkeypatch.setitem(profiles.MODES, "quick", profiles.Size(n=2, seeds=(0,)))
    return RunContext(dataclasses.replace(run_context().profile, models=("mini/a",), families=("doc",)), "quick")


def test_the_framework_adds_up_and_is_drawn(patched, run):
    result = framework.measure(run)
    tokens, rows, steps, commits = (framework_figure.part(result, name) for name in ("token", "row", "step", "commit"))
    assert tokens["kept"].sum() == len(tokens) // 4
    kept, dropped = tokens[tokens["kept"]]["score"], tokens[~tokens["kept"]]["score"]
    assert kept.min() >= dropped.max()
    assert list(steps["visual"][:2]) == [len(tokens), len(tokens) // 4]
    assert (steps["visual"] + steps["prompt"] + steps["response"] == steps["fed"]).all()
    assert steps["committed"].sum() == len(commits) and len(rows) == 32
    assert all(len(levels.split()) == len(tokens) for levels in rows["levels"])
    (path,) = plots.save_figure(framework_figure.draw(result, run), "framework", run)
    assert path.stat().st_size > 30_000
    said = framework_figure.sentence(result)
    assert f"{len(tokens)} visual tokens were scored by {int(rows['masked'].sum())} rows" in said
    assert list(framework_figure.table(result)["step"]) == list(steps["place"])


def test_the_framework_shows_the_first_right_sample(patched, monkeypatch):
    tried = []
    monkeypatch.setattr(framework, "exact_match", lambda said, answer: tried.append(answer) or len(tried) == 3)
    assert framework.choose(patched, 0).index == 2
    monkeypatch.setattr(framework, "TRIES", 2)
    monkeypatch.setattr(framework, "exact_match", lambda said, answer: False)
    with pytest.raises(ValueError, match="none of the first 2 test samples of doc"):
        framework.choose(patched, 0)


def hits(family: str, full: str, pruned: dict[float, str]) -> list[dict]:
    """Rows of answers from strings of 1 (right) and 0 by index."""
    cells = {("none", 1.0): full, **{("redvtp", keep): text for keep, text in pruned.items()}}
    return [{"model": "a", "family": family, "seed": 0, "index": i, "method": method, "keep": keep,
             "exact_match": mark == "1"} for (method, keep), text in cells.items() for i, mark in enumerate(text)]


def test_examples_follow_the_rule():
    rows = hits("doc", "0111", {0.5: "0000", 0.25: "1011", 0.1: "0000"})
    assert qualitative.choose(rows, "a", "doc", 0) == [(2, "stays right", 0.25), (1, "turns wrong", 0.25)]
    rows = hits("doc", "0111", {0.25: "0111", 0.1: "0110", 0.05: "0000"})
    assert qualitative.choose(rows, "a", "doc", 0) == [(1, "stays right", 0.25), (3, "turns wrong", 0.1)]
    assert qualitative.choose(hits("doc", "00", {0.25: "11"}), "a", "doc", 0) == []
    assert qualitative.choose(rows, "a", "info", 0) == []


def test_examples_are_drawn_with_what_is_missing_said(patched, run, monkeypatch):
    rows = hits("doc", "11", {0.25: "11", 0.1: "10"})
    found = [row for case in qualitative.choose(rows, "a", "doc", 0)
             for row in qualitative.compute("mini/a", "doc", 0, *case)]
    assert [(row["index"], row["keep"]) for row in found] == [(0, 1.0), (0, 0.25), (1, 1.0), (1, 0.1)]
    result = dataclasses.replace(framework.measure(run), rows=found)
    (path,) = plots.save_figure(qualitative_figure.draw(result, run), "qualitative", run)
    assert path.stat().st_size > 30_000
    said = qualitative_figure.sentence(result)
    assert "doc 0 stays right at 25%" in said and "doc 1 turns wrong at 10%" in said
    assert "There was no info sample that stays right at 25% or less and no info" in said
    assert len(qualitative_figure.table(result)) == 4
    with pytest.raises(ValueError, match="no doc or info sample was answered rightly"):
        qualitative_figure.draw(dataclasses.replace(result, rows=[]), run)


def test_places_that_differ_from_the_answer():
    def formed(text: str) -> tuple[Token, ...]:
        return tuple(Token(i, 1, "<|eot_id|>" if letter == "∎" else letter, 1.0) for i, letter in enumerate(text)
                     if letter != "·")

    assert qualitative_figure.differing(formed("AB∎"), "AB") == set()
    assert qualitative_figure.differing(formed("AC∎"), "AB") == {1}
    assert qualitative_figure.differing(formed("ABC∎"), "AB") == {2, 3}
    assert qualitative_figure.differing(formed("A∎·∎"), "AB") == {1}
    assert qualitative_figure.read(()) == ""


def test_maps_show_kept_cells(host, sample):
    layout = token_maps.layout_of(host, sample.image)
    counts = count_kinds(layout)
    total = int((layout.kind == VISUAL).sum())
    assert sum(counts.values()) == total and counts["thumbnail"] == 144
    assert count_kinds(layout, {0, 1, total - 1}) == {"thumbnail": 2, "tiles": 0, "newlines": 1}
    assert token_maps.kept_cells(layout, range(total), sample.image.size).all()
    assert token_maps.kept_cells(layout, range(144), sample.image.size).sum() == 0
    assert token_maps.kept_cells(layout, {144}, sample.image.size).sum() == 64
    values = token_maps.cell_values(layout, torch.arange(total), sample.image.size, thumbnail=True)
    assert values.max() < 144 <= token_maps.cell_values(layout, torch.arange(total), sample.image.size).min()


def test_exploring_a_sample_and_a_file(host, sample, tmp_path):
    sample.image.save(tmp_path / "page.png")
    mine = explore.own(tmp_path / "page.png", "What is it?", steps=4, length=8)
    found = explore.compare(host, mine, "random", 0.5)
    assert (len(found.full.steps) <= 4, found.pruned.length, found.asked.answer) == (True, 8, None)
    rows = explore.steps(found.full)
    assert rows[-1]["response"] == spelled(found.full.after(9), 8)
    assert all(row["unpruned"] != row["pruned"] or row["unpruned step"] != row["pruned step"]
               for row in explore.changes(found))  # fmt: skip
    assert explore.recall(found) is None
    theirs = explore.sample("doc", 0)
    assert (theirs.answer, theirs.settings["steps"]) == (sample.answer, 16)
    assert explore.sample("doc", 0, "What else?").answer is None
    assert explore.sample("doc", 0, length=8).settings == {"length": 8, "block_length": None, "steps": 16}
    with pytest.raises(ValueError, match="needs a question"):
        explore.own(tmp_path / "page.png", " ")
    with pytest.raises(ValueError, match="oracle needs the evidence"):
        explore.compare(host, mine, "oracle", 0.5)
    with pytest.raises(ValueError, match="unknown pruning method 'best'"):
        explore.compare(host, mine, "best")


def test_nothing_changes_when_all_is_kept(host):
    found = explore.compare(host, explore.sample("scene", 0), "redvtp", 1.0)
    assert explore.changes(found) == [] and explore.recall(found) == pytest.approx(1)
    assert "0 other tokens, 0 the same from another step" in explore_figure.sentence(found)
    assert explore.at_step(found.full, 9) == 1
    with pytest.raises(ValueError, match="step 0"):
        explore.at_step(found.full, 0)


@pytest.mark.parametrize("method", ["redvtp", "llada_fastv", "fastv", "tome"])
def test_every_panel_is_drawn_for_methods_that_cut_elsewhere(host, method):
    found = explore.compare(host, explore.sample("scene", 0), method, 0.05)
    assert explore_figure.draw(found, 2).get_axes()
    assert explore_figure.draw_answers(found).get_axes()
    assert len(explore_figure.step_table(found.pruned)) == len(found.pruned.steps)
    assert explore_figure.score_table(found)["score"].is_monotonic_decreasing
    assert list(explore_figure.change_table(found).columns)[:2] == ["place", "unpruned"]
    matplotlib.pyplot.close("all")


def test_the_notebook_runs_through_and_is_clean(patched):
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["metadata"].get("tags") for cell in cells][0] == ["parameters"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    names: dict = {}
    for cell in cells:
        exec(compile("".join(cell["source"]), NOTEBOOK.name, "exec"), names)
    matplotlib.pyplot.close("all")
