"""Where attention goes: by hand, against eager attention of the stock models, and as a measurement."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from analysis import answers, benchmarks, causal_control, layer_attention, paths, plots, profiles
from analysis.agreement import compare
from analysis.benchmarks.canvas import CROP
from analysis.figures import layer_attention as figure
from analysis.layer_attention import KINDS, VALUES
from analysis.profiles import RunContext, run_context
from analysis.training import evaluate, export, loop
from analysis.training.mini_model import build_model
from analysis.training.tokenizer import build_tokenizer
from redvtp.models.prompts import END_OF_TURN
from redvtp.sequence import PADDING, PROMPT, RESPONSE, VISUAL
from tests.untrained import untrained


@pytest.fixture(scope="module")
def model():
    return untrained()


@pytest.fixture(scope="module")
def control():
    torch.manual_seed(1)
    tokenizer = build_tokenizer()
    return causal_control.control(build_model(tokenizer, causal=True, hidden=32, tower_layers=1, layers=3), tokenizer)


def eager_maps(network, **inputs) -> dict[int, torch.Tensor]:
    """Head-mean maps of the stock language model, by layer."""
    stock = copy.deepcopy(network)
    stock.set_attn_implementation("eager")
    with torch.no_grad():
        found = stock.model.language_model(**inputs, output_attentions=True, use_cache=False).attentions
    return {layer: mass.mean(1) for layer, mass in enumerate(found, start=1)}


def test_values_by_hand():
    kind = torch.tensor([[PADDING, PROMPT, VISUAL, VISUAL, RESPONSE]])
    attention = torch.tensor([[0.0, 0.1, 0.6, 0.2, 0.1]])
    even = (kind != PADDING) / 4
    found = dict(zip(VALUES, layer_attention.describe(attention, even, kind)[0].tolist()))
    assert found == pytest.approx({
        "visual": 0.8, "prompt": 0.1, "response": 0.1, "visual_efficiency": 1.6, "prompt_efficiency": 0.4,
        "response_efficiency": 0.4, "concentration": 0.75})


def test_concentration_is_what_the_top_tenth_holds():
    visual = torch.ones(2, 40, dtype=torch.bool)
    visual[1, 20:] = False
    attention = torch.ones(2, 40)
    attention[0, [3, 7, 8, 30]] = 5.0
    assert layer_attention.concentration(attention, visual).tolist() == pytest.approx([20 / 56, 0.1])


def test_looking_equals_eager_attention_and_changes_nothing(model):
    batch = benchmarks.get("scene").samples("test", 3, 0)
    looking = layer_attention.Looking(model.host)
    run = answers.start(type(model)(looking), batch, stop=())
    state, canvas = run.state, run.canvas.clone()
    run.step()
    real = state.layout.real
    assert not real.all()  # the batch is padded
    embeds = torch.cat([state.embeds, model.host.decoder.embed_tokens(canvas)], 1)
    maps = eager_maps(model.host.model, inputs_embeds=embeds, attention_mask=real.long(), position_ids=state.positions)
    tail = canvas.shape[1]
    for layer, mass in maps.items():
        torch.testing.assert_close(looking.probe.by_layer[layer], mass[:, -tail:], atol=1e-6, rtol=0)
    plain = answers.start(model, batch, stop=())
    plain.run(), run.run()
    assert torch.equal(plain.canvas, run.canvas)
    with pytest.raises(ValueError, match="a forward has one probe"):
        answers.start(type(model)(looking), batch, watch=answers.ATTENTION).step()


def test_denoised_rows_are_told_by_layer_and_step(model):
    batch = benchmarks.get("chart").samples("test", 2, 0)
    found, right = layer_attention.denoised(model, batch)
    assert right == [False, False]
    for rows in ("masked", "response", "writing"):
        steps = {step for r, _, step in found if r == rows}
        assert steps == ({None} if rows == "writing" else {None, *range(1, 17)})
        for layer in (1, 2, 3):
            assert found[rows, layer, None][:, :3].sum(1).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert found["masked", 1, 16].isnan().all()  # nothing is masked after the last step
    mean = torch.stack([found["masked", 2, step] for step in range(1, 16)]).mean(0)
    torch.testing.assert_close(found["masked", 2, None], mean)


@pytest.mark.parametrize("family", ["chart", "scene"])
def test_the_control_reads_as_transformers_does(control, family):
    sample = benchmarks.get(family).sample("test", 0, 0)
    reading = causal_control.read(control, sample)
    assert reading.text == evaluate.answer(control.model, control.tokenizer, [sample])[0]
    kind, writing = reading.kind[0], reading.writing[0]
    first = int(writing.nonzero()[0])
    assert kind[first] == PROMPT and (kind[first + 1:] == RESPONSE).all() and writing[first:].all()
    assert reading.by_layer.keys() == {1, 2, 3}
    for mass in reading.by_layer.values():
        assert mass.shape == (1, len(kind), len(kind)) and not mass.triu(1).any()
        torch.testing.assert_close(mass.sum(2), torch.ones(1, len(kind)))


def test_the_control_stops_behind_the_end_token(control, monkeypatch):
    """Rows that write are one more than the tokens read: they wrote those and the end."""
    sample = benchmarks.get("chart").sample("test", 0, 0)
    end = control.tokenizer.convert_tokens_to_ids(END_OF_TURN)
    letter = control.tokenizer.convert_tokens_to_ids("A")
    monkeypatch.setattr(control.model, "generate", lambda **_: torch.tensor([[letter, letter, end]]))
    reading = causal_control.read(control, sample)
    assert (reading.text, int((reading.kind == RESPONSE).sum()), int(reading.writing.sum())) == ("AA", 2, 3)


def test_the_control_loads_from_the_folder_that_training_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "DATA", tmp_path)
    assert not causal_control.is_there(layer_attention.CONTROL)
    trainee, tokenizer, _ = loop.fresh(0, "cpu", causal=True)
    export.write_folder(trainee.model, tokenizer, tmp_path / layer_attention.CONTROL)
    assert causal_control.is_there(layer_attention.CONTROL)
    loaded = causal_control.load.__wrapped__(layer_attention.CONTROL)
    sample = benchmarks.get("scene").sample("test", 0, 0)
    assert causal_control.read(loaded, sample).text == evaluate.answer(trainee.model, tokenizer, [sample])[0]
    assert loaded.processor.size["height"] == CROP


def test_a_model_that_looks_both_ways_is_no_control(model):
    with pytest.raises(ValueError, match="autoregressive"):
        causal_control.control(model.host.model, None)


def test_even_attention_has_an_efficiency_of_one(control, monkeypatch):
    """Rows of the control see only what is before them, and that is what they are measured by."""
    kind = torch.tensor([[PROMPT, VISUAL, VISUAL, PROMPT, RESPONSE, RESPONSE]])
    sees = torch.ones(6, 6).tril()
    even = (sees / sees.sum(1, keepdim=True))[None]
    reading = causal_control.Reading("A", kind, torch.arange(6)[None] >= 3, {1: even})
    monkeypatch.setattr(causal_control, "read", lambda *_: reading)
    found, _ = layer_attention.written(control, benchmarks.get("doc").samples("test", 1, 0))
    values = dict(zip(VALUES, found["writing", 1, None][0].tolist()))
    assert [values[f"{kind}_efficiency"] for kind in KINDS] == pytest.approx([1, 1, 1])


def test_undefined_samples_are_left_out_of_the_means():
    values = torch.full((3, len(VALUES)), 0.5)
    values[2] = torch.nan
    values[0, VALUES.index("response_efficiency")] = torch.nan
    places = {("masked", 1, None): values, ("masked", 1, 16): torch.full_like(values, torch.nan)}
    plain = [layer_attention._plain(one) for one in places.values()]
    batch = {"fields": {"family": "f"}, "right": [True, False, True], "places": list(places), "values": plain}
    (row,) = layer_attention.summarise([batch])
    assert (row["n"], row["visual"], row["response_efficiency"], row["right"]) == (2, 0.5, 0.5, 2 / 3)
    assert row["visual_low"] == row["visual_high"] == 0.5 and "prompt_low" not in row


@pytest.fixture
def measure(model, control, tmp_path, monkeypatch):
    """The measurement of two models on one sample a family, with or without the control."""
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    monkeypatch.setattr(answers, "model", lambda name: model)
    monkeypatch.setattr(answers, "weights_hash", lambda name: name)
    monkeypatch.setattr(causal_control, "load", lambda name: control)
    monkeypatch.setattr(layer_attention, "RESAMPLES", 5)
    monkeypatch.setitem(profiles.MODES, "quick", profiles.Size(n=2, seeds=(0,)))
    monkeypatch.setattr(layer_attention, "MOST", 1)

    def run(there: bool, *families: str):
        monkeypatch.setattr(causal_control, "is_there", lambda name: there)
        profile = dataclasses.replace(run_context().profile, models=("mini/a", "mini/b"), families=families)
        return layer_attention.measure(RunContext(profile, "quick"))

    return run


def test_measurement_and_figure(measure):
    result = measure(True, "chart", "scene")
    assert compare(result, result).differ == 0
    hosts = {(row["host"], row["model"]) for row in result.rows}
    assert hosts == {("llada_v", "a"), ("llada_v", "b"), ("autoregressive", "llava_ar")}
    assert {row["n"] for row in result.rows} == {1}
    assert len(figure.table(result)) == len([row for row in result.rows if row["step"] is None])
    drawn = figure.draw(result, run_context())
    assert drawn.get_figwidth() == plots.WIDTH["page"]
    assert "not an interval of the mean" in " ".join(drawn._supxlabel.get_text().split())
    assert all(values.min() >= 0 for values in _drawn_shares(drawn.axes[5]))
    assert _top_of_legend(drawn, drawn.axes[5]) < 0
    said = figure.sentence(result)
    assert "On a, still-masked rows give" in said and "On the autoregressive control llava_ar" in said
    assert "claim F1" in said and "layers 2 and 4" in said


def _drawn_shares(axis) -> list:
    return [line.get_ydata() for line in axis.lines if len(line.get_ydata())]


def _top_of_legend(drawn, axis) -> float:
    """Where the legend ends, on the axis' scale."""
    drawn.canvas.draw()
    return axis.transData.inverted().transform(axis.get_legend().get_window_extent().max)[1]


def test_without_the_control_the_result_says_so(measure):
    missing = "data/mini/llava_ar is missing: it was not measured"
    result = measure(False, "scene")
    assert result.provenance["params"]["control"] == missing
    assert {row["host"] for row in result.rows} == {"llada_v"}
    long = [row | {"family": "chart"} for row in result.rows]
    result = dataclasses.replace(result, rows=result.rows + long)
    assert missing in figure.sentence(result)
    texts = [text.get_text() for text in figure.draw(result, run_context()).axes[5].texts]
    assert texts == ["the autoregressive control\nwas not measured"]
