"""LLaDA-V as a host: its names, its any-resolution packing, its banned tokens and its stop text.

Source: official_code §2 (architecture, any-resolution tiling, prompt), checked against its tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor
from transformers import LlavaOnevisionConfig

from redvtp.models.anyres import config_layout
from redvtp.models.checkpoint import host_name
from redvtp.models.config import (
    BUILT_AS,
    TRUE_VISION,
    image_aspect,
    llava_config,
    read_pinpoints,
    refuse_others,
    require,
)
from redvtp.models.llava import LlavaHost, paired
from redvtp.models.prompts import END_OF_TURN
from redvtp.rounding import Rounding
from redvtp.sequence import Layout

# Never predicted by the official sampler; <|eot_id|> and the mask itself are (official_code §3).
BANNED_TOKENS = ("<|endoftext|>", "<|startoftext|>", "<|start_header_id|>", "<|end_header_id|>")

# The published shape (official_code §2.1 and §2.3); vocabulary as in the checkpoint, before the trim.
TRUE_SHAPE = {
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 126464,
    "max_position_embeddings": 16384,
    "rms_norm_eps": 1e-5,
    "rope_theta": 5e5,
    "tie_word_embeddings": False,
    "image_aspect_ratio": "anyres_max_4",
    "vision_config": TRUE_VISION,
}


CANVASES = tuple((wide, high) for wide in range(1, 7) for high in range(1, 7))
"""(width, height) in crops, in the official order."""

# What the published config.json was taken to say (official_code §2.1, §2.4), before anybody here could read it.
INFERRED = {
    "image_aspect_ratio": "anyres_max_4",
    "image_grid_pinpoints": CANVASES,
    "mm_newline_position": "grid",
    "tie_word_embeddings": False,
}


def host_config(official: Mapping) -> LlavaOnevisionConfig:
    """transformers' config from an official ``config.json`` (as a dict).

    Grid candidates default to all of 1x1 .. 6x6 crops, width outermost. Without a maximum ("anyres") no map is shrunk.

    Raises:
        CheckpointError: settings that are not there, or that describe another network.
    """
    vision = {**TRUE_VISION, **(official.get("vision_config") or {})}
    crop = vision["image_size"]
    pinpoints = read_pinpoints(official.get("image_grid_pinpoints"), crop, CANVASES)
    text_keys = (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "vocab_size", "max_position_embeddings", "rms_norm_eps", "hidden_act", "attention_bias",
    )  # fmt: skip
    needed = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    require(official, needed, LladaV.title)
    refuse_others(official, BUILT_AS, LladaV.title)
    text = {key: official[key] for key in text_keys if official.get(key) is not None}
    kind, aspect = image_aspect(official, INFERRED["image_aspect_ratio"])
    if kind != "anyres":
        aspect = INFERRED["image_aspect_ratio"]  # no image is tiled then
    elif aspect == "anyres":
        aspect = f"anyres_max_{max(wide * high for wide, high in pinpoints) // crop**2}"
    return llava_config(text, official.get("rope_theta", 5e5), vision, pinpoints, aspect)


class LladaV(LlavaHost):
    """LLaDA-V (see LlavaHost for the parameters).

    Its loader cuts embedding and head to the tokenizer's rows (official_code §2.1); the official evaluation ends
    every response at ``<|eot_id|>`` (§3.3).
    """

    name: ClassVar[str] = "llada_v"
    title: ClassVar[str] = "LLaDA-V"
    stop: ClassVar[tuple[str, ...]] = (END_OF_TURN,)
    banned_tokens: ClassVar[tuple[str, ...]] = BANNED_TOKENS
    true_shape: ClassVar[Mapping] = TRUE_SHAPE
    inferred: ClassVar[Mapping] = INFERRED
    published_dtype: ClassVar[torch.dtype] = torch.float16
    rounding: ClassVar[Rounding] = Rounding(torch.float16, heads_first=True, divides=True)
    translate = staticmethod(host_config)
    tensor_name = staticmethod(host_name)

    @staticmethod
    def trims_vocabulary(official: Mapping) -> bool:
        """Always."""
        return True

    @staticmethod
    def ties_head(official: Mapping) -> bool:
        """Where the config says so; the published head was inferred to be its own."""
        return official.get("tie_word_embeddings") is True

    @staticmethod
    def own_specials(official: Mapping) -> dict:
        """Mask and banned ids where a folder without tokenizer names them itself, as recorded test vectors do."""
        ids = official.get("parity_special_tokens")
        if ids is None:
            return {}
        banned = tuple(ids[key] for key in ("eos", "bos", "start_header", "end_header"))
        return {"mask_id": ids["mask"], "banned_ids": banned}

    def _encode_tiled(self, images: list[Image.Image]) -> list[tuple[Tensor, Layout]]:
        batch = self.processor(images=[[image] for image in images], return_tensors="pt")
        features = self.model.model.get_image_features(
            batch["pixel_values"].to(self.device, self.model.dtype), batch["image_sizes"], return_dict=True
        ).pooler_output
        layouts = [config_layout(self.config, image.width, image.height) for image in images]
        return paired(images, features, layouts)
