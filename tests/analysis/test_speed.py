"""The speed harness at a tiny shape: what it composes, counts, writes, keeps and refuses. No test is about a time."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from analysis import efficiency, paths, storage
from analysis.profiles import run_context
from analysis.results import read_result
from analysis.speed import agree, grid, rows, stages
from analysis.speed.bench import Bench
from analysis.speed.cases import BY, HOSTS, SCALES, SETTINGS, SMALL, TINY, TRUE, NotAvailable, Run, pruned, pruner_of
from analysis.speed.command import headline
from analysis.speed.maps import maps_of
from analysis.speed.measure import Harness
from analysis.speed.phases import Composed, Whole, before_step, phases
from analysis.speed.sides import side_of
from analysis.speed.variants import VARIANTS
from analysis.token_counts import geometry
from redvtp.generation import Decoding
from redvtp.model import HOSTS as KINDS
from redvtp.models.published import true_config
from redvtp.timing import Comparison, Protocol, Timing

IMAGE = {"image": TINY.image}
HEADLINE_GROUPS = ("llada_v: before the loop", "llada_v: ratios and cache")


@pytest.fixture(scope="module", params=HOSTS)
def bench(request) -> Bench:
    return Bench(request.param, TINY)


def runs(host: str) -> list[Run]:
    base, half = Run(host, **IMAGE), pruned(host, 0.5, **IMAGE)
    return [
        base, half, replace(half, batch=3), replace(half, cache="fast_dllm", response=64, steps=64),
        replace(half, cache="dllm_cache", response=32, steps=32), replace(base, cache="prefix_dlm"),
        replace(half, start="half"), pruned(host, 0.5, "fastv", **IMAGE), pruned(host, 0.5, "llada_fastv", **IMAGE),
        replace(half, response=2, steps=2),
    ]  # fmt: skip


def test_a_composed_run_does_the_work_of_a_whole_one(bench):
    for run in runs(bench.name):
        whole, composed = Whole(bench, run), Composed(bench, run)
        whole(), composed()
        assert composed.flops == whole.flops, run
        assert composed.nfe == whole.nfe == run.steps
        assert composed.committed == whole.committed == run.response * run.batch
        assert composed.parts[0][0] > 0 and composed.cost > 0


@pytest.mark.parametrize("step", [2, 3, 9, 16])
@pytest.mark.parametrize("start", ["after step 1", "half"])
def test_a_step_in_the_middle_is_reached_as_the_run_would(bench, step, start):
    run = replace(pruned(bench.name, 0.5, **IMAGE), start=start)
    jumped = before_step(bench, run, step)
    walked = Decoding(bench.host, bench.state(run), run.settings, pruner_of(run, bench.host.layers))
    for _ in range(step - 1):
        walked.step()
    mask = bench.host.mask_id
    assert int((jumped.canvas == mask).sum()) == int((walked.canvas == mask).sum())
    assert jumped.state.layout.length == walked.state.layout.length
    before = [sum(one.flops for one in decoding.results()) for decoding in (jumped, walked)]
    for decoding in (jumped, walked):
        decoding.step()
    after = [sum(one.flops for one in decoding.results()) for decoding in (jumped, walked)]
    assert after[0] - before[0] == after[1] - before[1]
    assert jumped.state.layout.length == walked.state.layout.length


def test_phases_hold_each_later_step_once():
    cached = Run("llada_v", response=128, steps=128, cache="fast_dllm")
    found = phases(cached)
    assert sorted(step for steps in found for step in steps) == list(range(2, 129))
    assert (33, 65, 97) in found  # everything again every 32 steps
    assert phases(Run("llada_v")) == [tuple(range(2, 17))]
    late = phases(replace(pruned("llada_v", 0.5), start="half"))
    assert late == [tuple(range(2, 8)), (8,), tuple(range(9, 17))]
    with pytest.raises(NotAvailable, match="one block"):
        phases(Run("llada_v", cache="fast_dllm, 2 blocks"))


def test_true_shapes_are_the_published_ones():
    for host in HOSTS:
        mine, published = KINDS[host].translate(TRUE.official(host)), true_config(host)
        for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"):
            assert getattr(mine.text_config, name) == getattr(published.text_config, name)
        for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size"):
            assert getattr(mine.vision_config, name) == getattr(published.vision_config, name)


@pytest.mark.parametrize("host", HOSTS)
def test_visual_tokens_are_those_of_real_images(host):
    reduced = replace(TINY, crop=384, tower=(16, 1, 2, 32))
    bench = Bench(host, reduced)
    assert int(bench.encode("640x480", 4).original[0]) == geometry(host, 640, 480).tokens
    assert bench.crops("640x480") == geometry(host, 640, 480).crops


def test_weights_have_the_scales_dtype_and_are_random():
    bench = Bench("llada_v", replace(TINY, dtype="bfloat16"))
    weights = bench.host.decoder.layers[0].mlp.up_proj.weight
    assert weights.dtype == torch.bfloat16 and weights.float().std() > 0
    assert bench.host.decoder.rotary_emb.inv_freq.dtype == torch.float32


def test_attention_by_maps_commits_the_same_tokens_and_keeps_the_same(bench):
    run = pruned(bench.name, 0.5, **IMAGE)
    def answer():
        return Decoding(bench.host, bench.state(run), run.settings, pruner_of(run, bench.host.layers)).run()[0]

    probed = answer()
    with maps_of(bench.host):
        written = answer()
    assert written.canvas.equal(probed.canvas) and written.kept.equal(probed.kept)
    assert answer().canvas.equal(probed.canvas)


def test_what_is_not_there_says_why(bench):
    with pytest.raises(NotAvailable, match="no method no_such"):
        side_of(bench, replace(pruned(bench.name, 0.5, **IMAGE), method="no_such"), whole=True)
    with pytest.raises(NotAvailable, match="one sample"):
        side_of(bench, replace(pruned(bench.name, 0.5, "official", **IMAGE), batch=2), whole=True)
    for name in ("graphs", "fused, graphs", "compile", "fp8"):
        with pytest.raises(NotAvailable, match="GPU|option"):
            bench.prepared(name)
    with pytest.raises(ValueError, match="unknown variant 'faster': expected one of plain, fused"):
        bench.prepared("faster")


def test_a_library_that_fails_is_a_reason_and_not_the_end(bench, monkeypatch):
    monkeypatch.setitem(VARIANTS, "int8", lambda bench: 1 / 0)
    with pytest.raises(NotAvailable, match="ZeroDivisionError"):
        bench.prepared("int8")


def test_every_run_has_one_owner_and_a_baseline_of_its_own_setting():
    for scale, device in ((TRUE, "cuda"), (SCALES["reduced"], "cpu"), (TINY, "cpu")):
        found = grid.groups(scale, device)
        assert len({group.name for group in found}) == len(found)
        for group in found:
            assert len(set(group.runs)) == len(group.runs) and len({run.host for run in group.runs}) == 1
            if group.kind != "runs":
                continue
            base = group.runs[0]
            assert (base.method, base.cache, base.variant, base.keep) == ("none", "none", "plain", 1.0)
            for run in group.runs:
                assert (run.response, run.steps, run.batch, run.image) == (
                    base.response, base.steps, base.batch, base.image
                )  # fmt: skip
    owned = set(grid.owners(grid.groups(TRUE, "cuda")))
    for host in HOSTS:
        assert {(run.response, run.steps) for run in owned if run.host == host} == set(SETTINGS)
        assert {run.batch for run in owned if run.host == host} == {1, 2, 4, 8, 16, 32}
    assert {run.variant for run in owned} == set(VARIANTS)


# rows


def timed(bench: Bench, run: Run, *parts: tuple[float, float], peak: int | None = None) -> rows.Timed:
    side = Whole(bench, run)
    side.flops, side.nfe, side.committed = {1.0: 1000, 0.5: 600}.get(run.keep, 400), run.steps, run.response
    return rows.Timed(run, side, parts, peak)


def test_rows_hold_ratios_of_rounds_bounds_and_break_even():
    bench = Bench("llada_v", TINY)
    base, half = Run("llada_v", **IMAGE), replace(pruned("llada_v", 0.5, **IMAGE), attention="none")
    order = {
        base: timed(bench, base, (1.0, 15.0), (2.0, 30.0), (1.0, 15.0), peak=100),
        half: timed(bench, half, (1.5, 6.5), (3.0, 13.0), (1.5, 6.5), peak=80),
    }
    protocol = Protocol(1, 3, "alternating", True, "cpu", 1)
    found = Comparison({run.name: Timing(tuple(one.seconds)) for run, one in order.items()}, protocol)
    full, cut = rows.rows_of(bench, order, found, before=4.0, ceiling=2000.0)
    assert cut["decoding_speedup"] == cut["decoding_speedup_low"] == 2.0
    assert cut["latency_seconds"] == 12.0 and cut["speedup"] == pytest.approx(20 / 12)
    assert cut["latency_cut"] == pytest.approx(40) and cut["throughput_gain"] == pytest.approx(100 * 8 / 12)
    assert cut["tokens_per_second"] == pytest.approx(32 / 12) and cut["decoding_tokens_per_second"] == 4.0
    assert cut["decoding_bound_cut"] == pytest.approx(40) and cut["share_of_bound"] == pytest.approx(50 / 40)
    assert cut["later_share"] == pytest.approx(6.5 / 15)
    assert cut["break_even_steps"] == pytest.approx(1 + 0.5 / (8.5 / 15))
    assert cut["memory_ratio"] == 0.8 and cut["of_product"] == pytest.approx(600 / 8 / 2000)
    assert full["speedup"] == 1.0 and full["break_even_steps"] is None and full["share_of_bound"] is None
    assert set(cut) == set(full) == {*BY, *rows.FIELDS}
    unknown, _ = rows.rows_of(bench, order, found, before=None, ceiling=None)
    assert unknown["latency_seconds"] is None and unknown["latency_cut_low"] is None


def test_pruning_that_saves_nothing_is_never_even():
    bench = Bench("llada_v", TINY)
    base, half = Run("llada_v", **IMAGE), pruned("llada_v", 0.5, **IMAGE)
    slow = timed(bench, half, (2.0, 16.0))
    assert rows.break_even(slow, timed(bench, base, (1.0, 15.0))) is None
    quick = timed(bench, half, (0.5, 1.0))
    assert rows.break_even(quick, timed(bench, base, (1.0, 15.0))) == 1.0


def test_an_absent_row_has_every_field_and_no_number():
    row = rows.absent(Run("llada_v"), "no time")
    assert set(row) == {*BY, *rows.FIELDS} and row["why"] == "no time" and row["measured"] is False
    assert all(row[name] is None for name in rows.FIELDS if name not in ("measured", "why"))


# the whole harness


def harness(place, minutes: float | None = None, only=HEADLINE_GROUPS, rounds: int = 2) -> Harness:
    run = replace(run_context("mini", "quick"), place=place)
    return Harness(run, TINY, "cpu", minutes, rounds, "speed_cpu", only, tell=lambda line: None)


def test_the_harness_measures_keeps_and_goes_on(tmp_path):
    found, parts = harness(tmp_path).measure()
    assert [row["keep"] for row in found.rows] == [1.0, 0.5, 0.5, 0.25] and all(row["measured"] for row in found.rows)
    assert {row["stage"] for row in parts.rows} == set(stages.BEFORE)
    assert found.link == "mini" and found.provenance["params"]["scale"] == "tiny"
    assert all(row["rounds"] == 2 and row["warmup"] == 1 and row["synchronised"] for row in found.rows)
    assert found.rows[2]["over_uncached"] > 0 and found.rows[2]["cache"] == "fast_dllm"
    again, _ = harness(tmp_path).measure()
    assert again.rows == found.rows  # nothing was measured again
    more, _ = harness(tmp_path, only=(*HEADLINE_GROUPS, "llada_v: more ratios")).measure()
    assert more.rows[:4] == found.rows and [row["keep"] for row in more.rows[4:]] == [0.75, 0.1]


def test_what_does_not_fit_is_said_and_measured_by_the_next_call(tmp_path):
    found, parts = harness(tmp_path, minutes=1e-6).measure()
    assert len(found.rows) == 4 and not any(row["measured"] for row in found.rows + parts.rows)
    assert {row["why"] for row in found.rows} == {"no time left of 1e-06 minutes"}
    assert read_result(tmp_path / "speed_cpu.json").rows == found.rows
    found, parts = harness(tmp_path).measure()
    assert all(row["measured"] for row in found.rows + parts.rows)


def test_a_run_that_is_stopped_leaves_what_it_measured(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "measure_loop", stop)
    with pytest.raises(KeyboardInterrupt):
        harness(tmp_path, only=(*HEADLINE_GROUPS, "llada_v: stages")).measure()
    kept = read_result(tmp_path / "speed_cpu.json")
    assert len(kept.rows) == 4
    monkeypatch.undo()
    found, parts = harness(tmp_path, only=(*HEADLINE_GROUPS, "llada_v: stages")).measure()
    assert found.rows == kept.rows and {row["stage"] for row in parts.rows} == {*stages.BEFORE, *stages.LOOP}


def test_methods_that_are_not_there_stand_in_the_result_with_the_reason(tmp_path):
    found, _ = harness(tmp_path, only=("llada_v: before the loop", "llada_v: variants"), rounds=1).measure()
    named = {row["variant"]: row["why"] for row in found.rows if not row["measured"]}
    assert named["graphs"].startswith("not available: ") and named["fp8"].startswith("not available: ")


def test_a_group_that_fails_does_not_cost_the_others(tmp_path, monkeypatch):
    whole = Composed.__call__

    def fail(side: Composed) -> float:
        if side.run.keep == 0.1:
            raise RuntimeError("a kernel failed\nand more")
        return whole(side)

    monkeypatch.setattr(Composed, "__call__", fail)
    names = ("llada_v: before the loop", "llada_v: more ratios", "llada_v: 2 tokens", "llada_v: batch 2")
    found, _ = harness(tmp_path, only=names, rounds=1).measure()
    failed = [row for row in found.rows if not row["measured"]]
    assert {row["why"] for row in failed} == {"failed: a kernel failed"}
    assert {(row["response"], row["batch"]) for row in failed} == {(32, 1), (2, 1)}
    assert {row["batch"] for row in found.rows if row["measured"]} == {2}


def test_ours_and_the_official_procedure_in_processes(tmp_path):
    only = ("llada_v: official, in processes",)
    run = replace(run_context("mini", "quick"), place=tmp_path)
    shape = replace(SMALL, hidden=32, heads=2, layers=2, mlp=64, vocabulary=512, crop=84, image="256x256")
    (row,) = Harness(run, shape, "cpu", None, 3, "speed_cpu", only, tell=lambda line: None).measure()[0].rows
    assert row["measured"] and row["ours_same_tokens"] is True
    assert row["ours_speedup"] > 0 and 0 < row["ours_memory_ratio"] < 2 and row["peak_bytes"] > 0


def test_the_command_ends_with_the_headline(tmp_path, capsys):
    words = ["--profile", "mini", "--quick", "--rounds", "1", "--out", str(tmp_path)]
    words += [word for name in HEADLINE_GROUPS for word in ("--only", name)]
    assert efficiency.main(words) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    found = json.loads(lines[-1])
    assert found["speedup_50"] > 0 and found["prefix_cache_50_over_50"] > 0 and found["official_25_over_ours"] is None
    assert found == headline(read_result(tmp_path / "speed_cpu.json"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--profile", "paper"], "--profile paper: expected one of speed, mini"),
        (["--profile", "speed", "--device", "cpu"], "expected --device cuda"),
        (["--profile", "mini", "--device", "cuda"], "no CUDA GPU is visible"),
        (["--profile", "mini", "--rounds", "0"], "--rounds 0: expected 1 or more"),
        (["--profile", "mini", "--minutes", "0"], "--minutes 0: expected a number above 0"),
        (["--profile", "mini", "--only", "all"], "no group 'all': expected some of 'llada_v: before the loop'"),
        (["--agree", "nowhere", "nowhere"], "nowhere: no speed*.json in it"),
    ],
)
def test_wrong_words_are_refused_in_one_line(words, message, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        efficiency.main(words)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


# agreement of two runs


def written(folder, **ratios: float) -> None:
    content = {
        "schema": 1, "measurement": "speed", "provenance": {"link": "speed"},
        "comparison": {"by": ["host", "keep"], "tolerances": {}},
        "rows": [{"host": "llada_v", "keep": 0.5, "measured": True, **ratios},
                 {"host": "llada_v", "keep": 0.25, "measured": False, "speedup": None}],
    }  # fmt: skip
    storage.write_json(folder / "speed.json", content)


def test_two_runs_agree_within_a_tenth(tmp_path, capsys):
    written(tmp_path / "a", speedup=2.0, over_uncached=3.0)
    written(tmp_path / "b", speedup=2.1, over_uncached=3.0)
    assert efficiency.main(["--agree", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "2 ratios, 0 more than 10% apart; the largest difference is 5.0% (speedup" in capsys.readouterr().out
    written(tmp_path / "b", speedup=2.3, over_uncached=3.0)
    assert agree.report(tmp_path / "b", tmp_path / "a") == 1
    assert "speedup of llada_v 0.5: 2.3 and 2, 15.0% apart" in capsys.readouterr().out
    written(tmp_path / "c")
    with pytest.raises(ValueError, match="no ratio that both measured"):
        agree.report(tmp_path / "a", tmp_path / "c")


def test_results_go_where_the_run_says(tmp_path):
    assert replace(run_context(), place=tmp_path).results == tmp_path
    assert run_context().results == paths.RUNS / "mini"
