"""Drift of scores: what is attributed to rows leaving the mean, to changed attention, and to the answer's tokens."""

from __future__ import annotations

import dataclasses

import matplotlib.pyplot as plt
import pytest
import torch

import redvtp
from analysis import answers, benchmarks, score_drift, step_similarity
from analysis.figures import score_drift as figure
from analysis.profiles import run_context
from analysis.results import Result
from tests.untrained import untrained


@pytest.fixture(scope="module")
def model():
    return untrained()


@pytest.fixture(scope="module")
def batch():
    return benchmarks.get("scene").samples("test", 3, 0)


def test_rows_that_leave_change_the_mean_but_not_the_same_rows():
    attention = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    before, after = torch.tensor([True, True, True]), torch.tensor([True, False, False])
    similarity, same_rows, _, agreement = score_drift.compare(attention, attention, before, after)
    assert similarity == pytest.approx(1 / 3**0.5)
    assert same_rows == pytest.approx(1)
    assert agreement == 1.0  # ties go to the first token


def test_changed_attention_shows_on_the_same_rows():
    first, now = torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([[0.0, 0, 0, 1]])
    rows = torch.tensor([True])
    assert score_drift.compare(first, now, rows, rows) == pytest.approx((0, 0, -1 / 3, 0))


def test_an_answer_ends_at_its_first_end_token():
    assert score_drift.answer_lengths(torch.tensor([[5, 6, 9, 9], [9, 5, 6, 9], [5, 6, 7, 8]]), 9) == [2, 0, 4]


def test_similarity_is_that_of_figure_4(model, batch):
    found, _, _ = score_drift.compared(model, batch)
    stock = redvtp.Recorder(attention=True, per_layer=True)
    prompts = [redvtp.Prompt(one.question, [one.image]) for one in batch]
    model.start(prompts, recorder=stock, length=score_drift.LENGTH, steps=score_drift.STEPS, stop=()).run()
    every = range(1, model.host.layers + 1)
    known = {
        (sample, step): value
        for step, values in step_similarity.similarities(stock, every).items()
        for sample, value in values
        if value == value
    }
    assert {(one.sample, one.step) for one in found} == set(known)
    for one in found:
        assert one.similarity == pytest.approx(known[one.sample, one.step], abs=1e-5)


def test_rows(model, batch, monkeypatch):
    monkeypatch.setattr(answers, "model", lambda name: model)
    rows = list(score_drift.compute("untrained", batch))
    steps = [row for row in rows if row["against"] == "step"]
    assert [row["at"] for row in steps] == list(range(2, score_drift.STEPS))
    assert {row["n"] for row in steps} == {len(batch)}
    for row in rows:
        for name in score_drift.VALUES:
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]


def test_samples_count_once_however_many_steps_they_have():
    one = [score_drift.Compared(0, step, 3, 0.0, 1.0, 1.0, 1.0) for step in (2, 3, 4)]
    other = [score_drift.Compared(1, 2, 3, 1.0, 1.0, 1.0, 1.0)]
    left = [row for row in score_drift.summarise(one + other) if row["against"] == "left"]
    assert [(row["at"], row["n"], row["similarity"]) for row in left] == [(3, 2, 0.5)]


@pytest.fixture
def story() -> Result:
    """Spelled answers drift because rows leave, one-token answers because attention changes."""
    rows = []
    for family, tokens, same in (("doc", 5.0, 1.0), ("scene", 1.0, 0.6)):
        for against, places in (("step", range(2, 16)), ("left", range(3))):
            for at in places:
                values = {"similarity": 0.6, "same_rows": same, "rank": 0.5, "agreement": 0.4}
                ends = {f"{name}_{end}": value for name, value in values.items() for end in ("low", "high")}
                rows.append({"host": "h", "model": "m", "family": family, "split": "test", "seed": 0, "n": 8,
                             "against": against, "at": at, "answer_tokens": tokens, "right": 1.0}
                            | values | ends)  # fmt: skip
    return Result("score_drift", rows, {"link": "mini", "n": 16, "seeds": [0]})


def test_the_figure_tells_spelling_apart(story):
    drawn = figure.draw(story, run_context())
    labels = drawn.axes[1].get_legend_handles_labels()[1]
    assert labels == ["doc, a glyph a token", "scene, one token"]
    assert len(figure.table(story)) == len(story.rows)
    plt.close(drawn)


def test_the_sentence_keeps_causes_apart(story):
    said = figure.sentence(story)
    assert "a glyph a token Sim_k is 0.60, on the same rows 1.00" in said
    assert "of one token Sim_k is 0.60, on the same rows 0.60" in said
    assert "the rest of the fall" not in said  # cosines do not add up


def test_points_of_few_samples_are_left_out_and_said_so(story):
    rows = [row | {"n": 4 if (row["family"], row["against"], row["at"]) == ("doc", "left", 0) else 5}
            for row in story.rows]  # fmt: skip
    few = dataclasses.replace(story, rows=rows)
    drawn = figure.draw(few, run_context())
    assert [list(line.get_xdata()) for line in drawn.axes[2].lines] == [[1, 2], [0, 1, 2]]
    assert "points of fewer than 5 samples are left out" in " ".join(drawn._supxlabel.get_text().split())
    assert len(figure.table(few)) == len(rows)  # the table has them, with their n
    plt.close(drawn)
