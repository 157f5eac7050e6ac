"""LaViDa's behaviour tables: what ran officially runs here, and what crashed there does, too."""

from __future__ import annotations

import torch

from redvtp import Decoding, PrefixDLM, RedVTP, Settings
from redvtp.models.base import State
from redvtp.models.lavida import Lavida
from tests.parity.cases import Case, Hosts
from tests.parity.comparison import Comparison

PROMPT, LENGTH, VISUAL = 40, 16, (8, 24)


def run(case: Case, found: Comparison, hosts: Hosts) -> None:
    """Do what every line of the table says; lines that crashed officially must work."""
    host = hosts.of(case)
    host.blind_prompt = case.name == "behaviour_redvtp"
    for name, outcome in case.facts.items():
        if name not in DEEDS:
            found.leave(name, "nothing of the kind is in redvtp")
            continue
        ours = DEEDS[name](host)
        if isinstance(outcome, str) and outcome != "ok":
            found.same(name, ours, "ok")
            found.leave(name, f"officially {outcome.split(':')[0]}; works here")
        else:
            found.same(name, ours, outcome)


def begin(host: Lavida, length: int = LENGTH, seed: int = 0) -> State:
    """A prompt of random embeddings with some visual tokens in it."""
    width = host.config.text_config.hidden_size
    embeds = torch.randn(1, PROMPT, width, generator=torch.Generator().manual_seed(seed))
    return host.begin_from_embeddings(embeds, length, *VISUAL)


def decode(
    host: Lavida, prune: float | None = None, seed: int = 0, length: int = LENGTH, cache=None, **settings
) -> list[int]:
    """The response, all rows filled in."""
    pruner = None if prune is None else RedVTP(keep=prune)
    decoding = Decoding(host, begin(host, length, seed), Settings(length=length, **settings), pruner, cache=cache)
    result = decoding.run()[0]
    if bool((result.canvas == host.mask_id).any()):
        raise ValueError("the response still has masks")
    return result.ids


def worked(host: Lavida, **arguments) -> str:
    """ "ok", or the exception that reaches the runner."""
    decode(host, **arguments)
    return "ok"


def text_only(host: Lavida) -> str:
    """A prompt of ids without an image."""
    state = host.begin_from_ids(range(1, 9), [], LENGTH)
    Decoding(host, state, Settings(length=LENGTH, steps=8)).run()
    return "ok"


DEEDS = {
    "text-only model.generate(images=None, steps=8)": text_only,
    "generate without steps / step_per_block": worked,
    "generate step_per_block only": lambda host: worked(host, step_per_block=4),
    "steps > max_new_tokens": lambda host: worked(host, length=8, steps=32),
    "schedule=logit_normal": lambda host: worked(host, steps=8, schedule="logit_normal"),
    "prune + prefix_lm=False": lambda host: worked(host, prune=0.5, steps=8),
    "prune + prefix_lm=True": lambda host: worked(host, prune=0.5, steps=8, cache=PrefixDLM()),
    "prune, steps=1 (nothing re-masked)": lambda host: worked(host, prune=0.5, steps=1),
    "output identical for two unrelated inputs_embeds (same length)": lambda host: (
        decode(host, seed=0, steps=8) == decode(host, seed=1, steps=8)
    ),
}
