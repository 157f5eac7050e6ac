"""Planned costs against real runs, method by method."""

from __future__ import annotations

import pytest

from redvtp import FastV, LladaFastV, Mass, Prompt, Random, RedVTP, ToMe
from redvtp.flops import LanguageFormula
from redvtp.plans import Task, forwards, planned, stages
from redvtp.selection import Count
from tests.redvtp.runs import run
from tests.tiny import picture

METHODS = (
    None,
    RedVTP(keep=0.5),
    RedVTP(keep=Count(5)),
    RedVTP(keep=0.3, step=2, rows="prompt+masked"),
    LladaFastV(keep=0.4),
    LladaFastV(keep=Count(0), layer=2),
    FastV(keep=0.5),
    Random(keep=0.25, step=0),
    ToMe(keep=0.5),
)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: str(method)[:40])
@pytest.mark.parametrize(("length", "steps"), [(6, 3), (5, 2), (2, 1)])
def test_a_plan_costs_what_the_run_costs(model, method, length, steps):
    if method is not None and max(cut.step for cut in method.cuts(steps, 3) or method.cuts(3, 3)) > max(steps - 1, 1):
        method = RedVTP(keep=0.5)
    result = run(model, [Prompt("What?", [picture(70, 40)])], method, length=length, steps=steps, stop=())[0]
    parts = LanguageFormula(model.host.config.text_config)
    prompt = int((result.layout.kind == 1).sum())
    task = Task(result.visual_tokens, prompt, length, steps)
    made = forwards(task, planned(method, steps, model.host.layers), model.host.layers)
    cost = stages(parts, task, made)
    assert cost.total - cost.scoring == result.flops
    assert sum(sum(one.lengths) for one in made) / model.host.layers == pytest.approx(result.tokens_fed)
    assert stages(parts, task, made, official=True).total > cost.total
    asks = method is not None and any(method.needs(cut).attention for cut in method.cuts(steps, model.host.layers))
    assert bool(cost.scoring) == asks


def test_budgets_that_depend_on_scores_are_refused():
    with pytest.raises(ValueError, match=r"Mass\(p=0.5\): how many tokens stay is known only with the scores"):
        planned(RedVTP(keep=Mass(0.5)), 4, 3)
    with pytest.raises(ValueError, match="step=9"):
        planned(RedVTP(step=9), 4, 3)
