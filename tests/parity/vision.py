"""Cases of the picture side: pixels, tower, projector, packed tokens; token counts; prompt texts."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import torch
from torch import Tensor
from transformers import LlavaOnevisionModel
from transformers.image_processing_utils import select_best_resolution

from redvtp.images import read_image
from redvtp.models.anyres import anyres_layout
from redvtp.models.lavida import Lavida
from redvtp.models.lavida_layout import lavida_layout
from redvtp.models.lavida_packing import pack_crops, pool_crops
from redvtp.models.llava import LlavaHost
from redvtp.models.prompts import LLADA_V_SYSTEM, render, user_text
from redvtp.sequence import PROMPT, VISUAL
from tests.parity.cases import Case, Hosts
from tests.parity.comparison import Comparison


@torch.no_grad()
def run(case: Case, found: Comparison, hosts: Hosts) -> None:
    """Repeat the way from an image to the embeddings that the language model gets."""
    found.use("weights", "tensors", "image", "images", "images_arg", "input_ids", "visual_embeds_row_stride")
    facts, tensors, host = case.facts, case.tensors, hosts.of(case)
    if "pool" in facts:
        found.use("pool")
    images = [read_image(image) for image in case.images()]
    found.same("image_sizes", [list(image.size) for image in images], facts["image_sizes"])
    padded = facts["image_aspect_ratio"] == "pad"
    aspect = "pad" if padded else host.config.vision_aspect_ratio
    found.same("image_aspect_ratio", aspect, facts["image_aspect_ratio"])
    if padded:
        pixels = torch.cat([host.padded_pixels(image) for image in images])
    else:
        pixels = host.processor(images=[images], return_tensors="pt")["pixel_values"][0]
    digest = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
    found.same("pixel_values_sha256", digest, facts["pixel_values_sha256"])
    found.close("pixel_values_sub16", pixels[:, :, ::16, ::16], tensors["pixel_values_sub16"])
    state = host.begin_from_ids(tensors["input_ids"][0].tolist(), images, length=1)
    embeds = state.embeds[0]
    if padded:
        compare_padded(case, found, embeds, state.layout)
    else:
        compare_tiled(case, found, host, pixels, images[0].size)
        compare_packed(case, found, embeds, state.layout)


def compare_tiled(case: Case, found: Comparison, host: LlavaHost, pixels: Tensor, size: tuple[int, int]) -> None:
    """Tiles, tower and projector."""
    facts, tensors = case.facts, case.tensors
    found.same("n_tiles_incl_base", len(pixels), facts["n_tiles_incl_base"])
    found.same("pixel_values_shape", list(pixels.shape), facts["pixel_values_shape"])
    found.same("grid_w_h", grid(host.config, size), facts["grid_w_h"])
    tower = host.model.model.vision_tower(pixels, output_hidden_states=True, return_dict=True).hidden_states[-1]
    found.close("tower_out_sub29", tower[:, ::29], tensors["tower_out_sub29"])
    projected = host.model.model.multi_modal_projector(tower)
    found.close("projector_out_sub29", projected[:, ::29], tensors["projector_out_sub29"])
    if "pooled_sub13" in tensors:
        found.close("pooled_sub13", pool_crops(projected)[:, ::13], tensors["pooled_sub13"])


def compare_packed(case: Case, found: Comparison, embeds: Tensor, layout) -> None:
    """The visual tokens, their newlines, and the text around them."""
    facts, tensors = case.facts, case.tensors
    columns = layout.columns_of(VISUAL)[0]
    visual = embeds[columns]
    found.same("num_visual_tokens", len(columns), facts["num_visual_tokens"])
    found.close("visual_embeds", visual[:: facts["visual_embeds_row_stride"]], tensors["visual_embeds"])
    found.close("visual_embeds_rowsum", visual.double().sum(1), tensors["visual_embeds_rowsum"])
    if "visual_embeds_sum" in tensors:
        found.close("visual_embeds_sum", visual.double().sum(0), tensors["visual_embeds_sum"])
    found.same("newline_rows", torch.nonzero(layout.newline[0, columns]).flatten(), tensors["newline_rows"])
    found.close("text_embeds", embeds[layout.columns_of(PROMPT)[0]], tensors["text_embeds"])


def compare_padded(case: Case, found: Comparison, embeds: Tensor, layout) -> None:
    """Padded images: every one the same number of tokens."""
    facts, tensors = case.facts, case.tensors
    found.same("total_len", len(embeds), facts["total_len"])
    counts = [int((layout.image[0] == i).sum()) for i in range(len(facts["image_sizes"]))]
    found.same("num_visual_tokens_per_image", counts, [facts["num_visual_tokens_per_image"]] * len(counts))
    found.close("inputs_embeds_sub17", embeds[::17][None], tensors["inputs_embeds_sub17"])
    found.close("inputs_embeds_rowsum", embeds.double().sum(1), tensors["inputs_embeds_rowsum"])


def grid(config, size: tuple[int, int]) -> list[int]:
    """Tiles across and down for an image of (width, height)."""
    height, width = select_best_resolution((size[1], size[0]), config.image_grid_pinpoints)
    crop = config.vision_config.image_size
    return [width // crop, height // crop]


def run_counts(case: Case, found: Comparison, hosts: Hosts) -> None:
    """Visual tokens at the published configuration, from the layout and from the packing of features."""
    found.use("produced_by", "config")
    config = case.host.translate(case.host.true_shape)
    patches = config.vision_config.image_size // config.vision_config.patch_size
    ours, packed, theirs = [], [], []
    for row in case.facts["rows"]:
        size = (row["width"], row["height"])
        across, down = grid(config, size)
        crops = torch.zeros(1 + across * down, patches**2, 1)
        if case.host is Lavida:
            layout = lavida_layout(0, *size)
            packed.append(len(pack_crops(pool_crops(crops), across, size, torch.zeros(1))))
        else:
            layout = anyres_layout(0, *size, config.image_grid_pinpoints, 384, patches, 4)
            packed.append(stock_count(config, crops, size))
        ours.append([across, down, 1 + across * down, layout.length])
        theirs.append([row["grid_w"], row["grid_h"], row["n_tiles_incl_base"], row["num_visual_tokens"]])
    found.same("rows", ours, theirs)
    found.same("rows, features packed", packed, [row[-1] for row in theirs])


def stock_count(config, crops: Tensor, size: tuple[int, int]) -> int:
    """Tokens that transformers packs of one image's crops."""
    packer = SimpleNamespace(config=config)
    _, lengths = LlavaOnevisionModel.pack_image_features(
        packer, [crops], torch.tensor([[size[1], size[0]]]), torch.zeros(1), config.vision_aspect_ratio
    )
    return int(lengths[0])


def run_prompts(case: Case, found: Comparison, hosts: Hosts) -> None:
    """The chat prompt of every user text, with its marker given and with the marker put in by us."""
    found.use("source", "roles")
    rows = case.facts["rows"]
    found.same("rows", [render(LLADA_V_SYSTEM, row["user"]) for row in rows], [row["prompt"] for row in rows])
    bare = [row["user"].removeprefix("<image>\n") for row in rows]
    found.same("rows, marker put in front", [user_text(text, 1) for text in bare], [row["user"] for row in rows])
    if "stop_str" in case.facts:
        found.same("stop_str", "<|eot_id|>", case.facts["stop_str"])
