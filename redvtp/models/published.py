"""The published 8B models' shapes, without their weights."""

from __future__ import annotations

from transformers import LlavaOnevisionConfig

from redvtp.models.llada_v import TRUE_SHAPE, host_config

HEAD_ROWS = {"llada_v": 126349, "lavida": 126464}
"""Rows of the head, by host: LLaDA-V's builder trims it to its tokenizer, LaViDa's leaves it (official_code §2.1
and §4.1)."""


def true_config(host: str) -> LlavaOnevisionConfig:
    """The published shape of a host in `HEAD_ROWS`; LaViDa's other sizes are LLaDA-V's (official_code §4)."""
    return host_config(TRUE_SHAPE | {"vocab_size": HEAD_ROWS[host]})
