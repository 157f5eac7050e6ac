"""Pure tensor rules of one denoising step: tokens, confidences, transfer, stop scan.

Source: official_code §3 (LLaDA-V's sampler) and §4.4 (LaViDa's remasking rules).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import LongTensor, Tensor

from redvtp.generation.settings import Settings


def pick_tokens(logits: Tensor, temperature: float, noise: Tensor | None) -> LongTensor:
    """``[M]`` the likeliest token of each row, or a Gumbel draw: argmax of exp(l) / (-log u)^temperature.

    Args:
        logits: ``[M, V]``, banned tokens at -inf.
        noise: ``[M, V]`` uniform draws in fp64, needed where temperature > 0.
    """
    if temperature == 0:
        return logits.argmax(-1)
    # The logarithm of the official fp64 quotient: the same argmax, without its overflow.
    return (logits.double() - temperature * torch.log(-torch.log(noise))).argmax(-1)


def draw_noise(
    rows: Tensor, vocabulary: int, settings: Settings, random: Sequence[torch.Generator]
) -> dict[str, Tensor]:
    """Uniform draws in fp64 of each sample's own generator, for the rows marked in ``rows [B, G]``, in order.

    Returns:
        "tokens" ``[M, V]`` for a temperature above 0 and "rows" ``[M]`` for random remasking.
    """
    shapes = {"tokens": (vocabulary,)} if settings.temperature > 0 else {}
    if settings.remasking == "random":
        shapes["rows"] = ()
    drawn = {}
    for name, extra in shapes.items():
        draws = [
            torch.rand(count, *extra, dtype=torch.float64, generator=generator)
            for count, generator in zip(rows.sum(1).tolist(), random, strict=True)
        ]
        drawn[name] = torch.cat(draws).to(rows.device)
    return drawn


def confidence(logits: Tensor, tokens: LongTensor, rule: str, noise: Tensor | None = None) -> Tensor:
    """``[M]`` fp64 confidence of each row; larger is committed earlier.

    fp64 as in the official code: confidences near 1 differ by less than fp32 resolves, and their order
    decides which rows are committed.

    Args:
        logits: ``[M, V]`` without noise, banned tokens at -inf.
        rule: "low_confidence" (probability of the token), "entropy" (its negative), "margin" or "random".
        noise: ``[M]`` uniform draws for "random".
    """
    if rule == "random":
        return noise
    p = torch.softmax(logits.double(), -1)
    if rule == "low_confidence":
        return p.gather(1, tokens[:, None])[:, 0]
    if rule == "entropy":
        return (p * torch.log(p + 1e-10)).sum(-1)
    top2 = p.topk(2, -1).values
    return top2[:, 0] - top2[:, 1]


def transfer_rows(conf: Tensor, quota: LongTensor) -> Tensor:
    """``[B, G]`` True for the rows to commit: the ``quota [B]`` most confident, ties to the earlier row.

    Rows at -inf are never committed, so a sample with fewer eligible rows commits fewer.
    """
    order = torch.sort(conf, dim=1, descending=True, stable=True).indices
    rank = torch.empty_like(order)
    rank.scatter_(1, order, torch.arange(conf.shape[1], device=conf.device).expand_as(order))
    return (rank < quota[:, None]) & (conf > float("-inf"))


def threshold_rows(conf: Tensor, threshold: float) -> Tensor:
    """``[B, G]`` True for the rows whose confidence reaches ``threshold``, and for the most confident one.

    Source: Fast-dLLM (arXiv 2505.22618), confidence-aware parallel decoding.
    """
    return transfer_rows(conf, (conf >= threshold).sum(1).clamp(min=1))


def factor_rows(conf: Tensor, factor: float) -> Tensor:
    """``[B, G]`` True for the most confident rows, up to the first that misses its bar.

    The n-th most confident row (n = 1, 2, ...) needs a confidence of 1 - factor / (n + 1), but for the first,
    which is always committed; where only the last eligible row misses its bar, it is committed, too.

    Source: Fast-dLLM (arXiv 2505.22618), factor-based parallel decoding; official_code §3.1.
    """
    ordered = torch.sort(conf, dim=1, descending=True).values
    eligible = (ordered > float("-inf")).sum(1)
    number = torch.arange(1, conf.shape[1] + 1, device=conf.device)
    bar = 1 - factor / (number + 1).to(conf.dtype)
    missed = (ordered < bar) & (number > 1)
    committed = torch.where(missed.any(1), missed.int().argmax(1), eligible)
    return transfer_rows(conf, torch.where(committed == eligible - 1, eligible, committed))


def first_occurrence(tokens: LongTensor, pattern: Sequence[int] | LongTensor) -> LongTensor:
    """``[B]`` where ``pattern`` first starts in each row of ``tokens [B, G]``; G where it does not occur."""
    length = tokens.shape[1]
    if not 0 < len(pattern) <= length:
        return tokens.new_full((len(tokens),), length)
    windows = tokens.unfold(1, len(pattern), 1)
    hit = (windows == torch.as_tensor(pattern, device=tokens.device)).all(-1)
    position = torch.arange(hit.shape[1], device=tokens.device).expand_as(hit)
    return torch.where(hit, position, length).amin(1)
