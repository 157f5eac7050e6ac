"""Helpers of the generation tests: runs of a batch, and what makes two results equal."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from redvtp import (
    SGL,
    D3ToM,
    FastV,
    LladaFastV,
    Mass,
    Model,
    Oracle,
    Prompt,
    Random,
    RedVTP,
    Shuffled,
    Staged,
    ToMe,
    Uniform,
)

METHODS = (
    RedVTP(keep=0.5),
    RedVTP(keep=0.3, rows="prompt+masked", layers=(1, 3)),
    RedVTP(keep=0.4, rows="committed", step=2, positions="original"),
    RedVTP(keep=Mass(0.6), rows="prompt+response"),
    RedVTP(keep=0.6, protect=("newline",), images=(0,)),
    LladaFastV(keep=0.4),
    FastV(keep=0.5),
    ToMe(keep=0.5),
    ToMe(keep=0.3, step=0),
    Random(keep=0.5),
    Uniform(keep=0.25, step=0),
    Oracle(keep=0.3),
    Shuffled(keep=0.5),
    D3ToM(keep=0.4),
    SGL(keep=0.5, layer=0),
    Staged(keep=0.4, first=0.6, merge=True, diversity=0.5),
)
FAST = {"length": 6, "steps": 3}


def evidence(prompts: Sequence[Prompt]) -> dict[str, list]:
    """The extra that the oracle asks for."""
    return {"evidence": [[(3, 2, 17, 11)] if prompt.images else [] for prompt in prompts]}


def extras(model: Model, prompts: Sequence[Prompt]) -> dict[str, list]:
    """Whatever extra any method asks for; the scores of others are made up, by each sample's number of tokens."""
    counts = model.host.begin(prompts, 1).original.tolist()
    scores = {
        name: [torch.rand(n, generator=torch.Generator().manual_seed(seed + n)) for n in counts]
        for seed, name in enumerate(("guide", "prior"))
    }
    return evidence(prompts) | scores


def run(model: Model, prompts: Sequence[Prompt], prune=None, **settings):
    """Results of a batch."""
    return model.start(prompts, prune=prune, extras=extras(model, prompts), **{**FAST, **settings}).run()


def assert_same(ours, theirs) -> None:
    """Two results agree in everything, the layout included."""
    assert ours.canvas.tolist() == theirs.canvas.tolist()
    assert ours.ids == theirs.ids
    assert ours.kept.tolist() == theirs.kept.tolist()
    assert (ours.steps, ours.flops) == (theirs.steps, theirs.flops)
    assert abs(ours.tokens_fed - theirs.tokens_fed) < 1e-9
    # A batch may end with padding that the sample alone has not.
    real = [layout.take(torch.nonzero(layout.real[0]).T) for layout in (ours.layout, theirs.layout)]
    for name, value in vars(real[0]).items():
        torch.testing.assert_close(value, getattr(real[1], name), equal_nan=True)


def assert_all_same(ours, theirs) -> None:
    """Two lists of results agree."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert_same(one, other)
