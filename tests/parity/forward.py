"""Cases of one forward: logits, hidden states of every layer, attention maps of every head."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor
from transformers import LlamaModel

from redvtp.attention import AttentionProbe
from redvtp.models.decoder import run_layers
from redvtp.models.llava import LlavaHost
from redvtp.sequence import PADDING, PROMPT, plain_layout
from tests.parity.cases import Case, Hosts
from tests.parity.comparison import Comparison


@torch.no_grad()
def run(case: Case, found: Comparison, hosts: Hosts) -> None:
    """Repeat the forward; padded rows are compared like the others."""
    found.use("weights", "source", "api", "tensors", "input_ids", "inputs_embeds", "attention_mask")
    tensors, host = case.tensors, hosts.of(case)
    for name in ("max_abs_logit_diff_sdpa_vs_eager", "max_abs_logit_diff_plain_vs_attn_path"):
        if name in case.facts:
            found.leave(name, "a difference between two kernels of the official code")
    if "position_ids" in case.facts:
        found.same("position_ids", "arange(T) regardless of attention_mask", case.facts["position_ids"])
    embeds = tensors["inputs_embeds"] if "inputs_embeds" in tensors else host.decoder.embed_tokens(tensors["input_ids"])
    batch, length = embeds.shape[:2]
    mask = tensors.get("attention_mask", torch.ones(batch, length, dtype=torch.long))
    logits, states, maps = own_loop(host, embeds, mask)
    found.close("logits", logits, tensors["logits"])
    found.close("hidden_states", states, tensors["hidden_states"])
    found.close("attentions, mean over heads", maps, tensors["attentions"].mean(2))
    # Our loop never forms a head's map; the stock model that it drives does.
    found.close("attentions", eager_maps(host, embeds, mask), tensors["attentions"])


def own_loop(host: LlavaHost, embeds: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, ``[L + 1, B, T, D]`` states (the last one after the final norm), ``[L, B, T, T]`` head-mean maps."""
    batch, length = mask.shape
    layout = plain_layout(PROMPT, length).rows(torch.zeros(batch, dtype=torch.long))
    layout = replace(layout, kind=torch.where(mask == 0, PADDING, layout.kind))
    positions = torch.arange(length).expand(batch, -1)
    probe = AttentionProbe(positions, positions, per_layer=True)
    states = [embeds]
    hooks = [layer.register_forward_hook(lambda _, __, out: states.append(out)) for layer in host.decoder.layers]
    try:
        hidden, _ = run_layers(host.decoder, embeds, layout, positions, probe=probe)
    finally:
        for hook in hooks:
            hook.remove()
    final = host.decoder.norm(hidden)
    maps = torch.stack([probe.by_layer[layer] for layer in sorted(probe.by_layer)])
    return host.model.lm_head(final), torch.stack([*states[:-1], final]), maps


def eager_maps(host: LlavaHost, embeds: Tensor, mask: Tensor) -> Tensor:
    """``[L, B, H, T, T]`` maps of a copy of the language model under eager attention."""
    config = copy.deepcopy(host.config.text_config)
    config._attn_implementation = "eager"
    model = LlamaModel(config)
    model.load_state_dict(host.decoder.state_dict())
    positions = torch.arange(mask.shape[1]).expand(len(mask), -1)
    return torch.stack(
        model(inputs_embeds=embeds, attention_mask=mask, position_ids=positions, output_attentions=True).attentions
    )
