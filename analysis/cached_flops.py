"""FLOPs of one answer of the published 8B shapes under a cache and RedVTP, from what the cache asks for step by step.

No network is run. The cache itself says which columns each step computes (`CachePolicy.span`), as it does in the
denoising loop; those columns are counted by redvtp.flops with the true config, at one image of `compute.SIZE`, all
steps taken and every step committing its even share. Head and last layer are counted as this package runs them (the
head on rows still masked, of the last layer the response), RedVTP's scores are included, the vision tower is not.
"""

from __future__ import annotations

import functools
import math

import torch
from transformers import LlamaConfig

from analysis import compute
from redvtp.caching import CachePolicy, Moment
from redvtp.flops import Work, scoring_flops, step_flops
from redvtp.generation.schedules import even_quotas
from redvtp.models.base import Span
from redvtp.models.published import true_config
from redvtp.plans import Task, planned
from redvtp.pruning import RedVTP


def answer_flops(
    config: LlamaConfig, task: Task, keep: float = 1.0, cache: CachePolicy | None = None, block: int | None = None
) -> tuple[int, int]:
    """FLOPs of one answer: (all steps with the head, RedVTP's scores). ``block``: response tokens a block."""
    block = block or task.response
    layers, steps = config.num_hidden_layers, task.steps * block // task.response  # steps of one block
    cuts = planned(RedVTP(keep=keep), task.steps, layers) if keep < 1.0 else ()
    before, masked, total, scores = task.visual + task.prompt, task.response, 0, 0
    quotas = even_quotas(block, steps)
    for step in range(task.steps):
        cut = any(one.cut.step == step for one in cuts)
        for one in (one for one in cuts if one.cut.step == step):
            before = one.left(task.visual) + task.prompt
        start = step // steps * block
        moment = Moment(step, step % steps, start, start + block, task.response, cut)
        span = cache.span(moment) if cache else moment.everything
        work = work_of(span, before, task.response, layers, cache is not None and cache.alone)
        # Of blocks that stand open, only rows that the step computes have logits.
        own = masked - (task.response - start - block)
        rows = own + max(0, span.stop - start - block)
        total += step_flops(config, work, torch.tensor([rows]))[0]
        masked -= quotas[step % steps]
        if any(one.cut.step == step + 1 for one in cuts):
            scores += layers * scoring_flops(config, task.response, before + task.response)
    return total, scores


def work_of(span: Span, before: int, response: int, layers: int, alone: bool = False) -> Work:
    """What one forward computes of ``before`` columns and the response, as redvtp.models counts it."""
    length = before + response
    seen = torch.full((layers, 1), length)
    if span.is_all(response):
        return Work.whole(seen, response, torch.full_like(seen, before) if alone else None)
    if span.share is None:
        return Work.part(span.stop - span.start, seen[0], layers)
    count = math.floor(span.share * response)
    prompt = before if span.prompt else 0
    rows = torch.full_like(seen, count + prompt)
    rows[-1] = count  # of the last layer's prompt rows only keys and values are read
    keys = torch.full_like(seen, count + prompt)
    values = keys + (response if count else 0)  # which rows changed most is told from the values of all
    return Work(rows, keys, values, rows * length)


@functools.cache
def true_flops(
    host: str,
    response: int,
    steps: int,
    keep: float,
    cache: CachePolicy | None = None,
    block: int | None = None,
    scored: bool = True,
) -> int:
    """FLOPs of one answer of a host's published 8B shape; ``scored``: RedVTP's scores included."""
    config = true_config(host).text_config
    flops, scores = answer_flops(config, compute.answer_of(host, response, steps), keep, cache, block)
    return flops + scores * scored
