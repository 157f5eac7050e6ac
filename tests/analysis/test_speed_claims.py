"""Claims about time on made-up rows of the speed harness, on either side of each bound: fixtures, nothing measured."""

from __future__ import annotations

import pytest

from analysis import claims, paths, storage
from analysis.profiles import run_context
from analysis.speed.cases import BY, TRUE, Run, pruned
from analysis.speed.grid import groups, owners
from analysis.speed.rows import absent, filled
from analysis.verdicts.decide import BOUNDED, FAILS, HOLDS, NONE
from tests.analysis import claims_world as world

FIXTURE = "a fixture of the tests"


@pytest.fixture
def furnished(project):
    world.furnish()
    world.write_results(("mini",))
    return project


def row(run: Run, cut: float, wide: float = 1.0, **others: float) -> dict:
    """A row of the harness whose latency falls by ``cut`` percent."""
    numbers = dict(others)
    for end, value in (("", cut), ("_low", cut - wide), ("_high", cut + wide)):
        ratio = 100 / (100 - value)
        numbers |= {f"latency_cut{end}": value, f"throughput_gain{end}": 100 * (ratio - 1), f"speedup{end}": ratio}
    return filled(run, device=FIXTURE, **numbers)


def decided(rows: list[dict]) -> dict:
    """Verdicts where these are the rows of profile speed."""
    content = world.content("speed", "speed", rows)
    content["comparison"]["by"] = list(BY)
    storage.write_json(paths.RUNS / "speed" / "speed.json", content)
    return {one.claim.id: one for one in claims.report(run_context()).decided}


@pytest.mark.parametrize(("id", "host", "bound"), [("R3", "llada_v", 64.97), ("R5", "lavida", 21.87)])
def test_the_measured_cut_decides_what_flops_only_bound(furnished, id, host, bound):
    def rows(cut: float) -> list[dict]:
        other = pruned(host, 0.5, start="half")
        return [row(pruned(host, 0.25), cut), row(pruned(host, 0.5), 5.0), row(other, 90.0),
                row(pruned(host, 0.25, batch=8), 90.0), row(pruned(host, 0.25, variant="graphs"), 90.0)]  # fmt: skip

    assert decided(rows(bound + 2))[id].verdict == HOLDS
    assert decided(rows(bound - 2))[id].verdict == FAILS


@pytest.mark.parametrize(("id", "host", "gain"), [("R2", "llada_v", 186), ("R4", "lavida", 28.05)])
def test_the_measured_gain_decides(furnished, id, host, gain):
    def cut(gain: float) -> float:
        return 100 * (1 - 1 / (1 + gain / 100))

    assert decided([row(pruned(host, 0.25), cut(gain + 5), 0.5)])[id].verdict == HOLDS
    assert decided([row(pruned(host, 0.25), cut(gain - 5), 0.5)])[id].verdict == FAILS


def test_maps_that_cost_more_than_they_save_show_d2(furnished):
    slow = pruned("llada_v", 0.5, "fastv", attention="maps")
    assert decided([row(slow, -10)])["D2"].verdict == HOLDS
    assert decided([row(slow, 10)])["D2"].verdict == FAILS
    assert decided([row(pruned("llada_v", 0.5, "fastv"), -10)])["D2"].verdict == NONE  # by the probe: another thing


def test_d3_needs_the_time_of_its_own_method(furnished):
    late = pruned("llada_v", 0.25, "divprune")
    by_speed = {}
    for cut in (40.0, 20.0):
        found = decided([row(late, cut)])["D3"]
        by_speed[cut] = next(part.verdict for part in found.evidence if part.link == "speed")
    assert by_speed == {40.0: HOLDS, 20.0: FAILS}


def test_rows_that_were_not_measured_decide_nothing(furnished):
    rows = [absent(run, "no time left of 9 minutes") for run in owners(groups(TRUE, "cuda"))]
    found = decided(rows)
    assert {found[id].verdict for id in ("R2", "R3", "R4", "R5")} == {BOUNDED}
    assert found["D2"].verdict == NONE


def test_the_rows_of_the_whole_grid_fit_every_rule(furnished):
    """Each claim finds rows that differ in nothing that its rule leaves open."""
    rows = [row(run, 50.0, later_share=0.5, later_share_low=0.4, later_share_high=0.6)
            for run in owners(groups(TRUE, "cuda"))]  # fmt: skip
    found = decided(rows)
    for id in ("R2", "R3", "R4", "R5", "R11", "F5", "D2", "D3"):
        (speed,) = [part for part in found[id].evidence if part.link == "speed"]
        assert speed.verdict != NONE, speed.reason
