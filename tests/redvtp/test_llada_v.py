"""The LLaDA-V host: visual tokens and their boxes, the published shape, prompts, bad input."""

from __future__ import annotations

import math
import random
import time

import pytest
import torch
from PIL import Image
from transformers import LlamaConfig, LlavaOnevisionForConditionalGeneration
from transformers.image_processing_utils import select_best_resolution

from redvtp import Prompt
from redvtp.models.anyres import anyres_layout
from redvtp.models.checkpoint import host_name
from redvtp.models.llada_v import TRUE_SHAPE, LladaV, host_config
from redvtp.models.prompts import render, tokenize, user_text
from redvtp.sequence import PROMPT, RESPONSE, VISUAL, is_tile
from tests.tiny import CROP, PATCH, SHAPE, build_host, picture

SIDE, CROPS = 27, 384
PINPOINTS = host_config(TRUE_SHAPE).image_grid_pinpoints


def official_count(width: int, height: int) -> int:
    """Visual tokens of the published model (the formula of its code)."""
    best, chosen = (-1, math.inf), None
    for across in range(1, 7):
        for down in range(1, 7):
            canvas_w, canvas_h = CROPS * across, CROPS * down
            scale = min(canvas_w / width, canvas_h / height)
            used = min(int(width * scale) * int(height * scale), width * height)
            waste = canvas_w * canvas_h - used
            if used > best[0] or (used == best[0] and waste < best[1]):
                best, chosen = (used, waste), (across, down)
    full_w, full_h = SIDE * chosen[0], SIDE * chosen[1]
    if width / height > full_w / full_h:
        inner = int(height * (full_w / width))
        map_w, map_h = full_w, full_h - 2 * ((full_h - inner) // 2)
    else:
        inner = int(width * (full_h / height))
        map_w, map_h = full_w - 2 * ((full_w - inner) // 2), full_h
    shrink = math.sqrt(map_w * map_h / (4 * SIDE * SIDE))
    if shrink > 1.1:
        map_w, map_h = int(map_w // shrink), int(map_h // shrink)
    return SIDE * SIDE + map_h * (map_w + 1)


def sizes(count: int, low: int, high: int, seed: int) -> list[tuple[int, int]]:
    draw = random.Random(seed)
    return [(draw.randint(low, high), draw.randint(low, high)) for _ in range(count)]


def true_layout(width: int, height: int):
    return anyres_layout(0, width, height, PINPOINTS, CROPS, SIDE, 4)


def test_column_counts_equal_the_official_formula():
    for width, height in sizes(300, 30, 4000, seed=0):
        assert true_layout(width, height).length == official_count(width, height), (width, height)


@pytest.mark.parametrize(("width", "height"), sizes(15, 5, 200, seed=1) + [(1, 200), (200, 1), (128, 128), (33, 31)])
def test_layouts_match_the_packed_features_of_the_real_model(host, width, height):
    state = host.begin([Prompt("?", [picture(width, height)])], 2)  # raises where the two disagree
    visual = state.layout.columns_of(VISUAL)[0]
    newline = state.embeds[0, visual[state.layout.newline[0, visual]]]
    torch.testing.assert_close(newline, host.model.model.image_newline.expand_as(newline))


@pytest.mark.parametrize(("width", "height"), sizes(12, 30, 3000, seed=2) + [(30, 4000), (4000, 30), (1000, 1000)])
def test_tile_cells_lie_in_the_image_are_disjoint_and_cover_it(width, height):
    layout = true_layout(width, height)
    tile = is_tile(layout)[0]
    box = layout.box[0, tile]
    assert float(box.min()) >= 0
    assert float(box[:, [0, 2]].max()) <= width
    assert float(box[:, [1, 3]].max()) <= height
    area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    # Cells of one map row meet end to end, and so do the rows: equal areas mean no overlap and no hole.
    rows, columns = layout.row[0, tile], layout.column[0, tile]
    across, down = int(columns.max()) + 1, int(rows.max()) + 1
    grid = box.reshape(down, across, 4)
    torch.testing.assert_close(grid[:, :-1, 2], grid[:, 1:, 0])
    torch.testing.assert_close(grid[:-1, :, 3], grid[1:, :, 1])
    # The official code may cut a border of less than one patch of the unshrunk map off each side.
    canvas_h, canvas_w = select_best_resolution((height, width), PINPOINTS)
    border = CROPS / SIDE / min(canvas_w / width, canvas_h / height)
    left, top, right, bottom = grid[0, 0, 0], grid[0, 0, 1], grid[-1, -1, 2], grid[-1, -1, 3]
    assert max(left, top, width - right, height - bottom) < border + 1
    assert float(area.sum()) == pytest.approx(float((right - left) * (bottom - top)))
    centre = layout.box[0, layout.tile[0] == 0]
    assert float(((centre[:, 2] - centre[:, 0]) * (centre[:, 3] - centre[:, 1])).sum()) == pytest.approx(width * height)


def test_newlines_end_every_row_and_belong_to_no_tile():
    layout = true_layout(1000, 700)
    newline = layout.newline[0]
    count = int(layout.row[0, is_tile(layout)[0]].max()) + 1
    assert int(newline.sum()) == count
    assert bool(torch.isnan(layout.box[0, newline]).all())
    assert layout.column[0, newline].unique().numel() == 1


def test_a_bright_spot_moves_the_tokens_that_show_it(host):
    """The box of a token is where its pixels come from: a change outside it does not change its features."""
    dark = Image.new("RGB", (CROP * 2, CROP * 2))
    lit = dark.copy()
    lit.paste((255, 255, 255), (0, 0, PATCH, PATCH))
    pixels = [host.processor(images=[[image]], return_tensors="pt")["pixel_values"][0] for image in (dark, lit)]
    changed = (pixels[0] != pixels[1]).flatten(1).any(1)
    assert changed.tolist() == [True, True, False, False, False]  # the thumbnail and the first tile
    layout = host.begin([Prompt("?", [lit])], 1).layout
    boxes = layout.box[0, is_tile(layout)[0] & (layout.tile[0] == 1)]
    assert boxes[0].tolist() == [0, 0, PATCH, PATCH]
    assert float(boxes[:, 2:].max()) == CROP


def test_several_images_and_pad_mode_have_one_crop_each(host):
    patches = (CROP // PATCH) ** 2
    state = host.begin([Prompt("Which?", [picture(50, 20), picture(20, 60), picture(9, 9)])], 3)
    assert state.original.tolist() == [3 * patches]
    image = state.layout.image[0, state.layout.columns_of(VISUAL)[0]]
    assert image.tolist() == [i for i in range(3) for _ in range(patches)]
    assert not bool(state.layout.newline.any())
    padded = build_host(aspect="pad").begin([Prompt("?", [picture(50, 20)])], 3)
    assert padded.original.tolist() == [patches]
    box = padded.layout.box[0, padded.layout.columns_of(VISUAL)[0]]
    assert float(((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])).sum()) == pytest.approx(50 * 20)


def test_features_do_not_depend_on_the_batch(host, prompts):
    together = host.begin(prompts, 4)
    for i, prompt in enumerate(prompts):
        alone = host.begin([prompt], 4)
        gap = together.layout.length - alone.layout.length
        torch.testing.assert_close(together.embeds[i, gap:], alone.embeds[0], atol=1e-5, rtol=0)
        assert torch.equal(together.positions[i, gap:], alone.positions[0])
        assert int((together.layout.kind[i] == RESPONSE).sum()) == 4


# ---- the published shape -----------------------------------------------------------------------------------


def official_tensors() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published checkpoint (its index and module tree); the post-layernorm is unused there."""
    names = {
        "model.embed_tokens.weight": (126464, 4096),
        "lm_head.weight": (126464, 4096),
        "model.norm.weight": (4096,),
        "model.image_newline": (4096,),
        "model.mm_projector.0.weight": (4096, 1152),
        "model.mm_projector.0.bias": (4096,),
        "model.mm_projector.2.weight": (4096, 4096),
        "model.mm_projector.2.bias": (4096,),
    }
    for i in range(32):
        layer = f"model.layers.{i}."
        names |= {layer + f"self_attn.{p}_proj.weight": (4096, 4096) for p in "qkvo"}
        names |= {layer + f"mlp.{p}_proj.weight": (12288, 4096) for p in ("gate", "up")}
        names[layer + "mlp.down_proj.weight"] = (4096, 12288)
        names |= {layer + f"{p}_layernorm.weight": (4096,) for p in ("input", "post_attention")}
    tower = "model.vision_tower.vision_tower.vision_model."
    names[tower + "embeddings.patch_embedding.weight"] = (1152, 3, 14, 14)
    names[tower + "embeddings.patch_embedding.bias"] = (1152,)
    names[tower + "embeddings.position_embedding.weight"] = (729, 1152)
    for i in range(26):
        layer = tower + f"encoder.layers.{i}."
        for part, shape in (("fc1", (4304, 1152)), ("fc2", (1152, 4304))):
            names |= {layer + f"mlp.{part}.weight": shape, layer + f"mlp.{part}.bias": shape[:1]}
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            names |= {layer + f"self_attn.{part}.weight": (1152, 1152), layer + f"self_attn.{part}.bias": (1152,)}
        names |= {layer + f"layer_norm{n}.{kind}": (1152,) for n in (1, 2) for kind in ("weight", "bias")}
    return names | {tower + f"post_layernorm.{kind}": (1152,) for kind in ("weight", "bias")}


def test_every_official_tensor_has_its_place_in_the_true_shape():
    started = time.monotonic()
    model = LladaV.on_meta()
    assert time.monotonic() - started < 60
    ours = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    official = {host_name(name): shape for name, shape in official_tensors().items()}
    assert set(official) == set(ours)
    assert {name: (official[name], shape) for name, shape in ours.items() if official[name] != shape} == {}
    total = sum(math.prod(shape) for name, shape in official_tensors().items() if "post_layernorm" not in name)
    assert 2 * total == pytest.approx(16.87e9, rel=0.001)
    assert all(value.device.type == "meta" for value in model.state_dict().values())


# ---- prompts and bad input ---------------------------------------------------------------------------------


def test_the_token_behind_a_marker_is_dropped_as_officially_and_kept_on_demand(host):
    text = render("Be brief.", user_text("Why?", 1))
    newline = host.tokenizer("\n", add_special_tokens=False).input_ids
    official, kept = (tokenize(host.tokenizer, text, keep) for keep in (False, True))
    assert len(official) == len(kept) == 2
    assert kept[1] == newline + official[1]
    assert kept[0] == official[0]


def test_markers_stand_where_the_question_puts_them(host):
    state = host.begin([Prompt("a <image> b", [picture(9, 9)])], 2)
    first = int(state.layout.columns_of(VISUAL)[0, 0])
    before = len(host.tokenizer(render(host.system_prompt, "a <image> b").split("<image>")[0]).input_ids)
    assert first == before
    assert int((state.layout.kind[0] == PROMPT).sum()) > before


@pytest.mark.parametrize(("question", "images"), [("<image>", 0), ("<image>", 2), ("<image> <image> ?", 1)])
def test_markers_and_images_must_match(host, question, images):
    with pytest.raises(ValueError, match=f"markers, but {images} images"):
        host.begin([Prompt(question, [picture(9, 9)] * images)], 2)


def test_ids_and_images_must_match(host):
    with pytest.raises(ValueError, match="2 image markers, but 1 images"):
        host.begin_from_ids([1, -200, 2, -200], [picture(9, 9)], 2)


def test_a_range_outside_the_embeddings_is_refused(host):
    with pytest.raises(ValueError, match="visual_start=3, visual_count=9.*5 columns"):
        host.begin_from_embeddings(torch.zeros(1, 5, 32), 2, 3, 9)


def test_hosts_that_cannot_work_are_refused(host):
    with pytest.raises(ValueError, match="aspect='round'"):
        build_host(aspect="round")
    with pytest.raises(ValueError, match="at least one prompt"):
        host.begin([], 2)
    config = host_config({**SHAPE, "vocab_size": 9})
    causal = LlavaOnevisionForConditionalGeneration(config)
    with pytest.raises(ValueError, match="no tokenizer"):
        LladaV(causal).begin([Prompt("?")], 2)
    bare = LladaV(causal, mask_id=1, banned_ids=())
    with pytest.raises(ValueError, match="no tokenizer"):
        bare.begin([Prompt("?")], 2)
    causal.config.text_config = LlamaConfig(hidden_size=32)
    with pytest.raises(ValueError, match="is_causal=False"):
        LladaV(causal, mask_id=1, banned_ids=())
