"""The measurements: their arithmetic on hand examples, and their computation on an untrained mini model."""

from __future__ import annotations

import math

import pytest
import torch

import redvtp
from analysis import accuracy, answers, benchmarks, pruning_maps, step_similarity
from analysis.training.mini_model import build_model
from analysis.training.tokenizer import build_tokenizer
from redvtp.models.llada_v import LladaV


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
    wanted = {*answers.after_step_one(), *answers.inside_step_one(), ("blank", 1.0)}
    assert {("none", 1.0), ("redvtp", 0.25), ("llada_fastv", 0.5), ("random", 0.25), ("oracle", 0.25)} <= wanted
    assert cells == {(sample.index, *cell) for sample in batch for cell in wanted}


def test_shared_first_step_gives_what_a_run_of_its_own_gives(rows, host, batch):
    for method in ("redvtp", "oracle", "random"):
        pruner = redvtp.pruning.get(method)(keep=0.25)
        own = list(answers.rows_of(host, batch, method, pruner, answers.start(host, batch, pruner)))
        shared = [row for row in rows if (row["method"], row["keep"]) == (method, 0.25)]
        assert own == shared


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


def test_summary_has_rates_intervals_and_ratios():
    common = {"host": "h", "family": "doc", "split": "test", "seed": 0, "params": "{}", "step": None, "layer": None,
              "positions": None, "anls": 0.5, "evidence_recall": 1.0, "visual_tokens": 10, "kept": 10, "steps": 16}
    common |= {"tokens_fed": 100.0, "flops": 8}
    full = [common | {"method": "none", "keep": 1.0, "exact_match": hit} for hit in (1, 1, 0, 1)]
    half = [row | {"method": "redvtp", "keep": 0.5, "exact_match": False, "flops": 2} for row in full]
    first, second = accuracy.summarise(full + half)
    assert (first["n"], first["exact_match"], first["flops_ratio"]) == (4, 0.75, 1.0)
    assert first["exact_match_low"] < 0.75 < first["exact_match_high"]
    assert (second["method"], second["exact_match"], second["flops_ratio"]) == ("redvtp", 0, 0.25)
    assert second["exact_match_low"] == 0
    for field in ("host", "family", "split", "seed", "method", "params", "keep", "step", "layer", "positions", "n",
                  "exact_match", "exact_match_low", "exact_match_high", "anls", "evidence_recall", "tokens_fed",
                  "flops_ratio"):  # fmt: skip
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
        for recorder in step_similarity.recorded(host, samples, ()):
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
    rows = list(step_similarity.compute("untrained", batch, "none"))
    assert {row["step"] for row in rows} == set(range(2, 16))
    assert {row["layers"] for row in rows} == {"all", "early", "middle", "late"}
    for row in rows:
        assert row["n"] + row["undefined"] + row["ended"] == len(batch)
        assert -1 <= row["similarity_low"] <= row["similarity"] <= row["similarity_high"] <= 1 + 1e-6


def test_chosen_samples_follow_the_rule():
    def answer(index, method, keep, hit):
        return {"family": "doc", "seed": 0, "index": index, "method": method, "keep": keep, "exact_match": hit}

    outcomes = {0: (True, False), 1: (False, True), 2: (True, True), 3: (True, True), 4: (True, True), 5: (True, False)}
    rows = [answer(i, "none", 1.0, full) for i, (full, _) in outcomes.items()]
    rows += [answer(i, "redvtp", 0.25, pruned) for i, (_, pruned) in outcomes.items()]
    assert pruning_maps.choose(rows, "doc", 0) == [
        (2, "stays right"), (3, "stays right"), (0, "turns wrong"), (5, "turns wrong"),
    ]  # fmt: skip


def test_kept_mask_shows_the_kept_cells(host, batch):
    from analysis.figures.pruning_maps import kept_mask

    sample = batch[0]
    layout = host.host.begin([redvtp.Prompt(sample.question, [sample.image])], length=1).layout
    everything = set(range(int((layout.kind == 2).sum())))
    assert kept_mask(layout, everything, sample.image.size).all()
    assert not kept_mask(layout, set(range(64)), sample.image.size).any()  # the thumbnail is not drawn
    assert kept_mask(layout, {64}, sample.image.size).sum() == 64
