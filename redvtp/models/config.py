"""The stock LLaVA-OneVision configuration and image processor that LLaDA-V and LaViDa are built from.

Source: official_code §2.3, §2.4 and §4.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transformers import LlamaConfig, LlavaOnevisionConfig, SiglipVisionConfig
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

from redvtp.models.checkpoint import CheckpointError

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
