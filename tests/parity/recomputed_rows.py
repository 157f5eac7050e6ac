"""The rows that the official dLLM-Cache runs recomputed, where rounding alone chose them.

The hook recomputes the rows whose values changed most. Most rows have not changed at all, and among those the last
bit of a cosine similarity decides, which no other program or machine repeats. ``recomputed_rows.json`` has the rows of
every step and layer of the recorded cases (both counted from 0): the choices among equals that lead to the recorded
confidences. The runner takes them, and checks that each is one that rounding may make.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from torch import LongTensor

from redvtp import Decoding
from redvtp.models import changed_rows

ROWS = json.loads(Path(__file__).with_name("recomputed_rows.json").read_text(encoding="utf-8"))
# Cosine similarities of equal vectors differ by half of this.
NOISE = 1e-6


@contextmanager
def rows_as_recorded(name: str, decoding: Decoding) -> Iterator[None]:
    """Within it, the decoding of that case recomputes the rows that the official run did; of other cases its own.

    Raises:
        ValueError: on the way, where the recorded rows changed less than others, by more than rounding.
    """
    recorded = ROWS.get(name)

    def choose(layer, rows, old, count) -> LongTensor:
        values = layer.self_attn.v_proj(layer.input_layernorm(rows))
        similarity = torch.nn.functional.cosine_similarity(values, old, dim=-1)[0]
        number, step = layer.self_attn.layer_idx, decoding.done_steps
        listed = recorded[str(step)][number]
        taken = torch.zeros(len(similarity), dtype=torch.bool)
        taken[listed] = True
        if int(taken.sum()) != count or float(similarity[taken].max() - similarity[~taken].min()) > NOISE:
            raise ValueError(f"step {step}, layer {number}: the recorded rows {listed} are not those that changed most")
        return torch.tensor([listed])

    if recorded is None:
        yield
        return
    with patch.object(changed_rows, "changed_rows", choose):
        yield
