"""The search for staged pruning: budgets at equal FLOPs, what is best, and no test sample in it."""

from __future__ import annotations

import dataclasses

import pytest

import redvtp
from analysis import answers, benchmarks, contender, contender_test, hosts, paths, plots, profiles
from analysis.agreement import compare
from analysis.comparisons import difference, named
from analysis.figures import contender as figure
from analysis.profiles import RunContext, run_context
from analysis.results import Result, reference_rows
from redvtp.selection import Mass, Share
from tests.untrained import untrained

FEW = ("redvtp", "once", "early", "early, mass", "once, prior")


@pytest.fixture(scope="module")
def model():
    return untrained()


@pytest.fixture
def few(monkeypatch):
    """A grid of some settings, whose layers a model of three has."""
    grid = {name: pruner for name, pruner in contender.grid().items() if name in FEW}
    monkeypatch.setattr(contender, "grid", lambda: grid)
    monkeypatch.setattr(contender, "FAMILIES", ("scene", "choice"))
    monkeypatch.setattr(contender, "RATIOS", (0.5,))
    return grid


def test_the_grid_changes_staged_pruning_only_and_starts_with_the_baseline():
    grid = contender.grid()
    assert next(iter(grid)) == contender.BASELINE and isinstance(grid["redvtp"], redvtp.RedVTP)
    rest = [pruner for name, pruner in grid.items() if name != contender.BASELINE]
    assert all(isinstance(pruner, redvtp.Staged) for pruner in rest)
    assert len(set(rest)) == len(rest)


def test_the_committed_search_chose_what_the_study_runs():
    rows = reference_rows("contender", "mini")
    assert {ratio: contender.best(rows, ratio) for ratio in contender.RATIOS} == contender.CHOSEN
    assert {row["split"] for row in rows} == {"dev"}
    assert contender.staged(0.5) == dataclasses.replace(contender.grid()[contender.CHOSEN[0.25]], keep=0.5)


def test_every_setting_costs_what_the_baseline_costs(model, few):
    batches = contender.batches_of(model, benchmarks.get("doc").samples("dev", 3, 0))
    settled = contender.settle(batches, few, 0.4)
    target = sum(batch.cost(settled["redvtp"]) for batch in batches)
    assert settled["redvtp"].keep == Share(0.4)
    assert set(settled) == set(few)
    for name, pruner in settled.items():
        cost = sum(batch.cost(pruner) for batch in batches)
        assert cost <= target
        assert cost > 0.98 * target, name
        assert isinstance(pruner.keep, type(few[name].keep))
    assert settled["once"].keep.ratio == pytest.approx(0.4, abs=0.01)
    assert settled["early"].keep.ratio > 0.4  # step 1 was cheaper
    assert settled["once, prior"].keep.ratio < 0.4  # a forward more


def test_planned_and_counted_costs_agree(model, few):
    samples = benchmarks.get("scene").samples("dev", 3, 0)
    (batch,) = contender.batches_of(model, samples)
    for pruner in (redvtp.RedVTP(keep=0.5), redvtp.Staged(keep=0.5), redvtp.Staged(keep=0.5, first=None, prior=True)):
        counted = contender.total(contender.answered([batch], pruner))
        assert counted <= batch.cost(pruner) < 1.1 * counted  # scoring is in the plan only
    assert batch.cost(redvtp.Staged(keep=Mass(0.9))) > batch.cost(redvtp.Staged(keep=Mass(0.2)))


def test_a_plan_ends_where_the_unpruned_run_did(model):
    (batch,) = contender.batches_of(model, benchmarks.get("doc").samples("dev", 2, 0))
    assert all(taken == task.steps for taken, task in zip(batch.taken, batch.tasks))  # untrained: no stop text
    pruner = redvtp.RedVTP(keep=0.25)
    whole, half, one = (dataclasses.replace(batch, taken=[steps] * 2).cost(pruner) for steps in (16, 8, 1))
    assert whole - half == pytest.approx((half - one) * 8 / 7, rel=0.1)
    assert half < whole


def test_a_setting_that_is_too_dear_is_left_out(model):
    batches = contender.batches_of(model, benchmarks.get("doc").samples("dev", 2, 0))
    late = redvtp.Staged(first=1.0, layer=1, second=12)
    settings = {"redvtp": redvtp.RedVTP(), "late": late, "once": redvtp.Staged(first=None)}
    assert set(contender.settle(batches, settings, 0.1)) == {"redvtp", "once"}


def row(setting, right, model="a", family="doc", ratio=0.25, n=10):
    return {"model": model, "family": family, "setting": setting, "ratio": ratio, "exact_match": right / n, "n": n,
            "budget": 0.3}


def test_the_best_has_the_most_right_answers_everywhere(few):
    rows = [row("redvtp", 10), row("once", 4), row("early", 6), row("early, mass", 9),
            row("redvtp", 10, "b"), row("once", 9, "b"), row("early", 7, "b")]
    assert contender.best(rows, 0.25) == "once"  # 13 of 20 as early has, and first; mass lacks a model
    assert contender.best([*rows, row("early, mass", 5, "b")], 0.25) == "early, mass"
    with pytest.raises(ValueError, match="at 0.5"):
        contender.best(rows, 0.5)


def test_the_search_and_the_report_run_and_stay_apart(model, few, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(answers, "model", lambda name: model)
    monkeypatch.setattr(answers, "weights_hash", lambda name: name)
    monkeypatch.setattr(hosts, "is_there", lambda name: False)
    monkeypatch.setitem(profiles.MODES, "quick", profiles.Size(n=2, seeds=(0,)))
    asked = []
    plain = benchmarks.Benchmark.samples
    monkeypatch.setattr(benchmarks.Benchmark, "samples",
                        lambda self, split, n, seed=0: asked.append(split) or plain(self, split, n, seed))
    run = RunContext(dataclasses.replace(run_context().profile, models=("mini/a",)), "quick")
    found = contender.measure(run)
    assert set(asked) == {"dev"}
    assert {each["split"] for each in found.rows} == {"dev"}
    dear = {"once, prior"}  # one forward more than the two of these families
    assert {each["setting"] for each in found.rows} == {"none", *few} - dear
    assert compare(found, found).differ == 0
    with pytest.raises(FileNotFoundError, match="contender.json is missing"):
        contender_test.measure(run)
    run.reference.mkdir(parents=True)
    (run.reference / "contender.json").write_bytes((run.results / "contender.json").read_bytes())
    report = contender_test.measure(run)
    assert {each["split"] for each in report.rows} == {"test"}
    best = contender.best(found.rows, 0.5)
    original = contender_test.ORIGINAL
    assert [each["setting"] for each in report.rows[:4]] == ["none", "redvtp", original, best]
    (searched,) = answers.having(found.rows, {"family": "scene", "setting": best})
    (told,) = answers.having(report.rows, {"family": "scene", "setting": best})
    assert told["budget"] == searched["budget"] and told["params"] == searched["params"]
    for row in report.rows[1:4]:
        for name, other in (("redvtp", report.rows[1]), ("original", report.rows[2])):
            assert row[f"from_{name}"] == pytest.approx(row["exact_match"] - other["exact_match"])
            assert row[f"gained_{name}"] - row[f"lost_{name}"] == round(row[f"from_{name}"] * row["n"])
    monkeypatch.setattr(answers, "weights_hash", lambda name: "other")
    with pytest.raises(ValueError, match="made with another mini/a"):
        contender_test.measure(run)


# the figure


def compared(staged: dict[tuple[str, int], int], n: int = 50) -> Result:
    """Two families and seeds of two models, of whose answers RedVTP has 20 right, with original positions 30, and
    staged pruning as many as given by model and seed; a better setting keeps what the others have right."""
    rows = []
    for model in ("a", "b"):
        for family in ("doc", "info"):
            for seed in (0, 1):
                common = {"model": model, "family": family, "split": "test", "seed": seed, "n": n}
                rows.append(common | {"setting": "none", "ratio": 1.0, "exact_match": 0.9})
                right = {"redvtp": 20, contender_test.ORIGINAL: 30, "early": staged[model, seed]}
                for setting, hits in right.items():
                    row = common | {"setting": setting, "ratio": 0.25, "exact_match": hits / n, "kept": 0.25}
                    row |= {"flops_ratio": 0.3, "flops_to_redvtp": 1.0 + seed / 10}
                    for name, base in (("redvtp", 20), ("original", 30)):
                        row |= {f"gained_{name}": max(0, hits - base), f"lost_{name}": max(0, base - hits)}
                        row |= named(f"from_{name}", difference(max(0, hits - base), max(0, base - hits), n))
                    rows.append(row)
    provenance = {"n": n, "seeds": [0, 1], "link": "mini", "params": {}}
    return Result("contender_test", rows, provenance, contender_test.BY)


def test_the_figure_pools_seeds_and_families_from_their_answers():
    rows = figure.frame(compared({("a", 0): 40, ("a", 1): 30, ("b", 0): 20, ("b", 1): 20}))
    one = rows.query("model == 'a' and family == 'all' and setting == 'early'").iloc[0]
    assert (one["n"], one["exact_match"], one["gained_redvtp"], one["lost_redvtp"]) == (200, 0.7, 60, 0)
    assert one["from_redvtp"] == pytest.approx(0.3) and one["from_original"] == pytest.approx(0.1)
    doc = rows.query("model == 'a' and family == 'doc' and setting == 'early'").iloc[0]
    assert (doc["n"], doc["gained_redvtp"]) == (100, 30) and doc["from_redvtp_low"] < 0.3 < doc["from_redvtp_high"]
    assert (rows["p_holm_redvtp"].dropna() >= rows.loc[rows["p_holm_redvtp"].notna(), "p_redvtp"]).all()
    assert rows.loc[rows["setting"] == "redvtp", "p_holm_redvtp"].isna().all()  # nothing is compared with itself


def test_the_sentence_says_on_which_models_it_is_better():
    said = figure.sentence(compared({("a", 0): 40, ("a", 1): 40, ("b", 0): 20, ("b", 1): 20}))
    first, second = said.split("Compared with RedVTP with original positions")
    assert "better on a (+40 [" in first and "not told apart on b (+0 [" in first and "worse" not in first
    assert "better on a (+20 [" in second and "worse on b (-20 [" in second
    assert "1.05 to 1.05 times RedVTP's" in said


def test_the_figure_and_the_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    result, run = compared({("a", 0): 40, ("a", 1): 40, ("b", 0): 20, ("b", 1): 20}), run_context()
    drawn = figure.draw(result, run)
    assert len(drawn.axes) == 2 and [axis.get_title() for axis in drawn.axes][0] == "a, FLOPs of r = 25%"
    table = figure.table(result).set_index(["model", "family"])
    assert table.loc[("a", "all"), "contender - RedVTP"].startswith("+40† [")
    assert table.loc[("b", "doc"), "original - RedVTP"].startswith("+20† [")
    assert plots.save_table(figure.table(result), "contender", run, figure.table_caption(run, result))


def test_the_search_table_marks_what_was_chosen():
    table = figure.search_table(figure.search(run_context())).set_index("setting")
    for ratio, name in contender.CHOSEN.items():
        starred = [setting for setting, text in table[f"all, {ratio:.0%}"].items() if str(text).endswith("*")]
        assert starred == [name]
