"""Training of a diffusion model that goes on from the autoregressive control's weights."""

import dataclasses
import json

import pytest
import torch

import redvtp
from analysis import train_mini
from analysis.training import export, loop, mini_model, stages, teacher
from analysis.training.tokenizer import build_tokenizer

CONTROL = "mini/llava_ar"
TINY = tuple(dataclasses.replace(stage, steps=2, pages=2, full_pages=2, questions=2)
             for stage in stages.ADAPTED_STAGES)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def options(folder, **changes):
    given = {"families": ("scene", "choice"), "seed": 3, "stages": TINY, "folder": folder, "compile": False, "dev_n": 1,
             "adapt": CONTROL}
    return loop.Options(**{**given, **changes})


def test_a_new_run_starts_with_the_controls_weights_and_looks_both_ways(tmp_path, tokenizer):
    run = loop.Run(options(tmp_path))
    control = teacher.load_causal(CONTROL, tokenizer)
    for name, weight in run.trainee.model.state_dict().items():
        assert torch.equal(weight, control.state_dict()[name]), name
    assert run.trainee.model.config.text_config.is_causal is False and not run.trainee.causal
    text = run.trainee.model.model.language_model
    text.set_attn_implementation("sdpa")
    torch.manual_seed(0)
    one = torch.randn(1, 6, 128)
    other = torch.cat((one[:, :-1], -one[:, -1:]), 1)
    with torch.no_grad():
        first, second = (text(inputs_embeds=each).last_hidden_state[:, 0] for each in (one, other))
    assert not torch.allclose(first, second, atol=1e-3)  # the first token sees the last


def test_it_learns_to_fill_masked_tokens(tmp_path):
    """Some steps lower the diffusion loss, with the tower as it was."""
    adapt = dataclasses.replace(TINY[0], steps=30, pages=2, questions=4, warmup=5, full_every=0)
    run = loop.Run(options(tmp_path, stages=(adapt, *TINY[1:]), families=("scene",)))
    tower = {name: weight.clone() for name, weight in run.trainee.model.model.vision_tower.state_dict().items()}
    seen = []
    for _ in range(30):
        seen.append(float(run._step(adapt)["short_answer"]))
        run.progress.in_stage += 1
        run.progress.step += 1
    assert sum(seen[-10:]) < 0.8 * sum(seen[:10])
    for name, weight in run.trainee.model.model.vision_tower.state_dict().items():
        assert torch.equal(weight, tower[name]), name


def test_a_resumed_run_ends_in_the_same_state(tmp_path):
    assert loop.Run(options(tmp_path / "whole")).train()
    part = options(tmp_path / "parts", minutes=0.0)
    while not loop.Run(part).train():
        pass
    whole, parts = (torch.load(tmp_path / name / loop.checkpoint.FILE, weights_only=True)
                    for name in ("whole", "parts"))
    assert whole["progress"]["step"] == parts["progress"]["step"] == 4
    for name, weight in whole["trainee"].items():
        assert torch.equal(weight, parts["trainee"][name]), name
    with pytest.raises(ValueError, match="adapt is None, but the run in this folder has mini/llava_ar"):
        loop.Run(options(tmp_path / "whole", adapt=None))


def test_export_loads_with_redvtp(tmp_path):
    folder, out = tmp_path / "run", tmp_path / "model"
    assert loop.Run(options(folder, stages=TINY[1:])).train()
    export.export(folder, out, ("scene", "choice"), seed=3, test_n=2, adapted=True)
    assert json.loads((out / "redvtp.json").read_text())["host"] == "llada_v"
    assert redvtp.load(out).host.config.text_config.is_causal is False
    card = (out / "README.md").read_text()
    assert "derived from the autoregressive control" in card and "{" not in card


@pytest.mark.parametrize("given,expected", [
    (["--adapt", CONTROL, "--causal"], "--causal is given with --adapt mini/llava_ar"),
    (["--adapt", CONTROL, "--tower", "llada_v"], "--tower is given with --adapt"),
    (["--adapt", CONTROL, "--host", "lavida"], "--adapt is given with --host lavida, expected llada_v"),
    (["--adapt", "mini/nobody", "--name", "never-trained"], "model 'mini/nobody'"),
    (["--adapt", "mini/llada_v", "--name", "never-trained"], "mini/llada_v looks both ways already"),
])
def test_what_cannot_be_adapted_gives_one_line(capsys, given, expected):
    assert train_mini.main(given) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and expected in line


def test_another_network_is_refused(tokenizer):
    model = mini_model.build_model(tokenizer)
    with pytest.raises(ValueError, match="another network"):
        teacher.take_over(model, mini_model.build_model(tokenizer, causal=True, layers=2))


def test_the_command_on_the_card_says_what_was_adapted(monkeypatch, tmp_path):
    told = {}
    monkeypatch.setattr(train_mini.paths, "RUNS", tmp_path)
    monkeypatch.setattr(export, "export", lambda *given: told.update(command=given[6], adapted=given[8]))
    arguments = ["--adapt", CONTROL, "--name", "llada_ar_derived", "--out", str(tmp_path / "out"), "--export-only"]
    assert train_mini.main(arguments) == 0
    assert told["adapted"] and "--adapt mini/llava_ar" in told["command"]


def test_the_whole_takes_about_as_long_as_it_should():
    assert sum(stage.steps for stage in stages.scaled(1, adapted=True)) == 1250
    assert [stage.name for stage in stages.scaled(0.5, adapted=True)] == ["adapt", "finish"]
