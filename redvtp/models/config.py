"""The stock LLaVA-OneVision configuration and image processor that LLaDA-V and LaViDa are built from.

Source: official_code §2.3, §2.4 and §4.2.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import LlamaConfig, LlavaOnevisionConfig, SiglipVisionConfig
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

from redvtp.models.files import CheckpointError

# SigLIP-so400m at 384 pixels without its last layer (official_code §2.3); both hosts use it.
TRUE_VISION = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers_used": 26,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}


# How images reach the language model; a checkpoint that says otherwise is another network.
BUILT_AS = {
    "mm_patch_merge_type": "spatial_unpad",
    "mm_projector_type": "mlp2x_gelu",
    "mm_resampler_type": None,
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
}
ANYRES = re.compile(r"anyres(_max_\d+)?")
GRID = re.compile(r"\((\d+)x(\d+)\)")


def refuse_others(official: Mapping, built: Mapping[str, Any], title: str) -> None:
    """Refuse an official config that describes another network than the one that is built.

    Raises:
        CheckpointError: names the first such setting.
    """
    for key, value in built.items():
        if official.get(key, value) != value:
            raise CheckpointError(f"config.json: {key}={official[key]!r}, but {title} is built with {value!r}")


def image_aspect(official: Mapping, inferred: str) -> tuple[str, str]:
    """What becomes of a single image, "anyres", "pad" or "square", and the official ``image_aspect_ratio``.

    Raises:
        CheckpointError: a setting that is none of the official code's for these models.
    """
    given = official.get("image_aspect_ratio", inferred)
    given = "square" if given is None else given
    if not isinstance(given, str) or not (given in ("pad", "square") or ANYRES.fullmatch(given)):
        raise CheckpointError(
            f"config.json: image_aspect_ratio={given!r}: expected anyres, anyres_max_N, pad or square"
        )
    return ("anyres" if given.startswith("anyres") else given), given


def read_pinpoints(given: Any, crop: int, inferred: Sequence[Sequence[int]]) -> list[list[int]]:
    """Candidate canvases (width, height) in pixels: a list, or a text of one, or a text "(1x1),...,(6x6)" in crops.

    Args:
        given: the official ``image_grid_pinpoints``.
        crop: side of a crop in pixels.
        inferred: canvases where the config names none, in crops.

    Raises:
        CheckpointError: none of these, or canvases that are no whole number of crops.
    """
    if given is None:
        return [[crop * wide, crop * high] for wide, high in inferred]
    canvases = given
    if isinstance(given, str):
        grid = [(int(wide), int(high)) for wide, high in GRID.findall(given)]
        if grid:
            (left, low), (right, top) = grid[0], grid[-1]
            return [[crop * i, crop * j] for i in range(left, right + 1) for j in range(low, top + 1)]
        try:
            canvases = ast.literal_eval(given)
        except (ValueError, SyntaxError):
            canvases = None
    whole = isinstance(canvases, (list, tuple)) and all(
        isinstance(one, (list, tuple)) and len(one) == 2 and all(isinstance(n, int) and n > 0 for n in one)
        for one in canvases
    )  # fmt: skip
    if not whole or not canvases or any(side % crop for one in canvases for side in one):
        raise CheckpointError(
            f"config.json: image_grid_pinpoints={given!r:.80}: expected canvases [width, height] in pixels, "
            f"multiples of {crop}"
        )
    return [list(one) for one in canvases]


def llava_config(
    text: Mapping, rope_theta: float, vision: Mapping, pinpoints: Sequence[Sequence[int]], aspect: str
) -> LlavaOnevisionConfig:
    """transformers' config of a Llama that looks both ways behind a SigLIP tower.

    Args:
        text: of the Llama, in transformers' words.
        vision: of the tower; ``num_hidden_layers_used`` counts the layers up to the feature.
        pinpoints: candidate canvases (width, height) in pixels, as official configs have them; transformers'
            are (height, width).
        aspect: official ``image_aspect_ratio``.
    """
    return LlavaOnevisionConfig(
        text_config=LlamaConfig(
            **text,
            is_causal=False,
            tie_word_embeddings=False,
            rope_parameters={"rope_type": "default", "rope_theta": float(rope_theta)},
            bos_token_id=None,
            eos_token_id=None,
        ),
        vision_config=SiglipVisionConfig(
            hidden_size=vision["hidden_size"],
            intermediate_size=vision["intermediate_size"],
            num_hidden_layers=vision["num_hidden_layers_used"],
            num_attention_heads=vision["num_attention_heads"],
            image_size=vision["image_size"],
            patch_size=vision["patch_size"],
            hidden_act=vision["hidden_act"],
            layer_norm_eps=vision["layer_norm_eps"],
            vision_use_head=False,
        ),
        image_grid_pinpoints=[[height, width] for width, height in pinpoints],
        vision_aspect_ratio=aspect,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        projector_hidden_act="gelu",
        tie_word_embeddings=False,
    )


def require(official: Mapping, needed: Sequence[str], title: str) -> None:
    """Refuse an official config that lacks settings.

    Raises:
        CheckpointError: names the model and the settings.
    """
    lacking = [key for key in needed if official.get(key) is None]
    if lacking:
        raise CheckpointError(f"config.json: expected {title}'s settings, {', '.join(lacking)} are not there")


def image_processor(config: LlavaOnevisionConfig) -> LlavaOnevisionImageProcessorPil:
    """The pixel pipeline of official_code §2.3: bicubic, 1/255, mean and deviation 0.5."""
    crop = config.vision_config.image_size
    return LlavaOnevisionImageProcessorPil(
        size={"height": crop, "width": crop},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        image_grid_pinpoints=config.image_grid_pinpoints,
    )
