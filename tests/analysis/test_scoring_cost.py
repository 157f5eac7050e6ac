"""The cost of selecting: every part is there and refusals come first. Nothing here depends on time."""

from __future__ import annotations

import json
from itertools import count

import pytest

from analysis.scoring_cost import LIMITS, PARTS, Clock, as_table, main, measure, methods
from analysis.speed_case import Case
from redvtp.pruning import METHODS
from redvtp.selection import Share

TINY = Case(hidden=32, layers=4, heads=4, mlp=48, vocabulary=64, visual=24, prompt=8, response=6, steps=2)


def test_every_method_that_a_prompt_is_enough_for_is_measured():
    ticks = count()
    chosen = methods(Share(0.5), TINY.layers)
    assert set(METHODS) - set(chosen) == {"oracle", "sgl"}
    rows = measure(TINY, chosen, 1, "cpu", lambda line: None, now=lambda: float(next(ticks)))
    found = {row["method"]: row for row in rows}
    assert set(found) == set(chosen)
    # The clock ticks once a call: a call of anything costs 1.
    assert all(row["forward"] == 1 and row["select"] >= 1 for row in rows)
    assert found["redvtp"]["probe"] == TINY.layers
    assert found["fastv"]["probe"] == 1
    assert found["sparsevlm"]["select"] == found["sparsevlm"]["probe"] == found["sparsevlm"]["apply"] > 1
    assert found["divprune"]["probe"] == 0
    for row in rows:
        assert (row["reads_attention"] or row["method"] == "vnorm") == bool(row["probe"])  # lengths of values
        assert row["limit"] == LIMITS[row["reads_attention"]]
        assert row["total"] == sum(row[part] for part in PARTS)
        assert row["within"] == (row["total"] / row["forward"] <= row["limit"])
    table = as_table(TINY, rows)
    assert all(name in table for name in chosen) and "over" in table


def test_methods_that_a_budget_is_too_small_for_are_left_out_unless_named():
    assert "vtw" not in methods(Share(0.1), 4)
    with pytest.raises(ValueError, match="keep=0.1: expected a layer of 4"):
        methods(Share(0.1), 4, ["vtw"])
    with pytest.raises(ValueError, match="oracle needs evidence"):
        methods(Share(0.5), 4, ["oracle"])


def test_a_clock_adds_up():
    ticks = iter([1.0, 3.0, 10.0, 10.5])
    clock = Clock("cpu", {}, lambda: next(ticks))
    double = clock.timed("double", lambda x: 2 * x)
    assert (double(2), double(x=3)) == (4, 6)
    assert clock.spent == {"double": 2.5}


def test_the_command_line(capsys):
    shape = [word for name in ("hidden", "layers", "heads", "mlp", "vocabulary", "visual", "prompt", "response")
             for word in (f"--{name}", str(getattr(TINY, name)))]  # fmt: skip
    assert main([*shape, "--methods", "random", "--rounds", "1", "--json"]) in (0, 1)
    row = json.loads(capsys.readouterr().out)
    assert row["method"] == "random"
    for words in (["--rounds", "0"], ["--methods", "vtw", "--keep", "5%"], ["--hidden", "33"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2
