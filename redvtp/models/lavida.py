"""LaViDa as a host: OLMo-style names, pooled crops, fp32 rotary embedding, its two vocabulary widths.

Source: official_code §4 (architecture, vision, prompt), checked against its tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor
from transformers import LlavaOnevisionConfig
from transformers.image_processing_utils import select_best_resolution

from redvtp.models.base import State
from redvtp.models.checkpoint import VISION_NAMES, host_name
from redvtp.models.config import (
    BUILT_AS,
    TRUE_VISION,
    image_aspect,
    llava_config,
    read_pinpoints,
    refuse_others,
    require,
)
from redvtp.models.files import CheckpointError
from redvtp.models.lavida_layout import CROP, PINPOINTS, lavida_layout, pooled_side
from redvtp.models.lavida_packing import pack_crops, pool_crops
from redvtp.models.llava import LlavaHost, paired
from redvtp.models.rotary import use_full_precision_rotary
from redvtp.rounding import Rounding
from redvtp.sequence import Layout

# The published shape (official_code §4.1 and §4.2) in the words of its config.json.
TRUE_SHAPE = {
    "d_model": 4096,
    "mlp_hidden_size": 12288,
    "n_layers": 32,
    "n_heads": 32,
    "n_kv_heads": 32,
    "vocab_size": 126464,
    "max_sequence_length": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 5e5,
    "image_aspect_ratio": "anyres",
    "vision_config": TRUE_VISION,
}

# What the published config.json was taken to say (official_code §4.1, §4.2), before anybody here could read it.
INFERRED = {
    "image_aspect_ratio": "anyres",
    "image_grid_pinpoints": tuple((width // CROP, height // CROP) for height, width in PINPOINTS),
    "mm_newline_position": "grid",
    "tie_word_embeddings": True,
}

# What decoder and pooling are built as; a checkpoint that says otherwise is another network.
LAVIDA_BUILT_AS = BUILT_AS | {
    "mm_spatial_pool_mode": "bilinear",
    "mm_spatial_pool_stride": 2,
    "activation_type": "silu",
    "block_type": "llama",
    "layer_norm_type": "rms",
    "rope": True,
    "alibi": False,
    "attention_layer_norm": False,
    "bias_for_layer_norm": False,
    "include_bias": False,
    "include_qkv_bias": False,
    "input_emb_norm": False,
    "scale_logits": False,
    "weight_tying": False,
}

# OLMo's words -> transformers' Llama's.
TEXT_KEYS = {
    "d_model": "hidden_size",
    "mlp_hidden_size": "intermediate_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "vocab_size": "vocab_size",
    "max_sequence_length": "max_position_embeddings",
    "rms_norm_eps": "rms_norm_eps",
}
OUTER_NAMES = (
    *VISION_NAMES,
    ("model.transformer.wte.", "model.language_model.embed_tokens."),
    ("model.transformer.ln_f.", "model.language_model.norm."),
    ("model.transformer.ff_out.", "lm_head."),
)
BLOCK_NAME = re.compile(r"model\.transformer\.blocks\.(\d+)\.(\w+)\.(.+)")
BLOCK_PARTS = {
    "attn_norm": "input_layernorm",
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "attn_out": "self_attn.o_proj",
    "ff_norm": "post_attention_layernorm",
    "ff_proj": "mlp.gate_proj",
    "up_proj": "mlp.up_proj",
    "ff_out": "mlp.down_proj",
}


def lavida_config(official: Mapping) -> LlavaOnevisionConfig:
    """transformers' config from an official ``config.json`` (as a dict).

    Raises:
        CheckpointError: settings that are not there, or that describe another network.
    """
    require(official, ("d_model", "mlp_hidden_size", "n_layers", "n_heads", "vocab_size"), Lavida.title)
    refuse_others(official, LAVIDA_BUILT_AS, Lavida.title)
    rows = official.get("embedding_size") or official["vocab_size"]
    if rows != official["vocab_size"]:
        raise CheckpointError(f"config.json: embedding_size={rows}, expected vocab_size={official['vocab_size']}")
    text = {ours: official[key] for key, ours in TEXT_KEYS.items() if official.get(key) is not None}
    vision = {**TRUE_VISION, **(official.get("vision_config") or {})}
    pinpoints = read_pinpoints(
        official.get("image_grid_pinpoints"), vision["image_size"], INFERRED["image_grid_pinpoints"]
    )
    kind, aspect = image_aspect(official, INFERRED["image_aspect_ratio"])
    if kind == "anyres" and aspect != kind:
        raise CheckpointError(f"config.json: image_aspect_ratio={aspect!r}, but LaViDa is built without a maximum")
    return llava_config(text, official.get("rope_theta", 5e5), vision, pinpoints, "anyres")


def lavida_name(official: str) -> str:
    """The host's name of an official tensor; a name outside the map comes back unchanged.

    Nothing is permuted: both sides rotate the first half of a head against the second.
    """
    block = BLOCK_NAME.fullmatch(official)
    if block is not None and block[2] in BLOCK_PARTS:
        return f"model.language_model.layers.{block[1]}.{BLOCK_PARTS[block[2]]}.{block[3]}"
    return host_name(official, OUTER_NAMES)


class Lavida(LlavaHost):
    """LaViDa (see LlavaHost for the other parameters).

    The end of text is a legal prediction and no text ends a response. The rotary embedding is fp32; published
    weights are bf16.

    The official loader cuts the embedding to the tokenizer's rows and leaves the head at the checkpoint's more, so
    confidences are over all of the checkpoint's rows. Here neither is cut: confidences are the same, and the
    embedding's surplus rows belong to ids that no text has. A checkpoint whose config sets
    ``tie_word_embeddings`` to false is cut on both sides, there and here (official_code §4.1).

    Args:
        blind_prompt: give the model the embedding of token 0 in every column before the response. This is
            what the code of RedVTP-LaViDa does as published, where the lines that insert image and question
            are commented out (official_code §0.2); for comparisons with it only.
    """

    name: ClassVar[str] = "lavida"
    title: ClassVar[str] = "LaViDa"
    true_shape: ClassVar[Mapping] = TRUE_SHAPE
    inferred: ClassVar[Mapping] = INFERRED
    published_dtype: ClassVar[torch.dtype] = torch.bfloat16
    rounding: ClassVar[Rounding] = Rounding(torch.bfloat16, heads_first=False, divides=False)
    translate = staticmethod(lavida_config)
    tensor_name = staticmethod(lavida_name)

    def __init__(self, *args, blind_prompt: bool = False, **options) -> None:
        super().__init__(*args, **options)
        self.blind_prompt = blind_prompt
        use_full_precision_rotary(self.decoder)

    @staticmethod
    def recognises(official: Mapping) -> bool:
        """Whether an official ``config.json`` is LaViDa's: its language model is described in OLMo's words."""
        return official.get("d_model") is not None

    @staticmethod
    def trims_vocabulary(official: Mapping) -> bool:
        """Only where the config says that embedding and head are not tied."""
        return official.get("tie_word_embeddings") is False

    @staticmethod
    def own_specials(official: Mapping) -> dict:
        """The mask's id where a folder without tokenizer names it itself, as recorded test vectors do."""
        ids = official.get("parity_special_tokens")
        return {} if ids is None else {"mask_id": ids["mask"], "banned_ids": ()}

    def _state(self, embeds: list[Tensor], layouts: list[Layout], length: int, suffix: int) -> State:
        state = super()._state(embeds, layouts, length, suffix)
        if not self.blind_prompt:
            return state
        token = self.decoder.embed_tokens(torch.zeros(1, 1, dtype=torch.long, device=self.device))
        return replace(state, embeds=token.expand_as(state.embeds).contiguous())

    def _encode_tiled(self, images: list[Image.Image]) -> list[tuple[Tensor, Layout]]:
        crops = [self.processor(images=[[image]], return_tensors="pt")["pixel_values"][0] for image in images]
        pooled = pool_crops(self.crop_features(torch.cat(crops))).split([len(crop) for crop in crops])
        vision, pinpoints = self.config.vision_config, self.config.image_grid_pinpoints
        side = pooled_side(vision.image_size // vision.patch_size)
        features, layouts = [], []
        for image, crop_features in zip(images, pooled, strict=True):
            _, canvas_width = select_best_resolution((image.height, image.width), pinpoints)
            across = canvas_width // vision.image_size
            features.append(pack_crops(crop_features, across, image.size, self.model.model.image_newline))
            layouts.append(lavida_layout(0, image.width, image.height, pinpoints, vision.image_size, side))
        return paired(images, features, layouts)
