"""What holds for every registered method: one matrix of properties and of the methods in `matrix.CASES`."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from redvtp import Count, Model, Recorder, Settings, Share
from redvtp.flops import LanguageFormula
from redvtp.generation import Decoding
from redvtp.generation.cutting import looks
from redvtp.models.base import compact_positions
from redvtp.plans import Task, forwards, planned, stages
from redvtp.pruning import METHODS
from redvtp.sequence import PROMPT, VISUAL
from tests.pruning.matrix import CASES, Watched
from tests.redvtp.runs import FAST, assert_same, extras, run
from tests.tiny import build_lavida

STEPS, LAYERS = FAST["steps"], 3


@pytest.fixture(params=CASES, ids=str)
def method(request):
    return request.param


@pytest.fixture(scope="module")
def lavida():
    return Model(build_lavida())


def plan(method):
    """The method's planned cuts; None where only the scores tell how many tokens stay."""
    try:
        return planned(method, STEPS, LAYERS)
    except ValueError as error:
        assert "known only with the scores" in str(error)
        return None


def test_every_registered_method_is_in_the_matrix():
    assert {type(case) for case in CASES} >= set(METHODS.values())


def test_it_is_named_and_a_value(method):
    assert METHODS[method.name] is type(method)
    assert method == replace(method)
    assert hash(method) == hash(replace(method))
    assert type(method)(keep=0.5) == type(method)(keep=Share(0.5))


def test_a_batch_gives_what_each_sample_gives_alone(model, prompts, method):
    for together, prompt in zip(run(model, prompts, method), prompts, strict=True):
        assert_same(together, run(model, [prompt], method)[0])


@pytest.mark.parametrize("which", [0, 3])
def test_padding_changes_nothing(model, prompts, method, which):
    prompts = prompts[which : which + 1]
    state = model.host.begin(prompts, FAST["length"])
    gap = 7
    columns = torch.cat([torch.full((gap,), -1), torch.arange(state.layout.length)])[None]
    layout = state.layout.take(columns)
    loud = torch.full((1, gap, state.embeds.shape[2]), 50.0)
    padded = replace(state, embeds=torch.cat([loud, state.embeds], 1), layout=layout)
    padded = replace(padded, positions=compact_positions(layout))
    found = Decoding(model.host, padded, Settings(**FAST), method, extras=extras(model, prompts)).run()[0]
    assert_same(found, Decoding(model.host, state, Settings(**FAST), method, extras=extras(model, prompts)).run()[0])


def test_it_is_deterministic_and_leaves_the_model_as_it_was(model, prompts, method):
    before = {name: value.clone() for name, value in model.host.model.state_dict().items()}
    first, second = run(model, prompts[:2], method), run(model, prompts[:2], method)
    for one, other in zip(first, second, strict=True):
        assert_same(one, other)
    assert all(torch.equal(value, before[name]) for name, value in model.host.model.state_dict().items())


def test_it_makes_no_gradients(model, prompts, method):
    recorder = Recorder(logits=True)
    with torch.enable_grad():
        decoding = model.start(prompts[:1], prune=method, recorder=recorder, extras=extras(model, prompts[:1]), **FAST)
        decoding.run()
    made = [step.logits for step in recorder.steps] + [decoding.state.embeds]
    for record in recorder.cuts:
        made += [value for value in vars(record.selection).values() if value is not None]
    assert recorder.cuts
    assert not any(value.requires_grad for value in made)
    assert all(not value.requires_grad and value.grad is None for value in model.host.model.parameters())


@pytest.mark.parametrize("which", [0, 2, 3])
def test_it_keeps_exactly_its_budget_at_every_layer_of_every_step(model, prompts, method, which):
    watched = Watched(model.host)
    result = run(Model(watched), prompts[which : which + 1], method, stop=())[0]
    plain = run(model, prompts[which : which + 1], stop=())[0]
    kept = result.kept.tolist()
    assert all(before < after for before, after in pairwise(kept))
    assert len(kept) == result.layout.count(VISUAL).item()
    assert result.tokens_fed < plain.tokens_fed
    assert result.flops < plain.flops
    cuts = plan(method)
    if cuts is None:
        return
    task = Task(result.visual_tokens, result.layout.count(PROMPT).item(), FAST["length"], STEPS)
    made = forwards(task, cuts, LAYERS)
    assert [tuple(lengths[:, 0].tolist()) for lengths in watched.lengths] == [one.lengths for one in made]
    lasting = [one.left(task.visual) for one in cuts if one.cut.lasting]
    assert len(kept) == min([task.visual, *lasting])
    cost = stages(LanguageFormula(model.host.config.text_config), task, made)
    assert cost.total - cost.scoring == result.flops


def test_keeping_everything_is_the_unpruned_run(model, prompts, method):
    recorders = Recorder(logits=True), Recorder(logits=True)
    pruned = run(model, prompts, replace(method, keep=1.0, protect=()), recorder=recorders[0])
    for result, plain in zip(pruned, run(model, prompts, recorder=recorders[1]), strict=True):
        assert_same(result, plain)
    for one, other in zip(*(recorder.steps for recorder in recorders), strict=True):
        assert torch.equal(one.logits, other.logits)


def test_attention_is_computed_only_where_it_is_asked_for(model, prompts, method):
    cuts = method.cuts(STEPS, LAYERS)
    for cut in cuts:
        assert method.needs(cut).attention <= {"response", "prompt"}
        assert cut.step > 0 or not looks(method.needs(cut))
    watched = Watched(model.host)
    run(Model(watched), prompts[:1], method, stop=())
    for step, probe in enumerate(watched.probes, start=1):
        asked = [cut for cut in cuts if cut.step == step and looks(method.needs(cut))]
        assert (probe is not None) == bool(asked)
        if probe is None:
            continue
        inside = {cut.layer for cut in asked if cut.layer is not None and method.needs(cut).layers is None}
        if len(inside) == len(asked):
            assert set(probe.seen_layers()) == inside
        rows = FAST["length"] * any(method.needs(cut).attention for cut in asked)
        rows += prompts_rows(model, prompts[:1], method, asked)
        assert probe.rows.shape[1] == rows


def prompts_rows(model, prompts, method, cuts) -> int:
    """Prompt rows that these cuts want watched."""
    wanted = any("prompt" in method.needs(cut).attention for cut in cuts)
    return int(model.host.begin(prompts, 1).layout.count(PROMPT)) if wanted else 0


def test_it_runs_on_lavida_too(lavida, prompts, method):
    result, plain = run(lavida, prompts[:1], method)[0], run(lavida, prompts[:1])[0]
    assert len(result.kept) == result.layout.count(VISUAL).item() <= plain.visual_tokens
    assert result.tokens_fed < plain.tokens_fed


def test_a_budget_beyond_the_tokens_is_refused(model, prompts, method):
    with pytest.raises(ValueError, match="10000|give a float|mean share|expected a share"):
        run(model, prompts[:1], replace(method, keep=Count(10_000)))
