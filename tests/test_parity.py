"""The parity runner, on the official tensors under tests/fixtures and on broken ones."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.parity.__main__ import compare, main
from tests.parity.cases import Hosts, find_cases
from tests.parity.comparison import Comparison, Skipped

OFFICIAL = Path(__file__).parent / "fixtures" / "parity"
CASES = find_cases(OFFICIAL)
LAST_LINE = re.compile(r"\d+ cases, \d+ passed, \d+ failed, \d+ skipped")


@pytest.fixture(scope="module")
def hosts():
    return Hosts()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
@torch.no_grad()
def test_official_case(case, hosts):
    try:
        found = compare(case, hosts)
    except Skipped as reason:
        assert case.title.startswith("llada_v/behaviour_"), reason
        return
    assert not found.failures
    assert found.named


def copy_case(folder: Path, kind: str, name: str, weights: str, family: str = "llada_v") -> Path:
    """One case with its weights, ready to be broken."""
    (folder / kind).mkdir(parents=True)
    source = OFFICIAL / family
    shutil.copytree(source / weights, folder / weights)
    for suffix in ("json", "safetensors"):
        shutil.copy(source / kind / f"{name}.{suffix}", folder / kind)
    return folder / kind / name


def outcome(capsys, *folders) -> tuple[int, list[str]]:
    status = main([str(folder) for folder in folders])
    lines = capsys.readouterr().out.splitlines()
    assert LAST_LINE.fullmatch(lines[-1])
    return status, lines


@pytest.fixture
def small_case(tmp_path):
    return copy_case(tmp_path / "own", "generate", "B_g2_s2", "weights_B")


def test_any_folder_above_a_kind_is_taken_and_counted_once(small_case, capsys):
    for folders in ([small_case.parent], [small_case.parent.parent], [small_case.parent, small_case.parent.parent]):
        status, lines = outcome(capsys, *folders)
        assert (status, lines[-1]) == (0, "1 cases, 1 passed, 0 failed, 0 skipped")


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "gone"])
def test_a_broken_file_is_a_failed_case_with_its_name(small_case, capsys, suffix, damage):
    path = small_case.with_suffix(f".{suffix}")
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    status, lines = outcome(capsys, small_case.parent)
    assert (status, lines[-1]) == (1, "1 cases, 0 passed, 1 failed, 0 skipped")
    assert lines[0].startswith("FAIL own/generate/B_g2_s2")


def test_broken_weights_fail_the_cases_that_use_them(small_case, capsys):
    weights = small_case.parent.parent / "weights_B" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert outcome(capsys, small_case.parent)[1][-1] == "1 cases, 0 passed, 1 failed, 0 skipped"


@pytest.mark.parametrize("name", ["output_ids", "step_conf", "step_x0"])
def test_a_changed_tensor_fails(small_case, capsys, name):
    path = small_case.with_suffix(".safetensors")
    tensors = load_file(path)
    tensors[name].reshape(-1)[0] += 1
    save_file(tensors, path)
    status, lines = outcome(capsys, small_case.parent)
    assert status == 1
    assert any(name in line for line in lines if "failed:" in line)


@pytest.mark.parametrize("name", ["output_x", "step_conf", "step_tokens", "prefix_k", "prefix_v"])
def test_a_changed_tensor_of_lavida_fails(tmp_path, capsys, name):
    path = copy_case(tmp_path / "own", "generate", "A_pre_g16", "weights_A", "lavida").with_suffix(".safetensors")
    assert outcome(capsys, path.parent)[1][-1] == "1 cases, 1 passed, 0 failed, 0 skipped"
    tensors = load_file(path)
    tensors[name].reshape(-1)[-1] += 1
    save_file(tensors, path)
    status, lines = outcome(capsys, path.parent)
    assert status == 1
    assert any(name in line for line in lines if "failed:" in line)


def test_changed_rows_and_behaviour_of_lavida_fail(tmp_path, capsys):
    folder = tmp_path / "own"
    shutil.copytree(OFFICIAL / "lavida" / "weights_A", folder / "weights_A")
    (folder / "generate").mkdir()
    table = json.loads((OFFICIAL / "lavida" / "generate" / "schedule_table.json").read_text())
    table["rows"][-1]["num_transfer_tokens"][0] += 1
    (folder / "generate" / "schedule_table.json").write_text(json.dumps(table))
    line = "output identical for two unrelated inputs_embeds (same length)"
    (folder / "behaviour_redvtp.json").write_text(json.dumps({line: False}))
    (folder / "behaviour_restored.json").write_text(json.dumps({line: False}))
    status, lines = outcome(capsys, folder)
    assert (status, lines[-1]) == (1, "3 cases, 1 passed, 2 failed, 0 skipped")


def test_a_changed_fact_or_an_unknown_tensor_fails(small_case, capsys):
    path = small_case.with_suffix(".json")
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "fed_per_step": [1, 2]}))
    assert outcome(capsys, small_case.parent)[0] == 1
    path.write_text(json.dumps(facts))
    tensors = load_file(small_case.with_suffix(".safetensors"))
    save_file({**tensors, "new_tensor": torch.zeros(1)}, small_case.with_suffix(".safetensors"))
    status, lines = outcome(capsys, small_case.parent)
    assert status == 1
    assert any("new_tensor: this tensor was never compared" in line for line in lines)


def test_nothing_found_is_an_error_and_only_skipped_cases_are_not(tmp_path, capsys):
    assert outcome(capsys, tmp_path)[0] == 1
    assert outcome(capsys, tmp_path / "missing")[0] == 1
    (tmp_path / "behaviour_orig.json").write_text("{}")
    status, lines = outcome(capsys, tmp_path)
    assert (status, lines[-1]) == (0, "1 cases, 0 passed, 0 failed, 1 skipped")


def test_cases_of_another_model_are_skipped(small_case, capsys):
    config = small_case.parent.parent / "weights_B" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "architectures": ["Another"]}))
    assert outcome(capsys, small_case.parent)[1][-1] == "1 cases, 0 passed, 0 failed, 1 skipped"


def test_floats_are_held_to_their_bar_and_nothing_else_passes():
    theirs = torch.tensor([1.0, -3.0, float("-inf")])
    for shift, failures in ((7e-4, 0), (9e-4, 1)):
        found = Comparison()
        found.close("x", theirs + torch.tensor([shift, 0, 0]), theirs)
        assert len(found.failures) == failures
    for wrong in (theirs[:2], torch.tensor([1.0, float("nan"), float("-inf")]), torch.tensor([1.0, -3.0, 0.0])):
        found = Comparison()
        found.close("x", wrong, theirs)
        assert found.failures
