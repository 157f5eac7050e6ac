"""lmms-eval runs the shipped mini model on our documents: the same answers and score as the project's own accuracy."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace

import pytest

import redvtp
from analysis import accuracy, answers, benchmarks
from analysis.lmms_files import evaluations
from analysis.paper_scores import row_of, write
from redvtp.lmms.source import source_hash
from redvtp.lmms.tasks import decoded
from tests.lmms.conftest import MODEL, TASK, N

METHODS = {"none": None, "redvtp": redvtp.RedVTP(keep=0.25), "random": redvtp.Random(keep=0.5)}
KEEP = {"none": "", "redvtp": ",keep=0.25", "random": ",keep=50%"}


@pytest.fixture(scope="module")
def own(samples):
    """The rows that analysis.accuracy sums up, by method and document."""
    host = answers.model(MODEL)
    found = {}
    for method, pruner in METHODS.items():
        batches = [samples[first : first + 8] for first in range(0, N, 8)]
        rows = []
        for batch in batches:
            rows += answers.rows_of(host, batch, method, pruner, answers.start(host, batch, pruner))
        found[method] = {row["index"]: {"model": "llada_v"} | row for row in rows}
    return found


@pytest.fixture(scope="module")
def alone(command):
    """The command line, one process."""
    return command("method=redvtp,keep=0.25", "--batch_size", "5")


def agree(evaluation, rows, unpruned) -> None:
    """Answer by answer with its cost, and the score that accuracy's table has."""
    assert evaluation.answers == {index: row["prediction"].removesuffix(".").strip() for index, row in rows.items()}
    for index, cost in evaluation.costs.items():
        assert {name: cost[name] for name in ("kept", "visual_tokens", "steps", "flops")} == {
            name: rows[index][name] for name in ("kept", "visual_tokens", "steps", "flops")
        }
        assert cost["tokens_fed"] == pytest.approx(rows[index]["tokens_fed"])
    together = list({id(row): row for row in (*unpruned.values(), *rows.values())}.values())
    table = accuracy.summarise(together, level=0.0)
    assert evaluation.score == pytest.approx(table[-1]["score"])


def test_the_mini_documents_are_decoded_as_docvqa():
    protocol, here = benchmarks.get("doc").protocol, decoded(TASK, "llada_v")
    assert (here.length, here.block_length, here.steps) == (protocol.length, protocol.block_length, protocol.steps)


def test_score_is_that_of_the_accuracy_measurement(alone, own):
    agree(alone, own["redvtp"], own["none"])
    assert 0.5 < alone.score and len(set(alone.answers.values())) > N / 2  # truly answered


def test_two_processes_score_what_one_does(command, alone, own):
    two = command("method=redvtp,keep=0.25", "--batch_size", "5", processes=2)
    agree(two, own["redvtp"], own["none"])
    assert two.answers == alone.answers and two.score == pytest.approx(alone.score)
    assert two.results["n-samples"] == alone.results["n-samples"] == {TASK: {"original": N, "effective": N}}


@pytest.mark.parametrize("method", ["none", "random"])
def test_batches_of_another_size_change_nothing(evaluate, own, method):
    agree(evaluate(f"method={method}{KEEP[method]}", batch_size=7), own[method], own["none"])


def test_an_answer_says_what_it_stands_on(alone):
    about = [cost["stands_on"] for cost in alone.costs.values()]
    assert all(one == about[0] for one in about)
    assert about[0]["source"] == source_hash(MODEL) and about[0]["data"] and about[0]["device"] == "cpu"
    assert about[0]["lmms-eval"] and about[0]["torch"]
    assert f"source={source_hash(MODEL)}" in alone.results["config"]["model_args"]


def test_its_files_are_read_back(alone):
    (read,) = evaluations([alone.folder])
    row = row_of(read, [read])
    assert row["score"] == pytest.approx(100 * alone.score) and row["score_low"] < row["score"] <= row["score_high"]
    assert (row["host"], row["method"], row["keep"], row["rows"], row["n"]) == ("llada_v", "redvtp", 0.25, "masked", N)
    assert json.loads(row["params"]) == {"task": TASK, "think": ""} and read.whole
    assert row["kept"] == pytest.approx(sum(cost["kept"] for cost in alone.costs.values()) / N)
    assert row["source"] == source_hash(MODEL) and row["lmms_eval"] and row["data_revision"] and row["task_hash"]
    assert row["latency"] > 0 and row["throughput"] > 0 and row["visual_to_prompt"] > 1
    with pytest.raises(ValueError, match="mini/llada_v: a shipped mini model is no evidence"):
        write([read])


def test_generation_keywords_reach_the_loop(evaluate):
    short = evaluate("method=none", gen_kwargs="gen_length=4,gen_steps=2", limit=3)
    assert len(short.samples) == 3 and max(cost["steps"] for cost in short.costs.values()) == 2
    assert all(cost["output_tokens"] <= 4 for cost in short.costs.values())


def test_a_cache_of_responses_needs_the_source(evaluate, tmp_path):
    with pytest.raises(ValueError, match=f"add source={source_hash(MODEL)} to the model arguments"):
        evaluate("method=none", use_cache=str(tmp_path), limit=2)
    with pytest.raises(ValueError, match=f"source=0123456789abcdef: expected {source_hash(MODEL)}"):
        evaluate("method=none,source=0123456789abcdef", limit=2)


def test_a_cache_of_responses_answers_for_this_code_alone(evaluate, tmp_path, monkeypatch):
    def entries() -> int:
        with sqlite3.connect(tmp_path / "cache.db") as data:
            return data.execute("SELECT COUNT(*) FROM responses").fetchone()[0]

    def cached(source: str):
        return evaluate(f"method=none,source={source}", use_cache=str(tmp_path), limit=2)

    first = cached(source_hash(MODEL))
    again = cached(source_hash(MODEL))
    assert entries() == 2 and again.answers == first.answers
    assert [sample["token_counts"] for sample in again.samples] == [[None], [None]]  # not generated
    monkeypatch.setattr("redvtp.lmms.source.source_hash", lambda name: "feedfeedfeedfeed")
    changed = cached("feedfeedfeedfeed")
    assert entries() == 4 and all(sample["token_counts"][0] for sample in changed.samples)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ("keep=1", {}, "keep=1: expected a share such as 25%"),
        ("kept=0.5", {}, "unknown model argument 'kept'"),
        ("method=oracle", {}, "oracle needs the extra 'evidence'"),
        ("dtype=int8", {}, "dtype='int8': expected one of"),
        ("", {"batch_size": "auto"}, "batch_size='auto': expected a whole number"),
        ("method=none", {"gen_kwargs": "gen_lenght=8"}, "unknown generation keyword 'gen_lenght'"),
    ],
)
def test_a_wrong_word_is_named(evaluate, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(arguments, limit=1, **options)


def test_another_hosts_model_is_refused():
    from redvtp.lmms.adapter import RedvtpLavida

    with pytest.raises(ValueError, match="expected a model of host lavida, found llada_v"):
        RedvtpLavida(MODEL)


def test_lavida_answers_through_the_same_class(monkeypatch, samples):
    """A tiny LaViDa with random weights: the request's way in and out."""
    from lmms_eval.api.instance import Instance

    from redvtp.lmms import adapter
    from tests.tiny import build_lavida

    host = build_lavida()
    monkeypatch.setattr(adapter.RedvtpModel, "check", lambda self, pretrained: None)
    monkeypatch.setattr(adapter, "load", lambda *arguments: redvtp.Model(host))
    model = adapter.RedvtpLavida(MODEL, device="cpu", batch_size=2, keep="25%", schedule="shift")
    documents = Documents([{"image": sample.image} for sample in samples[:3]])
    model.task_dict = {"ai2d": {"test": documents}}
    requests = [
        Instance("generate_until", (f"What is {place}?", {"max_new_tokens": 16}, lambda doc: [doc["image"]], place,
                                    "ai2d", "test"), 0, {"task": "ai2d", "doc_id": place, "repeats": 1})
        for place in range(3)
    ]  # fmt: skip
    padding = replace(requests[0], metadata=requests[0].metadata | {"__padding_only__": True})
    found = model.generate_until([*requests, padding])
    direct = redvtp.Model(host).generate(
        samples[2].image, "What is 2?", prune=redvtp.RedVTP(keep=0.25), length=2, block_length=2, steps=2,
        schedule="shift", seed=2,
    )  # fmt: skip
    assert found[2].text == direct.text and found[2].token_counts.to_dict()["kept"] == len(direct.kept)
    assert found[3].text == "" and found[3].token_counts is None


class Documents(list):
    """What the model asks of a data set."""

    class info:  # noqa: N801
        download_checksums = {"hf://datasets/lmms-lab-encoder/ai2d@0123abc/data/test.parquet": {}}


def test_the_revision_of_the_data_is_the_hubs():
    from redvtp.lmms.adapter import revision

    assert revision(Documents()) == "0123abc"
