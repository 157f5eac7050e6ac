"""An untrained mini model, small enough for a measurement to run on it in a test."""

from __future__ import annotations

import torch

import redvtp
from analysis.training.mini_model import build_model
from analysis.training.tokenizer import build_tokenizer
from redvtp.models.llada_v import LladaV


def untrained(layers: int = 3) -> redvtp.Model:
    """A diffusion model with the mini models' tokenizer and image path."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    network = build_model(tokenizer, hidden=32, tower_layers=1, layers=layers)
    return redvtp.Model(LladaV(network, tokenizer, system_prompt=None))
