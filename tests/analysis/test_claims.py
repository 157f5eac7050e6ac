"""Claims: their rules, what follows from numbers on either side of a bound, and the report."""

from __future__ import annotations

import copy
import functools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import yaml

from analysis import claims, paths, storage
from analysis.profiles import run_context
from analysis.results import Result, reference_rows
from analysis.verdicts import cases, decide, evidence, reading
from analysis.verdicts.cases import FAILS, HOLDS, LEFT_OUT, OPEN, Lacking, Number
from analysis.verdicts.decide import BOUNDED, NONE, PART, VERDICTS
from analysis.verdicts.rules import Bound, Check, RuleError
from analysis.verdicts.wording import words
from tests.analysis import claims_world as world

IDS = [f"R{i}" for i in range(1, 13)] + [f"F{i}" for i in range(1, 6)] + [f"D{i}" for i in range(1, 7)]


@pytest.fixture
def furnished(project):
    world.furnish()
    return project


@pytest.fixture
def full(furnished):
    world.write_results()
    return furnished


def verdicts(source: str = "run") -> dict[str, decide.Decided]:
    return {one.claim.id: one for one in claims.report(run_context(source=source)).decided}


def check(**fields) -> Check:
    common = {"asks": "?", "result": "accuracy", "value": "rate", "holds": Bound(">", 0.5)}
    return Check(**common | fields)


def result(*rows: dict, by: tuple[str, ...] = ("family", "method", "keep", "seed")) -> Result:
    return Result("accuracy", [dict(row) for row in rows], {"link": "mini"}, by)


def row(value: float, wide: float = 0.1, **fields) -> dict:
    return {"rate": value, "rate_low": value - wide, "rate_high": value + wide, **fields}


def outcomes(one: Check, *rows: dict, **kwargs) -> list[str]:
    return [case.outcome for case in cases.cases(one, result(*rows, **kwargs))]


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


BASE = {"asks": "is it?", "result": "accuracy", "value": "exact_match", "holds": "> 0.5"}


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


def written(folder, rule: dict, **fields):
    claim = {"id": "C7", "where": "a", "says": "b", "decided_by": list(rule), "rule": rule} | fields
    path = folder / "claims.yaml"
    path.write_text(yaml.safe_dump({"p": {"paper": "P", "claims": [claim]}}))
    return path


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


# verdicts


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["holds"], "holds"), (["holds", "does not hold"], PART), (["holds", "not decided here"], PART),
        (["does not hold", "not decided here"], "does not hold"), (["bounded", "does not hold"], "does not hold"),
        (["bounded"], BOUNDED), (["bounded", "holds"], PART), (["bounded", "not decided here"], "not decided here"),
        ([], "not decided here"),
    ],
)  # fmt: skip
def test_verdicts_are_combined(found, expected):
    assert decide.combined(found) == expected


def test_every_claim_has_a_verdict_and_nothing_gives_no_evidence(furnished):
    found = verdicts()
    assert list(found) == IDS
    assert {one.verdict for one in found.values()} == {NONE}
    assert all(one.reason for one in found.values())
    assert "run ./reproduce.sh" in found["R6"].reason and "LaViDa" not in found["R6"].reason
    assert "published weights" in found["R7"].reason and "speed profile" in found["D2"].reason
    assert "no result rivals of this run: run ./reproduce.sh" in found["D4"].reason


def test_every_claim_can_hold_on_the_mini_model_but_only_there(furnished):
    world.write_results(("mini",))
    found = verdicts()
    for one in found.values():
        by_time, by_paper = one.claim.id == "D2", one.claim.id == "R7"
        if by_time or by_paper:
            assert one.verdict == NONE
        elif one.claim.id in ("R2", "R3", "R4", "R5"):
            assert one.words == "bounded (the FLOPs allow it)"
        elif one.claim.id == "D3":
            assert (one.verdict, one.scope) == (PART, "on the mini model and by exact FLOPs of the true shapes")
        else:
            assert one.verdict == decide.HOLDS, one.claim.id
            flops = one.claim.decided_by[0] == "flops"
            assert one.words.startswith("holds, by exact FLOPs" if flops else "holds, on the mini model")


def test_times_replace_what_flops_allow_and_the_published_checkpoints_decide_alone(full):
    found = verdicts()
    assert {one.verdict for one in found.values()} == {decide.HOLDS}
    for one in found.values():
        if "paper" in one.claim.decided_by:
            assert one.words == "holds, on the published checkpoints"
    (paths.RUNS / "paper" / "paper_scores.json").unlink()
    assert verdicts()["R3"].words == "holds, on the true shapes with random weights"
    assert verdicts()["R11"].scope == "on the mini model and on the true shapes with random weights"


def test_a_result_of_another_kind_decides_nothing(full):
    """Rows of the mini model among those of profile paper do not pass for it."""
    storage.write_json(paths.RUNS / "paper" / "paper_scores.json",
                       world.content("paper_scores", "mini", world.paper_scores()))  # fmt: skip
    one = verdicts()["R6"]
    assert one.words == "holds, on the mini model"
    assert "evidence of kind mini, not paper" in one.evidence[1].reason


@pytest.mark.parametrize("name", [name for profile, name in world.WORLD if profile == "mini"])
def test_without_a_result_the_claims_that_it_decided_have_no_evidence(furnished, name):
    world.write_results(("mini",))
    before = verdicts()
    (paths.RUNS / "mini" / f"{name}.json").unlink()
    after = verdicts()
    decided = {
        id_ for id_, one in before.items()
        for part in decide.counting(one.evidence) for checked in part.checks if checked.check.result == name
    }  # fmt: skip
    assert decided or name == "two_tokens"
    for id_ in IDS:
        assert after[id_].verdict == (NONE if id_ in decided else before[id_].verdict)
        assert id_ not in decided or f"no result {name}" in after[id_].reason


@functools.cache
def loaded() -> tuple:
    return reading.read_claims(world.REPOSITORY / "data" / "papers" / "claims.yaml")


def listed() -> list:
    return [
        pytest.param(claim, link, place, id=f"{claim.id}-{link}-{place}")
        for paper in loaded() for claim in paper.claims for link in claim.rule for place in range(len(claim.rule[link]))
    ]  # fmt: skip


def found_in(contents: dict) -> decide.Find:
    def find(name: str, link: str | None) -> evidence.Found:
        profile = evidence.PROFILE_OF[link or "mini"]
        if (profile, name) not in contents:
            raise Lacking("not there")
        kind, rows = contents[profile, name]
        content = world.content(name, kind, rows)
        made = Result(name, content["rows"], content["provenance"], tuple(content["comparison"]["by"]))
        return evidence.Found(name, profile, made, paths.RUNS / profile / f"{name}.json")

    return find


@pytest.mark.parametrize(("claim", "link", "place"), listed())
def test_one_number_turned_turns_the_verdict(claim, link, place):
    """Of every check, the number that decides it."""
    before = evidence_of(claim, link, found_in(world.WORLD))
    one = before.checks[place]
    case = next(case for case in one.cases if case.outcome == HOLDS)
    assert before.verdict in (decide.HOLDS, BOUNDED)
    key, row = (one.found.profile, one.check.result), case.number.rows[0]
    turned = [turn(key, row, one.check.column, row[one.check.column] + by, wide=0) for by in (-1000, 1000)]
    assert any(evidence_of(claim, link, found_in(contents)).verdict != before.verdict for contents in turned)
    if one.check.interval == "rows":
        vague = turn(key, row, one.check.column, row[one.check.column], wide=1000)
        assert evidence_of(claim, link, found_in(vague)).verdict in (PART, decide.OPEN)


def evidence_of(claim, link: str, find: decide.Find) -> decide.Evidence:
    return decide.Evidence(link, tuple(decide.checked(check, link, find, claim.id) for check in claim.rule[link]))


def turn(key: tuple[str, str], row: dict, column: str, value: float, wide: float) -> dict:
    """The world with this number and this interval in one row."""
    kind, rows = world.WORLD[key]
    numbers = {column: value, f"{column}_low": value - wide, f"{column}_high": value + wide}
    changed = copy.deepcopy(rows)
    changed[rows.index(row)] |= {name: number for name, number in numbers.items() if name in row}
    return world.WORLD | {key: (kind, changed)}


def test_the_committed_results_can_be_judged():
    if "model" not in reference_rows("accuracy", "mini")[0]:
        pytest.skip("the committed accuracy has the fields of an earlier version")
    found = verdicts("reference")
    assert list(found) == IDS and {one.verdict for one in found.values()} <= set(VERDICTS)
    assert all(one.reason for one in found.values())


# report


class Page(HTMLParser):
    """Tags of a page, and what it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.fetched, self.links, self.images, self.open = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        if tag == "a":
            self.links.append(found)
        if tag == "img":
            self.images.append(found)
        self.fetched += [found[name] for name in ("src", "srcset", "data", "poster") if found.get(name)]
        self.fetched += [found["href"]] if tag == "link" else []
        if tag not in ("meta", "link", "img", "line", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("line", "circle"):
            assert self.open.pop() == tag


@pytest.fixture
def page(full) -> Page:
    claims.write(claims.report(run_context()))
    return Page((paths.FIGURES / "mini" / "report.html").read_text())


def test_the_report_holds_every_claim_and_fetches_nothing(page):
    assert set(IDS) <= set(page.ids) and len(page.ids) == len(set(page.ids)) and page.open == []
    assert page.fetched and all(address.startswith("data:") for address in page.fetched)
    assert {link["href"][1:] for link in page.links if link["href"].startswith("#")} <= set(page.ids)
    assert not [link for link in page.links if "//" in link["href"] and not link["href"].startswith("https://arxiv.org/")]
    text = (paths.FIGURES / "mini" / "report.html").read_text()
    assert not re.search(r"@import|url\(|<script src|fetch\(|XMLHttpRequest", text)


def test_every_drawing_of_a_claim_is_in_the_report(page):
    shown = [image["alt"].split()[1].rstrip(",") for image in page.images]
    assert set(shown) == set(world.FIGURES)
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.images)


def test_links_lead_to_files_from_the_report_and_from_its_committed_copy(page):
    names = [link for link in page.links if not link["href"].startswith(("#", "https:"))]
    assert names
    for link in names:
        assert (paths.FIGURES / "mini" / link["href"]).resolve().is_file()
        kept = (paths.REFERENCE_FIGURES / "mini" / link["data-committed"]).resolve()
        assert kept.is_relative_to(paths.RESULTS) or kept.is_file()


def test_the_report_says_what_it_does_not_know(furnished):
    claims.write(claims.report(run_context()))
    text = (paths.FIGURES / "mini" / "report.html").read_text()
    assert "No result is there." in text and "no result rivals of this run: run ./reproduce.sh" in text
    assert Page(text).images  # drawings of before are shown all the same


def test_text_is_escaped(full):
    where = {"method": "redvtp", "keep": 0.5}
    written(paths.PAPERS, {"mini": [BASE | {"where": where, "each": ["model", "family"]}]}, says="<b>&\"bold\"</b>")
    claims.write(claims.report(run_context()))
    text = (paths.FIGURES / "mini" / "report.html").read_text()
    assert "<b>" not in text and "&lt;b&gt;&amp;&quot;bold&quot;&lt;/b&gt;" in text


def test_json_and_markdown_say_the_same(full, capsys):
    assert claims.main([]) == 0
    folder = paths.FIGURES / "mini"
    content = json.loads((folder / "claims.json").read_text())
    assert [one["id"] for one in content["claims"]] == IDS
    assert {one["verdict"] for one in content["claims"]} <= set(VERDICTS)
    text, said = (folder / "claims.md").read_text(), capsys.readouterr().out
    for one in content["claims"]:
        assert f"## {one['id']}: {one['says']}" in text and f"| {one['id']}" in said
    assert "figures/mini/report.html" in said
    first = {path.name: path.read_bytes() for path in folder.glob("*")}
    claims.main([])
    assert first == {path.name: path.read_bytes() for path in folder.glob("*")}


def test_a_verdict_other_than_the_committed_is_told(full):
    claims.main([])
    kept = paths.REFERENCE_FIGURES / "mini" / "claims.json"
    kept.parent.mkdir(parents=True)
    kept.write_bytes((paths.FIGURES / "mini" / "claims.json").read_bytes())
    assert "Other than committed" not in claims.sentence(claims.report(run_context()))
    (paths.RUNS / "mini" / "layer_attention.json").unlink()
    (paths.RUNS / "paper" / "layer_attention.json").unlink()
    assert "Other than committed: F1 (committed: holds)." in claims.sentence(claims.report(run_context()))


def test_a_quick_run_is_marked_and_takes_its_own_results(full):
    claims.main(["--quick"])
    text = (paths.FIGURES / "mini-quick" / "report.html").read_text()
    assert "Quick run, n = 16: not for quoting." in text
    assert {one.verdict for one in claims.report(run_context(mode="quick")).decided if one.claim.id == "F2"} == {NONE}


def test_committed_results_are_judged_from_where_they_are(full):
    assert {one.verdict for one in verdicts("reference").values()} == {NONE}
    (paths.RESULTS / "mini").mkdir(parents=True)
    (paths.RUNS / "mini" / "compute.json").rename(paths.RESULTS / "mini" / "compute.json")
    assert verdicts("reference")["F2"].verdict == decide.HOLDS
    assert verdicts()["F2"].verdict == NONE  # a run judges what it measured


def test_discrepancies_are_measured_or_say_why_not(full):
    found = claims.report(run_context()).discrepancies
    told = {one.id: numbers for one, numbers in found}
    assert told["X3"][0].cases and told["X3"][0].cases[0].outcome == cases.KNOWN
    for one, numbers in found:
        assert one.sources and (numbers or one.later)
        assert set(one.claims) <= set(IDS)


def test_a_discrepancy_must_be_measured_or_say_why_not(tmp_path):
    entry = {"id": "X9", "about": "a", "paper": "b", "code": "c", "behaviour": "d", "sources": ["e"]}
    path = tmp_path / "discrepancies.yaml"
    path.write_text(yaml.safe_dump({"discrepancies": [entry]}))
    with pytest.raises(RuleError, match="discrepancy X9: neither measured, nor"):
        reading.read_discrepancies(path)
