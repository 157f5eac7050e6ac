"""Tiny models for tests: built from a config with random weights and a tokenizer made in code; nothing is loaded."""

from __future__ import annotations

import string

import numpy as np
import torch
from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlavaOnevisionForConditionalGeneration, PreTrainedTokenizerFast

from redvtp.models.lavida import Lavida, lavida_config
from redvtp.models.llada_v import LladaV, host_config
from redvtp.models.llava import LlavaHost

SPECIAL = (
    "<|endoftext|>", "<|startoftext|>", "<|mdm_mask|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
)  # fmt: skip
CROP, PATCH = 32, 16
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "rms_norm_eps": 1e-5,
    "rope_theta": 30.0,
    "image_aspect_ratio": "anyres_max_4",
    "image_grid_pinpoints": [[CROP * i, CROP * j] for i in range(1, 5) for j in range(1, 5)],
    "vision_config": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers_used": 2,
        "num_attention_heads": 2,
        "image_size": CROP,
        "patch_size": PATCH,
    },
}
LAVIDA_CROP = 3 * PATCH  # 3 x 3 patches, pooled to 2 x 2
LAVIDA_SHAPE = {
    "d_model": 32,
    "mlp_hidden_size": 48,
    "n_layers": 3,
    "n_heads": 4,
    "n_kv_heads": 4,
    "rms_norm_eps": 1e-5,
    "rope_theta": 30.0,
    "image_aspect_ratio": "anyres",
    "image_grid_pinpoints": [[LAVIDA_CROP * i, LAVIDA_CROP * j] for i, j in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))],
    "vision_config": {**SHAPE["vision_config"], "image_size": LAVIDA_CROP},
}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, and LLaDA's special tokens."""
    characters = string.ascii_letters + string.digits + " \n.,?!:/<>|_"
    vocabulary = {character: i for i, character in enumerate(characters)}
    inner = Tokenizer(models.WordLevel({**vocabulary, "~": len(vocabulary)}, unk_token="~"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="~", bos_token="<|startoftext|>", eos_token="<|endoftext|>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    return tokenizer


def randomise(model: torch.nn.Module, seed: int, gain: float) -> None:
    """Normal weights by name order; queries and keys are large, so that attention is peaky."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in sorted(model.named_parameters()):
            if value.dim() < 2:
                scale = 0.0 if name.endswith("bias") else 1.0
                value.fill_(scale) if "newline" not in name else value.normal_(generator=generator)
                continue
            large = gain if any(part in name for part in ("q_proj", "k_proj", "lm_head")) else 1.0
            deviation = 1.0 if "embed" in name else large / value[0].numel() ** 0.5
            value.normal_(0, deviation, generator=generator)


def build_host(kv_heads: int = 2, seed: int = 0, gain: float = 3.0, **options) -> LladaV:
    """A whole tiny LLaDA-V: tower, projector, language model, tokenizer."""
    tokenizer = build_tokenizer()
    config = host_config({**SHAPE, "num_key_value_heads": kv_heads, "vocab_size": len(tokenizer)})
    return _build(LladaV, config, tokenizer, seed, gain, options)


def build_lavida(seed: int = 2, gain: float = 3.0, dtype: torch.dtype = torch.float32, **options) -> Lavida:
    """The same for LaViDa."""
    tokenizer = build_tokenizer()
    config = lavida_config({**LAVIDA_SHAPE, "vocab_size": len(tokenizer)})
    return _build(Lavida, config, tokenizer, seed, gain, options, dtype)


def _build(
    kind: type[LlavaHost], config, tokenizer, seed: int, gain: float, options: dict, dtype: torch.dtype = torch.float32
) -> LlavaHost:
    model = LlavaOnevisionForConditionalGeneration(config)
    randomise(model, seed, gain)
    with torch.no_grad():  # small, so that what a masked row attends to decides its token
        model.model.language_model.embed_tokens.weight[tokenizer.convert_tokens_to_ids("<|mdm_mask|>")] *= 0.1
    return kind(model.to(dtype), tokenizer, **{"system_prompt": "Be brief.", **options})


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Coloured noise in blocks."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (max(1, height // 8), max(1, width // 8), 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST)
