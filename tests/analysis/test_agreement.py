from __future__ import annotations

import pytest

from analysis import paths, storage
from analysis.agreement import Agreement, accept, agreement, agreement_table, compare
from analysis.profiles import run_context
from analysis.results import Measurement, Result

ROW = {"method": "redvtp", "n": 100, "right": 80, "rate": 0.8, "rate_low": 0.71, "rate_high": 0.87, "ms": 5.0}


def result(*rows, tolerances=None):
    return Result("tiny", [ROW | row for row in rows], {}, ("method",), tolerances or {})


def compared(mine, reference=None, **options):
    return compare(result(mine, **options), result(reference or {}))


def test_equal_rows_agree():
    found = compared({})
    assert (found.agree, found.differ, found.verdict) == (1, 0, "agrees")


@pytest.mark.parametrize(
    ("mine", "line"),
    [
        ({"right": 81}, "method=redvtp: right 81, reference 80"),
        ({"rate": 0.9, "right": 80}, "method=redvtp: rate 0.9, reference 0.8 [0.71, 0.87]"),
        ({"ms": 5.1}, "method=redvtp: ms 5.1, reference 5"),
        ({"ms": None}, "method=redvtp: ms None, reference 5"),
        ({"new": 1}, "method=redvtp: new is not in the reference"),
    ],
)
def test_a_difference_is_told(mine, line):
    found = compared(mine)
    assert (found.differ, found.verdict, found.differences) == (1, "differs", (line,))


def test_a_rate_inside_the_interval_and_a_float_close_by_agree():
    assert compared({"rate": 0.86, "rate_low": 0.6, "rate_high": 0.9, "ms": 5.000001}).agree == 1


@pytest.mark.parametrize(("tolerance", "agrees"), [(None, True), (0.5, True), (0.01, False)])
def test_a_measurement_says_how_far_numbers_may_lie(tolerance, agrees):
    assert compared({"ms": 7.0}, tolerances={"ms": tolerance}).agree == agrees


def test_another_n_compares_only_intervals():
    far = {"n": 16, "right": 10, "ms": 9.0, "rate": 0.625, "rate_low": 0.39, "rate_high": 0.81}
    found = compared(far)
    assert (found.agree, found.resized) == (1, 1)
    assert compared(far | {"rate_high": 0.7}).differ == 1


def test_rows_without_a_like_are_counted():
    found = compare(result({}, {"method": "mine"}), result({}, {"method": "theirs"}, {"method": "others"}))
    assert (found.agree, found.unmatched, found.unmeasured) == (1, 1, 2)
    assert found.verdict == "has rows without reference"


def test_the_table_says_what_has_no_reference():
    differing = Agreement("accuracy", True, agree=1, differ=7, differences=tuple(f"row {i}" for i in range(7)))
    table = agreement_table([Agreement("tiny", reference=False), differing])
    assert table.splitlines()[1].split() == ["tiny", "-", "-", "-", "-", "-", "no", "reference"]
    assert "  accuracy: row 4\n  accuracy: and 2 more" in table


def measure(run):
    with Measurement("tiny", run, by=("method",), link="mini") as m:
        m.cell({}, lambda: [ROW])


def test_an_accepted_run_is_the_reference(project):
    run = run_context()
    measure(run)
    assert agreement("tiny", run).verdict == "no reference"
    storage.write_text(run.figures / "tiny.png", "drawn")
    written = accept(run)
    assert written == [paths.RESULTS / "mini" / "tiny.json", paths.REFERENCE_FIGURES / "mini" / "tiny.png"]
    assert agreement("tiny", run).verdict == "agrees"


def test_a_quick_run_is_never_the_reference(project):
    with pytest.raises(ValueError, match="quick run cannot be accepted"):
        accept(run_context(mode="quick"))


def test_nothing_is_accepted_where_a_result_is_missing(project):
    measure(run_context())
    with pytest.raises(FileNotFoundError, match="data/runs/mini/other.json is missing"):
        accept(run_context(), ["tiny", "other"])
    assert not paths.RESULTS.exists()
