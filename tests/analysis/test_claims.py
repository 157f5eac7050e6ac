"""Verdicts on the claims: how they are combined, what evidence they need, and that every number decides."""

from __future__ import annotations

import copy
import functools

import pytest

from analysis import paths, storage
from analysis.results import Result, reference_rows
from analysis.verdicts import decide, evidence, reading
from analysis.verdicts.cases import HOLDS, Lacking
from analysis.verdicts.decide import BOUNDED, NONE, PART, VERDICTS
from tests.analysis import claims_world as world
from tests.analysis.judging import IDS, verdicts


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
