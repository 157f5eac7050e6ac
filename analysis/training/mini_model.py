"""The mini DVLM: stock transformers classes at a size that trains on a CPU.

LLaVA-OneVision wiring, SigLIP tower, Llama with `is_causal=False` (LLaDA's network, checked equal to
the official file); `designs.py` says what is each host's own. The visual feature is the last hidden
state before post-layernorm, as LLaDA-V's tower without its last layer gives (siglip_encoder.py).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    LlamaConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    SiglipVisionConfig,
)
from transformers.masking_utils import AttentionMaskInterface
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

from analysis.benchmarks.canvas import CELL, CROP
from analysis.training import designs
from analysis.training.designs import PACKED
from analysis.training.tokenizer import IMAGE
from redvtp.models.lavida_packing import pool_crops


def build_model(tokenizer, causal: bool = False, hidden: int = 128, tower_layers: int | None = None,
                layers: int = 6, heads: int = 4, host: str = designs.DEFAULT) -> LlavaOnevisionForConditionalGeneration:
    """A freshly initialised mini model (2.2 M parameters at the default sizes); uses torch's global RNG.

    causal: the autoregressive control, the same network with causal attention. tower_layers: None is the
    host's own number.
    """
    design = designs.get(host)
    vision = SiglipVisionConfig(hidden_size=hidden, intermediate_size=4 * hidden,
                                num_hidden_layers=design.tower_layers if tower_layers is None else tower_layers,
                                num_attention_heads=heads, image_size=CROP, patch_size=design.patch,
                                vision_use_head=False)
    text = LlamaConfig(vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=3 * hidden,
                       num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=heads,
                       max_position_embeddings=2048, rms_norm_eps=1e-5, attention_bias=False, mlp_bias=False,
                       rope_parameters={"rope_type": "default", "rope_theta": 1e4}, tie_word_embeddings=False,
                       is_causal=causal, use_cache=causal, bos_token_id=tokenizer.bos_token_id,
                       eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    image = tokenizer.convert_tokens_to_ids(IMAGE)
    config = LlavaOnevisionConfig(vision_config=vision, text_config=text, image_grid_pinpoints=_canvases(host),
                                  image_token_index=image, video_token_index=image,
                                  vision_aspect_ratio=design.aspect,
                                  vision_feature_layer=-1, vision_feature_select_strategy="full",
                                  projector_hidden_act="gelu", tie_word_embeddings=False)
    model = LlavaOnevisionForConditionalGeneration(config)
    _initialise(model)
    return model


def _canvases(host: str) -> list[list[int]]:
    """A host's canvases as configs hold them."""
    return [list(canvas) for canvas in designs.get(host).canvases]


def build_image_processor(host: str = designs.DEFAULT) -> LlavaOnevisionImageProcessorPil:
    """The matching image processor: 96 px crops, bicubic, mean = std = 0.5, the same canvases."""
    return LlavaOnevisionImageProcessorPil(size={"height": CROP, "width": CROP}, image_mean=[0.5] * 3,
                                           image_std=[0.5] * 3, image_grid_pinpoints=_canvases(host))


OUTPUTS = ("o_proj.weight", "out_proj.weight", "down_proj.weight", "fc2.weight")


@torch.no_grad()
def _initialise(model: nn.Module) -> None:
    """Small embeddings, hidden matrices at 1 / sqrt(inputs), projections into the residual stream at 0.04."""
    for name, weight in model.named_parameters():
        if "patch_embedding.weight" in name:
            nn.init.normal_(weight, std=0.5 * weight[0].numel() ** -0.5)
        elif name.endswith("image_newline") or weight.ndim == 2 and "embed" in name:
            nn.init.normal_(weight, std=0.1)
        elif name.endswith(OUTPUTS) or "lm_head" in name:
            nn.init.normal_(weight, std=0.04)
        elif weight.ndim == 2:
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)


def visual_tokens(model, pixels: Tensor, size: tuple[int, int], frozen: bool = False) -> tuple[Tensor, Tensor]:
    """Tower, projector, pooling where patches are smaller than cells, and packing, for images of one size.

    pixels: float [B, 1 + tiles, 3, 96, 96], thumbnail first; size: (width, height), not rescaled by
    the anyres choice; frozen: no gradient into the tower. Returns (visual tokens
    [B, 144 + Hm * (Wm + 1), D], tower features of the map [B, Hm, Wm, D]). Equal to what the hosts
    make (tested), which pack one image at a time.
    """
    network, batch, side = model.model, pixels.shape[0], CROP // CELL
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        hidden = network.vision_tower.embeddings(pixels.flatten(0, 1))
        for layer in network.vision_tower.encoder.layers:
            hidden = layer(hidden, None)
    features = network.multi_modal_projector(hidden)
    if model.config.vision_config.patch_size < CELL:
        hidden, features = pool_crops(hidden), pool_crops(features)

    def as_map(x: Tensor) -> Tensor:
        wide, high = -(-size[0] // CROP), -(-size[1] // CROP)
        x = x.view(batch, 1 + wide * high, side * side, -1)[:, 1:]
        x = x.reshape(batch, high, wide, side, side, -1).transpose(2, 3).reshape(batch, high * side, wide * side, -1)
        top, left = (high * side - size[1] // CELL) // 2, (wide * side - size[0] // CELL) // 2
        return x[:, top:top + size[1] // CELL, left:left + size[0] // CELL]

    base = features.view(batch, -1, side * side, features.shape[-1])[:, 0]
    grid = as_map(features)
    newline = network.image_newline.to(grid.dtype).expand(batch, grid.shape[1], 1, -1)
    packed = torch.cat((base, torch.cat((grid, newline), 2).flatten(1, 2)), 1)
    return packed, as_map(hidden)


def _softmax(logits: Tensor, like: Tensor) -> Tensor:
    return logits.softmax(-1, dtype=torch.float32).to(like.dtype)


def _below(length: int, like: Tensor) -> Tensor:
    """[length, length] 0 up to the diagonal, -inf above it."""
    return torch.full((length, length), float("-inf"), dtype=like.dtype, device=like.device).triu(1)


def _apart(prompt: int, length: int, like: Tensor) -> Tensor:
    """[length, length] -inf where one of the first `prompt` rows looks at a column behind them, else 0."""
    mask = torch.zeros((length, length), dtype=like.dtype, device=like.device)
    mask[:prompt, prompt:] = float("-inf")
    return mask


def training_attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, shared: int = 0,
                       questions: int = 0, bias: Tensor | None = None, packed: bool = False, causal: bool = False,
                       blind: bool = False, prefix: int = 0, **unused):
    """softmax(QK)V. Shapes [B, heads, T, head dim]; returns ([B, T, heads, head dim], None).

    The first `shared` tokens are prompt head and image, the rest are `questions` questions of equal
    length, whose left fill is hidden by bias, float [B, questions, length], 0 or far below. packed: the shared
    tokens see each other only, and each question sees them (unless blind) and itself; else
    all see all. causal: no token sees later ones. prefix: as many first tokens of each question belong to
    the prompt, none of which sees a response (0: all do).
    """
    query = query * scaling
    if not questions or not packed:
        logits = torch.matmul(query, key.transpose(-1, -2))
        if causal:
            logits = logits + _below(logits.shape[-1], logits)
        if prefix:
            logits = logits + _apart(shared + prefix, logits.shape[-1], logits)
        if bias is not None:
            logits = torch.cat((logits[..., :shared], logits[..., shared:] + bias.flatten(1)[:, None, None]), -1)
        return torch.matmul(_softmax(logits, value), value).transpose(1, 2), None
    length = (query.shape[2] - shared) // questions
    head_q, tail_q = query[:, :, :shared], query[:, :, shared:]
    head_k, tail_k = key[:, :, :shared], key[:, :, shared:]
    head_v, tail_v = value[:, :, :shared], value[:, :, shared:]
    logits = torch.matmul(head_q, head_k.transpose(-1, -2))
    if causal:
        logits = logits + _below(shared, logits)
    head = torch.matmul(_softmax(logits, value), head_v)

    def split(x: Tensor) -> Tensor:
        return x.unflatten(2, (questions, length))

    near = torch.matmul(split(tail_q), split(tail_k).transpose(-1, -2))
    if causal:
        near = near + _below(length, near)
    if prefix:
        near = near + _apart(prefix, length, near)
    near = near + bias.to(near.dtype)[:, None, :, None]
    if blind:
        tail = torch.matmul(_softmax(near, value), split(tail_v)).flatten(2, 3)
        return torch.cat((head, tail), 2).transpose(1, 2), None
    far = split(torch.matmul(tail_q, head_k.transpose(-1, -2)))
    weights = _softmax(torch.cat((far, near), -1), value)
    tail = (torch.matmul(weights[..., :shared].flatten(2, 3), head_v)
            + torch.matmul(weights[..., shared:], split(tail_v)).flatten(2, 3))
    return torch.cat((head, tail), 2).transpose(1, 2), None


AttentionInterface.register(PACKED, training_attention)
AttentionMaskInterface.register(PACKED, lambda *args, **kwargs: None)
