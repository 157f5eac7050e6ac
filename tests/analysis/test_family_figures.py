"""Figures, tables and sentences of all families, from made-up answers whose story is known."""

from __future__ import annotations

import pytest

from analysis import accuracy, answers, benchmarks, plots, shortcuts, two_tokens
from analysis.figures import accuracy as accuracy_figure
from analysis.figures import pruning_maps as maps_figure
from analysis.figures import rates
from analysis.figures import shortcuts as shortcuts_figure
from analysis.figures import two_tokens as two_tokens_figure
from analysis.profiles import run_context
from analysis.results import Result

MODELS = ("a", "b")
N = 40
PROVENANCE = {"n": N, "seeds": [0], "link": "mini"}
CHANCE = {"doc": 0.0, "info": 0.0, "chart": 0.0, "diagram": 0.25, "scene": 0.25, "perception": 0.5, "choice": 0.25}
CELLS = (
    ("none", 1.0), ("blank", 1.0), ("unasked", 1.0), ("shuffled", 0.25), *(
        (method, keep) for method in ("redvtp", "random", "uniform", "oracle", "llada_fastv") for keep in (0.5, 0.25)
    )
)  # fmt: skip


def share(model: str, family: str, method: str, keep: float) -> float:
    """How many are right: everywhere RedVTP keeps all and random nothing at 25%, with exceptions told below."""
    if method in ("blank", "unasked"):
        leaky = (family, method) == ("perception", "blank") or (model, family, method) == ("b", "choice", "unasked")
        return 1.0 if leaky else CHANCE[family]
    if family == "scene" and method == "redvtp":
        return 0.0
    if family == "info" and method == "shuffled":
        return 1.0
    return 1.0 if method in ("none", "redvtp", "oracle") or (method == "llada_fastv" and keep == 0.5) else 0.0


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return [
        {
            "host": "h", "model": model, "family": family, "split": "test", "seed": 0, "index": i, "kind": "x",
            "method": method, "params": "{}", "keep": keep, "step": None, "positions": None, "answer": "right",
            "layer": 3 if method == "llada_fastv" else None, "exact_match": i < N * share(model, family, method, keep),
            "prediction": f"{method} {keep}", "score": 0.5, "evidence_recall": keep, "visual_tokens": 9, "kept": 9,
            "steps": 2, "tokens_fed": 9.0, "flops": 9, "answer_step": 1 if family == "choice" or i % 2 else 2,
        }
        for model in MODELS for family in CHANCE for method, keep in CELLS for i in range(N)
    ]  # fmt: skip


def results(rows: list[dict], module, summarise) -> Result:
    """What `measure` would write for these answers."""
    cells = [{"model": model, "family": family, "seed": 0} for model in MODELS for family in CHANCE]
    found = [row for cell in cells for row in summarise([row for row in rows if row.items() >= cell.items()], cell)]
    return Result(module.__name__.rpartition(".")[2], found, PROVENANCE, module.BY)


@pytest.fixture(scope="module")
def table(rows) -> Result:
    return results(rows, accuracy, lambda part, cell: accuracy.summarise(part, CHANCE[cell["family"]]))


@pytest.fixture(scope="module")
def split(rows) -> Result:
    two = [row for row in rows if benchmarks.get(row["family"]).protocol.steps == 2]
    return results(two, two_tokens, lambda part, cell: two_tokens.summarise(part))


@pytest.fixture(scope="module")
def beside(rows) -> Result:
    guessed = [{"family": family, "kind": kind, "asked": 1.0, "answer": "wrong", "share": level}
               for family, level in CHANCE.items() for kind in ("any", "x")]
    found = [row for family in CHANCE
             for row in shortcuts.summarise([row for row in rows if row["family"] == family], guessed, "f" * 64)]
    return Result("shortcuts", found, PROVENANCE, shortcuts.BY)


def test_seeds_are_pooled_by_their_hits(table):
    rows = [row | {"seed": seed, "exact_match": rate, "n": n} for row in table.rows[:1]
            for seed, rate, n in ((0, 1.0, 10), (1, 0.5, 30))]
    one = accuracy_figure.frame(Result("accuracy", rows, PROVENANCE)).iloc[0]
    assert (one["n"], one["exact_match"]) == (40, 25 / 40)
    assert one["exact_match_low"] < 25 / 40 < one["exact_match_high"]


def test_the_accuracy_sentence_says_what_holds_and_what_does_not(table):
    said = accuracy_figure.sentence(table)
    assert "in doc (100% against 0%), info (100% against 0%), chart" in said
    assert "and not in scene (0% against 0%). It is below unpruned beyond the intervals in scene" in said
    assert "Shuffled scores DO NOT equal random in info (100% against 0%)." in said
    assert "A blank image is above chance in perception (100% against 50%)." in said
    assert "b agrees on each of these." in said


def test_a_second_seed_that_differs_is_named(table):
    changed = [row | ({"exact_match": 0.0, "exact_match_low": 0.0, "exact_match_high": 0.09}
                      if (row["model"], row["family"], row["method"]) == ("b", "doc", "redvtp") else {})
               for row in table.rows]
    said = accuracy_figure.sentence(Result("accuracy", changed, PROVENANCE))
    assert "b differs: RedVTP against random in doc; RedVTP against unpruned in doc." in said


def test_the_shortcuts_sentence_names_the_families(beside):
    first, second = shortcuts_figure.sentence(beside).split(" b: ")
    blank = "perception (question, blank image: 100% against 100%)"
    assert f"a: a shortcut comes within the intervals of the model in {blank}; a blank image is above" in first
    assert first.endswith("above chance in perception (100% against 50%).")
    assert f"{blank} and choice (image, no question: 100% against 100%)" in second
    rows = shortcuts_figure.table(beside)
    assert len(rows) == len(CHANCE) * (3 * len(MODELS) + 2)
    assert set(rows[rows["family"] == "chart"]["mirrors"]) == {"ChartQA"}


def test_the_two_token_sentence_says_what_could_have_shown(split):
    said = two_tokens_figure.sentence(split)
    assert "On a, in diagram, scene, perception and choice, the answer's token was committed in step 1" in said
    assert "for 50%, 50%, 50% and 100% of the samples; right and still open were 50%, 50%, 50% and 0%." in said
    assert "RedVTP turned 0%, 100%, 0% and 0% from right to wrong, random 100%, 100%, 100% and 100%" in said
    assert said.count("A loss of 10% could not have shown in choice.") == len(MODELS)


def test_the_two_token_table_has_every_method_and_the_bound(split):
    rows = two_tokens_figure.table(split)
    assert len(rows) == len(MODELS) * 4 * 9  # families; methods and ratios
    one = rates.row_of(rows, model="a", family="diagram", method="llada_fastv", keep=0.25)
    assert (one["n"], one["first"], one["at_risk"], one["lost"]) == (N, 0.5, 1.0, 1.0)
    assert one["first_low"] < 0.5 < one["first_high"]
    unpruned = rates.row_of(rows, model="a", family="choice", method="none")
    assert (unpruned["at_risk"], unpruned["changed_1"]) == (0.0, 0.0)
    assert unpruned["changed_2"] is None or unpruned["changed_2"] != unpruned["changed_2"]  # no such answer


@pytest.mark.parametrize("name", ["accuracy", "recall", "shortcuts", "samples", "two_tokens"])
def test_figures_are_drawn(name, project, table, beside, split):
    run = run_context()
    drawn = {
        "accuracy": lambda: accuracy_figure.draw(table, run),
        "recall": lambda: accuracy_figure.draw_recall(table, run),
        "shortcuts": lambda: shortcuts_figure.draw(beside, run),
        "samples": lambda: shortcuts_figure.draw_samples(run),
        "two_tokens": lambda: two_tokens_figure.draw(split, run),
    }[name]()
    assert drawn.get_figwidth() == plots.WIDTH["page"] and drawn.get_figheight() < 10
    (path,) = plots.save_figure(drawn, name, run)
    assert path.stat().st_size > 20_000


def test_the_page_of_samples_shows_every_kind_first():
    for family in benchmarks.FAMILIES:
        shown = shortcuts_figure.chosen(family, 0)
        kinds = {sample.kind for sample in benchmarks.get(family).samples(answers.SPLIT, shortcuts_figure.LOOK_AT, 0)}
        assert len(shown) == shortcuts_figure.ACROSS
        assert len({sample.kind for sample in shown}) == min(len(kinds), shortcuts_figure.ACROSS)


def test_maps_without_a_sample_are_refused():
    with pytest.raises(ValueError, match="no sample of chart or scene was answered rightly"):
        maps_figure.draw(Result("pruning_maps", [], PROVENANCE), run_context(), ("chart", "scene"))
