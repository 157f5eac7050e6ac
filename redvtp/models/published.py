"""The published 8B models without their weights: their shapes, and what images become in them."""

from __future__ import annotations

import functools

from transformers import LlavaOnevisionConfig

from redvtp.models.anyres import config_layout
from redvtp.models.lavida_layout import lavida_layout
from redvtp.models.llada_v import TRUE_SHAPE, host_config
from redvtp.sequence import Layout

HEAD_ROWS = {"llada_v": 126349, "lavida": 126464}
"""Rows of the head, by host: LLaDA-V's builder trims it to its tokenizer, LaViDa's leaves it (official_code §2.1
and §4.1)."""


def true_config(host: str) -> LlavaOnevisionConfig:
    """The published shape of a host in `HEAD_ROWS`; LaViDa's other sizes are LLaDA-V's (official_code §4)."""
    return host_config(TRUE_SHAPE | {"vocab_size": HEAD_ROWS[host]})


# Built once, for sizes come by the hundred; a layout reads it and changes nothing.
_llada_v = functools.cache(lambda: true_config("llada_v"))


def true_layout(host: str, width: int, height: int) -> Layout:
    """The visual tokens of one image in a host of `HEAD_ROWS`."""
    return lavida_layout(0, width, height) if host == "lavida" else config_layout(_llada_v(), width, height)
