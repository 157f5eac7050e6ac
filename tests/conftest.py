"""What all tests share: tiny models, built once, and one thread, which is the fastest for them."""

from __future__ import annotations

import pytest
import torch

from redvtp import Model, Prompt
from tests.tiny import build_host, picture

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def host():
    """A tiny LLaDA-V with grouped keys."""
    return build_host(kv_heads=2)


@pytest.fixture(scope="session")
def mha_host():
    """The same with as many key heads as query heads."""
    return build_host(kv_heads=4, seed=1)


@pytest.fixture(scope="session")
def model(host):
    """The tiny host with its tokenizer, as users hold it."""
    return Model(host)


@pytest.fixture(scope="session")
def prompts():
    """Samples of different kinds and lengths: tall, wide, small, several images, text only."""
    return [
        Prompt("What is it?", [picture(100, 40, 1)]),
        Prompt("And now?"),
        Prompt("How many dots are there?", [picture(40, 130, 2)]),
        Prompt("<image> or <image>?", [picture(30, 30, 3), picture(64, 20, 4)]),
        Prompt("Why?", [picture(20, 20, 5)]),
    ]
