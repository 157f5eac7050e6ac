"""What one answer of a diffusion VLM is made of, in FLOPs, twice: by formula, and counted by torch.

`Formula` writes the products out. `Counted` runs transformers' own modules at their true shape on the meta
device, where a forward has no values and costs nothing, under torch's flop counter; the two share no arithmetic.
A multiply-add is two FLOPs.

Both hold matrix products and convolutions only. What neither counts: norms, softmax, rotary embedding,
activations, residual sums, embedding look-ups, LaViDa's pooling, the sampler.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

from redvtp.attention import ATTENTION_NAME, attention_mass
from redvtp.flops import LanguageFormula
from redvtp.models.decoder import tail_of_layer
from redvtp.plans import Parts


class Pieces(Parts, Protocol):
    """FLOPs of each part, for one sample: the language model's, and those of vision."""

    layers: int

    def tower(self, crops: int) -> int:
        """The vision tower on so many crops."""

    def projector(self, crops: int) -> int:
        """The projector on all patches of so many crops."""


class Formula(LanguageFormula):
    """The products written out: those of the language model as the package counts each run."""

    def __init__(self, config: LlavaOnevisionConfig) -> None:
        super().__init__(config.text_config)
        self.text, self.vision = config.text_config, config.vision_config
        self.layers = self.text.num_hidden_layers
        self.patches = (self.vision.image_size // self.vision.patch_size) ** 2

    def tower(self, crops: int) -> int:
        """Patch embedding, then layers of four d x d projections, two attention products and two MLP ones."""
        n, d, m = self.patches, self.vision.hidden_size, self.vision.intermediate_size
        embedding = 2 * n * d * self.vision.num_channels * self.vision.patch_size**2
        layer = 2 * n * (4 * d * d + 2 * d * m) + 4 * n * n * d
        return crops * (embedding + self.vision.num_hidden_layers * layer)

    def projector(self, crops: int) -> int:
        """Two linear layers."""
        d = self.text.hidden_size
        return 2 * crops * self.patches * (self.vision.hidden_size * d + d * d)


class Counted:
    """transformers' modules on the meta device, under torch's flop counter."""

    def __init__(self, config: LlavaOnevisionConfig) -> None:
        with torch.device("meta"):
            model = LlavaOnevisionForConditionalGeneration(config)
        model.set_attn_implementation({"text_config": ATTENTION_NAME})
        self.config, self.model = config, model
        self.decoder = model.model.language_model
        self.layers = len(self.decoder.layers)
        # The same parts come back in many runs.
        for name in ("tower", "projector", "layer", "head", "scoring"):
            setattr(self, name, functools.cache(getattr(self, name)))

    def tower(self, crops: int) -> int:
        """A forward of the tower on blank pixels."""
        side = self.config.vision_config.image_size
        return counted(lambda: self.model.model.vision_tower(blank(crops, 3, side, side)))

    def projector(self, crops: int) -> int:
        """A forward of the projector."""
        vision = self.config.vision_config
        features = blank(crops, (vision.image_size // vision.patch_size) ** 2, vision.hidden_size)
        return counted(lambda: self.model.model.multi_modal_projector(features))

    def layer(self, length: int, tail: int | None = None) -> int:
        """A forward of a decoder layer; with ``tail``, of the last one as the package runs it."""
        hidden = self.hidden(length)
        rotary = self.decoder.rotary_emb(hidden, position_ids=torch.empty(1, length, dtype=torch.long, device="meta"))
        if tail is not None:
            return counted(lambda: tail_of_layer(self.decoder.layers[-1], hidden, tail, None, rotary, None))
        layer = self.decoder.layers[0]
        return counted(lambda: layer(hidden, attention_mask=None, position_embeddings=rotary, is_causal=False))

    def head(self, rows: int) -> int:
        """A forward of the output head."""
        return counted(lambda: self.model.lm_head(self.hidden(rows)))

    def scoring(self, rows: int, length: int) -> int:
        """What the package's probe computes in a layer."""
        text = self.config.text_config
        query = blank(1, text.num_attention_heads, length, text.hidden_size // text.num_attention_heads)
        key = blank(1, text.num_key_value_heads, length, query.shape[-1])
        index = torch.empty(1, rows, dtype=torch.long, device="meta")
        return counted(lambda: attention_mass(query, key, None, 1.0, index, index))

    def hidden(self, length: int) -> Tensor:
        """``[1, length, D]`` states without values."""
        return blank(1, length, self.config.text_config.hidden_size)


def blank(*shape: int) -> Tensor:
    """A tensor without values."""
    return torch.empty(*shape, device="meta")


def counted(forward: Callable[[], object]) -> int:
    """FLOPs of what ``forward`` does, by torch's own counter."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        forward()
    return counter.get_total_flops()
