"""Training of the mini models: same pixels, tokens and features as transformers, finite losses, exact resume."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from analysis import train_mini
from analysis.benchmarks import FAMILIES, get
from analysis.benchmarks.canvas import BLANK, END, GLYPH, IGNORE, NO_OBJECT, OBJECT
from analysis.benchmarks.concepts import CONCEPT_ID, OBJECTS
from analysis.benchmarks.glyphs import CHARACTERS
from analysis.training import batches, checkpoint, evaluate, export, loop, losses, mini_model, optim, stages
from analysis.training.batches import Texts, choose, crops, normalise, training_batch
from analysis.training.tokenizer import BANNED, EOT, answer_ids, build_tokenizer, prompt_ids

TINY = tuple(dataclasses.replace(stage, steps=2, pages=2, full_pages=2, questions=2) for stage in stages.STAGES)
SPELLED, ONE_TOKEN = ("doc", "info", "chart"), ("diagram", "scene", "perception", "choice")
FULL = losses.Weights(tower=1.0)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module", params=[False, True], ids=["diffusion", "causal"])
def either(request, tokenizer):
    torch.manual_seed(0)
    return mini_model.build_model(tokenizer, causal=request.param).eval()


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
        for text in ("What is NAME? A4TAXC7", "ITEM\n\nTAX", "Are there 3 crosses?", "a red ring?\nA. 2\nB. TEL"):
            assert each.decode(each(text, add_special_tokens=False)["input_ids"]) == text
    assert tokenizer.tokenize("A4TAXC7") == list("A4TAXC7")
    assert tokenizer.tokenize("Is the ring cyan?") == ["Is the ", "ring", " ", "cyan", "?"]
    assert tokenizer.tokenize("Is there a cyan ring?\nA. yes") == ["Is there a ", "cyan ring", "?", "\nA. ", "yes"]
    ids = answer_ids(tokenizer, "A4TAX", 8)
    assert tokenizer.convert_ids_to_tokens(ids) == [*"A4TAX", EOT, EOT, EOT]
    assert tokenizer.convert_ids_to_tokens(answer_ids(tokenizer, "cyan ring", 2)) == ["cyan ring", EOT]
    with pytest.raises(ValueError, match="A4TAX.*fewer than 5"):
        answer_ids(tokenizer, "A4TAX", 5)


def test_size(either, tokenizer):
    assert sum(weight.numel() for weight in either.parameters()) < 2.9e6
    assert len(tokenizer) < 256


def test_only_the_control_is_causal(model, tokenizer):
    assert model.config.text_config.is_causal is False
    assert mini_model.build_model(tokenizer, causal=True).config.text_config.is_causal is True


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
    assert packed.shape[0] == 144 + size[1] // 8 * (size[0] // 8 + 1)
    assert tower.shape[1:3] == page.labels.shape[1:]
    torch.testing.assert_close(visual[0], packed, rtol=0, atol=2e-5)


def test_the_map_lies_over_the_labels(model):
    """Painting one cell of a page changes what the tower says about this cell most."""
    for size in sorted({size for family in FAMILIES.values() for size in family.sizes}):
        plain = np.full((size[1], size[0], 3), 90, np.uint8)
        spotted, (row, column) = plain.copy(), (size[1] // 8 - 2, size[0] // 8 - 3)
        spotted[row * 8:row * 8 + 8, column * 8:column * 8 + 8] = 250
        with torch.no_grad():
            one, two = (mini_model.visual_tokens(model, normalise(crops(each))[None], size)[1][0]
                        for each in (plain, spotted))
        assert int((one - two).norm(dim=-1).argmax()) == row * (size[0] // 8) + column


SHARED, LENGTH, PADS = 10, 7, (0, 3, 2)


@pytest.fixture(scope="module")
def filled():
    """A sequence of one shared part and three left-filled questions: (hidden, positions, bias)."""
    hidden = torch.randn(2, SHARED + 3 * LENGTH, 128, generator=torch.Generator().manual_seed(0))
    places = torch.arange(LENGTH)
    pads = torch.tensor(PADS)[:, None]
    positions = torch.cat((torch.arange(SHARED), (SHARED + (places - pads).clamp(min=0)).flatten()))[None]
    return hidden, positions, torch.zeros(3, LENGTH).masked_fill(places < pads, losses.HIDDEN).expand(2, -1, -1)


def question(place):
    """(its columns, its columns without the fill)"""
    start = SHARED + place * LENGTH
    return slice(start, start + LENGTH), slice(start + PADS[place], start + LENGTH)


@torch.no_grad()
def test_packed_attention_equals_one_question_at_a_time(either, filled):
    """Questions see the image and themselves, nothing of each other or of their fill; the image sees only itself."""
    hidden, positions, bias = filled
    language, how = either.model.language_model, {"packed": True, "causal": either.config.text_config.is_causal}
    either.set_attn_implementation({"text_config": mini_model.PACKED})
    together = losses.run_layers(language, hidden, positions, 0, 6, shared=SHARED, questions=3, bias=bias, **how)
    assert torch.isfinite(together).all()
    for place in range(3):
        _, real = question(place)
        count = LENGTH - PADS[place]
        alone = torch.cat((hidden[:, :SHARED], hidden[:, real]), 1)
        single = losses.run_layers(language, alone, torch.arange(SHARED + count)[None], 0, 6, shared=SHARED,
                                   questions=1, bias=torch.zeros(2, 1, count), **how)
        torch.testing.assert_close(together[:, real], single[:, SHARED:], rtol=1e-4, atol=1e-4)
    plain = losses.run_layers(language, hidden[:, :SHARED], positions[:, :SHARED], 0, 6, **how)
    torch.testing.assert_close(together[:, :SHARED], plain, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("place", range(3))
def test_full_and_causal_attention_equal_the_stock_model(either, filled, place):
    """One left-filled question, alone (diffusion) or packed with others (causal), against transformers without fill."""
    hidden, positions, bias = filled
    language, causal = either.model.language_model, either.config.text_config.is_causal
    whole, real = question(place)
    alone = torch.cat((hidden[:, :SHARED], hidden[:, real]), 1)
    either.set_attn_implementation({"text_config": "sdpa"})
    stock = language(inputs_embeds=alone, position_ids=torch.arange(alone.shape[1])[None]).last_hidden_state
    either.set_attn_implementation({"text_config": mini_model.PACKED})
    if causal:
        mine = losses.run_layers(language, hidden, positions, 0, 6, shared=SHARED, questions=3, bias=bias, packed=True,
                                 causal=True)[:, real]
    else:
        parts = torch.cat((torch.arange(SHARED), torch.arange(whole.start, whole.stop)))
        mine = losses.run_layers(language, hidden[:, parts], positions[:, parts], 0, 6, shared=SHARED, questions=1,
                                 bias=bias[:, place:place + 1], packed=False, causal=False)
        seen = language.norm(mine[:, :SHARED])
        torch.testing.assert_close(seen, stock[:, :SHARED], rtol=1e-4, atol=1e-4)
        mine = mine[:, SHARED + PADS[place]:]
    torch.testing.assert_close(language.norm(mine), stock[:, SHARED:], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_blind_questions_see_themselves_only(either, filled):
    """What stands in the image does not matter to a blind question, and still does to the image."""
    hidden, positions, bias = filled
    other = torch.cat((hidden[:, :SHARED].flip(1), hidden[:, SHARED:]), 1)
    language, how = either.model.language_model, {"packed": True, "causal": either.config.text_config.is_causal}
    either.set_attn_implementation({"text_config": mini_model.PACKED})
    one, two = (losses.run_layers(language, each, positions, 4, 6, shared=SHARED, questions=3, bias=bias, blind=True,
                                  **how) for each in (hidden, other))
    torch.testing.assert_close(one[:, SHARED:], two[:, SHARED:])
    assert not torch.allclose(one[:, :SHARED], two[:, :SHARED])


def test_options_know_their_letters(tokenizer, model):
    trainee = losses.Trainee(model, tokenizer)
    ids = torch.tensor(tokenizer("Which label has the red bar?\nA. TAX\nB. FEE\nC. SUM\nD. NET")["input_ids"])
    places = trainee.letters(ids)
    assert places[places != -100].tolist() == [0, 1, 2, 3]
    assert tokenizer.convert_ids_to_tokens(ids[places != -100]) == ["TAX", "FEE", "SUM", "NET"]
    assert tokenizer.convert_ids_to_tokens(trainee.letter_names[:4]) == list("ABCD")


def test_masks_follow_llada():
    masked, t = losses.draw_masks(torch.zeros(64, 4, 32), torch.Generator().manual_seed(0))
    assert 0.2 < (t == 1).float().mean() < 0.4 and t.min() > 0.05
    assert masked[t == 1].all() and abs(masked.float().mean() - t.mean()) < 0.02


def test_until_end_counts_the_first_end_only():
    answers = torch.tensor([[[5, 6, 9, 9], [9, 9, 9, 9]], [[5, 6, 7, 8], [5, 9, 6, 9]]])
    assert losses.until_end(answers, 9).int().tolist() == [[[1, 1, 1, 0], [1, 0, 0, 0]], [[1, 1, 1, 1], [1, 1, 0, 0]]]


@pytest.mark.parametrize("name", FAMILIES)
def test_questions_become_the_ids_of_the_prompt(tokenizer, name):
    questions = [query.question for index in range(10) for query in get(name).page("dev", 0, index).queries]
    assert Texts(tokenizer).asked(questions) == [prompt_ids(tokenizer, each)[1] for each in questions]
    assert Texts(tokenizer).head.tolist() == prompt_ids(tokenizer, questions[0])[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_chosen_queries_are_of_all_kinds_and_repeat_late(name):
    for index in range(10):
        queries = get(name).page("train", 0, index).queries
        kinds = {query.kind for query in queries}
        places = {id(query): place for place, query in enumerate(queries)}
        for count in (1, len(queries), 2 * len(queries) + 1):
            chosen = [places[id(query)] for query in choose(np.random.default_rng(index), queries, count)]
            assert len(chosen) == count and len(set(chosen)) == min(count, len(queries))
            assert len({queries[place].kind for place in chosen[:len(kinds)]}) == min(count, len(kinds))


@pytest.mark.parametrize("families,length", [(SPELLED, 16), (ONE_TOKEN, None), (("doc", "scene"), None)])
def test_batches_hold_the_chosen_queries(tokenizer, monkeypatch, families, length):
    drawn, filled = [], 0
    monkeypatch.setattr(batches, "choose", lambda *given: drawn.extend(choose(*given)) or drawn[-given[2]:])
    texts = Texts(tokenizer)
    for step in range(4):
        drawn.clear()
        batch = training_batch(texts, families, step, 0, 2, 3, length)
        assert {value.shape[0] for name, value in vars(batch).items() if name not in ("head", "size")} == {2}
        assert batch.asked.shape[:2] == batch.pads.shape == (2, 3) and batch.pads.min() == 0
        assert batch.labels.shape[2:] == (batch.size[1] // 8, batch.size[0] // 8)
        filled += int(batch.pads.sum())
        rows = zip(*(getattr(batch, name).flatten(0, 1) for name in ("asked", "pads", "answers", "subject", "content")))
        for query, (asked, pads, answer, subject, content) in zip(drawn, rows, strict=True):
            assert asked[pads:].tolist() == prompt_ids(tokenizer, query.question)[1]
            assert answer.tolist() == answer_ids(tokenizer, query.answer, batch.answers.shape[-1])
            assert subject == CONCEPT_ID[query.subject]
            assert content == (CONCEPT_ID[query.content] if query.content else IGNORE)
    assert filled or families != ONE_TOKEN


def test_batches_are_a_function_of_seed_and_step(tokenizer):
    first, again, later, other = (training_batch(Texts(tokenizer), tuple(FAMILIES), step, seed, 2, 3, 16)
                                  for step, seed in ((5, 1), (5, 1), (6, 1), (5, 2)))
    assert all(torch.equal(value, vars(again)[name]) for name, value in vars(first).items() if name != "size")
    assert first.size == again.size
    for different in (later, other):
        assert different.pixels.shape != first.pixels.shape or not torch.equal(different.pixels, first.pixels)


def test_only_families_that_fit_are_mixed(tokenizer):
    """Of one protocol where the length is the protocol's; else of one size, cut to the shortest."""
    texts, lengths = Texts(tokenizer), {(step, length): training_batch(
        Texts(tokenizer), tuple(FAMILIES), step, 0, 1, 1, length).answers.shape[-1]
        for step in range(12) for length in (16, None)}
    assert {found for (_, length), found in lengths.items() if length} == {2, 16}
    assert {found for (_, length), found in lengths.items() if not length} == {2, 16, 32}
    assert training_batch(texts, ("doc", "info"), 0, 0, 1, 1, None).answers.shape[-1] == 32


def test_cells_are_named_by_their_tokens(tokenizer, model):
    trainee = losses.Trainee(model, tokenizer)
    for name in ("doc", "scene", "chart"):
        labels = torch.from_numpy(get(name).page("train", 0, 0).labels).long()
        named = trainee.names(labels[None])[0]
        for row, column in np.ndindex(named.shape):
            glyph, shown, token = labels[GLYPH, row, column], labels[OBJECT, row, column], named[row, column]
            if glyph == IGNORE or glyph == BLANK and shown == NO_OBJECT:
                assert token == IGNORE
            else:
                text = OBJECTS[shown] if glyph == BLANK else EOT if glyph == END else CHARACTERS[glyph - 1]
                assert tokenizer.convert_ids_to_tokens(int(token)) == text


@pytest.mark.parametrize("how", ["packed", "unpacked", "causal"])
@pytest.mark.parametrize("families", [SPELLED, ONE_TOKEN], ids=["spelled", "one_token"])
@pytest.mark.parametrize("frozen", [False, True])
def test_loss_is_finite_and_reaches_every_weight(how, families, frozen):
    trainee, tokenizer, _ = loop.fresh(0, "cpu", how == "causal")
    batch = training_batch(Texts(tokenizer), families, 0, 0, 2, 3, 16)
    result = losses.step_loss(trainee, batch, FULL, how == "packed", torch.Generator().manual_seed(0), frozen)
    result.total.backward()
    assert torch.isfinite(result.total)
    idle = {name for name, weight in trainee.named_parameters() if weight.grad is None}
    allowed = ["post_layernorm"] + ["vision_tower"] * frozen + ["letter_head"] * (families == SPELLED)
    for name, weight in trainee.named_parameters():
        assert (name in idle) == any(part in name for part in allowed), name
        assert name in idle or torch.isfinite(weight.grad).all()
    reached = ("subject_head.weight", "image_newline", "lm_head.weight", "embed_tokens.weight", "linear_1.weight")
    for name, weight in trainee.named_parameters():
        assert not name.endswith(reached) or weight.grad.any(), name


def test_without_answers_only_the_image_runs():
    trainee, tokenizer, _ = loop.fresh(0, "cpu")
    batch = training_batch(Texts(tokenizer), ONE_TOKEN, 0, 0, 2, 3, 16)
    reached = {}
    for middle in (0.0, 1.0):
        trainee.zero_grad()
        weights = losses.Weights(answer=0.0, tower=1.0, middle=middle, naming=0.0)
        losses.step_loss(trainee, batch, weights, True, torch.Generator()).total.backward()
        reached[middle] = {name for name, weight in trainee.named_parameters() if weight.grad is not None}
    assert not any("language_model" in name or "lm_head" in name for name in reached[0.0])
    assert {name.split(".layers.")[1][0] for name in reached[1.0] if "language_model.layers." in name} == {"0", "1"}
    assert all(any(part in name for name in reached[0.0]) for part in ("vision_tower", "tower_heads"))


@torch.no_grad()
@pytest.mark.parametrize("causal", [False, True])
def test_loss_does_not_depend_on_the_fill(causal, tokenizer):
    """Two more tokens of fill on every question leave the loss as it is."""
    trainee, _, _ = loop.fresh(0, "cpu", causal)
    trainee.eval()
    batch = training_batch(Texts(tokenizer), ("perception",), 0, 0, 2, 3, 16)
    assert batch.pads.any()
    for packed in (True, False):
        totals = []
        for extra in (0, 2):
            more = dataclasses.replace(batch, asked=torch.cat((batch.asked[..., :1],) * extra + (batch.asked,), -1),
                                       pads=batch.pads + extra)
            totals.append(losses.step_loss(trainee, more, FULL, packed, torch.Generator().manual_seed(0)).total)
        torch.testing.assert_close(*totals)


def test_orthogonalised_updates_have_singular_values_near_one():
    random = torch.randn(3, 48, 16, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(optim.orthogonalise(random).float())
    assert values.shape == (3, 16) and 0.5 < values.min() and values.max() < 1.4


def test_a_resumed_run_ends_in_the_same_state(tmp_path):
    assert loop.Run(options(tmp_path / "whole", stages=TINY[::3])).train()
    part = options(tmp_path / "parts", stages=TINY[::3], minutes=0.0)
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


def test_a_run_can_start_with_the_tower_of_another(tmp_path):
    other, _, optimizers = loop.fresh(8, "cpu")
    checkpoint.save(tmp_path / "other", other, optimizers, checkpoint.Progress("all"))
    run, theirs = loop.Run(options(tmp_path / "mine", tower=tmp_path / "other")), other.state_dict()
    own = loop.fresh(3, "cpu")[0].state_dict()
    assert run.progress.stage == TINY[1].name
    for name, weight in run.trainee.state_dict().items():
        assert torch.equal(weight, (theirs if "tower" in name else own)[name]), name
    with pytest.raises(FileNotFoundError, match="nobody"):
        loop.Run(options(tmp_path / "mine", tower=tmp_path / "nobody"))


def test_decoding_writes_no_banned_token_and_does_not_depend_on_the_batch(either, tokenizer):
    samples = []
    for name in ("doc", "chart", "perception", "choice"):
        drawn = get(name).samples("dev", 8, seed=1)
        samples += [sample for sample in drawn if sample.image.size == drawn[0].image.size][:2]
    together = evaluate.answer(either, tokenizer, samples)
    assert together == [evaluate.answer(either, tokenizer, [sample])[0] for sample in samples]
    assert either.config.text_config.is_causal or not any(token in text for text in together for token in BANNED)


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
