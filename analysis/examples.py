"""Samples that figures show one by one: chosen among right and wrong answers by a rule, and told in rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import redvtp
from analysis import answers, benchmarks
from analysis.benchmarks import Sample
from analysis.results import Row

STAYS, TURNS = "stays right", "turns wrong"
CASES = (STAYS, TURNS)


def right(rows: Sequence[Row], model: str, family: str, seed: int, method: str, keep: float) -> dict[int, bool]:
    """Whether each sample was answered rightly, by its index."""
    wanted = {"model": model, "family": family, "seed": seed, "method": method, "keep": keep}
    return {row["index"]: row["exact_match"] for row in answers.having(rows, wanted)}


def sample_fields(name: str, sample: Sample) -> Row:
    """What tells a model's rows about one sample from others."""
    return {
        "host": answers.model(name).host.name,
        "model": answers.folder(name),
        "family": sample.family,
        "split": sample.split,
        "seed": sample.seed,
        "index": sample.index,
    }


def answer_fields(sample: Sample, answer: redvtp.Answer) -> Row:
    """What was asked and said, and which visual tokens were left: `kept`, their indices with spaces between."""
    return {
        "question": sample.question,
        "answer": sample.answer,
        "prediction": answer.text,
        "evidence_recall": redvtp.evidence_recall(answer.layout, sample.evidence),
        "visual_tokens": answer.visual_tokens,
        "kept": " ".join(map(str, answer.kept.tolist())),
    }


def kept_of(row: Mapping[str, Any]) -> set[int]:
    """`kept` of a row, read back."""
    return set(map(int, row["kept"].split()))


def sample_of(row: Mapping[str, Any]) -> Sample:
    """The sample that a row is about."""
    return benchmarks.get(row["family"]).sample(row["split"], int(row["seed"]), int(row["index"]))
