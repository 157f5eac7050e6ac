"""A seeded LLaDA-V of any shape with random weights and one noise prompt: what speed and memory are taken on.

Time and memory do not depend on the values of weights; equality of tokens does, so that the attention is
made peaky and the logits wide enough for clear choices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LlavaOnevisionForConditionalGeneration

from redvtp.generation import Settings
from redvtp.models.base import State
from redvtp.models.llada_v import LladaV, host_config
from redvtp.selection import as_budget

# The tower is never run here; this one costs nothing.
TINY_TOWER = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers_used": 1,
    "num_attention_heads": 1,
    "image_size": 28,
    "patch_size": 14,
}
LOGIT_DEVIATION = 3.0
DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Case:
    """Shape of the model and of the run.

    Attributes:
        hidden, layers, heads, mlp, vocabulary: of the language model.
        visual, prompt, response: tokens; half of the prompt stands before the visual ones.
        steps: denoising steps.
        keep: share of the visual tokens that are kept.
        gain: standard deviation of the attention scores before the softmax; about 1 is flat, 3 is peaky.
        seed: of weights and inputs.
        dtype: of the model.

    Raises:
        ValueError: a value out of range, or shapes that do not fit.
    """

    hidden: int = 512
    layers: int = 8
    heads: int = 8
    mlp: int = 1536
    vocabulary: int = 126464
    visual: int = 2000
    prompt: int = 80
    response: int = 32
    steps: int = 4
    keep: float = 0.5
    gain: float = 3.0
    seed: int = 0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "heads", "mlp", "visual", "prompt", "response", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected 1 or more")
        if self.hidden % self.heads or self.hidden // self.heads % 2:
            raise ValueError(f"hidden={self.hidden}, heads={self.heads}: expected heads of one even width")
        if self.vocabulary < 16:
            raise ValueError(f"vocabulary={self.vocabulary}: expected 16 or more")
        if self.steps > self.response:
            raise ValueError(f"steps={self.steps}: expected at most one a response token, {self.response}")
        if not (math.isfinite(self.gain) and self.gain > 0):
            raise ValueError(f"gain={self.gain}: expected a number above 0")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed={self.seed}: expected 0 or more")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype={self.dtype!r}: expected one of {', '.join(DTYPES)}")
        as_budget(float(self.keep))

    @property
    def settings(self) -> Settings:
        """Of the denoising loop: greedy, one block, no stop."""
        return Settings(length=self.response, steps=self.steps)

    @property
    def official(self) -> dict:
        """The official ``config.json`` of this shape."""
        return {
            "hidden_size": self.hidden,
            "intermediate_size": self.mlp,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 16384,
            "rms_norm_eps": 1e-5,
            "rope_theta": 5e5,
            "vision_config": TINY_TOWER,
        }


def build(case: Case, device: str = "cpu", stock: bool = False) -> tuple[LladaV, State]:
    """The model and its encoded prompt; equal in every process for equal cases and torch versions.

    Args:
        stock: leave torch's own linear layers, as the official code has them.
    """
    generator = torch.Generator().manual_seed(case.seed)
    model = LlavaOnevisionForConditionalGeneration(host_config(case.official))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "language_model" in name or "lm_head" in name:
                fill(name, weight, case.gain, generator)
    embeds = torch.randn(1, case.prompt + case.visual, case.hidden, generator=generator)
    last = case.vocabulary - 1
    host = LladaV(
        model.to(device=device, dtype=getattr(torch, case.dtype)),
        mask_id=last,
        banned_ids=(last - 1, last - 2, last - 3, last - 4),
        onednn=not stock,
    )
    embeds = embeds.to(device=device, dtype=host.model.dtype)
    return host, host.begin_from_embeddings(embeds, case.response, case.prompt // 2, case.visual)


def fill(name: str, weight: Tensor, gain: float, generator: torch.Generator) -> None:
    """Random values in place: each product keeps the scale of what goes in, but for the three named gains."""
    if weight.dim() == 1:
        weight.fill_(1.0)
        return
    scale = weight.shape[1] ** -0.5
    if "q_proj" in name or "k_proj" in name:
        scale *= gain**0.5
    if "lm_head" in name:
        scale *= LOGIT_DEVIATION
    if "embed_tokens" in name:
        scale = 1.0
    weight.normal_(0.0, scale, generator=generator)
