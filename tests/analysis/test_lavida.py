"""LaViDa's two states: what makes them, their summary, and a figure whose story is known."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import redvtp
from analysis import answers, benchmarks, lavida, paths, plots, profiles
from analysis.agreement import compare
from analysis.figures import lavida as figure
from analysis.profiles import run_context
from analysis.results import Result
from analysis.training.mini_model import build_model
from analysis.training.tokenizer import build_tokenizer
from redvtp.models.checkpoint import CheckpointError
from redvtp.models.lavida import Lavida


@pytest.fixture(scope="module")
def model() -> redvtp.Model:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    network = build_model(tokenizer, hidden=32, tower_layers=1, layers=3, host="lavida")
    return redvtp.Model(Lavida(network, tokenizer, system_prompt=None))


def test_a_state_leaves_the_model_as_it_is(model):
    published, repaired = (lavida.in_state(model, state) for state in ("published", "repaired"))
    assert published.host.blind_prompt and not repaired.host.blind_prompt and not model.host.blind_prompt
    assert published.host.model is model.host.model


def test_another_image_is_of_equal_size_where_there_is_one():
    samples = benchmarks.get("doc").samples("test", 12, 0)
    samples.sort(key=lambda sample: (sample.image.size, sample.index))
    shown = lavida.other_images(samples)
    sizes = [sample.image.size for sample in samples]
    for sample, other in zip(samples, shown, strict=True):
        assert (other.question, other.answer, other.index) == (sample.question, sample.answer, sample.index)
        assert other.image is not sample.image
        assert sizes.count(sample.image.size) == 1 or other.image.size == sample.image.size
    assert lavida.other_images(samples[:1])[0].image is samples[0].image


def test_the_published_state_sees_no_image(model):
    samples = benchmarks.get("scene").samples("test", 3, 0)
    rows = list(lavida.answered(model, samples))
    assert len(rows) == 3 * sum(len(lavida.pruners(state)) for state in lavida.STATES)
    assert {row["state"]: row["host"] for row in rows} == dict.fromkeys(lavida.STATES, "lavida")
    assert all(row["prediction"] == row["other"] for row in rows if row["state"] == "published" and row["keep"] == 1.0)
    assert {row["other"] for row in rows if row["keep"] < 1.0} == {None}
    own = list(answers.rows_of(model, samples, "none", None, answers.start(model, samples)))
    shared = [{name: row[name] for name in row if name not in ("state", "other")}
              for row in rows if (row["state"], row["keep"]) == ("repaired", 1.0)]  # fmt: skip
    assert own == shared


def answered(state, keep, right, changed, family="doc", method="redvtp", n=40):
    """Rows of `n` answers, the first `right` of them right, the first `changed` other with another image."""
    return [
        {"host": "lavida", "model": "lavida", "family": family, "split": "test", "seed": 0, "index": i, "state": state,
         "method": "none" if keep == 1.0 else method, "keep": keep, "exact_match": i < right, "prediction": "a",
         "other": "b" if i < changed else "a", "flops": int(100 * keep)}
        | dict.fromkeys(lavida.MEANS, 0.5) for i in range(n)
    ]  # fmt: skip


def test_summary_by_hand():
    rows = answered("repaired", 1.0, 40, 30) + answered("repaired", 0.5, 30, 20)
    rows += answered("published", 1.0, 4, 0) + answered("published", 0.5, 2, 0)
    whole, pruned, blind, both = lavida.summarise(rows)
    assert whole["difference"] is whole["from_unpruned"] is pruned["difference"] is None
    assert (whole["exact_match"], whole["changed"], whole["flops_ratio"], whole["share_8b"]) == (1.0, 0.75, 1.0, 1.0)
    assert (pruned["from_unpruned"], pruned["flops_ratio"], pruned["n"]) == (-0.25, 0.5, 40)
    assert pruned["changed"] is both["changed"] is None
    assert (blind["difference"], blind["changed"], blind["from_unpruned"]) == (pytest.approx(-0.9), 0.0, None)
    assert blind["difference_low"] < -0.9 < blind["difference_high"] < 0 == blind["changed_low"] < blind["changed_high"]
    assert (both["difference"], both["from_unpruned"]) == (pytest.approx(-0.7), pytest.approx(-0.05))
    assert 0.5 < both["share_8b"] == pruned["share_8b"] < 1


@pytest.fixture
def story() -> Result:
    """The repaired state is right until three quarters of the tokens go; the published one never, whatever it sees."""
    rows = []
    for family in ("doc", "info"):
        part = []
        for keep in (1.0, *lavida.RATIOS):
            part += answered("repaired", keep, 20 if keep == 0.25 else 40, 40, family)
            part += answered("repaired", keep, 10, 40, family, "random") if keep < 1.0 else []
            part += answered("published", keep, 0, 0, family)
        rows += lavida.summarise(part)
    return Result("lavida", rows, {"n": 100, "seeds": [0], "link": "mini"}, lavida.BY)


def test_the_sentence_says_the_story(story):
    said = figure.sentence(story)
    assert "the repaired state is right in 100% [91, 100] in doc and 100% [91, 100] in info" in said
    assert "At 25% that changes by -50 [" in said and "points with RedVTP, and by -75 [" in said
    assert "which sees neither image nor question, is right in 0% [0, 9] in doc" in said
    assert "another image changes 0% [0, 9] in doc and 0% [0, 9] in info of its answers, and 100%" in said


def test_the_figure_and_the_table(story, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    run = run_context()
    assert figure.draw(story, run).get_figwidth() == plots.WIDTH["page"]
    text = plots.save_table(figure.table(story), "lavida", run, figure.table_caption(run, story))[0].read_text()
    assert text.startswith("n = 40 a family;")
    assert sum("| published | redvtp | 25% " in line for line in text.splitlines()) == 2 and "-50 [" in text


def test_the_measurement_runs(model, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    monkeypatch.setattr(answers, "model", lambda name: model)
    monkeypatch.setattr(answers, "weights_hash", lambda name: name)
    monkeypatch.setattr(lavida, "model_folder", lambda name: name)
    mini = dataclasses.replace(profiles.PROFILES["mini"], families=("scene",))
    monkeypatch.setitem(profiles.PROFILES, "mini", mini)
    monkeypatch.setitem(profiles.MODES, "quick", profiles.Size(n=4, seeds=(0,)))
    result = lavida.measure(run_context(mode="quick"))
    assert len(result.rows) == sum(len(lavida.pruners(state)) for state in lavida.STATES)
    assert {row["n"] for row in result.rows} == {2}
    assert {row["model"] for row in result.rows} == {"lavida"}
    assert compare(result, result).differ == 0
    assert set(result.provenance["inputs"]) == {"weights lavida", "data scene"}


def test_a_missing_model_is_named(monkeypatch):
    monkeypatch.setattr("analysis.hosts.LAVIDA", "mini/not_there")
    with pytest.raises(CheckpointError, match="mini/not_there"):
        lavida.measure(run_context(mode="quick"))
