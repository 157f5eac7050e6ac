"""A decoder with one product for queries, keys and values, one for gate and up projection, one kernel for each norm.

At the 8B shapes a product of 4096 columns fills a GPU only in part; three side by side fill it better. What comes out
differs from the stock layers by rounding: products of another width may be summed in another order, and the norm is
rounded once where the stock one rounds before and after its weight.
"""

from __future__ import annotations

import copy
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaModel
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaMLP, LlamaRMSNorm, apply_rotary_pos_emb

from redvtp.attention import probed_sdpa
from redvtp.models.linear import OneDnnLinear, onednn_linear


class Joined(nn.Module):
    """A module some of whose linear layers share one weight.

    Each layer's own weight is a view of its rows, so that names, ``state_dict`` and ``load_state_dict`` are the stock
    module's and memory is not doubled.
    """

    joined: ClassVar[tuple[str, ...]]

    @classmethod
    def like(cls, stock: nn.Module, *args) -> Self:
        """The same module on the same layers; ``args`` are the stock class's."""
        with torch.device("meta"):
            made = cls(*args)
        for name, child in stock.named_children():
            setattr(made, name, child)
        made.join()
        return made.train(stock.training)

    def join(self) -> None:
        """Lay the layers' weights, and biases, one behind the other, and let each be a view."""
        layers = [getattr(self, name) for name in self.joined]
        self.rows = [layer.out_features for layer in layers]
        self.weight = torch.cat([layer.weight.detach() for layer in layers])
        self.bias = None if layers[0].bias is None else torch.cat([layer.bias.detach() for layer in layers])
        for name, whole in (("weight", self.weight), ("bias", self.bias)):
            for layer, part in zip(layers, () if whole is None else whole.split(self.rows)):
                setattr(layer, name, nn.Parameter(part, requires_grad=False))

    def _apply(self, fn, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # moves or casts each layer's weight by itself
        self.join()
        return self

    def __deepcopy__(self, memo: dict) -> Self:
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__dict__ = copy.deepcopy(self.__dict__, memo)
        made.join()  # a copied parameter has a storage of its own
        return made

    def product(self, hidden: Tensor, first: int = 0) -> tuple[Tensor, ...]:
        """What the joined layers from number ``first`` on make of ``hidden``."""
        skipped = sum(self.rows[:first])
        linear = onednn_linear if isinstance(getattr(self, self.joined[0]), OneDnnLinear) else F.linear
        bias = None if self.bias is None else self.bias[skipped:]
        return linear(hidden, self.weight[skipped:], bias).split(self.rows[first:], -1)


class FusedAttention(Joined, LlamaAttention):
    """Llama's attention with one product for queries, keys and values."""

    joined = ("q_proj", "k_proj", "v_proj")

    def heads(self, hidden: Tensor, first: int = 0) -> tuple[Tensor, ...]:
        """``[B, H, T, d]`` queries, keys and values of ``hidden [B, T, D]``, without rotary embedding, from number
        ``first`` on."""
        shape = (*hidden.shape[:-1], -1, self.head_dim)
        return tuple(part.view(shape).transpose(1, 2) for part in self.product(hidden, first))

    def forward(
        self, hidden_states: Tensor, position_embeddings, attention_mask=None, past_key_values=None, **kwargs
    ) -> tuple[Tensor, None]:
        """As in LlamaAttention; where a cache rotates by itself (``rotary``), nothing is rotated here."""
        query, key, value = self.heads(hidden_states)
        if kwargs.get("rotary") is None:
            query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        output, _ = probed_sdpa(self, query, key, value, attention_mask, dropout=0.0, scaling=self.scaling, **kwargs)
        return self.o_proj(output.flatten(2)), None


class FusedMLP(Joined, LlamaMLP):
    """Llama's MLP with one product for gate and up projection."""

    joined = ("gate_proj", "up_proj")

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D] -> [..., D]``."""
        gate, up = self.product(x)
        return self.down_proj(self.act_fn(gate) * up)


class FusedNorm(LlamaRMSNorm):
    """Llama's norm through torch's own kernel."""

    @classmethod
    def like(cls, stock: LlamaRMSNorm) -> FusedNorm:
        """The same norm on the same weight."""
        made = cls(len(stock.weight), stock.variance_epsilon)
        made.weight = stock.weight
        return made.train(stock.training)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """``[..., D] -> [..., D]``."""
        return F.rms_norm(hidden_states, self.weight.shape, self.weight, self.variance_epsilon)


def fuse(decoder: LlamaModel) -> None:
    """Put these modules in the place of the decoder's stock ones."""
    for layer in decoder.layers:
        layer.self_attn = FusedAttention.like(layer.self_attn, decoder.config, layer.self_attn.layer_idx)
        layer.mlp = FusedMLP.like(layer.mlp, decoder.config)
        layer.input_layernorm = FusedNorm.like(layer.input_layernorm)
        layer.post_attention_layernorm = FusedNorm.like(layer.post_attention_layernorm)
    decoder.norm = FusedNorm.like(decoder.norm)
