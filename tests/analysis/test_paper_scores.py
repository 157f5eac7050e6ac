"""Reading lmms-eval's files back: made-up runs, in its format, whose numbers are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from analysis import paper_scores, paths
from analysis.lmms_files import evaluations
from analysis.paper_scores import main, write
from analysis.results import load_result
from analysis.verdicts import cases, evidence, reading
from analysis.verdicts.cases import Lacking
from analysis.verdicts.rules import Check

LLADA_V = "/weights/LLaDA-V"
N = 40


@pytest.fixture
def runs_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    return tmp_path / "runs" / "paper"


def cost(place: int, seconds: float = 2.0, tokens: int = 4, kept: int = 100, **more) -> dict:
    return {
        "input_tokens": 110, "output_tokens": tokens, "visual_tokens": 100 + place % 3, "prompt_tokens": 10,
        "kept": kept, "steps": 16, "tokens_fed": 1700.0, "flops": 10**12, "seconds": seconds,
        "stands_on": {"data": "abc", "source": "0123", "device": "H200", "lmms-eval": "0.7.3", "torch": "2.13.0",
                      "transformers": "5.23.0", **more},
    }  # fmt: skip


def sample(place: int, scores: dict, spent: dict | None) -> dict:
    return {"doc_id": place, "input": f"What is {place}?", "target": "x", "filtered_resps": "x",
            "token_counts": [spent], **scores}  # fmt: skip


def run(folder: Path, arguments: str, samples: list[dict], score: dict, task: str = "docvqa_val", date: str = "",
        model: str = "redvtp_llada_v", pretrained: str = LLADA_V, original: int | None = None, **config) -> Path:
    """A run's two files, as lmms-eval leaves them."""
    date = date or f"20260101_{len(list(folder.rglob('*_results.json'))):06}"
    place = folder / "weights__LLaDA-V"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{date}_samples_{task}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in samples))
    counts = {"original": len(samples) if original is None else original, "effective": len(samples)}
    (place / f"{date}_results.json").write_text(json.dumps({
        "results": {task: {"alias": task, **score}},
        "configs": {task: {"dataset_path": "lmms-lab-encoder/DocVQA", "dataset_name": "DocVQA"}},
        "versions": {task: "Yaml"}, "n-samples": {task: counts}, "task_hashes": {task: "feed"},
        "config": {"model": model, "model_args": f"pretrained={pretrained},{arguments}", "batch_size": "1",
                   "gen_kwargs": None, **config},
    }))  # fmt: skip
    return folder


def anls_run(folder: Path, arguments: str, scores, seconds: float = 2.0, tokens: int = 4, **options) -> Path:
    samples = [sample(i, {"anls": float(s)}, cost(i, seconds, tokens)) for i, s in enumerate(scores)]
    return run(folder, arguments, samples, {"anls,none": float(np.mean(scores))}, **options)


FULL = [1.0] * 36 + [0.0] * 4
HALF = [1.0] * 30 + [0.5] * 2 + [0.0] * 8


def rows(folder: Path) -> dict[tuple, dict]:
    write(list(evaluations([folder])))
    found = {}
    for name in paper_scores.NAMES:
        if (paths.RUNS / "paper" / f"{name}.json").is_file():
            content = json.loads((paths.RUNS / "paper" / f"{name}.json").read_text())
            found |= {(name, row["method"], row["keep"]): row for row in content["rows"]}
    return found


def test_scores_and_gains_of_a_pruned_run(tmp_path, runs_folder):
    folder = tmp_path / "out"
    anls_run(folder, "method=none", FULL)
    anls_run(folder, "method=redvtp,keep=0.5,source=0123", HALF, seconds=1.0, tokens=5)
    found = rows(folder)
    base, pruned = found["paper_scores", "none", 1.0], found["paper_scores", "redvtp", 0.5]
    assert (base["score"], pruned["score"]) == (pytest.approx(90), pytest.approx(77.5))
    assert base["score_low"] < 90 < base["score_high"] and base["score_low"] > 70
    assert pruned["share_of_unpruned"] == pytest.approx(77.5 / 90)
    assert pruned["share_of_unpruned_low"] < 77.5 / 90 < pruned["share_of_unpruned_high"] <= 1
    # All questions take half as long for five tokens in place of four: no draw differs.
    assert [pruned[f"latency_cut{end}"] for end in ("", "_low", "_high")] == pytest.approx([50] * 3)
    assert [pruned[f"throughput_gain{end}"] for end in ("", "_low", "_high")] == pytest.approx([150] * 3)
    assert base["latency_cut"] is None and base["share_of_unpruned"] is None
    assert base["visual_to_prompt"] == pytest.approx(np.mean([100 + i % 3 for i in range(N)]) / 10)
    assert (pruned["host"], pruned["model"], pruned["benchmark"], pruned["rows"], pruned["cache"]) == (
        "llada_v", "LLaDA-V", "docvqa", "masked", "none",
    )  # fmt: skip
    assert pruned["params"] == "{}" and pruned["n"] == N and pruned["evidence_recall"] is None


def test_the_file_says_what_it_stands_on(tmp_path, runs_folder):
    rows(anls_run(tmp_path / "out", "method=none", FULL))
    content = json.loads((runs_folder / "paper_scores.json").read_text())
    about = content["provenance"]
    assert (about["link"], about["profile"], about["n"], about["device"]) == ("paper", "paper", N, "H200")
    assert about["params"] == {"lmms_eval": ["0.7.3"], "torch": ["2.13.0"], "transformers": ["5.23.0"]}
    row = content["rows"][0]
    assert (row["lmms_eval"], row["task_hash"], row["data_revision"], row["source"], row["dataset"]) == (
        "0.7.3", "feed", "abc", "0123", "lmms-lab-encoder/DocVQA/DocVQA",
    )  # fmt: skip
    assert len(row["questions_hash"]) == 16 and "/weights" not in json.dumps(content)


def mme_run(folder: Path, arguments: str, wrong: set[int]) -> Path:
    """Four images in two categories, two questions each; `wrong` questions."""
    samples, own = [], {"color": [], "count": [], "code_reasoning": []}
    for i in range(12):
        category = ("color", "count", "code_reasoning")[i // 4]
        metric = "mme_cognition_score" if category == "code_reasoning" else "mme_perception_score"
        entry = {"question_id": f"{category}/{i % 4 // 2}", "category": category, "score": float(i not in wrong)}
        samples.append(sample(i, {metric: entry}, cost(i)))
        own[category].append(float(i not in wrong))
    points = {name: np.mean([50 * (a + b) + 100 * (a + b == 2) for a, b in zip(v[::2], v[1::2])])
              for name, v in own.items()}  # fmt: skip
    score = {"mme_perception_score,none": points["color"] + points["count"],
             "mme_cognition_score,none": points["code_reasoning"]}  # fmt: skip
    return run(folder, arguments, samples, score, task="mme")


def test_mme_is_a_sum_of_categories_over_images(tmp_path, runs_folder):
    folder = tmp_path / "out"
    mme_run(folder, "method=none", set())
    mme_run(folder, "method=redvtp,keep=25%", {0, 4, 5})
    found = rows(folder)
    base, pruned = found["paper_scores", "none", 1.0], found["paper_scores", "redvtp", 0.25]
    assert base["score"] == base["score_low"] == base["score_high"] == 600
    # color: one image of two with one of two right, 50 of 200; count: one image of two with none.
    assert pruned["score"] == 600 - 75 - 100
    assert pruned["share_of_unpruned"] == pytest.approx(425 / 600)
    assert pruned["score_low"] < 425 < pruned["score_high"] and pruned["score_high"] == 600


def test_a_score_that_its_samples_do_not_give_has_no_interval(tmp_path, runs_folder):
    samples = [sample(i, {"gpt_eval_score": {"prediction": "B", "answer": "A" if i % 2 else "B"}}, cost(i))
               for i in range(N)]  # fmt: skip
    run(tmp_path / "a", "method=none", samples, {"gpt_eval_score,none": 50.0}, task="mmbench_en_dev")
    run(tmp_path / "b", "method=none", samples, {"gpt_eval_score,none": 51.0}, task="mmbench_en_dev")
    row = rows(tmp_path / "a")["paper_scores", "none", 1.0]
    assert row["score"] == 50 and row["score_low"] < 50 < row["score_high"] and row["benchmark"] == "mmbench"
    row = rows(tmp_path / "b")["paper_scores", "none", 1.0]
    assert (row["score"], row["score_low"], row["score_high"]) == (51, None, None)


def test_answers_from_a_cache_have_no_cost(tmp_path, runs_folder):
    folder = tmp_path / "out"
    anls_run(folder, "method=none", FULL)
    samples = [sample(i, {"anls": s}, None if i == 3 else cost(i)) for i, s in enumerate(HALF)]
    run(folder, "method=redvtp", samples, {"anls,none": np.mean(HALF)})
    row = rows(folder)["paper_scores", "redvtp", 0.5]
    assert row["latency"] is row["kept"] is row["latency_cut"] is row["visual_to_prompt"] is None
    assert row["share_of_unpruned"] is not None


@pytest.mark.parametrize("change", [{"device": "A40"}, {"batch": "4"}])
def test_times_are_compared_on_equal_terms_alone(tmp_path, runs_folder, change):
    folder = tmp_path / "out"
    anls_run(folder, "method=none", FULL)
    samples = [sample(i, {"anls": s}, cost(i, device=change.get("device", "H200"))) for i, s in enumerate(HALF)]
    run(folder, "method=redvtp", samples, {"anls,none": np.mean(HALF)}, batch_size=change.get("batch", "1"))
    row = rows(folder)["paper_scores", "redvtp", 0.5]
    assert row["latency_cut"] is None and row["latency"] == 2 and row["share_of_unpruned"] is not None


@pytest.mark.parametrize(
    ("arguments", "options", "params"),
    [
        ("method=redvtp,step=2", {}, {"step": 2}),
        ("method=redvtp,keep=300t", {}, {"keep": "Count(n=300)"}),
        ("method=redvtp,cache=fast_dllm,refresh=8", {}, {"refresh": 8}),
        ("method=redvtp", {"original": 5000}, {"documents": N}),
        ("method=redvtp", {"task": "docvqa_val_lite"}, {"task": "docvqa_val_lite"}),
        ("method=redvtp", {"gen_kwargs": {"gen_steps": 8}}, {"steps": 8}),
    ],
)
def test_what_is_not_as_usual_is_a_variant(tmp_path, runs_folder, arguments, options, params):
    anls_run(tmp_path / "out", arguments, HALF, **options)
    found = rows(tmp_path / "out")
    assert [name for name, *_ in found] == ["paper_variants"]
    assert json.loads(next(iter(found.values()))["params"]) == params


def test_guide_rows_and_layers_have_fields_of_their_own(tmp_path, runs_folder):
    folder = tmp_path / "out"
    anls_run(folder, "method=redvtp,rows=prompt", HALF)
    anls_run(folder, "method=llada_fastv,layer=16,keep=0.5", HALF)
    found = rows(folder)
    assert found["paper_scores", "redvtp", 0.5]["rows"] == "prompt"
    assert found["paper_scores", "llada_fastv", 0.5]["layer"] == 16


def test_of_two_runs_of_the_same_the_later_counts(tmp_path, runs_folder):
    folder = tmp_path / "out"
    anls_run(folder, "method=none", HALF, date="20260102_000000")
    anls_run(folder, "method=none", FULL, date="20260101_000000")
    assert rows(folder)["paper_scores", "none", 1.0]["score"] == pytest.approx(77.5)


def test_a_mini_model_is_no_evidence_about_published_weights(tmp_path, runs_folder, capsys):
    folder = anls_run(tmp_path / "out", "method=none", FULL, pretrained="mini/llada_v")
    assert main([str(folder)]) == 1
    assert "mini/llada_v: a shipped mini model is no evidence about published weights" in capsys.readouterr().err
    assert not runs_folder.exists()


def test_what_cannot_be_read_is_named(tmp_path, runs_folder, capsys):
    assert main([str(tmp_path)]) == 1 and "no *_results.json" in capsys.readouterr().err
    mixed = [sample(i, {"anls": 1.0}, cost(i, source=str(i % 2))) for i in range(N)]
    run(tmp_path / "mixed", "method=none", mixed, {"anls,none": 1.0})
    assert main([str(tmp_path / "mixed")]) == 1 and "different code, data or devices" in capsys.readouterr().err
    twice = [sample(0, {"anls": 1.0}, cost(0))] * 2
    run(tmp_path / "twice", "method=none", twice, {"anls,none": 1.0})
    assert main([str(tmp_path / "twice")]) == 1 and "documents come twice" in capsys.readouterr().err
    next(anls_run(tmp_path / "lost", "method=none", FULL).rglob("*.jsonl")).unlink()
    assert main([str(tmp_path / "lost")]) == 1 and "expected a run with --log_samples" in capsys.readouterr().err


def test_the_claims_rules_can_read_the_rows(tmp_path, runs_folder):
    folder = tmp_path / "out"
    for task in ("docvqa_val", "infovqa_val"):
        anls_run(folder, "method=none", FULL, task=task)
        for keep in ("0.5", "0.25"):
            anls_run(folder, f"method=redvtp,keep={keep}", HALF, seconds=0.5, task=task)
        for given in ("rows=prompt", "rows=prompt+response", "rows=committed"):
            anls_run(folder, f"method=redvtp,keep=0.5,{given}", HALF, task=task)
    result = write(list(evaluations([folder])))["paper_scores"]
    assert set(evidence.SOURCES["paper_scores"].fields) <= set(result.rows[0])
    claims = {claim.id: claim for paper in reading.read_claims(paths.PAPERS / "claims.yaml") for claim in paper.claims}
    decided = {}
    for name in ("R2", "R3", "R7", "R9", "R10"):
        for check in claims[name].rule["paper"]:
            assert isinstance(check, Check) and check.result == "paper_scores"
            try:
                decided[name] = {case.outcome for case in cases.cases(check, result)}
            except Lacking as error:
                decided[name] = str(error)
    assert decided["R3"] == {cases.HOLDS} and decided["R2"] == {cases.HOLDS}  # four times as fast
    assert decided["R9"] == {cases.HOLDS} and decided["R10"] == {cases.OPEN}
    assert "lavida" in decided["R7"]  # the rule wants both hosts


def test_rows_are_read_as_every_other_result(tmp_path, runs_folder):
    anls_run(tmp_path / "out", "method=none", FULL)
    assert main([str(tmp_path / "out")]) == 0
    context = paper_scores.Read(paper_scores.PROFILES["paper"], number=N)
    assert len(load_result("paper_scores", context).rows) == 1
