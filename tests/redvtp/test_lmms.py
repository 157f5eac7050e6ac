"""The lmms-eval plug-in as far as it goes without lmms-eval: words, table, source hash, command line."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import subprocess
import sys

import pytest

import redvtp
from redvtp.caching import CACHES
from redvtp.generation.settings import Settings
from redvtp.lmms import MODELS, source
from redvtp.lmms.__main__ import completed
from redvtp.lmms.arguments import read, split
from redvtp.lmms.tasks import TASKS, decoded, task_of, tasks_of
from redvtp.pruning import METHODS

MODEL = "mini/llada_v"


def names(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def test_names_of_methods_caches_and_settings_do_not_collide():
    # One flat list of model arguments is possible because of this.
    parts = [*METHODS.values(), *CACHES.values(), Settings]
    for one, other in itertools.combinations(parts, 2):
        if {one, other} & {*CACHES.values(), Settings} and not {one, other} <= {*CACHES.values()}:
            assert not names(one) & names(other), (one, other)


def test_importing_redvtp_needs_none_of_it():
    code = "import sys, redvtp; assert not [name for name in sys.modules if 'lmms' in name]"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("given", "pruner", "cache"),
    [
        ({}, redvtp.RedVTP(keep=0.5), None),
        ({"method": "none"}, None, None),
        ({"keep": 0.25, "rows": "prompt", "step": 2}, redvtp.RedVTP(keep=0.25, rows="prompt", step=2), None),
        ({"keep": "25%", "layers": "[1,2]"}, redvtp.RedVTP(keep=0.25, layers=(1, 2)), None),
        ({"keep": "300t", "protect": '["newline"]'}, redvtp.RedVTP(redvtp.Count(300), protect=("newline",)), None),
        ({"method": "llada_fastv", "layer": 16, "keep": 1.0}, redvtp.LladaFastV(keep=1.0, layer=16), None),
        ({"images": "null", "cache": "none"}, redvtp.RedVTP(keep=0.5), None),
        ({"method": "none", "cache": "fast_dllm", "refresh": 8, "dual": True}, None, redvtp.FastDLLM(8, dual=True)),
    ],
)
def test_model_arguments(given, pruner, cache):
    found = read("llada_v", given)
    assert (found.pruner, found.cache) == (pruner, cache)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"keep": 1}, "keep=1: expected a share such as 25%"),
        ({"keep": "half"}, "keep='half': expected a share"),
        ({"method": "none", "keep": 0.5}, "keep=0.5: nothing is pruned with method=none"),
        ({"method": "magic"}, "magic"),
        ({"cache": "kv"}, "unknown cache 'kv': expected one of"),
        ({"refresh": 8}, "unknown model argument 'refresh' with method=redvtp, cache=none: expected one of"),
        ({"method": "random", "rows": "prompt"}, "unknown model argument 'rows'"),
        ({"rows": "nobody"}, "nobody"),
        ({"steps": 0}, "steps=0"),
        ({"think": "hard"}, "think='hard': expected one of think, no_think, none"),
        ({"protocol": "mine"}, "protocol='mine': expected one of official, redundancy_study"),
    ],
)
def test_a_wrong_model_argument_is_named(given, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        read("llada_v", given)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("docvqa_val", (32, 32, 16, (), " /no_think")),
        ("docvqa_test", (32, 32, 16, (), " /no_think")),
        ("infovqa_val", (32, 32, 16, (), " /no_think")),
        ("chartqa", (16, 16, 16, ("\n",), " /no_think")),
        ("mathvista_testmini_cot", (96, 96, 48, (), " /think")),
        ("mathverse_testmini_vision_only", (64, 64, 32, (), " /think")),
        ("seedbench", (2, 2, 2, (), " /no_think")),
        *((name, (2, 2, 2, (), " /no_think")) for name in ("ai2d", "mme", "realworldqa", "mmbench_en_dev", "mmmu_val")),
    ],
)
def test_official_settings_of_llada_v(task, expected):
    settings, suffix = read("llada_v", {}).decoding(task)
    assert (settings.length, settings.block_length, settings.steps, settings.stop, suffix) == expected
    assert (settings.temperature, settings.cfg_scale, settings.remasking) == (0, 0, "low_confidence")


def test_official_settings_of_lavida():
    found = {task: read("lavida", {}).decoding(task) for task in tasks_of("redvtp")}
    assert {task: settings.steps for task, (settings, _) in found.items()} == {
        "ai2d": 2, "realworldqa": 2, "infovqa_val": 16, "docvqa_val": 16, "mme": 2, "mmbench_en_dev": 2,
    }  # fmt: skip
    assert all(suffix == "" and settings.stop == () for settings, suffix in found.values())


def test_the_redundancy_study_has_fewer_steps_for_chartqa():
    study = read("llada_v", {"protocol": "redundancy_study"})
    assert [study.decoding(name)[0].steps for name in ("chartqa", "docvqa_val", "gqa")] == [8, 16, 2]


def test_keywords_of_the_request_come_before_the_runs_and_these_before_the_table():
    run = read("llada_v", {"steps": 8, "remasking": "random", "stop": '["END"]'})
    assert run.decoding("docvqa_val")[0].steps == 8
    settings, suffix = run.decoding("docvqa_val", {
        "gen_length": 64, "gen_steps": 4, "cfg": 0.5, "stopping_criteria": "\n", "think_mode": "none",
        "max_new_tokens": 32, "until": ["\n\n"], "do_sample": False, "prefix_lm": False,
    })  # fmt: skip
    assert (settings.length, settings.block, settings.steps, settings.cfg_scale) == (64, 64, 4, 0.5)
    assert (settings.remasking, settings.stop, suffix) == ("random", ("\n",), "")
    assert run.decoding("docvqa_val", {"step_ratio": 0.25})[0].steps == 8  # of 32 tokens, instead of the run's steps


@pytest.mark.parametrize("word", ["gen_lenght", "prefix_lm", "layer"])
def test_a_wrong_generation_keyword_is_named(word):
    with pytest.raises(ValueError, match=word):
        read("llada_v", {}).decoding("mme", {word: True})


def test_what_is_unusual():
    assert read("llada_v", {"keep": 0.25}).unusual("mme") == {}
    assert read("llada_v", {"step": 2, "length": 4}).unusual("mme") == {"step": 2, "length": 4, "block_length": None}
    assert read("llada_v", {"protocol": "redundancy_study"}).unusual("chartqa") == {"steps": 8}
    assert read("llada_v", {"think": "none"}).unusual("mme") == {"think": ""}
    assert read("llada_v", {}).unusual("mme", {"gen_steps": 1}) == {"steps": 1}


def test_the_table():
    assert tasks_of("redvtp") == ["ai2d", "realworldqa", "infovqa_val", "docvqa_val", "mme", "mmbench_en_dev"]
    assert len(tasks_of("redundancy_study")) == 10 and {"mme", "mmmu_val", "chartqa", "mmstar"} == set(
        tasks_of("llada_fastv")
    )
    assert task_of("mmmu_pro_standard").benchmark == "mmmu_pro" and task_of("seedbench") is None
    assert all(task.name.startswith(task.benchmark) for task in TASKS.values())
    with pytest.raises(ValueError, match="video"):
        decoded("videomme", "llada_v")
    with pytest.raises(ValueError, match="unknown study 'mine'"):
        tasks_of("mine")


def test_split_as_lmms_eval_does():
    assert split('pretrained=/a b/c,keep=0.25,steps=16,dual=True,keep2=25%,layers=[1,2],stop=["a,b"],q="x,y"') == {
        "pretrained": "/a b/c", "keep": 0.25, "steps": 16, "dual": True, "keep2": "25%", "layers": "[1,2]",
        "stop": '["a,b"]', "q": '"x,y"',
    }  # fmt: skip
    with pytest.raises(ValueError, match="'alone': expected NAME=VALUE"):
        split("a=1,alone")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def test_the_source_hash_follows_code_weights_and_versions(folder, tmp_path_factory, monkeypatch):
    first = source.source_hash(folder)
    assert first == source.source_hash(folder) and len(first) == 16
    copy = tmp_path_factory.mktemp("copies") / "copy"
    shutil.copytree(folder, copy)
    assert source.source_hash(copy) == first  # small weights count by content, wherever they lie
    (copy / "README.md").write_text("a card")
    assert source.source_hash(copy) == first
    (copy / "model.safetensors").write_bytes(b"Weights")
    assert source.source_hash(copy) != first
    code = tmp_path_factory.mktemp("code") / "redvtp"
    (code / "models").mkdir(parents=True)
    (code / "__init__.py").write_text("")
    (code / "models" / "one.py").write_text("a = 1")
    monkeypatch.setattr(redvtp, "__file__", str(code / "__init__.py"))
    before = source.source_hash(folder)
    (code / "models" / "one.py").write_text("a = 2")
    assert source.source_hash(folder) != before
    after = source.source_hash(folder)
    monkeypatch.setattr(source.metadata, "version", lambda package: "0")
    assert source.source_hash(folder) != after


def test_large_weights_count_by_size_and_time(folder, monkeypatch):
    monkeypatch.setattr(source, "WHOLE", 3)
    first = source.source_hash(folder)
    assert source.source_hash(folder) == first
    (folder / "model.safetensors").write_bytes(b"Weights")
    assert source.source_hash(folder) != first


def simple_evaluate(use_cache):
    """Named as lmms-eval's."""
    return source.check_source(None, MODEL)


def test_a_cache_of_responses_needs_the_source():
    assert simple_evaluate(None) == source.source_hash(MODEL)
    with pytest.raises(ValueError, match=f"add source={source.source_hash(MODEL)} to the model arguments"):
        simple_evaluate("cache")
    with pytest.raises(ValueError, match="source=1234: expected"):
        source.check_source("1234", MODEL)
    assert source.check_source(source.source_hash(MODEL), MODEL)


def test_the_command_adds_the_source():
    words = ["--tasks", "mme", "--model=redvtp_llada_v", "--model_args", f"pretrained={MODEL},keep=0.25", "--limit=2"]
    made = completed(words)
    assert made[made.index("--model_args") + 1] == f"pretrained={MODEL},keep=0.25,source={source.source_hash(MODEL)}"
    assert made[-1] == "--limit=2" and completed(made) == made
    other = ["--model", "llava", "--model_args", "pretrained=x"]
    assert completed(other) == other
    for wrong, message in (([], "--model_args: expected"), (["--model_args", "keep=0.5"], "expected pretrained=")):
        with pytest.raises(ValueError, match=message):
            completed(["--model", "redvtp_lavida", *wrong])


def test_both_hosts_are_models():
    assert set(MODELS.values()) == {"llada_v", "lavida"}
