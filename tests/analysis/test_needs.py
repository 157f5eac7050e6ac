"""A profile that ships nothing says what to fetch, before anything is installed or changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import costs, needs
from analysis.profiles import PROFILES
from redvtp.models.hub import PUBLISHED

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def bare(tmp_path, monkeypatch) -> Path:
    """An empty Hugging Face cache, and no driver of a GPU."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "hub"


def fetched(hub: Path, one: needs.Download) -> None:
    name = one.files.replace("*", "0.parquet") if one.files else "a.safetensors"
    path = hub / f"{one.kind}s--{one.repository.replace('/', '--')}" / "snapshots" / "c0ffee" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_all_that_is_missing_is_named_with_its_size_and_command(bare):
    lines = needs.lacking("paper")
    assert len(lines) == len(needs.MODELS) + len(needs.BENCHMARKS) + 2
    assert lines[0] == "model GSAI-ML/LLaDA-V, 16.9 GB: hf download GSAI-ML/LLaDA-V"
    command = 'hf download lmms-lab-encoder/DocVQA --repo-type dataset --include "DocVQA/validation-*"'
    assert f"benchmark docvqa, 2.5 GB: {command}" in lines
    assert "lmms-eval" in lines[-2]
    assert lines[-1] == "a CUDA GPU with 24 GB of memory: none is here"
    assert needs.lacking("speed") == lines[-1:]
    assert needs.lacking("mini") == []
    assert "40.1 GB to fetch; nothing was run or changed" in needs.told("paper", lines)


def test_what_is_there_is_not_named(bare, monkeypatch):
    fetched(bare, needs.MODELS[0])
    fetched(bare, needs.BENCHMARKS[1])
    monkeypatch.setattr(needs, "gpu_bytes", lambda: 80_000_000_000)
    text = " ".join(needs.lacking("paper"))
    assert "LLaDA-V" not in text and "infovqa" not in text and "GPU" not in text
    assert "docvqa" in text  # another split of the same repository
    monkeypatch.setattr(needs, "gpu_bytes", lambda: 12_000_000_000)
    assert needs.lacking("speed") == ["a CUDA GPU with 24 GB of memory: the largest here has 12 GB"]


def test_models_and_benchmarks_are_those_of_the_profile():
    assert tuple(one.repository for one in needs.MODELS) == PROFILES["paper"].models == tuple(PUBLISHED)
    assert tuple(one.what for one in needs.BENCHMARKS) == PROFILES["paper"].families == tuple(costs.BENCHMARKS)
    assert {one.megabytes * 1_000_000 // 10**7 for one in needs.MODELS} == {
        round(one.bytes / 1e7) for one in PUBLISHED.values()
    }
    assert set(needs.PROFILES) == {profile.name for profile in PROFILES.values() if profile.needs}


@pytest.mark.parametrize("profile", ["paper", "speed"])
def test_the_command_stops_before_it_installs_and_leaves_everything_as_it_was(tmp_path, profile):
    root, tools = tmp_path / "checkout", tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "dirname"):
        (tools / tool).symlink_to(f"/usr/bin/{tool}" if Path(f"/usr/bin/{tool}").exists() else f"/bin/{tool}")
    (tools / "python3").symlink_to(sys.executable)
    (root / "analysis").mkdir(parents=True)
    for name in ("reproduce.sh", "analysis/__init__.py", "analysis/needs.py", "pyproject.toml", "constraints.txt"):
        (root / name).write_bytes((REPOSITORY / name).read_bytes())
    (root / "reproduce.sh").chmod(0o755)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    for words in (["--profile", profile], [f"--profile={profile}", "--quick"]):
        done = subprocess.run(
            [root / "reproduce.sh", *words], capture_output=True, text=True,
            env={"PATH": str(tools), "HF_HOME": str(tmp_path / "none"), "HOME": os.environ.get("HOME", "/")},
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith(f"reproduce: profile {profile} needs what is not here")
        assert "a CUDA GPU with 24 GB of memory: none is here" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_the_estimate_says_that_it_is_one_and_grows_with_what_is_kept(capsys):
    assert costs.main(["--peak-tflops", "100", "--utilisation", "0.5"]) == 0
    text = capsys.readouterr().out
    assert "Estimate, nothing measured" in text and text.count("\n") > 14
    for host in costs.PACKINGS:
        for one in costs.BENCHMARKS.values():
            full, half, quarter = (costs.answer_flops(host, one, pruner) for pruner in costs.METHODS.values())
            assert quarter < half < full
    # Twice the speed, half the hours.
    rows = [costs.table(peak, 0.5).splitlines()[-1].split("|")[-2] for peak in (100e12, 50e12)]
    assert float(rows[1]) == pytest.approx(2 * float(rows[0]), rel=0.02, abs=0.1)

