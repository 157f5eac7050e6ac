"""Work shared out among processes, and what a kill leaves of it."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from analysis import paths, spread, storage
from analysis.profiles import run_context
from analysis.results import Measurement
from analysis.spread import Log, Process
from tests import small_measurement

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "tests" / "small_measurement.py"


def contents(path: Path) -> dict[str, str]:
    """Result files by name, byte for byte but for where they come from."""
    found = {}
    for file in sorted(path.rglob("mini-quick/*.json")):
        result = json.loads(file.read_text())
        del result["provenance"]
        found[file.name] = json.dumps(result)
    return found


def lines(folder: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in folder.rglob("pieces/*.jsonl"))


# ---- the log ---------------------------------------------------------------------------------------------


def test_a_log_torn_anywhere_keeps_its_whole_lines_and_goes_on(tmp_path):
    log = Log(tmp_path, "one", "key")
    for i in range(3):
        log.append(f"piece {i}", {"x": [i / 3, None, "ü"]}, 0.5)
    path = tmp_path / "one.0.jsonl"
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        left = max(0, sum(end <= cut for end in ends) - 1)
        again = Log(tmp_path, "one", "key")
        assert list(again.read()) == [f"piece {i}" for i in range(left)]
        again.append("new", 1, 0.25)
        assert list(Log(tmp_path, "one", "key").read()) == [*(f"piece {i}" for i in range(left)), "new"]
    assert Log(tmp_path, "one", "key").read()["new"] == {"value": 1, "seconds": 0.25}


def test_a_line_that_is_broken_inside_a_log_is_left_out(tmp_path):
    log = Log(tmp_path, "one", "key")
    for i in range(3):
        log.append(f"piece {i}", i, 0)
    path = tmp_path / "one.0.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"piece 1"', b'"piece\x00'))
    assert list(log.read()) == ["piece 0", "piece 2"]


def test_values_come_back_as_a_reader_finds_them(tmp_path):
    log = Log(tmp_path, "one", "key")
    kept = log.append("a", {"pair": (1, 0.1 + 0.2), 3: None}, 1.23456)
    assert kept == {"value": {"pair": [1, 0.1 + 0.2], "3": None}, "seconds": 1.235} == log.read()["a"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        log.append("b", float("nan"), 0)
    assert list(log.read()) == ["a"]


def test_a_log_of_another_key_does_not_count_and_is_begun_anew(tmp_path):
    Log(tmp_path, "one", "old").append("a", 1, 0)
    new = Log(tmp_path, "one", "new")
    assert new.read() == {}
    new.append("b", 2, 0)
    assert list(new.read()) == ["b"] and Log(tmp_path, "one", "old").read() == {}


def test_all_ranks_are_read_and_forgotten(tmp_path, monkeypatch):
    for rank in (0, 1, 12):
        monkeypatch.setattr(spread, "process", lambda rank=rank: Process(rank, 13))
        Log(tmp_path, "one", "key").append(f"of {rank}", rank, 0)
    Log(tmp_path, "one_more", "key").append("other", 0, 0)
    log = Log(tmp_path, "one", "key")
    assert sorted(log.read()) == ["of 0", "of 1", "of 12"]
    log.forget()
    assert log.read() == {} and list(Log(tmp_path, "one_more", "key").read()) == ["other"]


def test_a_full_disk_says_so_and_loses_one_piece(tmp_path, monkeypatch):
    log = Log(tmp_path, "one", "key")
    log.append("a", 1, 0)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(storage.StorageError, match="no space left to write .*one.0.jsonl"):
            log.append("b", 2, 0)
    (tmp_path / "one.0.jsonl").write_bytes((tmp_path / "one.0.jsonl").read_bytes()[:-3])
    log.append("c", 3, 0)
    assert list(log.read()) == ["a", "c"]


# ---- pieces of a measurement -----------------------------------------------------------------------------


def measure(calls: list, names=("1", "2", "3"), force=False, inputs=None, fail_at=None):
    """A measurement of two cells in pieces."""

    def compute(cell, content):
        if len(calls) == fail_at:
            raise RuntimeError("stopped")
        calls.append((cell["family"], content))
        return {"x": content / 3}

    with Measurement(
        "tiny", run_context(force=force), by=("family",), link="mini", inputs=inputs or {}
    ) as m:
        m.each_piece(
            [{"family": family} for family in ("doc", "info")],
            lambda cell: {name: int(name) for name in names},
            compute,
            lambda cell, values: [{**cell, "sum": sum(value["x"] for value in values), "n": len(values)}],
        )
    return m.result


def test_pieces_are_summed_up_in_their_order(project):
    calls = []
    result = measure(calls)
    assert calls == [(family, i) for family in ("doc", "info") for i in (1, 2, 3)]
    assert result.rows == [{"family": family, "sum": 1 / 3 + 2 / 3 + 3 / 3, "n": 3} for family in ("doc", "info")]
    assert measure(calls).rows == result.rows and len(calls) == 6


def test_a_stopped_measurement_goes_on_at_its_piece(project, capsys):
    calls, plain = [], measure([])
    (paths.RUNS / "mini" / "tiny.json").unlink()
    with pytest.raises(RuntimeError, match="stopped"):
        measure(calls, force=True, fail_at=4)
    result = measure(calls)
    assert len(calls) == 6 and result.rows == plain.rows
    assert "4 of 6 pieces are there already" in capsys.readouterr().err


def test_more_pieces_compute_only_those(project, monkeypatch):
    calls = []
    measure(calls)
    (paths.RUNS / "mini" / "cells" / "tiny.json").unlink()  # as of a run of another size
    assert measure(calls, names=("1", "2", "3", "4")).rows[0]["n"] == 4
    assert calls[6:] == [("doc", 4), ("info", 4)]


def test_pieces_stand_on_their_own_cells_inputs(project):
    calls = []
    measure(calls, inputs={"data doc": "a", "data info": "b"})
    measure(calls, inputs={"data doc": "a", "data info": "c"})
    assert calls[6:] == [("info", i) for i in (1, 2, 3)]
    measure(calls, inputs={"data doc": "a", "data info": "c", "answers": "d"})  # what names no cell counts for all
    assert len(calls) == 15


def test_force_computes_pieces_again(project):
    calls = []
    measure(calls)
    measure(calls, force=True)
    assert len(calls) == 12


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 5, 100, 1001])
def test_shares_cover_everything_evenly_and_mix_early_with_late(world, count):
    pieces = list(range(count))
    shares = [Process(rank, world).share(pieces) for rank in range(world)]
    assert sorted(piece for share in shares for piece in share) == pieces
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for share in shares:
        assert share == sorted(share)
        if count >= 100:  # neighbours in runs, and no process with the first or the last ones alone
            assert sum(later == one + 1 for one, later in zip(share, share[1:])) >= len(share) - 8 - 8
            assert abs(sum(share) / len(share) - (count - 1) / 2) < count / 10


@pytest.mark.parametrize("words", [{"RANK": "2", "WORLD_SIZE": "2"}, {"WORLD_SIZE": "two"}], ids=["beyond", "text"])
def test_an_environment_that_makes_no_sense_is_refused(monkeypatch, words):
    for name, word in words.items():
        monkeypatch.setenv(name, word)
    with pytest.raises(ValueError, match=f"WORLD_SIZE={words['WORLD_SIZE']}.*expected whole numbers with RANK below"):
        spread.process()


# ---- kills -----------------------------------------------------------------------------------------------


def test_ten_kills_at_random_moments_change_nothing(tmp_path):
    """Each kill falls within half a second of work, whatever is being done then."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.small_measurement"])  # imports take longer than the work
    moments, killed = random.Random(0), 0

    def started(runs: Path):
        one = processes.Process(target=small_measurement.untrained_similarity, args=(runs,))
        one.start()
        return one

    plain, often = tmp_path / "plain", tmp_path / "often"
    whole = started(plain)
    whole.join()
    assert whole.exitcode == 0
    while killed < 10:
        before, one = lines(often), started(often)
        while one.is_alive() and lines(often) == before:  # it is at work
            time.sleep(0.005)
        delay = time.monotonic() + moments.uniform(0, 0.5)
        while one.is_alive() and time.monotonic() < delay and lines(often) < before + 3:
            time.sleep(0.001)
        one.kill()
        one.join()
        assert one.exitcode == -signal.SIGKILL
        killed += 1
    assert not contents(often) and lines(often) >= 10
    last = started(often)
    last.join()
    assert last.exitcode == 0 and contents(often) == contents(plain)
    assert len(contents(plain)) == 1


def environment(runs: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    python_path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
    return kept | {"RUNS": str(runs), "OMP_NUM_THREADS": "1", "PYTHONPATH": python_path} | more


def ran(command: list, runs: Path, **more: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=environment(runs, **more))


def test_two_processes_give_what_one_gives_and_a_killed_one_is_named(tmp_path):
    """The shipped model under torchrun; then through --processes, with a rank that dies."""
    one, two, died = (tmp_path / name for name in ("one", "two", "died"))
    alone = ran([sys.executable, SCRIPT, "--quick"], one)
    assert alone.returncode == 0, alone.stderr
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    together = ran([*torchrun, SCRIPT, "--quick"], two)
    assert together.returncode == 0, together.stderr
    assert contents(two) == contents(one) and len(contents(one)) == 2
    parts = sorted(two.rglob("pieces/step_similarity.*.jsonl"))
    assert [part.read_bytes().count(b"\n") for part in parts] == [3, 3]  # a key, and two of four pieces
    result = json.loads((two / "mini-quick" / "step_similarity.json").read_text())
    assert result["provenance"]["processes"] == 2 and "[rank 1] step_similarity" in together.stderr

    killed = ran([sys.executable, SCRIPT, "--quick", "--processes", "2"], died, KILL_RANK="1")
    assert killed.returncode == 1 and not contents(died)
    said = killed.stderr.strip().splitlines()[-1]
    assert said.startswith("step_similarity: rank 1 of 2 was killed by SIGKILL (exit code -9)")
    assert "kept in" in said and "give the same command again" in said
    kept = lines(died) - len(list(died.rglob("pieces/*.jsonl")))
    assert kept >= 1
    again = ran([sys.executable, SCRIPT, "--quick"], died)
    assert again.returncode == 0 and f"{kept} of 4 pieces are there already" in again.stderr
    assert contents(died) == contents(one)
