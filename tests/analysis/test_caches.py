"""Caches beside pruning: ratios that share a first step, their summary, and a figure whose story is known."""

from __future__ import annotations

import dataclasses

import pytest

import redvtp
from analysis import answers, benchmarks, caches, hosts, paths, plots, profiles
from analysis.agreement import compare
from analysis.figures import caches as figure
from analysis.profiles import RunContext, run_context
from analysis.results import Result
from tests.untrained import untrained


@pytest.fixture(scope="module")
def model():
    return untrained()


def test_blocks_are_run_where_a_response_has_several():
    assert set(caches.settings_of("doc")) == set(caches.SETTINGS)
    assert set(caches.SETTINGS) - set(caches.settings_of("scene")) == {"none_blocks", "fast_dllm_dual"}
    for setting in caches.SETTINGS.values():  # what it is compared with differs in the cache alone
        beside = caches.SETTINGS[setting.beside]
        assert beside.cache is None and (beside.block == setting.block or setting.cache is None)


def test_the_rule_and_the_figure_know_the_caches_by_these_names():
    assert {"prefix", "fast_dllm", "dllm_cache"} < set(caches.SETTINGS) == set(figure.LOOKS)


def test_a_shared_first_step_gives_what_a_run_of_its_own_gives(model, monkeypatch):
    monkeypatch.setattr(caches, "RATIOS", (1.0, 0.25))
    batch = benchmarks.get("scene").samples("test", 2, 0)
    rows = list(caches.answer_batch(model, batch))
    assert len(rows) == len(batch) * 5 * 2
    for name, setting in caches.settings_of("scene").items():
        for pruner in (None, redvtp.RedVTP(keep=0.25)):
            method = "redvtp" if pruner else "none"
            run = answers.start(model, batch, pruner, cache=setting.cache)
            own = list(answers.rows_of(model, batch, method, pruner, run))
            shared = [{name: value for name, value in row.items() if name not in ("cache", "seconds")}
                      for row in rows if (row["cache"], row["method"]) == (name, method)]  # fmt: skip
            assert own == shared, name


def test_blocks_are_those_of_the_setting(model, monkeypatch):
    monkeypatch.setattr(caches, "RATIOS", (1.0,))
    monkeypatch.setattr(caches, "SETTINGS", {name: caches.SETTINGS[name] for name in ("none", "fast_dllm_dual")})
    batch = benchmarks.get("chart").samples("test", 1, 0)
    asked = []
    start = model.start
    monkeypatch.setattr(model, "start", lambda *given, **named: asked.append(named) or start(*given, **named))
    list(caches.answer_batch(model, batch))
    assert [named["block_length"] for named in asked] == [16, 8]


def answered(cache: str, keep: float, right: int, flops: int, family: str = "doc", host: str = "llada_v", n: int = 40):
    """Rows of `n` answers, the first `right` of them right."""
    method = "none" if keep == 1.0 else "redvtp"
    return [
        {"host": host, "model": host, "family": family, "split": "test", "seed": 0, "index": i, "cache": cache,
         "method": method, "keep": keep, "exact_match": i < right, "flops": flops, "seconds": flops / 10}
        | dict.fromkeys(caches.MEANS, 0.5) for i in range(n)
    ]  # fmt: skip


def test_summary_by_hand():
    rows = answered("none", 1.0, 40, 8) + answered("none", 0.25, 30, 4)
    rows += answered("prefix", 1.0, 36, 2) + answered("prefix", 0.25, 20, 1)
    plain, pruned, cached, both = caches.summarise(rows)
    assert plain["difference"] is plain["from_unpruned"] is None
    assert (plain["exact_match"], plain["share_8b"], plain["saved_8b"], plain["seconds_ratio"]) == (1.0, 1.0, 0.0, 1.0)
    assert (pruned["difference"], pruned["from_unpruned"]) == (None, -0.25)
    assert (cached["difference"], cached["from_unpruned"]) == (pytest.approx(-0.1), None)
    assert (both["difference"], both["from_unpruned"]) == (-0.25, pytest.approx(-0.4))
    assert both["difference_low"] < -0.25 < both["difference_high"] < 0
    assert (both["flops_ratio"], both["seconds_ratio"], both["n"]) == (0.125, 0.125, 40)
    assert 0 < both["share_8b"] < cached["share_8b"] < pruned["share_8b"] < 1
    assert both["saved_8b"] == pytest.approx(1 - both["share_8b"] / cached["share_8b"])


@pytest.fixture
def story() -> Result:
    """prefix-DLM changes nothing, dLLM-Cache loses half of info by itself, and pruning to 10% costs all in doc."""
    rows = []
    for family in ("doc", "info"):
        part = []
        for cache in caches.SETTINGS:
            for keep in caches.RATIOS:
                right = 0 if keep == 0.1 and family == "doc" else 40
                right = 20 if cache == "dllm_cache" and family == "info" else right
                part += answered(cache, keep, right, int(100 * keep), family)
        rows += caches.summarise(part)
    return Result("caches", rows, {"n": 100, "seeds": [0], "link": "mini"}, caches.BY)


def test_the_sentence_says_the_story(story):
    said = figure.sentence(story)
    assert "On llada_v (n = 40 a family)" in said and "RedVTP at 25% alone 29%; prefix-DLM 7%" in said
    assert ("pruning adds little (less than 20% of what is left) with prefix-DLM, Fast-dLLM prefix and dLLM-Cache:"
            in said)  # fmt: skip
    assert "It makes prefix-DLM re-encoded dearer" in said
    assert "unpruned dLLM-Cache in info (-50 points); at 25% dLLM-Cache in info (-50 points)." in said
    assert said.endswith("It differs from the same cache unpruned, at 25%: none.")


def test_the_front_has_what_nothing_beats(story):
    rows = figure.frame(story)
    best = figure.front(rows[rows["family"] == "doc"])
    assert list(best["exact_match"]) == sorted(set(best["exact_match"])) == [0.0, 1.0]
    assert list(best["cache"]) == ["dllm_cache"] * 2 and list(best["keep"]) == [0.1, 0.25]


def test_the_figure_and_the_table(story, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    run = run_context()
    assert figure.draw(story, run).get_figwidth() == plots.WIDTH["page"]
    text = plots.save_table(figure.table(story), "caches", run, figure.table_caption(run, story))[0].read_text()
    assert text.startswith("n = 40 a family;")
    assert "50.0‡ | 50.0" in text and "50.0†" in text  # 10% in doc; dLLM-Cache in info


def test_the_measurement_runs(model, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    monkeypatch.setattr(answers, "model", lambda name: model)
    monkeypatch.setattr(answers, "weights_hash", lambda name: name)
    monkeypatch.setattr(hosts, "is_there", lambda name: False)
    monkeypatch.setattr(caches, "RATIOS", (1.0, 0.5))
    monkeypatch.setattr(caches, "FAMILIES", ("scene",))
    monkeypatch.setitem(profiles.MODES, "quick", profiles.Size(n=4, seeds=(0,)))
    run = RunContext(dataclasses.replace(run_context().profile, models=("mini/a",)), "quick")
    result = caches.measure(run)
    assert len(result.rows) == 5 * 2 and {row["n"] for row in result.rows} == {4}
    assert result.provenance["params"]["skipped"] == [hosts.LAVIDA]
    assert compare(result, result).differ == 0
    assert set(result.provenance["inputs"]) == {"weights a", "data scene"}


def test_lavida_is_run_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "DATA", tmp_path)
    run = run_context()
    assert hosts.both(run) == ([run.profile.models[0]], [hosts.LAVIDA])
    (tmp_path / hosts.LAVIDA).mkdir(parents=True)
    (tmp_path / hosts.LAVIDA / "config.json").touch()
    assert hosts.both(run) == ([run.profile.models[0], hosts.LAVIDA], [])
