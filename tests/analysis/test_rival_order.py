"""The study's published cells, and whether our methods stand in the same order."""

from __future__ import annotations

import pytest

from analysis import published, rival_order
from tests.analysis.rival_rows import answered, ordering


def test_every_cell_of_the_published_tables_is_there():
    assert published.missing() == set()
    cells = {(one.model, one.benchmark, one.method, one.keep, one.start): one for one in published.scores()}
    tome = cells["LLaDA-V", "AVG_relative", "tome", 0.5, "first"]
    assert (tome.score, tome.faster) == (91.3, -0.4)
    late = cells["LLaDA-V", "DocVQA", "divprune", 0.25, "half"]
    assert (late.score, late.share) == (83.1, pytest.approx(83.1 / 83.9))
    assert cells["LaViDa-Dream", "InfoVQA", "vtw", 0.0, "three quarters"].score == 18.3


def test_shares_of_the_published_scores_give_its_averages():
    """The study's own averages are the means of its shares, so that what we read is what it means."""
    shares: dict[tuple, list[float]] = {}
    for one in published.scores():
        if one.start == "first":
            cell = (one.model, one.method, one.keep, one.benchmark == published.AVERAGE)
            shares.setdefault(cell, []).append(one.share)
    for (model, method, keep, average), own in shares.items():
        if not average:
            printed = shares[model, method, keep, True][0]
            assert sum(own) / len(own) == pytest.approx(printed, abs=0.002), (model, method, keep)


def test_the_same_order_has_tau_1_and_the_reverse_minus_1(monkeypatch):
    monkeypatch.setattr(rival_order, "RESAMPLES", 100)
    best = ["tome", "divprune", "sparsevlm", "trim_projector", "fastv"]  # LLaDA-V at 25%
    rates = (0.9, 0.7, 0.5, 0.3, 0.1)
    same, alike = rival_order.compare_all(ordering(dict(zip(best, rates))))
    reverse, _ = rival_order.compare_all(ordering(dict(zip(best[::-1], rates))))
    assert (alike["among"], alike["methods"], alike["kendall"]) == ("alike", 3, pytest.approx(1))
    assert "tome" not in alike["order"] and "trim" not in alike["published_order"]
    assert (same["kendall"], reverse["kendall"]) == (pytest.approx(1), pytest.approx(-1))
    assert same["chance"] == pytest.approx(1 / 120) and reverse["chance"] == 1.0
    assert same["published_order"].startswith("tome 87%, divprune 79%") and same["order"].startswith("tome 90%")
    assert -1 <= same["kendall_low"] <= 1.0 == same["kendall_high"]
    assert (same["methods"], same["published"], same["undefined"]) == (5, "LLaDA-V", 0)


def test_the_interval_tells_how_far_the_order_hangs_on_samples(monkeypatch):
    monkeypatch.setattr(rival_order, "RESAMPLES", 200)
    methods = ["tome", "divprune", "sparsevlm", "trim_projector", "fastv"]
    wide, narrow = (rival_order.compare_all(ordering(dict(zip(methods, rates))))[0]
                    for rates in ((0.5, 0.49, 0.48, 0.47, 0.46), (1.0, 0.75, 0.5, 0.25, 0.0)))  # fmt: skip
    assert wide["kendall_high"] - wide["kendall_low"] > narrow["kendall_high"] - narrow["kendall_low"]


def test_chance_counts_ties():
    """Of the orders of (1, 0, 0) three in six have the 1 first, as theirs has."""
    assert rival_order.chance((1.0, 0.0, 0.0), (3.0, 2.0, 1.0)) == pytest.approx(1 / 3)
    assert rival_order.chance((0.0, 1.0, 0.0), (3.0, 2.0, 1.0)) == pytest.approx(2 / 3)


def test_equal_values_have_no_order(monkeypatch):
    monkeypatch.setattr(rival_order, "RESAMPLES", 20)
    (row,) = rival_order.compare_all(ordering(dict.fromkeys(["tome", "divprune", "fastv"], 0.0)))
    assert row["kendall"] is row["kendall_low"] is row["chance"] is None and row["undefined"] == 1.0


def test_too_few_methods_give_no_row_and_origins_are_compared_with_their_like():
    assert rival_order.compare_all(ordering({"tome": 0.5, "divprune": 0.4})) == []
    (row,) = rival_order.compare_all(ordering({"tome": 0.5, "divprune": 0.4, "fastv": 0.3}, "autoregressive"))
    assert row["published"] == "LaViDa-Dream"


def test_a_late_start_has_vtw_among_its_methods(monkeypatch):
    monkeypatch.setattr(rival_order, "RESAMPLES", 20)
    rows = answered(40)
    for method, keep, rate in (("divprune", 0.25, 0.9), ("fastv", 0.25, 0.5), ("vtw", 0.0, 0.4), ("redvtp", 0.25, 1.0)):
        rows += answered(round(40 * rate), method=method, keep=keep, start="half")
    row, alike = rival_order.compare_all(rows)
    assert alike["methods"] == row["methods"] and alike["kendall"] == row["kendall"]
    assert (row["start"], row["methods"]) == ("half", 3)
    assert row["published_order"].startswith("divprune") and row["kendall"] == pytest.approx(1.0)
