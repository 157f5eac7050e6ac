"""FLOPs told from what a cache asks for are those that a run counts step by step."""

from __future__ import annotations

import pytest

import redvtp
from analysis import benchmarks
from analysis.cached_flops import answer_flops, true_flops
from analysis.caches import SETTINGS
from redvtp.plans import Task
from tests.untrained import untrained


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("keep", [1.0, 0.25])
def test_the_plan_costs_what_the_run_costs(name, keep):
    """At the mini shape, where both are there: 16 response tokens in 8 steps, none of which a stop text saves."""
    model, sample, setting = untrained(), benchmarks.get("scene").sample("test", 0, 0), SETTINGS[name]
    settings = {"length": 16, "steps": 8, "stop": ()} | ({} if setting.block is None else {"block_length": 8})
    pruner = redvtp.RedVTP(keep=keep) if keep < 1.0 else None
    run = model.start([redvtp.Prompt(sample.question, [sample.image])], prune=pruner, cache=setting.cache, **settings)
    layout = run.state.layout
    answer = run.run()[0]
    assert answer.steps == 8
    task = Task(answer.visual_tokens, layout.prompt_length - answer.visual_tokens, 16, 8)
    flops, scores = answer_flops(model.host.config.text_config, task, keep, setting.cache, setting.block)
    assert flops == answer.flops
    assert (scores > 0) == (keep < 1.0)


def test_a_cached_prompt_leaves_little_to_prune():
    full = true_flops("llada_v", 32, 16, 1.0)
    alone = true_flops("llada_v", 32, 16, 1.0, redvtp.PrefixDLM())
    assert alone < 0.2 * full
    pruned = [true_flops("llada_v", 32, 16, 0.25, cache) for cache in (None, redvtp.PrefixDLM())]
    assert 1 - pruned[0] / full > 0.6
    assert 1 - pruned[1] / alone < 0.1
