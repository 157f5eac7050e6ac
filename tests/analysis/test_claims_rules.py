"""Rules of claims: which are refused, and what follows from numbers on either side of a bound."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import yaml

from analysis import claims, paths
from analysis.profiles import run_context
from analysis.verdicts import cases, decide, evidence, reading
from analysis.verdicts.cases import FAILS, HOLDS, LEFT_OUT, OPEN, Lacking, Number
from analysis.verdicts.rules import Bound, RuleError
from analysis.verdicts.wording import words
from tests.analysis.judging import BASE, IDS, check, outcomes, result, row, written

# rules


def test_every_claim_has_a_rule_for_each_kind_of_evidence_that_decides_it():
    papers = reading.read_claims(paths.PAPERS / "claims.yaml")
    found = [claim for paper in papers for claim in paper.claims]
    assert [claim.id for claim in found] == IDS
    for claim in found:
        assert set(claim.rule) == set(claim.decided_by) and all(claim.rule.values())
        for link in claim.rule:
            for one in claim.rule[link]:
                assert one.result in evidence.SOURCES and one.asks.endswith("?") and str(one.holds) in words(one)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hold": "> 1"}, "unknown field hold, expected"),
        ({"holds": ">= 0.5"}, "holds is '>= 0.5', expected"),
        ({"each": "family"}, "each is 'family', expected a list of fields"),
        ({"where": "doc"}, "where is 'doc', expected fields and their values"),
        ({"every": ["step"], "any": ["keep"]}, "every and any at once"),
        ({"minus": {"keep": 1}, "over": {"keep": 1}}, "minus and over at once"),
        ({"interval": "narrow"}, "unknown interval 'narrow', expected one of: rows, wilson, exact"),
        ({"given": {"each": ["family"]}}, "given: unknown field each, expected"),
        ({"given": {"holds": "much"}}, "given: holds is 'much'"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused_with_the_claims_id(tmp_path, change, message):
    with pytest.raises(RuleError, match=re.escape("claim C7, mini")) as error:
        reading.read_claims(written(tmp_path, {"mini": [BASE | change]}))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("rule", "fields", "message"),
    [
        ({"mini": [BASE]}, {"decided_by": ["mini", "paper"]}, "rules for mini, but it is decided by mini, paper"),
        ({"hearsay": [BASE]}, {}, "unknown link hearsay, expected one of: mini, flops, speed, paper, parity"),
        ({"mini": []}, {}, "mini: no check"),
        ({"mini": [{"asks": "is it?"}]}, {}, "lacks holds, result, value"),
        ({"mini": [BASE]}, {"sais": "x"}, "unknown field sais"),
        ({}, {}, "no rule"),
    ],
)
def test_a_claim_that_cannot_be_decided_is_refused(tmp_path, rule, fields, message):
    with pytest.raises(RuleError, match="claim C7") as error:
        reading.read_claims(written(tmp_path, rule, **fields))
    assert message in str(error.value)


def test_a_claim_may_be_there_once(tmp_path):
    path = written(tmp_path, {"mini": [BASE]})
    content = yaml.safe_load(path.read_text())
    content["p"]["claims"] *= 2
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(RuleError, match="claim C7 is there 2 times"):
        reading.read_claims(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"result": "acuracy"}, "unknown result 'acuracy', expected one of: accuracy"),
        ({"value": "exact_mach"}, "accuracy has no field exact_mach, exact_mach_high, exact_mach_low; it has"),
        ({"where": {"methid": "redvtp"}}, "accuracy has no field methid; it has"),
        ({"each": ["model", "family", "split"]}, "accuracy has no field split"),
        ({"where": {"method": "redvtp"}}, "differ in keep: name it in where, each, every, any or mean"),
        ({"result": "speed", "value": "speedup", "where": {"year": 1}}, "speed will have no field family, model, year"),
    ],
)
def test_a_rule_that_does_not_fit_its_result_is_refused_with_the_claims_id(full, change, message):
    fitting = {"where": {"method": "redvtp", "keep": 0.5}, "each": ["model", "family"]}
    path = written(paths.PAPERS, {"mini": [BASE | fitting]})
    assert claims.report(run_context()).decided[0].verdict == decide.HOLDS
    written(path.parent, {"mini": [BASE | fitting | change]})
    with pytest.raises(RuleError, match="claim C7, mini") as error:
        claims.report(run_context())
    assert message in str(error.value)


def test_the_command_says_which_rule_is_wrong(full, capsys):
    written(paths.PAPERS, {"mini": [BASE | {"value": "nothing"}]})
    assert claims.main([]) == 1
    assert "claim C7, mini: accuracy has no field nothing" in capsys.readouterr().err


# cases


@pytest.mark.parametrize(
    ("sign", "low", "high", "expected"),
    [
        (">", 0.51, 0.6, HOLDS), (">", 0.4, 0.49, FAILS), (">", 0.4, 0.6, OPEN), (">", 0.5, 0.5, OPEN),
        ("<", 0.4, 0.49, HOLDS), ("<", 0.51, 0.6, FAILS), ("<", 0.4, 0.6, OPEN), ("<", 0.5, 0.6, OPEN),
    ],
)  # fmt: skip
def test_an_interval_decides_where_it_lies_on_one_side(sign, low, high, expected):
    assert cases.outcome(Number(0.5, low, high), Bound(sign, 0.5)) == expected


def test_what_is_exact_cannot_reach_over_the_bound():
    assert cases.outcome(Number(0.5, 0.5, 0.5), Bound(">", 0.5), exact=True) == FAILS
    assert outcomes(check(interval="exact", holds=Bound("<", 0.5)), {"rate": 0.49}) == [HOLDS]


def test_cases_stand_alone_and_within_them_every_or_one_must_hold():
    rows = [row(value, family=family, keep=keep) for family, keep, value in
            (("a", 0.5, 0.9), ("a", 0.2, 0.1), ("b", 0.5, 0.9), ("b", 0.2, 0.8))]  # fmt: skip
    by = ("family", "keep")
    assert outcomes(check(each=("family", "keep")), *rows, by=by) == [HOLDS, FAILS, HOLDS, HOLDS]
    assert outcomes(check(each=("family",), every=("keep",)), *rows, by=by) == [FAILS, HOLDS]
    assert outcomes(check(each=("family",), any=("keep",)), *rows, by=by) == [HOLDS, HOLDS]
    worst = cases.cases(check(each=("family",), every=("keep",)), result(*rows, by=by))
    assert [(case.at, case.of) for case in worst] == [({"keep": 0.2}, 2), ({"keep": 0.2}, 2)]


def test_seeds_are_averaged_and_other_fields_must_be_named():
    rows = [row(0.6, seed=0, family="a"), row(0.8, seed=1, family="a"), row(0.1, seed=0, family="b"),
            row(0.3, seed=1, family="b")]  # fmt: skip
    numbers = [case.number for case in cases.cases(check(each=("family",)), result(*rows, by=("seed", "family")))]
    for number, expected in zip(numbers, ((0.7, 0.6, 0.8), (0.2, 0.1, 0.3)), strict=True):
        assert (number.value, number.low, number.high) == pytest.approx(expected)
    (mean,) = cases.cases(check(mean=("family",)), result(*rows, by=("seed", "family")))
    assert mean.number.value == pytest.approx(0.45)
    with pytest.raises(RuleError, match="differ in family"):
        cases.cases(check(), result(*rows, by=("seed", "family")))


def test_differences_and_ratios_take_the_ends_of_both_intervals():
    rows = [row(0.6, method="a", keep=0.5), row(0.2, 0.05, method="b", keep=0.5), row(0.8, method="none", keep=1.0)]

    def number(**fields) -> Number:
        (case,) = cases.cases(check(where={"method": "a"}, **fields), result(*rows, by=("method", "keep")))
        return case.number

    less, divided = number(minus={"method": "b"}), number(over={"method": "none", "keep": 1.0})
    assert (less.value, less.low, less.high) == pytest.approx((0.4, 0.25, 0.55))
    assert (divided.value, divided.low, divided.high) == pytest.approx((0.75, 0.5 / 0.9, 1.0))
    rest = number(value="1 - rate")
    assert (rest.value, rest.low, rest.high) == pytest.approx((0.4, 0.3, 0.5))
    with pytest.raises(Lacking, match="no row with method tome"):
        number(minus={"method": "tome"})
    rows[1] = row(0.05, method="b", keep=0.5)
    with pytest.raises(Lacking, match="rate is too near 0 with method b"):
        number(over={"method": "b"})


def test_rows_compared_must_be_of_the_same_families():
    rows = [row(0.6, method="a", family="x"), row(0.6, method="a", family="y"), row(0.2, method="b", family="x")]
    one = check(where={"method": "a"}, mean=("family",), minus={"method": "b"})
    with pytest.raises(Lacking, match="not of the same family"):
        cases.cases(one, result(*rows, by=("method", "family")))


def test_a_mean_of_shares_has_the_interval_of_a_rate():
    (case,) = cases.cases(check(interval="wilson"), result({"rate": 0.5, "n": 100}))
    assert (case.number.low, case.number.high) == pytest.approx(cases.wilson_interval(50, 100))
    (case,) = cases.cases(check(interval="wilson"), result({"rate": 0.505, "n": 100}))
    assert case.number.low == pytest.approx((cases.wilson_interval(50, 100)[0] + cases.wilson_interval(51, 100)[0]) / 2)


def test_what_cannot_show_a_claim_is_left_out():
    rows = [row(value, family=family, method=method) for family, method, value in
            (("a", "m", 0.9), ("a", "random", 0.2), ("b", "m", 0.9), ("b", "random", 0.9))]  # fmt: skip
    given = check(where={"method": "random"}, each=("family",), holds=Bound("<", 0.5))
    one = check(where={"method": "m"}, each=("family",), given=given)
    found = cases.cases(one, result(*rows, by=("family", "method")))
    with pytest.raises(Lacking, match="no row with method random, family b"):
        cases.cases(one, result(*rows[:3], by=("family", "method")))
    assert [case.outcome for case in found] == [HOLDS, LEFT_OUT]
    assert decide.counted(found) == "1 of 1 case holds, 1 left out (chance does as well there)"
    assert decide.summed([LEFT_OUT]) == decide.OPEN


def test_a_loss_is_not_left_out():
    rows = [row(0.2, family="a", method="m"), row(0.9, family="a", method="random")]
    given = check(where={"method": "random"}, each=("family",), holds=Bound("<", 0.5))
    one = check(where={"method": "m"}, each=("family",), given=given)
    found = cases.cases(one, result(*rows, by=("family", "method")))
    assert [case.outcome for case in found] == [FAILS]
    (strict,) = cases.cases(replace(one, strict=True), result(*rows, by=("family", "method")))
    assert strict.outcome == cases.EMPTY and decide.summed([strict.outcome]) == decide.OPEN
    assert decide.counted([strict]) == "0 of 0 cases hold, 1 left out (nothing there to lose)"
    near = [rows[0], row(0.5, family="a", method="random")]
    assert cases.cases(replace(one, strict=True), result(*near, by=("family", "method")))[0].outcome == OPEN
    kept = [rows[0], row(0.3, family="a", method="random")]
    assert cases.cases(replace(one, strict=True), result(*kept, by=("family", "method")))[0].outcome == FAILS


def test_a_listed_value_must_be_there_unless_one_is_enough():
    rows = result(row(0.9, keep=0.5), by=("keep",))
    with pytest.raises(Lacking, match="keep 0.25"):
        cases.cases(check(where={"keep": (0.5, 0.25)}, each=("keep",)), rows)
    assert cases.cases(check(where={"keep": (0.5, 0.25)}, any=("keep",)), rows)[0].outcome == HOLDS


def test_what_flops_do_not_allow_is_not_refuted():
    there = evidence.Found("tiny", "mini", result(row(0.2)), paths.RESULTS)
    found = tuple(cases.cases(check(), there.result))
    assert [case.outcome for case in found] == [FAILS]
    assert decide.Checked(check(), there, found).verdict == decide.FAILS
    assert decide.Checked(check(bounds=True), there, found).verdict == decide.OPEN


def test_undefined_values_do_not_count():
    rows = [row(0.9, family="a"), {"rate": None, "rate_low": None, "rate_high": None, "family": "b"}]
    assert outcomes(check(each=("family",)), *rows, by=("family",)) == [HOLDS]
    with pytest.raises(Lacking, match="no rate with family b"):
        cases.cases(check(where={"family": "b"}), result(*rows, by=("family",)))
