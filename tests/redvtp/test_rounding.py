"""Official rounding: the same scores as the official procedure in 16 bits, step by step."""

from __future__ import annotations

import math

import pytest
import torch

from analysis import reference
from analysis.speed_case import Case, build
from redvtp import Decoding, FastDLLM, Model, Prompt, Recorder, RedVTP
from redvtp.generation.cutting import check_pruner
from redvtp.models.lavida import Lavida
from redvtp.models.llada_v import LladaV
from redvtp.rounding import RoundedProbe
from tests.tiny import build_host, build_lavida, picture

OFFICIAL = RedVTP(keep=0.4, rounding="official")


def scores_of(decoding: Decoding) -> torch.Tensor:
    """The scores of the cut after step 1, ``[n]``, and the cut made."""
    seen, step = [], RedVTP.score

    class Watched(RedVTP):
        def score(self, view):
            seen.append(step(self, view))
            return seen[-1]

    method = decoding.pruner
    decoding.pruner = Watched(keep=method.keep, rows=method.rows, rounding=method.rounding)
    decoding.step()
    return seen[0][0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@torch.no_grad()
def test_scores_are_those_of_the_official_procedure_bit_for_bit(dtype):
    # Heads of width 16, so that dividing by the root and multiplying by its inverse are the same.
    host, state = build(Case(hidden=64, layers=4, heads=4, mlp=96, vocabulary=200, visual=60, response=12, dtype=dtype))
    settings = Case(response=12).settings
    theirs = reference.decode(host, state, settings, keep=0.4)
    assert theirs.importance.dtype == getattr(torch, dtype)
    ours = scores_of(Decoding(host, state, settings, OFFICIAL))
    assert torch.equal(ours, theirs.importance.float())
    assert len(ours.unique()) < len(ours)  # rounding makes ties
    kept = Decoding(host, state, settings, OFFICIAL).run()[0].kept
    assert sorted(ours[kept].tolist()) == sorted(ours[theirs.kept].tolist())
    exact = scores_of(Decoding(host, state, settings, RedVTP(keep=0.4)))
    assert not torch.equal(exact, ours)


@pytest.mark.parametrize("host", [LladaV, Lavida])
@pytest.mark.parametrize("masked", [False, True])
def test_each_step_of_the_mean_is_rounded_as_its_host_does(host, masked):
    rule, draw = host.rounding, torch.Generator().manual_seed(0)
    heads, groups, length, width, layers = 6, 3, 40, 10, 3
    rows, columns = torch.tensor([[31, 35, 39, -1]]), torch.tensor([[4, 9, 10, 20, -1]])
    mask = (torch.arange(length) >= 3)[None, None, None] if masked else None
    probe, maps = RoundedProbe(rows, columns, rounding=rule), []
    for layer in range(1, layers + 1):
        query = torch.randn(1, heads, length, width, generator=draw).to(rule.dtype) * 2
        key = torch.randn(1, groups, length, width, generator=draw).to(rule.dtype) * 2
        probe.add(layer, query, key, mask, width**-0.5)
        raw = query @ key.repeat_interleave(heads // groups, 1).transpose(2, 3)
        raw = raw / math.sqrt(width) if host is LladaV else raw * width**-0.5
        raw = raw if mask is None else raw.masked_fill(~mask, float("-inf"))
        maps.append(torch.softmax(raw.float(), -1).to(rule.dtype)[0])
    if host is LladaV:
        mean = torch.stack([one.mean(0) for one in maps]).mean(0)
    else:
        mean = torch.stack(maps).mean((0, 1))
    assert mean.dtype == rule.dtype
    assert torch.equal(probe.mean()[0, :3, :4], mean[rows[0, :3]][:, columns[0, :4]])
    assert not probe.mean()[..., 4].any()  # padding reads 0


@pytest.mark.parametrize("built", [build_host, build_lavida])
def test_a_model_in_fp32_runs_as_ever_and_only_its_scores_are_rounded(built):
    host = built()
    model, prompts = Model(host), [Prompt("What is it?", [picture(100, 40, 1)])]
    runs = []
    for method in (RedVTP(keep=0.4), OFFICIAL):
        recorder = Recorder(attention=True, logits=True)
        decoding = model.start(prompts, prune=method, recorder=recorder, length=8, steps=4)
        runs.append((scores_of(decoding), recorder.steps[0]))
    (exact, plain), (rounded, record) = runs
    assert torch.equal(plain.logits, record.logits)
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=1e-6)
    assert torch.equal(rounded, rounded.to(host.rounding.dtype).float())
    assert not torch.equal(rounded, exact)
    assert record.attention.dtype == torch.float32


def test_a_batch_of_any_lengths_can_be_scored(model, prompts):
    for rows in ("masked", "prompt+masked"):
        answers = model.generate_batch(
            prompts, prune=RedVTP(keep=0.4, rows=rows, rounding="official"), length=6, steps=3
        )
        assert [len(one.kept) for one in answers] == [max(1, int(0.4 * one.visual_tokens)) if one.visual_tokens else 0
                                                      for one in answers]  # fmt: skip


def test_what_cannot_be_done_is_refused_before_any_forward(model, host):
    with pytest.raises(ValueError, match="rounding='fp8': expected one of exact, official"):
        RedVTP(rounding="fp8")
    with pytest.raises(ValueError, match=r"layers=\(1,\): the official code averages over all layers"):
        RedVTP(rounding="official", layers=(1,))
    with pytest.raises(ValueError, match="the official code prunes without a cache"):
        model.generate(None, "?", prune=OFFICIAL, cache=FastDLLM(), length=4, steps=2)
    decoding = model.start([Prompt("?")], length=4, steps=2)

    class Other:
        name, layers, can = "other", 2, host.can - {"rounding"}

    with pytest.raises(ValueError, match=r"redvtp needs \['rounding'\], which host other cannot do"):
        check_pruner(OFFICIAL, Other, decoding.settings, {})
