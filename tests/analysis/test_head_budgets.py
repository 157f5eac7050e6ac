"""Budgets by head in the cache beside one set of tokens: what is held, what is compared, and the table."""

from __future__ import annotations

import pytest

from analysis import answers, benchmarks, head_budgets
from analysis.figures import head_budgets as figure
from analysis.profiles import run_context
from analysis.results import Result
from tests.untrained import untrained

METHODS = ("redvtp", "redvtp_original", "maskkv", "maskkv_heads", "maskkv_heads_layers")


def test_every_method_holds_as_many_keys_and_values(monkeypatch):
    model = untrained()
    monkeypatch.setattr(answers, "model", lambda name: model)
    rows = head_budgets.compute("mini/a", benchmarks.get("scene").samples("test", 2, 0)[:1]
                                + benchmarks.get("scene").samples("test", 3, 0)[2:])  # fmt: skip
    rows = rows + head_budgets.compute("mini/a", benchmarks.get("doc").samples("test", 2, 0))
    assert len(rows) == 2 * (1 + len(head_budgets.RATIOS) * len(METHODS))
    for row in rows:
        assert row["held"] is None or row["held"] == pytest.approx(row["keep"], abs=0.01)
        assert row["model"] == "a" and row["n"] == 2
    doc = [row for row in rows if row["family"] == "doc"]
    assert all(row["held"] is not None for row in doc)
    assert [row["method"] for row in doc] == ["none", *METHODS * len(head_budgets.RATIOS)]
    base = [row for row in doc if row["method"] == head_budgets.BASE]
    assert all(row["from_original"] is None and row["from_unpruned"] is not None for row in base)
    assert all(row["flops_ratio"] < 1 for row in doc[1:])


def test_layers_are_calibrated_on_development_samples(monkeypatch):
    model, asked = untrained(), []
    plain = benchmarks.Benchmark.samples
    monkeypatch.setattr(benchmarks.Benchmark, "samples",
                        lambda self, split, n, seed=0: asked.append(split) or plain(self, split, n, seed))
    found = head_budgets.calibrated(model, "scene")
    assert asked == ["dev"] and len(found) == model.host.layers and all(one > 0 for one in found)


def answered(method: str, keep: float, right: int, n: int = 40) -> list[dict]:
    """`n` answers, the first `right` of them right."""
    row = {"model": "a", "family": "doc", "split": "test", "seed": 0, "method": method, "keep": keep, "held": keep}
    return [row | {"index": i, "exact_match": i < right, "flops": 10 * keep} for i in range(n)]


def story() -> Result:
    """Budgets by head lose nothing at 10%, one set loses half."""
    rows = answered("none", 1.0, 40)
    for keep, lost in ((0.5, 0), (0.1, 20)):
        for method in METHODS:
            rows += answered(method, keep, 40 if "heads" in method else 40 - lost)
    return Result("head_budgets", head_budgets.summarise(rows), {"n": 40, "seeds": [0], "link": "mini", "params": {}},
                  head_budgets.BY)  # fmt: skip


def test_summary_by_hand():
    found = {(row["method"], row["keep"]): row for row in story().rows}
    heads, base = found["maskkv_heads", 0.1], found[head_budgets.BASE, 0.1]
    assert (heads["from_original"], heads["gained"], heads["lost"]) == (0.5, 20, 0)
    assert (base["from_unpruned"], base["from_original"], heads["from_unpruned"]) == (-0.5, None, 0.0)
    assert heads["flops_ratio"] == pytest.approx(0.1) and heads["held"] == pytest.approx(0.1)


def test_the_table_and_the_sentence():
    table = figure.table(story()).set_index(["family", "keys and values"])
    line = table.loc["doc", "10%"]
    assert line["MaskKV, by head"].startswith("100† [") and line["RedVTP, original positions"].startswith("50 [")
    assert table.loc[("all", "50%"), "MaskKV, one set"].startswith("100 [")
    said = figure.sentence(story())
    assert "MaskKV, by head a +50†" in said and "MaskKV, one set a +0 [" in said
    assert "Fast-dLLM" in figure.table_caption(run_context(), story())
