"""The measurements: their arithmetic on hand examples, and their computation on an untrained mini model."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

import redvtp
from analysis import (
    accuracy,
    answers,
    benchmarks,
    chance,
    paths,
    profiles,
    pruning_maps,
    shortcuts,
    step_similarity,
    two_tokens,
)
from analysis.agreement import compare
from analysis.profiles import RunContext, run_context
from analysis.training.mini_model import build_model
from analysis.training.tokenizer import build_tokenizer
from redvtp.models.llada_v import LladaV
from redvtp.models.prompts import render, tokenize, user_text


@pytest.fixture(scope="module")
def untrained() -> redvtp.Model:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(("TOTAL", "DATE"))
    network = build_model(tokenizer, hidden=32, tower_layers=1, layers=3)
    return redvtp.Model(LladaV(network, tokenizer, system_prompt=None))


@pytest.fixture
def host(untrained, monkeypatch) -> redvtp.Model:
    monkeypatch.setattr(answers, "model", lambda name: untrained)
    return untrained


@pytest.fixture(scope="module")
def batch() -> list[benchmarks.Sample]:
    return benchmarks.get("doc").samples("test", 3, 0)


@pytest.fixture(autouse=True)
def two_ratios(monkeypatch):
    monkeypatch.setattr(answers, "RATIOS", (0.5, 0.25))


@pytest.fixture
def rows(host, batch) -> list[dict]:
    return list(answers.compute_batch("untrained", batch))


def test_every_sample_has_every_method_and_ratio_once(rows, batch):
    cells = {(row["index"], row["method"], row["keep"]) for row in rows}
    assert len(cells) == len(rows)
    wanted = {*answers.after_step_one(), *answers.inside_step_one(), ("blank", 1.0), ("unasked", 1.0)}
    assert {("none", 1.0), ("redvtp", 0.25), ("llada_fastv", 0.5), ("random", 0.25), ("oracle", 0.25)} <= wanted
    assert cells == {(sample.index, *cell) for sample in batch for cell in wanted}
    assert {(row["model"], row["kind"]) for row in rows} == {("untrained", "read")}


def test_shared_first_step_gives_what_a_run_of_its_own_gives(rows, host, batch):
    for method in ("redvtp", "oracle", "random"):
        pruner = redvtp.pruning.get(method)(keep=0.25)
        own = answers.rows_of(host, batch, method, pruner, answers.start(host, batch, pruner))
        shared = [row for row in rows if (row["method"], row["keep"]) == (method, 0.25)]
        assert [{"model": "untrained"} | row for row in own] == shared


@pytest.mark.parametrize("family", ["doc", "scene"])
def test_answer_step_is_when_the_first_token_was_there(host, family):
    samples = benchmarks.get(family).samples("test", 3, 0)
    rows = list(answers.compute_batch("untrained", samples))
    for method, pruner in (("none", None), ("redvtp", redvtp.RedVTP(keep=0.25)), ("llada_fastv", redvtp.LladaFastV())):
        for sample in samples:
            run, found = answers.start(host, [sample], pruner), None
            while found is None:
                more = run.step()
                found = run.done_steps if run.canvas[0, 0] != host.host.mask_id else None
                assert more or found
            keep = getattr(getattr(pruner, "keep", None), "ratio", 1.0)
            row = next(r for r in rows if (r["index"], r["method"], r["keep"]) == (sample.index, method, keep))
            assert row["answer_step"] == found


def test_score_is_the_familys_own_metric():
    assert {benchmark.metric for benchmark in benchmarks.FAMILIES.values()} <= set(answers.METRICS)
    scores = {name: float(metric("103", "100")) for name, metric in answers.METRICS.items()}
    assert scores == {"anls": pytest.approx(2 / 3), "relaxed_accuracy": 1.0, "exact_match": 0.0}


def test_rows_count_tokens_and_evidence(rows):
    for row in rows:
        assert row["kept"] == math.floor(row["keep"] * row["visual_tokens"])
        if row["method"] in ("none", "blank"):
            assert row["evidence_recall"] == pytest.approx(1.0)
    by = {(row["index"], row["method"], row["keep"]): row for row in rows}
    for index in {row["index"] for row in rows}:
        assert by[index, "oracle", 0.5]["evidence_recall"] == pytest.approx(1.0)
        assert by[index, "redvtp", 0.25]["flops"] < by[index, "redvtp", 0.5]["flops"] < by[index, "none", 1.0]["flops"]
        assert by[index, "llada_fastv", 0.5]["tokens_fed"] < by[index, "redvtp", 0.5]["tokens_fed"]


def test_blank_shows_one_colour(batch):
    empty = benchmarks.blank(batch[0])
    assert empty.image.size == batch[0].image.size
    assert len(empty.image.getcolors()) == 1


@pytest.mark.parametrize("family", ["doc", "diagram"])
def test_an_unasked_sample_keeps_its_options_and_the_end_of_the_turn(host, family):
    sample = benchmarks.get(family).sample("test", 0, 0)
    bare = benchmarks.unasked(sample)
    assert bare.image is sample.image and not set(bare.question.split()) & set(sample.question.split("\n")[0].split())
    tokenizer = host.host.tokenizer
    asked, left = (
        tokenizer.convert_ids_to_tokens(tokenize(tokenizer, render(None, user_text(each.question, 1)))[1])
        for each in (sample, bare)
    )
    assert left == ["?", *asked[asked.index("?") + 1:]]
    assert ("\nA. " in left) == (family == "diagram") and left[-5] == "<|eot_id|>"


def test_families_are_split_by_their_steps():
    run = run_context()
    assert run.profile.families == tuple(benchmarks.FAMILIES)
    assert step_similarity.families(run) == ["doc", "info", "chart"]
    assert sorted(step_similarity.families(run) + two_tokens.families(run)) == sorted(run.profile.families)


def test_chance_counts_pages_as_samples_are_drawn(monkeypatch):
    monkeypatch.setattr(chance, "QUERIES", 600)
    rows = {row["kind"]: row for row in chance.compute("perception")}
    assert set(rows) == {"any", "existence", "count", "colour"}
    assert rows["any"]["asked"] == pytest.approx(1)
    assert sum(row["asked"] for kind, row in rows.items() if kind != "any") == pytest.approx(1)
    assert rows["any"]["queries"] == sum(row["queries"] for kind, row in rows.items() if kind != "any") >= 600
    assert all(row["answer"] in ("yes", "no") and 0.5 <= row["share"] < 0.75 for row in rows.values())
    samples = benchmarks.get("perception").samples("train", 80, 0)  # of the first of these pages
    asked = sum(sample.kind == "existence" for sample in samples) / len(samples)
    assert asked == pytest.approx(rows["existence"]["asked"], abs=0.15)


def test_chance_is_the_commonest_answer_of_every_kind():
    rows = [{"family": "f", "kind": kind, "asked": asked, "answer": answer, "share": share}
            for kind, asked, answer, share in (("any", 1.0, "a", 0.3), ("x", 0.25, "a", 0.8), ("y", 0.75, "b", 0.4))]
    assert chance.levels(rows) == {"f": pytest.approx(0.5)}
    assert chance.commonest(rows) == {("f", "any"): "a", ("f", "x"): "a", ("f", "y"): "b"}


def outcomes(**columns) -> list[dict]:
    """Rows of answers to one family that differ in these columns, each a list."""
    common = {"host": "h", "model": "m", "family": "f", "split": "test", "seed": 0, "kind": "x", "params": "{}",
              "keep": 1.0, "layer": None, "answer_step": 2, "exact_match": False}
    return [common | {"index": i} | dict(zip(columns, values)) for i, values in enumerate(zip(*columns.values()))]


def test_shortcuts_stand_beside_every_model():
    guessed = [{"family": "f", "kind": kind, "asked": asked, "answer": answer, "share": 0.5}
               for kind, asked, answer in (("any", 1.0, "a"), ("x", 0.5, "a"), ("y", 0.5, "b"))]
    said = {"kind": ["x", "y", "y", "x"], "answer": ["a", "b", "a", "c"]}
    rows = []
    for model in ("m", "n"):
        rows += outcomes(**said, model=[model] * 4, method=["none"] * 4, exact_match=[True, True, True, model == "m"])
        rows += outcomes(**said, model=[model] * 4, method=["blank"] * 4)
        rows += outcomes(**said, model=[model] * 4, method=["unasked"] * 4, exact_match=[True] + [False] * 3)
        rows += outcomes(**said, model=[model] * 4, method=["redvtp"] * 4)
    found = shortcuts.summarise(rows, guessed, "hash")
    rates = {(row["model"], row["shortcut"]): row["exact_match"] for row in found}
    assert rates == {
        ("m", "full"): 1.0, ("m", "blank"): 0.0, ("m", "unasked"): 0.25, (None, "majority"): 0.5,
        ("n", "full"): 0.75, ("n", "blank"): 0.0, ("n", "unasked"): 0.25, (None, "majority_kind"): 0.5,
    }  # fmt: skip
    for row in found:
        assert (row["n"], row["chance"], row["data"]) == (4, 0.5, "hash")
        assert row["exact_match_low"] <= row["exact_match"] <= row["exact_match_high"]


def test_two_tokens_split_what_pruning_changed():
    steps, right = [1, 2, 2, 2], [True, True, False, False]
    full = outcomes(method=["none"] * 4, answer_step=steps, exact_match=right, prediction=list("abcd"))
    pruned = outcomes(method=["redvtp"] * 4, keep=[0.5] * 4, answer_step=[1, 2, 2, 2],
                      exact_match=[True, False, True, False], prediction=list("axyd"))
    other = outcomes(method=["uniform"] * 4, keep=[0.5] * 4)
    rows = {(row["method"], row["committed"]): row for row in two_tokens.summarise(full + pruned + other)}
    assert set(rows) == {(method, step) for method in ("none", "redvtp") for step in ("step 1", "step 2")}
    assert [rows["none", step]["n"] for step in ("step 1", "step 2")] == [1, 3]
    assert {name: rows["redvtp", "step 1"][name] for name in two_tokens.RATES} == {
        "exact_match": 1.0, "changed": 0.0, "lost": 0.0, "gained": 0.0}
    assert {name: rows["redvtp", "step 2"][name] for name in two_tokens.RATES} == {
        "exact_match": pytest.approx(1 / 3), "changed": pytest.approx(2 / 3), "lost": pytest.approx(1 / 3),
        "gained": pytest.approx(1 / 3)}  # fmt: skip
    assert all(row[f"{name}_low"] <= row[name] <= row[f"{name}_high"] for row in rows.values()
               for name in two_tokens.RATES)


def test_the_study_runs_from_answers_to_every_table(host, tmp_path, monkeypatch):
    """Two models, two families, two samples: rows for all, the second time from the files, equal to themselves."""
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    monkeypatch.setattr(answers, "weights_hash", lambda name: name)
    monkeypatch.setattr(chance, "QUERIES", 50)
    monkeypatch.setitem(profiles.MODES, "quick", profiles.Size(n=2, seeds=(0,)))
    profile = dataclasses.replace(run_context().profile, models=("mini/a", "mini/b"), families=("chart", "scene"))
    run = RunContext(profile, "quick")
    one_model = 1 + 4 * len(answers.RATIOS) + 1 + len(answers.RATIOS) + len(answers.CONTROLS)
    counts = {answers: 2 * 2 * 2 * one_model, accuracy: 2 * 2 * one_model, shortcuts: 2 * (2 * 3 + 2)}
    for module in (answers, accuracy, shortcuts, two_tokens, step_similarity, pruning_maps):
        result = module.measure(run)
        assert len(result.rows) == counts.get(module, len(result.rows))
        assert compare(result, result).differ == 0
        assert {row["family"] for row in result.rows} <= {"chart", "scene"}
        if module in (answers, accuracy, two_tokens):
            assert {row["model"] for row in result.rows} == {"a", "b"}
            assert {row["chance"] for row in result.rows if module is accuracy} <= set(
                chance.levels(chance.measure(run).rows).values())
    assert {row["family"] for row in step_similarity.measure(run).rows} == {"chart"}
    assert {row["family"] for row in two_tokens.measure(run).rows} == {"scene"}
    monkeypatch.setattr(answers, "compute_batch", lambda *_: pytest.fail("answered again"))
    assert shortcuts.measure(run).rows
    assert {name for name in answers.measure(run).provenance["inputs"]} == {
        "weights a", "weights b", "data chart", "data scene"}


def test_summary_has_rates_intervals_and_ratios():
    common = {"host": "h", "model": "m", "family": "doc", "split": "test", "seed": 0, "params": "{}", "step": None,
              "layer": None, "positions": None, "score": 0.5, "evidence_recall": 1.0, "visual_tokens": 10, "kept": 10}
    common |= {"steps": 16, "tokens_fed": 100.0, "flops": 8}
    full = [common | {"method": "none", "keep": 1.0, "exact_match": hit} for hit in (1, 1, 0, 1)]
    half = [row | {"method": "redvtp", "keep": 0.5, "exact_match": False, "flops": 2} for row in full]
    first, second = accuracy.summarise(full + half, 0.5)
    assert (first["n"], first["exact_match"], first["flops_ratio"], first["chance"]) == (4, 0.75, 1.0, 0.5)
    assert first["exact_match_low"] < 0.75 < first["exact_match_high"]
    assert (second["method"], second["exact_match"], second["flops_ratio"]) == ("redvtp", 0, 0.25)
    assert second["exact_match_low"] == 0
    for field in ("host", "model", "family", "split", "seed", "method", "params", "keep", "step", "layer", "positions",
                  "n", "exact_match", "exact_match_low", "exact_match_high", "chance", "score", "evidence_recall",
                  "tokens_fed", "flops_ratio"):  # fmt: skip
        assert field in first


def test_layer_groups_split_all_layers():
    groups = step_similarity.layer_groups(32)
    assert groups["early"] + groups["middle"] + groups["late"] == groups["all"] == tuple(range(1, 33))


def test_importance_reads_only_rows_still_masked():
    mass = torch.rand(2, 4, 5)
    undecided = torch.tensor([[True, False, True, False], [False] * 4])
    scores = step_similarity.importance({1: mass, 2: 3 * mass}, (1, 2), undecided)
    assert torch.allclose(scores[0], 2 * mass[0, [0, 2]].mean(0))
    assert torch.isnan(scores[1]).all()


def test_similarity_is_that_of_single_runs(host, batch):
    def sims(samples):
        found = {}
        recorder = step_similarity.recorded(host, samples, ())
        for step, values in step_similarity.similarities(recorder, (1, 2)).items():
            found.setdefault(step, []).extend(value for _, value in values)
        return found

    together, alone = sims(batch), [sims([sample]) for sample in batch]
    assert sorted(together) == list(range(2, 17))
    for step, values in together.items():
        expected = [single[step][0] for single in alone]
        assert values == pytest.approx(expected, abs=1e-4, nan_ok=True)
    assert all(math.isnan(value) for value in together[16])  # nothing is masked after the last step


def test_similarity_rows(host, batch):
    found = [step_similarity.compute("untrained", part, "none") for part in (batch[:2], batch[2:])]
    rows = list(step_similarity.summarise("none", found))
    assert {row["step"] for row in rows} == set(range(2, 16))
    assert {row["layers"] for row in rows} == {"all", "early", "middle", "late"}
    for row in rows:
        assert row["n"] + row["undefined"] + row["ended"] == len(batch)
        assert -1 <= row["similarity_low"] <= row["similarity"] <= row["similarity_high"] <= 1 + 1e-6


def test_chosen_samples_follow_the_rule():
    def answer(family, index, method, keep, hit, model="m"):
        return {"model": model, "family": family, "seed": 0, "index": index, "method": method, "keep": keep,
                "exact_match": hit}

    hits = {0: (True, False), 1: (False, True), 2: (True, True), 3: (True, True), 4: (True, True), 5: (True, False)}
    rows = [answer(family, i, *cell) for family in ("doc", "scene") for i, (full, pruned) in hits.items()
            for cell in (("none", 1.0, full), ("redvtp", 0.25, pruned))]
    rows += [answer("doc", i, method, keep, True, "other") for i in hits
             for method, keep in (("none", 1.0), ("redvtp", 0.25))]
    assert pruning_maps.choose(rows, "m", "doc", 0) == [
        (2, "stays right"), (3, "stays right"), (0, "turns wrong"), (5, "turns wrong"),
    ]  # fmt: skip
    assert pruning_maps.choose(rows, "m", "scene", 0) == [(0, "turns wrong")]
    assert pruning_maps.choose(rows, "m", "info", 0) == []
