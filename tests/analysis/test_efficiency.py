"""The speed command at a tiny shape: the last line, the result file, and what is refused."""

from __future__ import annotations

import json

import pytest

from analysis import efficiency, paths
from analysis.speed_case import Case, build


def test_quick_run_ends_with_the_headline(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    assert efficiency.main(["--quick", "--pairs", "2", "--probe-pairs", "2", "--save"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    found = json.loads(lines[-1])
    assert list(found) == list(efficiency.HEADLINE)
    assert found["same_tokens"] is True
    assert any(line == "same_kept: True" for line in lines)
    assert 0 < found["memory_ratio"] < 2
    (path,) = (tmp_path / "runs").glob("*/efficiency.json")
    (row,) = json.loads(path.read_text())["rows"]
    assert row["hidden"] == efficiency.QUICK.hidden and row["speedup"] == found["speedup"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--keep", "1.5"], "1.5"),
        (["--hidden", "100", "--heads", "3"], "heads"),
        (["--steps", "64"], "steps=64"),
        (["--pairs", "0"], "pairs=0"),
        (["--device", "tpu"], "device='tpu'"),
        (["--against", "nothing"], "reference"),
        (["--dtype", "int8"], "dtype"),
        (["--gain", "nan"], "gain"),
    ],
)
def test_refuses_in_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        efficiency.main(words)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_equal_cases_give_equal_weights():
    case = Case(hidden=16, layers=1, heads=2, mlp=16, vocabulary=32, visual=4, prompt=2, response=2, steps=1)
    (one, first), (other, second) = build(case), build(case)
    assert first.embeds.equal(second.embeds)
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert a.shape == b.shape
    assert one.model.lm_head.weight.equal(other.model.lm_head.weight)
    assert not build(Case(**{**vars(case), "seed": 1}))[1].embeds.equal(first.embeds)
