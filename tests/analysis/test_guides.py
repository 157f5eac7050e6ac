"""The autoregressive control as SGL's guide."""

from __future__ import annotations

import pytest
import torch

import redvtp
from analysis import benchmarks, causal_control, guides
from analysis.causal_control import Reading
from analysis.training.mini_model import build_model
from analysis.training.tokenizer import build_tokenizer
from redvtp.sequence import PROMPT, RESPONSE, VISUAL
from tests.untrained import untrained


@pytest.fixture(scope="module")
def control():
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    return causal_control.control(build_model(tokenizer, causal=True, hidden=32, tower_layers=1, layers=2), tokenizer)


def test_the_scores_are_one_for_each_of_the_hosts_tokens(control):
    model = untrained()
    samples = benchmarks.get("scene").samples("dev", 2, 0)
    scores = [guides.causal_scores(control, sample) for sample in samples]
    prompts = [redvtp.Prompt(sample.question, [sample.image]) for sample in samples]
    assert [len(score) for score in scores] == model.host.begin(prompts, 2).original.tolist()
    run = model.start(prompts, prune=redvtp.SGL(keep=0.25, layer=0), extras={"guide": scores}, length=2, steps=2).run()
    for result, score in zip(run, scores, strict=True):
        best = score.argsort(descending=True, stable=True)[: len(result.kept)].sort().values
        assert result.kept.tolist() == best.tolist()


def test_rows_before_the_image_have_no_say(monkeypatch):
    """By hand: a prompt token, two visual ones, a prompt token, and a response token that was read."""
    kind = torch.tensor([[PROMPT, VISUAL, VISUAL, PROMPT, RESPONSE]])
    mass = torch.zeros(1, 5, 5)
    mass[0, 0, 1], mass[0, 2, 2] = 9.0, 9.0
    mass[0, 3, 1], mass[0, 4, 2] = 0.5, 0.25
    reading = Reading("A", kind, torch.tensor([[False, False, False, True, True]]), {1: mass, 2: 3 * mass})
    monkeypatch.setattr(guides, "read", lambda control, sample: reading)
    assert guides.causal_scores(None, None).tolist() == [1.0, 0.5]
