"""The LaViDa host: properties of its runs, visual tokens, published shape and names, precision, bad input."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import LlavaOnevisionForConditionalGeneration
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, rotate_half

from redvtp import Model, Prompt, Recorder, RedVTP, Share, load
from redvtp.attention import AttentionProbe
from redvtp.models.checkpoint import CheckpointError
from redvtp.models.lavida import BLOCK_PARTS, TRUE_SHAPE, Lavida, lavida_config, lavida_name
from redvtp.models.lavida_layout import PINPOINTS
from redvtp.models.lavida_packing import pack_crops, pool_crops
from redvtp.models.prompts import LLADA_V_SYSTEM, render
from redvtp.models.rotary import FullPrecisionRotary
from redvtp.pruning import METHODS
from redvtp.sequence import VISUAL, is_tile
from tests.parity.forward import eager_maps, own_loop
from tests.redvtp.runs import assert_all_same, assert_same, run
from tests.tiny import LAVIDA_CROP, LAVIDA_SHAPE, PATCH, build_lavida, picture


@pytest.fixture(scope="module")
def host():
    return build_lavida()


@pytest.fixture(scope="module")
def model(host):
    return Model(host)


@pytest.fixture(params=[None, *sorted(METHODS)])
def method(request):
    return request.param and METHODS[request.param](keep=0.4)


# ---- properties of a run -----------------------------------------------------------------------------------


def test_a_batch_gives_what_each_sample_gives_alone(model, prompts, method):
    alone = [run(model, [prompt], method)[0] for prompt in prompts]
    assert_all_same(run(model, prompts, method), alone)


def test_keeping_everything_is_the_unpruned_run_bit_for_bit(model, prompts, method):
    runs = []
    for prune in (None, method and replace(method, keep=Share(1.0))):
        recorder = Recorder(logits=True)
        runs.append((run(model, prompts[:2], prune, recorder=recorder), recorder))
    assert_all_same(runs[0][0], runs[1][0])
    for one, other in zip(runs[0][1].steps, runs[1][1].steps, strict=True):
        assert torch.equal(one.logits, other.logits)


@pytest.mark.parametrize(
    "settings",
    [
        {"length": 8, "step_per_block": 2, "block_length": 4, "schedule": "shift", "shift": 0.33},
        {"length": 8, "step_ratio": 0.5, "schedule": "cosine", "remasking": "entropy"},
        {"length": 8, "step_ratio": 0.5, "schedule": "logit_normal", "remasking": "margin"},
        {"length": 6, "steps": 3, "cfg_scale": 0.5, "suffix": "so"},
    ],
    ids=str,
)
def test_a_batch_equals_singles_under_its_settings(model, prompts, settings):
    for prune in (None, RedVTP(keep=0.5)):
        settings = {"steps": None, **settings}
        batch = run(model, prompts, prune, **settings)
        assert_all_same(batch, [run(model, [prompt], prune, **settings)[0] for prompt in prompts])


def test_padding_changes_nothing(host, prompts):
    together, alone = host.begin(prompts, 4), host.begin(prompts[1:2], 4)
    gap = together.layout.length - alone.layout.length
    assert gap > 0
    torch.testing.assert_close(together.embeds[1, gap:], alone.embeds[0], atol=1e-5, rtol=0)
    canvas, rows = torch.full((1, 4), host.mask_id), torch.ones(1, 4, dtype=torch.bool)
    batch = host.forward(together, canvas.expand(len(prompts), -1), rows.expand(len(prompts), -1)).logits
    torch.testing.assert_close(batch[4:8], host.forward(alone, canvas, rows).logits, atol=1e-5, rtol=0)


def test_the_probe_equals_the_eager_slice(host):
    state = host.begin([Prompt("What?", [picture(60, 30)])], 5)
    embeds = torch.cat([state.embeds, host.decoder.embed_tokens(torch.full((1, 5), host.mask_id))], 1)
    mask = torch.ones(embeds.shape[:2], dtype=torch.long)
    maps = eager_maps(host, embeds, mask).mean(2)
    torch.testing.assert_close(own_loop(host, embeds, mask)[2], maps, atol=1e-5, rtol=0)
    rows = torch.arange(state.layout.prompt_length, state.layout.length)[None]
    probe = AttentionProbe(rows, state.layout.columns_of(VISUAL))
    host.forward(state, torch.full((1, 5), host.mask_id), torch.ones(1, 5, dtype=torch.bool), probe)
    expected = maps.mean(0)[0, rows[0]][:, probe.columns[0]]
    torch.testing.assert_close(probe.mean()[0], expected, atol=1e-5, rtol=0)


def test_the_prompt_is_llada_vs(host, prompts):
    assert Lavida(host.model, host.tokenizer).system_prompt == LLADA_V_SYSTEM
    ids = host.tokenizer(render(host.system_prompt, prompts[1].question), add_special_tokens=False).input_ids
    state = host.begin(prompts[1:2], 1)
    assert torch.equal(state.embeds[0], host.decoder.embed_tokens(torch.tensor(ids)))


def test_the_end_of_text_may_be_predicted_and_nothing_ends_a_response(model, prompts):
    end = model.host.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert model.host.banned_ids == ()
    recorder = Recorder(logits=True)
    decoding = model.start(prompts[:1], length=4, steps=4, recorder=recorder)
    assert decoding.stop_ids == []
    decoding.run()
    assert math.isfinite(float(recorder.steps[0].logits[0, end]))


# ---- drafts ------------------------------------------------------------------------------------------------


def test_a_draft_stays_and_its_gaps_are_filled(model):
    question, mask = "What?", "<|mdm_mask|>"
    answer = model.generate(picture(40, 40), question, draft=f"a{mask}{mask}b", length=6, steps=3)
    text = [model.host.tokenizer.decode([token]) for token in answer.ids]
    assert (text[0], text[3]) == ("a", "b")
    assert model.host.mask_id not in answer.ids
    assert answer.steps == 3
    open_draft = model.generate(picture(40, 40), question, draft="", length=6, steps=3)
    assert open_draft.ids == model.generate(picture(40, 40), question, length=6, steps=3).ids


def test_drafts_in_a_batch_are_each_its_own(model, prompts):
    drafts = ["ab", None, "no gap", "<|mdm_mask|>c", "x"]
    for prune in (None, RedVTP(keep=0.5)):
        batch = model.generate_batch(prompts, prune=prune, drafts=drafts, length=6, steps=3)
        for answer, prompt, draft in zip(batch, prompts, drafts, strict=True):
            alone = model.generate_batch([prompt], prune=prune, drafts=[draft], length=6, steps=3)[0]
            assert (answer.ids, answer.steps, answer.kept.tolist()) == (alone.ids, alone.steps, alone.kept.tolist())
        assert (batch[2].text, batch[2].steps, len(batch[2].kept)) == ("no gap", 0, batch[2].visual_tokens)


@pytest.mark.parametrize(
    ("drafts", "message"),
    [(["abcdefg"], "draft 'abcdefg': 7 tokens for a response of 6"), (["a", "b"], "2 drafts for 1 samples")],
)
def test_drafts_that_do_not_fit_are_refused(model, drafts, message):
    with pytest.raises(ValueError, match=message):
        model.generate_batch([Prompt("?")], drafts=drafts, length=6, steps=3)


# ---- visual tokens -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height"), [(20, 20), (96, 96), (97, 95), (150, 40), (40, 150), (300, 10), (1, 400), (400, 1), (61, 47)]
)
def test_layouts_match_the_packed_features(host, width, height):
    state = host.begin([Prompt("?", [picture(width, height)])], 2)  # raises where the two disagree
    visual = state.layout.columns_of(VISUAL)[0]
    newline = state.embeds[0, visual[state.layout.newline[0, visual]]]
    torch.testing.assert_close(newline, host.model.model.image_newline.expand_as(newline))
    assert int((state.layout.tile[0] == 0).sum()) == 4


def test_tokens_stand_where_the_layout_says(host):
    """A tile filled with one colour changes the features of its own tokens and of the thumbnail alone."""
    dark = Image.new("RGB", (LAVIDA_CROP * 2, LAVIDA_CROP * 2))
    lit = dark.copy()
    lit.paste((255, 255, 255), (LAVIDA_CROP, 0, 2 * LAVIDA_CROP, LAVIDA_CROP))
    states = [host.begin([Prompt("?", [image])], 1) for image in (dark, lit)]
    layout = states[0].layout
    changed = (states[0].embeds[0] - states[1].embeds[0]).abs().amax(1) > 1e-4
    tiles = is_tile(layout)[0][: len(changed)]
    right = layout.box[0, : len(changed), 0] >= LAVIDA_CROP
    top = layout.box[0, : len(changed), 3] <= LAVIDA_CROP
    assert changed[tiles].tolist() == (right & top)[tiles].tolist()
    assert int((changed & tiles).sum()) == 4


def test_pooling_is_bilinear_and_no_average():
    features = torch.arange(729.0)[None, :, None].expand(2, -1, 3)
    pooled = pool_crops(features)
    assert pooled.shape == (2, 196, 3)
    # The centre of a pooled cell lies between patches; a linear map comes out linear inside the border.
    grid = pooled[0, :, 0].view(14, 14)
    torch.testing.assert_close(grid[1:-1, 1:-1].diff(dim=1), torch.full((12, 11), 27 / 14), atol=1e-3, rtol=0)
    assert float(grid[0, 0]) == pytest.approx(28 * (27 / 14 / 2 - 0.5), abs=1e-3)


def test_packing_puts_tiles_side_by_side():
    crops = torch.arange(5.0)[:, None, None].expand(-1, 4, 1)  # the thumbnail and 2 x 2 tiles of 2 x 2 tokens
    packed = pack_crops(crops, 2, (10, 10), torch.tensor([9.0]))
    assert packed[:, 0].tolist() == [0] * 4 + [1, 1, 2, 2, 9] * 2 + [3, 3, 4, 4, 9] * 2


def test_several_images_and_pad_mode_have_one_unpooled_crop_each(host):
    patches = (LAVIDA_CROP // PATCH) ** 2
    state = host.begin([Prompt("Which?", [picture(50, 20), picture(20, 60)])], 3)
    assert state.original.tolist() == [2 * patches]
    assert not bool(state.layout.newline.any())
    assert build_lavida(aspect="pad").begin([Prompt("?", [picture(50, 20)])], 3).original.tolist() == [patches]


def test_a_blind_prompt_answers_the_same_whatever_is_asked(prompts):
    blind, seeing = Model(build_lavida(blind_prompt=True)), Model(build_lavida())
    asked = [("What is it?", picture(60, 60, 1)), ("Who has it?", picture(60, 60, 2))]
    answers = [[m.generate(image, text, length=8, steps=8).ids for text, image in asked] for m in (blind, seeing)]
    assert answers[0][0] == answers[0][1]
    assert answers[1][0] != answers[1][1]


# ---- precision ---------------------------------------------------------------------------------------------


def test_rotation_is_done_in_fp32_and_rounded_once():
    host = build_lavida(dtype=torch.bfloat16)
    state = host.begin([Prompt("What is it?", [picture(90, 50)])], 4)
    columns = torch.arange(state.layout.length)[None]
    probe = AttentionProbe(columns, columns, layers=(1,))
    canvas = torch.full((1, 4), host.mask_id)
    output = host.forward(state, canvas, torch.ones(1, 4, dtype=torch.bool), probe)
    assert output.logits.dtype == torch.float32
    hidden = torch.cat([state.embeds, host.decoder.embed_tokens(canvas)], 1)
    layer = host.decoder.layers[0]
    normed = layer.input_layernorm(hidden)
    heads = (1, hidden.shape[1], 4, 8)
    turned = {}
    for kind, rotary in (("fp32", host.decoder.rotary_emb), ("stock", LlamaRotaryEmbedding(host.decoder.config))):
        cos, sin = rotary(hidden, columns)
        turned[kind] = []
        for project in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            states = project(normed).view(heads).transpose(1, 2)
            turned[kind].append((states * cos[:, None] + rotate_half(states) * sin[:, None]).to(torch.bfloat16))
    assert not torch.equal(turned["fp32"][0], turned["stock"][0])
    query, key = turned["fp32"]
    scores = torch.matmul(query * 8**-0.5, key.transpose(2, 3))
    assert torch.equal(probe.mean(), torch.softmax(scores, -1, dtype=torch.float32).mean(1))


def test_half_precision_weights_leave_the_frequencies_in_fp32_and_the_answer_in_a_batch_the_same(prompts):
    host = build_lavida(dtype=torch.bfloat16)
    assert isinstance(host.decoder.rotary_emb, FullPrecisionRotary)
    assert torch.equal(host.decoder.rotary_emb.inv_freq, build_lavida().decoder.rotary_emb.inv_freq)
    for prune in (None, RedVTP(keep=0.5)):
        results = run(Model(host), prompts[:1] * 2, prune)
        assert_same(results[0], results[1])


# ---- checkpoints -------------------------------------------------------------------------------------------


def official_tensors(shape=TRUE_SHAPE) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published checkpoint's language model, projector and newline."""
    d, ff, rows, seen = shape["d_model"], shape["mlp_hidden_size"], shape["vocab_size"], shape["vision_config"]
    names = {
        "model.transformer.wte.weight": (rows, d),
        "model.transformer.ff_out.weight": (rows, d),
        "model.transformer.ln_f.weight": (d,),
        "model.image_newline": (d,),
        "model.mm_projector.0.weight": (d, seen["hidden_size"]),
        "model.mm_projector.0.bias": (d,),
        "model.mm_projector.2.weight": (d, d),
        "model.mm_projector.2.bias": (d,),
    }
    for i in range(shape["n_layers"]):
        block = f"model.transformer.blocks.{i}."
        names |= {f"{block}{part}.weight": (d, d) for part in ("q_proj", "k_proj", "v_proj", "attn_out")}
        names |= {f"{block}{part}.weight": (ff, d) for part in ("ff_proj", "up_proj")}
        names |= {f"{block}{part}.weight": (d,) for part in ("attn_norm", "ff_norm")}
        names[f"{block}ff_out.weight"] = (d, ff)
    return names


def test_every_official_tensor_has_its_place_in_the_true_shape():
    ours = {name: tuple(value.shape) for name, value in Lavida.on_meta().state_dict().items()}
    official = {lavida_name(name): shape for name, shape in official_tensors().items()}
    assert len(official) == len(official_tensors())
    assert official == {name: shape for name, shape in ours.items() if "vision_tower" not in name}
    tower = "model.vision_tower.vision_tower.vision_model.encoder.layers.3.mlp.fc1.weight"
    assert ours[lavida_name(tower)] == (4304, 1152)
    assert lavida_name("model.transformer.blocks.0.other.weight") == "model.transformer.blocks.0.other.weight"
    config = lavida_config(TRUE_SHAPE)
    assert [tuple(size) for size in config.image_grid_pinpoints] == list(PINPOINTS)


CONFIG = {**LAVIDA_SHAPE, "n_layers": 1, "vocab_size": 65, "parity_special_tokens": {"mask": 60, "eos": 61}}


def official_name(name: str) -> str:
    """The official name of a host's tensor, by trying what there is."""
    parts = {ours: theirs for theirs, ours in BLOCK_PARTS.items()}
    fixed = {"embed_tokens": "wte", "norm": "ln_f"}
    if name.startswith("lm_head."):
        return name.replace("lm_head.", "model.transformer.ff_out.")
    if name.startswith("model.language_model.layers."):
        number, rest = name.removeprefix("model.language_model.layers.").split(".", 1)
        part, kind = rest.rsplit(".", 1)
        return f"model.transformer.blocks.{number}.{parts[part]}.{kind}"
    if name.startswith("model.language_model."):
        part, kind = name.removeprefix("model.language_model.").split(".", 1)
        return f"model.transformer.{fixed[part]}.{kind}"
    name = name.replace("model.vision_tower.", "model.vision_tower.vision_tower.vision_model.")
    return name.replace("multi_modal_projector.linear_", "mm_projector.").replace("projector.1.", "projector.0.")


def write(folder, config=CONFIG, tokenizer=None):
    folder.mkdir(exist_ok=True)
    built = LlavaOnevisionForConditionalGeneration(lavida_config(config))
    tensors = {official_name(name): value.clone() for name, value in built.state_dict().items()}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder, built.state_dict()


def test_an_official_folder_loads_bit_for_bit_and_in_bf16_unless_told_otherwise(tmp_path):
    folder, tensors = write(tmp_path / "m")
    host = Lavida.from_folder(folder, torch.float32)
    assert all(torch.equal(value, tensors[name]) for name, value in host.model.state_dict().items())
    assert (host.mask_id, host.banned_ids) == (60, ())
    assert Lavida.from_folder(folder).model.dtype == torch.bfloat16
    assert Lavida.from_folder(folder).decoder.rotary_emb.inv_freq.dtype == torch.float32


def test_load_sees_whose_folder_it_is(tmp_path, host):
    folder, _ = write(tmp_path / "m")
    assert isinstance(load(folder).host, Lavida)
    saved = tmp_path / "saved"
    host.model.save_pretrained(saved)
    host.tokenizer.save_pretrained(saved)
    (saved / "redvtp.json").write_text(json.dumps({"host": "lavida", "system_prompt": host.system_prompt}))
    again = load(saved)
    assert again.host.model.dtype == torch.float32
    assert_all_same(run(again, [Prompt("?", [picture(50, 50)])]), run(Model(host), [Prompt("?", [picture(50, 50)])]))


@pytest.mark.parametrize(
    ("config", "own", "trimmed"),
    [
        ({}, {}, False),
        ({"tie_word_embeddings": True}, {}, False),
        ({"tie_word_embeddings": False}, {}, True),
        ({}, {"trim_vocabulary": True}, True),
        ({"tie_word_embeddings": False}, {"trim_vocabulary": False}, False),
    ],
)
def test_the_head_keeps_the_checkpoints_width_unless_the_config_unties_it(tmp_path, host, config, own, trimmed):
    size = len(host.tokenizer)
    plain = {key: value for key, value in CONFIG.items() if key != "parity_special_tokens"}
    folder, tensors = write(tmp_path / "m", {**plain, "vocab_size": size + 7, **config}, host.tokenizer)
    if own:
        (folder / "redvtp.json").write_text(json.dumps({"host": "lavida", **own}))
    loaded = load(folder, torch.float32).host
    rows = size if trimmed else size + 7
    assert loaded.config.text_config.vocab_size == rows
    assert torch.equal(loaded.model.lm_head.weight, tensors["lm_head.weight"][:rows])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"d_model": None}, "expected LaViDa's settings, d_model are not there"),
        ({"block_type": "sequential"}, "block_type='sequential', but LaViDa is built with 'llama'"),
        ({"include_bias": True}, "include_bias=True, but LaViDa is built with False"),
        ({"embedding_size": 80}, "embedding_size=80, expected vocab_size=65"),
    ],
)
def test_another_networks_config_is_refused(config, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        lavida_config({**CONFIG, **config})
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_the_mask_is_refused(host):
    tokenizer = type("None", (), {"convert_tokens_to_ids": lambda *_: None, "unk_token_id": None})()
    with pytest.raises(CheckpointError, match="no token <|mdm_mask|>, which LaViDa needs"):
        Lavida(host.model, tokenizer)
