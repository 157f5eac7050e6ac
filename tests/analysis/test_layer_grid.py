"""LLaDA-FastV's grid: cuts that share an encoding, their summary, and a figure whose story is known."""

from __future__ import annotations

import dataclasses

import pytest

import redvtp
from analysis import answers, benchmarks, layer_grid, paths, plots, profiles, subset
from analysis.agreement import compare
from analysis.figures import layer_grid as figure
from analysis.profiles import RunContext, run_context
from analysis.results import Result
from tests.untrained import untrained


@pytest.fixture(scope="module")
def model():
    return untrained()


def test_the_grid_has_every_layer_but_the_last():
    cuts = [(pruner.name, pruner.layer, pruner.keep.ratio) for pruner in layer_grid.grid(4) if pruner]
    assert len(cuts) == len(set(cuts)) == len(layer_grid.RATIOS) * 4
    assert {layer for name, layer, _ in cuts if name == "llada_fastv"} == {1, 2, 3}
    assert {layer for name, layer, _ in cuts if name == "fastv"} == {2}


def test_a_shared_encoding_gives_what_a_run_of_its_own_gives(model, monkeypatch):
    monkeypatch.setattr(layer_grid, "RATIOS", (0.25,))
    batch = benchmarks.get("scene").samples("test", 3, 0)
    rows = list(layer_grid.answer_batch(model, batch))
    for name, pruner in (("none", None), ("llada_fastv", redvtp.LladaFastV(keep=0.25, layer=1)),
                         ("fastv", redvtp.FastV(keep=0.25))):
        own = list(answers.rows_of(model, batch, name, pruner, answers.start(model, batch, pruner)))
        shared = [row for row in rows if (row["method"], row["layer"]) == (name, pruner and pruner.layer)]
        assert own == shared
    assert len(rows) == len(batch) * 4


def answered(method: str, layer: int | None, keep: float, right: int, flops: int, family: str = "doc", n: int = 40):
    """Rows of `n` answers, the first `right` of them right."""
    return [
        {"host": "h", "model": "m", "family": family, "split": "test", "seed": 0, "index": i, "method": method,
         "layer": layer, "keep": keep, "exact_match": i < right, "flops": flops}
        | dict.fromkeys(layer_grid.MEANS, 0.5) for i in range(n)
    ]  # fmt: skip


def test_summary_by_hand():
    rows = answered("none", None, 1.0, 40, 8) + answered("llada_fastv", 2, 0.5, 30, 2)
    full, cut = layer_grid.summarise(rows)
    assert (full["exact_match"], full["flops_ratio"], full["layer"]) == (1.0, 1.0, None)
    assert (cut["n"], cut["exact_match"], cut["flops_ratio"], cut["layer"]) == (40, 0.75, 0.25, 2)
    assert cut["exact_match_low"] < 0.75 < cut["exact_match_high"]


@pytest.fixture
def story() -> Result:
    """Cuts after layers 4 and 5 keep all, those before and FastV half, at whatever ratio."""
    rows = []
    for family in ("doc", "info"):
        part = answered("none", None, 1.0, 40, 100, family)
        for keep in layer_grid.RATIOS:
            for layer in range(1, 6):
                flops = int(100 * keep) + layer
                part += answered("llada_fastv", layer, keep, 40 if layer > 3 else 20, flops, family)
            part += answered("fastv", 2, keep, 20, 80, family)
        rows += layer_grid.summarise(part)
    return Result("layer_grid", rows, {"n": 100, "seeds": [0], "link": "mini"}, layer_grid.BY)


def test_the_sentence_says_the_story(story):
    said = figure.sentence(story)
    assert "50% after layer 1, 50% after layer 2, 50% after layer 3, 100% after layer 4, 100% after layer 5" in said
    assert "50% up to layer 2, 83% from layer 3 on" in said
    assert ("cheapest of the 20 LLaDA-FastV cuts that keeps 95% of the unpruned average is after layer 4 at 10%, with "
            "86% less FLOPs (100% [95%, 100%] of 80 right, unpruned 100% [95%, 100%] of 80).") in said
    assert ("None of the 4 FastV cuts keeps 95% of the unpruned average, the best keeps 50% (after layer 2 at 75%: 50% "
            "[39%, 61%] of 80 right") in said
    assert "picked on the samples that they are scored on" in said


def test_the_figure_and_the_table(story, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    run = run_context()
    assert figure.draw(story, run).get_figwidth() == plots.WIDTH["page"]
    assert figure.caption(run, story).startswith("n = 40 a family;")
    text = plots.save_table(figure.table(story), "grid", run, figure.caption(run, story))[0].read_text()
    assert "| none        | -     |" in text and "| llada_fastv | 5     |" in text


def test_the_measurement_runs(model, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    monkeypatch.setattr(answers, "model", lambda name: model)
    monkeypatch.setattr(answers, "weights_hash", lambda name: name)
    monkeypatch.setattr(layer_grid, "RATIOS", (0.5,))
    monkeypatch.setattr(layer_grid, "FAMILIES", ("scene",))
    monkeypatch.setattr(layer_grid, "MOST", 2)
    monkeypatch.setitem(profiles.MODES, "quick", profiles.Size(n=4, seeds=(0, 1)))
    run = RunContext(dataclasses.replace(run_context().profile, models=("mini/a", "mini/b")), "quick")
    result = layer_grid.measure(run)
    assert len(result.rows) == 2 * 4 and {row["n"] for row in result.rows} == {2}
    assert {row["model"] for row in result.rows} == {"a"}
    assert compare(result, result).differ == 0
    assert set(result.provenance["inputs"]) == {"weights a", "data scene"}


def test_a_subset_is_the_first_half_of_the_runs_samples(monkeypatch):
    monkeypatch.setitem(profiles.MODES, "quick", profiles.Size(n=7, seeds=(0, 1)))
    assert {len(samples) for samples in subset.draw(run_context(mode="quick"), ("doc",), 2).values()} == {2}
    drawn = subset.draw(run_context(mode="quick"), ("doc", "unknown"), 100)
    assert set(drawn) == {("doc", 0), ("doc", 1)}
    for samples in drawn.values():
        assert sorted(sample.index for sample in samples) == [0, 1, 2]
        assert samples == sorted(samples, key=lambda sample: (sample.image.size, sample.index))
    assert subset.in_batches(len, list(range(7)), 3) == [3, 3, 1]
