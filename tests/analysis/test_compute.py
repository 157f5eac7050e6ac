"""Compute on the true shapes: count against formula, plans against real runs, and what is drawn from them."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import pytest
import torch

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

from analysis import compute, plots  # noqa: E402
from analysis.compute import Answer, cost  # noqa: E402
from analysis.figures import compute as figure  # noqa: E402
from analysis.flop_pieces import Counted, Formula, counted  # noqa: E402
from analysis.profiles import run_context  # noqa: E402
from redvtp.models.published import true_config  # noqa: E402
from redvtp.plans import PlannedCut, forwards, planned  # noqa: E402
from redvtp.pruning import METHODS, FastV, LladaFastV, Random, RedVTP, Scored  # noqa: E402
from redvtp.selection import Cut, Share  # noqa: E402
from redvtp.sequence import VISUAL  # noqa: E402
from tests.redvtp.runs import run as run_tiny  # noqa: E402

DOC = Answer(visual=3699, prompt=80, response=32, steps=16, crops=10)


@pytest.fixture(scope="module")
def formula() -> Formula:
    return Formula(true_config("llada_v"))


@pytest.fixture(scope="module")
def count() -> Counted:
    return Counted(true_config("llada_v"))


@pytest.mark.parametrize(
    ("part", "size"),
    [
        ("tower", (1,)), ("tower", (10,)), ("projector", (3,)), ("layer", (3811,)), ("layer", (37, 32)),
        ("layer", (3811, 32)), ("head", (3811,)), ("head", (1,)), ("scoring", (32, 3811)),
    ],
)  # fmt: skip
def test_each_part_costs_what_torch_counts(part, size, count, formula):
    assert getattr(count, part)(*size) == getattr(formula, part)(*size) > 0


def test_a_whole_forward_is_the_sum_of_its_parts(count, formula):
    length = 1200
    position = torch.empty(1, length, dtype=torch.long, device="meta")
    whole = counted(lambda: count.decoder(inputs_embeds=count.hidden(length), position_ids=position))
    rotary = 2 * 64 * length  # a product in some versions of transformers
    assert whole - 32 * formula.layer(length) in (0, rotary)


def test_the_shapes_are_the_published_ones():
    for host, rows in (("llada_v", 126349), ("lavida", 126464)):
        config = true_config(host)
        text, vision = config.text_config, config.vision_config
        assert (text.num_hidden_layers, text.hidden_size, text.intermediate_size, text.vocab_size) == (
            32, 4096, 12288, rows,
        )  # fmt: skip
        assert (vision.num_hidden_layers, vision.hidden_size, vision.intermediate_size) == (26, 1152, 4304)
        assert Formula(config).patches == 729


def answer_of(result, prompt: int, response: int, steps: int) -> Answer:
    return Answer(result.visual_tokens, prompt, response, steps, crops=1)


@dataclass(frozen=True)
class TwoCuts(Scored):
    """To 3/4 of the visual tokens after step 1, to a half after step 3."""

    name = "two_cuts"

    def cuts(self, steps, layers):
        return (Cut(1), Cut(3))

    def score(self, view):
        return torch.arange(view.visual.shape[1]).expand_as(view.visual).double()

    def select(self, view):
        return TwoCuts(keep=0.75 if view.cut.step == 1 else 0.5).select_by(view, self.score(view))


@pytest.mark.parametrize(
    "pruner",
    [None, Random(keep=0.3, step=0), RedVTP(keep=0.5), RedVTP(keep=0.25, step=2), LladaFastV(keep=0.4, layer=1),
     LladaFastV(keep=0.4, layer=2), FastV(keep=0.5), TwoCuts()],
    ids=str,
)  # fmt: skip
def test_plans_cost_what_runs_report(pruner, model, prompts):
    """FLOPs and tokens fed of a plan are those that a real run adds up, step by step."""
    response, steps = 6, 4
    result = run_tiny(model, prompts[:1], pruner, length=response, steps=steps)[0]
    pieces = Formula(model.host.config)
    plan = planned(pruner, steps, pieces.layers)
    if isinstance(pruner, TwoCuts):
        plan = (PlannedCut(Cut(1), Share(0.75)), PlannedCut(Cut(3), Share(0.5)))
    prompt = int(result.layout.real.sum()) - int(result.layout.count(VISUAL)) - response
    answer = answer_of(result, prompt, response, steps)
    made = forwards(answer, plan, pieces.layers)
    found = cost(pieces, answer, made)
    assert found.total - found.scoring == result.flops
    assert sum(sum(one.lengths) for one in made) / pieces.layers == pytest.approx(result.tokens_fed)
    assert bool(found.scoring) == any(one.scored for one in plan)


def test_scoring_is_where_the_method_looks():
    after = forwards(DOC, planned(RedVTP(keep=0.5), 16, 32), 32)
    assert [len(one.scored) for one in after] == [32] + [0] * 15
    inside = forwards(DOC, planned(LladaFastV(keep=0.5, layer=20), 16, 32), 32)
    assert [one.scored for one in inside] == [(20,)] + [()] * 15
    assert [one.scored for one in forwards(DOC, planned(FastV(keep=0.5), 16, 32), 32)] == [(2,)] * 16
    assert not any(one.scored for one in forwards(DOC, planned(Random(keep=0.5, step=0), 16, 32), 32))


def test_the_methods_that_are_compared_by_place_have_one():
    places = {tuple(one.cut for one in plan) for _, plan in compute.plans(0.5, 16, 32).values()}
    for method in (RedVTP, LladaFastV, FastV, Random, METHODS["uniform"], METHODS["oracle"], METHODS["tome"]):
        assert method(keep=0.5).cuts(16, 32) in places, method


def test_short_runs_have_fewer_places():
    assert set(compute.plans(0.5, 2, 32)) < set(compute.plans(0.5, 4, 32))
    assert "after half of the steps" not in compute.plans(0.5, 2, 32)  # that is after step 1
    for steps in (2, 3, 16, 48):
        for place, (_, plan) in compute.plans(0.5, steps, 32).items():
            for one in plan:
                one.cut.check(steps, 32)
            assert plan, place


@pytest.mark.parametrize(
    ("visual", "others", "cuts"),
    [(3699, 79, (25.1, 48.8, 71.1, 83.8)), (980, 80, (22.3, 44.2, 65.8, 78.5))],
    ids=["LLaDA-V", "LaViDa"],
)
def test_the_arithmetic_on_record_comes_out(visual, others, cuts, formula):
    """Shares of the layers alone, 16 steps: the estimate in the papers' notes (redvtp.md, A4)."""
    answer = Answer(visual, others - 32, 32, 16, crops=1)
    full = cost(formula, answer, forwards(answer, (), 32), official=True)
    for keep, cut in zip((0.75, 0.5, 0.25, 0.1), cuts):
        pruned = cost(formula, answer, forwards(answer, planned(RedVTP(keep=keep), 16, 32), 32), official=True)
        share = (pruned.first + pruned.later) / (full.first + full.later)
        assert 100 * (1 - share) == pytest.approx(cut, abs=0.06)  # there without rounding down the kept tokens


def test_the_gated_formula_is_ours_without_the_head(formula):
    made = forwards(DOC, planned(LladaFastV(keep=0.25, layer=8), 16, 32), 32)
    found = cost(formula, DOC, made, official=True)
    assert 2 * compute.paper_macs(formula.text, made, 3) == found.first + found.later
    d, m = 4096, 12288
    by_hand = sum(4 * n * d**2 + 2 * n**2 * d + 2 * n * d * m for n in made[0].lengths)
    assert compute.paper_macs(formula.text, made[:1], 2) == by_hand


@pytest.fixture(scope="module")
def rows() -> dict[tuple, dict]:
    found = [row for setting in ((2, 2), (32, 16)) for row in compute.compute("llada_v", *setting)]
    return {(row["response"], row["steps"], row["place"], row["keep"]): row for row in found}


def test_count_and_formula_agree_in_every_row(rows):
    for row in rows.values():
        assert row["difference"] == 0
        assert row["total"] == row["formula_total"] == sum(row[name] for name in ("first", "later", "head", "scoring"))


def test_bounds_follow_from_the_places(rows):
    def share(place: str, steps: int = 16, keep: float = 0.25) -> float:
        return rows[32 if steps == 16 else 2, steps, place, keep]["share"]

    layers = [share(f"inside step 1, layer {layer}") for layer in (8, 16, 20, 24)]
    order = [share("before step 1"), *layers, share("after step 1"), share("after a quarter of the steps"),
             share("after half of the steps"), share("after three quarters of the steps"), 1]  # fmt: skip
    assert order == sorted(order)
    assert share("after step 1") < share("two cuts") < share("after half of the steps")
    assert share("after step 1", steps=2, keep=0.1) > 0.5  # step 1 is never pruned
    assert round(100 * (1 - share("after step 1")), 1) == 70.4
    full = rows[32, 16, "none", 1.0]
    assert (full["visual_tokens"], full["prompt_tokens"], full["crops"]) == (3699, 80, 10)
    assert full["share"] == full["share_with_vision"] == full["own_share"] == 1
    pruned = rows[32, 16, "after step 1", 0.25]
    assert pruned["share"] < pruned["share_with_vision"] and pruned["own_total"] < pruned["total"]


def test_measured_drawn_and_said(project, monkeypatch):
    monkeypatch.setattr(compute, "sides", lambda host: (Formula(true_config(host)),) * 2)
    monkeypatch.setattr(compute, "OFFICIAL", ((2, 2), (32, 16)))
    monkeypatch.setattr(compute, "SWEEP", ((8, 2), (8, 8)))
    (project / "analysis" / "compute.py").write_text("")
    run = run_context()
    result = compute.measure(run)
    assert result.link == "flops" and {row["host"] for row in result.rows} == {"llada_v", "lavida"}
    figure.draw(result, run).draw_without_rendering()
    pyplot.close("all")
    for table in (figure.table(result), figure.bounds(result), figure.by_steps(result)):
        assert len(table) and plots.markdown(table)
    text = figure.sentence(result)
    assert "are equal in all" in text and "FLOPs are not time" in text
    assert "LLaDA-V 70.4%" in text and "at none of the ratios in 2 steps" in text
