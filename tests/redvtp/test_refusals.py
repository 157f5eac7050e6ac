"""Words that cannot be meant are refused in one line, before any forward."""

from __future__ import annotations

import json

import pytest

from redvtp import FastV, LladaFastV, Mass, Prompt, Random, RedVTP, Settings, ToMe, load
from redvtp.models.checkpoint import CheckpointError
from redvtp.models.llada_v import LladaV


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RedVTP(layers=3), "layers=3: expected a tuple"),
        (lambda: RedVTP(step=1.5), "step=1.5: expected a whole number"),
        (lambda: RedVTP(images=0), "images=0: expected a tuple of image indices"),
        (lambda: RedVTP(images=()), r"images=\(\)"),
        (lambda: RedVTP(images=(-1,)), r"images=\(-1,\)"),
        (lambda: ToMe(keep=Mass(0.5)), "tome has no scores"),
        (lambda: Settings(temperature=float("inf")), "temperature=inf"),
        (lambda: Settings(cfg_scale="a"), "cfg_scale='a'"),
        (lambda: Settings(stop=5), "stop=5"),
        (lambda: Settings(suffix=3), "suffix=3"),
        (lambda: Settings(seed="a"), "seed='a'"),
        (lambda: Prompt(None), "question=None"),
        (lambda: Prompt("?", 5), "expected a list of images, got one int"),
        (lambda: load(""), "model '': expected a folder"),
    ],
)
def test_when_written(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (LladaFastV(layer=1.5), "layer=1.5: expected a whole number"),
        (FastV(layer="a"), "layer='a': expected a whole number"),
        (Random(step=1.5), "step=1.5: expected a whole number"),
        (RedVTP(layers=(1.5,)), "layer 1.5 is out of range"),
        (RedVTP(images=(7,)), r"images=\(7,\): no sample has such an image"),
        (RedVTP, "expected a method with its parameters"),
        ("redvtp", "prune='redvtp': expected a method"),
    ],
)
def test_methods_before_a_forward(model, prompts, monkeypatch, method, message):
    monkeypatch.setattr(type(model.host), "forward", lambda *_, **__: pytest.fail("a forward ran"))
    with pytest.raises(ValueError, match=message) as caught:
        model.generate_batch(prompts[:1], prune=method, length=6, steps=3)
    assert "\n" not in str(caught.value)


def test_extras_that_do_not_fit_the_batch(model, prompts):
    with pytest.raises(ValueError, match="extra 'evidence': 1 values for 2 samples"):
        model.generate_batch(prompts[:2], extras={"evidence": [[]]}, length=6, steps=3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "[]", "expected a JSON object, found a list"),
        ("config.json", "{}", "expected LLaDA-V's settings, hidden_size"),
        ("redvtp.json", "[]", "expected a JSON object"),
        ("tokenizer.json", "{", "the tokenizer cannot be read"),
    ],
)
def test_folders_whose_files_are_not_what_they_should_be(tmp_path, name, content, message):
    shape = dict.fromkeys(
        ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"), 8
    )
    (tmp_path / "config.json").write_text(json.dumps(shape))
    (tmp_path / name).write_text(content)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if not (tmp_path / name).exists():
            (tmp_path / name).write_text("{}")
    with pytest.raises(CheckpointError, match=message) as caught:
        LladaV.from_folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_tokenizer(tmp_path):
    shape = dict.fromkeys(
        ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"), 8
    )
    (tmp_path / "config.json").write_text(json.dumps(shape))
    with pytest.raises(CheckpointError, match="expected tokenizer.json and tokenizer_config.json, found neither"):
        LladaV.from_folder(tmp_path)
