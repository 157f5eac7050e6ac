"""Training of the mini models: same pixels, tokens and features as transformers, finite losses, exact resume."""

import dataclasses
import json

import pytest
import torch
from PIL import Image

from analysis import train_mini
from analysis.benchmarks import FAMILIES, get
from analysis.benchmarks.glyphs import KEYS
from analysis.training import checkpoint, evaluate, export, loop, losses, mini_model, optim, stages
from analysis.training.batches import Texts, crops, normalise, training_batch
from analysis.training.tokenizer import BANNED, EOT, answer_ids, build_tokenizer, prompt_ids

TINY = tuple(dataclasses.replace(stage, steps=2, pages=2, full_pages=2, questions=2) for stage in stages.STAGES)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(KEYS)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return mini_model.build_model(tokenizer).eval()


def options(folder, **changes):
    given = {"families": ("doc", "info"), "seed": 3, "stages": TINY, "folder": folder, "compile": False, "dev_n": 1}
    return loop.Options(**{**given, **changes})


def test_prompt_is_tokenised_as_the_official_code_does(tokenizer):
    before, after = prompt_ids(tokenizer, "What is TOTAL?")
    assert tokenizer.convert_ids_to_tokens(before) == [
        "<|startoftext|>", "<|start_header_id|>", "user", "<|end_header_id|>", "\n\n"]
    assert tokenizer.convert_ids_to_tokens(after) == [
        "What is ", "TOTAL", "?", "<|eot_id|>", "<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n"]


def test_chat_template_trims_and_always_ends_with_the_assistant(tokenizer):
    messages = [{"role": "system", "content": " A "}, {"role": "user", "content": "B\n"}]
    head = "<|start_header_id|>{}<|end_header_id|>\n\n"
    assert tokenizer.apply_chat_template(messages, tokenize=False) == (
        "<|startoftext|>" + head.format("system") + "A<|eot_id|>" + head.format("user") + "B<|eot_id|>"
        + head.format("assistant"))


def test_tokenizer_gives_text_back_and_spells_values(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    from transformers import AutoTokenizer
    for each in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        for text in ("What is NAME? A4TAXC7", "ITEM\n\nTAX", "What is REF?"):
            assert each.decode(each(text, add_special_tokens=False)["input_ids"]) == text
    assert tokenizer.tokenize("A4TAXC7") == list("A4TAXC7")
    ids = answer_ids(tokenizer, "A4TAX", 8)
    assert tokenizer.convert_ids_to_tokens(ids) == [*"A4TAX", EOT, EOT, EOT]
    with pytest.raises(ValueError, match="A4TAX.*fewer than 5"):
        answer_ids(tokenizer, "A4TAX", 5)


def test_size(model, tokenizer):
    assert sum(weight.numel() for weight in model.parameters()) < 2.9e6
    assert len(tokenizer) < 128 and model.config.text_config.is_causal is False


@pytest.mark.parametrize("family,size", [(name, size) for name in FAMILIES for size in FAMILIES[name].sizes])
def test_pixels_and_features_equal_transformers(model, family, size):
    """No size is rescaled: crops equal the processor's, packed tokens equal `get_image_features`, n as predicted."""
    page = get(family).page("train", 0, 1, size)
    given = mini_model.build_image_processor()([Image.fromarray(page.pixels)], return_tensors="pt")
    mine = normalise(crops(page.pixels))[None]
    torch.testing.assert_close(mine, given["pixel_values"], rtol=0, atol=2e-7)
    with torch.no_grad():
        packed = model.model.get_image_features(given["pixel_values"], given["image_sizes"]).pooler_output[0]
        visual, tower = mini_model.visual_tokens(model, mine, size)
    assert packed.shape[0] == 64 + size[1] // 8 * (size[0] // 8 + 1)
    assert tower.shape[1:3] == page.labels.shape[1:]
    torch.testing.assert_close(visual[0], packed, rtol=0, atol=2e-5)


def test_packed_attention_equals_one_question_at_a_time(model, tokenizer):
    """Questions of a page see the image and themselves, and nothing of each other."""
    hidden = torch.randn(2, 10 + 3 * 4, 128, generator=torch.Generator().manual_seed(0))
    positions = torch.cat([torch.arange(10), *[10 + torch.arange(4)] * 3])[None]
    language = model.model.language_model
    model.set_attn_implementation({"text_config": mini_model.PACKED})
    with torch.no_grad():
        together = losses.run_layers(language, hidden, positions, 0, 1, shared=10, questions=3)
        for place in range(3):
            part = slice(10 + 4 * place, 14 + 4 * place)
            alone = torch.cat((hidden[:, :10], hidden[:, part]), 1)
            single = losses.run_layers(language, alone, positions[:, :14], 0, 1, shared=10, questions=1)
            torch.testing.assert_close(together[:, part], single[:, 10:])
        plain = losses.run_layers(language, hidden[:, :10], positions[:, :10], 0, 1)
        torch.testing.assert_close(together[:, :10], plain)
        full = losses.run_layers(language, alone, positions[:, :14], 0, 6)
        stock = language(inputs_embeds=alone, position_ids=positions[:, :14]).last_hidden_state
        torch.testing.assert_close(language.norm(full), stock)
    model.set_attn_implementation({"text_config": "sdpa"})
    with torch.no_grad():
        sdpa = language(inputs_embeds=alone, position_ids=positions[:, :14]).last_hidden_state
        torch.testing.assert_close(sdpa, stock, rtol=1e-4, atol=1e-4)


def test_masks_follow_llada():
    masked, t = losses.draw_masks(torch.zeros(64, 4, 32), torch.Generator().manual_seed(0))
    assert 0.2 < (t == 1).float().mean() < 0.4 and t.min() > 0.05
    assert masked[t == 1].all() and abs(masked.float().mean() - t.mean()) < 0.02


@pytest.mark.parametrize("packed", [True, False])
def test_loss_is_finite_and_reaches_every_weight(packed):
    trainee, tokenizer, _ = loop.fresh(0, "cpu")
    batch = training_batch(Texts(tokenizer), ("doc", "info"), 0, 0, 2, 3, 16)
    assert batch.asked.shape == (2, 3, 8) and batch.answers.shape == (2, 3, 16)
    result = losses.step_loss(trainee, batch, losses.Weights(), packed, torch.Generator().manual_seed(0))
    result.total.backward()
    assert torch.isfinite(result.total)
    idle = {name for name, weight in trainee.named_parameters() if weight.grad is None}
    assert all("post_layernorm" in name for name in idle), idle


def test_orthogonalised_updates_have_singular_values_near_one():
    random = torch.randn(3, 48, 16, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(optim.orthogonalise(random).float())
    assert values.shape == (3, 16) and 0.5 < values.min() and values.max() < 1.4


def test_a_resumed_run_ends_in_the_same_state(tmp_path):
    assert loop.Run(options(tmp_path / "whole", stages=TINY[:2])).train()
    part = options(tmp_path / "parts", stages=TINY[:2], minutes=0.0)
    calls = 0
    while not loop.Run(part).train():
        calls += 1
        assert (part.folder / checkpoint.FILE).exists() and calls < 9
    assert calls >= 3
    whole, parts = (torch.load(tmp_path / name / checkpoint.FILE, weights_only=True) for name in ("whole", "parts"))
    assert whole["progress"]["step"] == parts["progress"]["step"] == 4
    for name, weight in whole["trainee"].items():
        assert torch.equal(weight, parts["trainee"][name]), name
    lines = [json.loads(line) for line in (tmp_path / "whole" / "curve.jsonl").read_text().splitlines()]
    assert {"dev_doc", "dev_info"} <= set(lines[-1])
    with pytest.raises(ValueError, match="seed is 4.*has 3"):
        loop.Run(options(tmp_path / "whole", seed=4))


def test_decoding_writes_no_banned_token_and_does_not_depend_on_the_batch(model, tokenizer):
    samples = [sample for name in FAMILIES for sample in get(name).samples("dev", 2, seed=1)]
    together = evaluate.answer(model, tokenizer, samples)
    assert together == [evaluate.answer(model, tokenizer, [sample])[0] for sample in samples]
    assert not any(token in text for text in together for token in BANNED)


def test_export_loads_with_transformers(tmp_path):
    folder, out = tmp_path / "run", tmp_path / "model"
    assert loop.Run(options(folder, stages=TINY[1:2])).train()
    found = export.export(folder, out, ("doc", "info"), seed=3, test_n=2)
    from transformers import AutoImageProcessor, AutoModelForImageTextToText
    loaded = AutoModelForImageTextToText.from_pretrained(out)
    assert type(loaded).__name__ == "LlavaOnevisionForConditionalGeneration" and loaded.dtype == torch.float16
    assert loaded.config.text_config.is_causal is False and loaded.config.vision_aspect_ratio == "anyres_max_4"
    assert AutoImageProcessor.from_pretrained(out).image_mean == (0.5, 0.5, 0.5)
    assert json.loads((out / "redvtp.json").read_text()) == {
        "host": "llada_v", "system_prompt": None, "aspect": "anyres"}
    assert (out / "model.safetensors").stat().st_size < 6 * 2 ** 20
    card = (out / "README.md").read_text()
    assert set(found) == {"doc", "info"} and "Data hash" in card and "{" not in card


def test_bad_options_give_one_line(capsys):
    assert train_mini.main(["--family", "nope"]) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and "'nope'" in line and "doc, info" in line
    assert train_mini.main(["--pace", "0"]) == 2
    assert "--pace is 0.0" in capsys.readouterr().err
    assert train_mini.main(["--export-only"]) == 2
    assert "--out" in capsys.readouterr().err
    assert train_mini.main(["--export-only", "--name", "never-trained", "--out", "nowhere"]) == 2
    assert "no dev score" in capsys.readouterr().err


def test_without_a_compiler_training_goes_on_without_it(monkeypatch, capsys):
    from analysis.training.loop import can_compile

    def broken(function):
        raise RuntimeError("no compiler\nand a long trace")

    monkeypatch.setattr(torch, "compile", broken)
    assert not can_compile("cpu")
    assert capsys.readouterr().out.count("\n") == 1
