"""Scores of answers, and intervals for them. Standard library and numpy only."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np


def exact_match(prediction: str, answer: str) -> bool:
    """Whether the texts are equal once stripped, with one trailing "." dropped from each."""
    return _bare(prediction) == _bare(answer)


def _bare(text: str) -> str:
    return text.strip().removesuffix(".")


def option_match(prediction: str, answer: str) -> bool:
    """Whether a prediction names the answer, such as an option's letter: "B", "b" and "B. a cat" are B.

    As lmms-eval computes it for AI2D: a capital letter with a "." at the start stands for the whole prediction;
    then case and ASCII punctuation do not count, but the answer's own spaces do. GQA is scored so, too, where
    predictions that begin with such a letter do not occur.
    """
    letter = re.match(r"\s*([A-Z])\.", prediction)
    return _unpunctuated(letter[1] if letter else prediction.strip()) == _unpunctuated(answer)


def _unpunctuated(text: str) -> str:
    # Of numpy's texts, as there: what lower() lengthens is cut off, and NUL at the end is nothing.
    return text.lower()[: len(text)].translate(str.maketrans("", "", string.punctuation)).rstrip("\0")


def edit_distance(first: str, second: str) -> int:
    """Levenshtein distance: insertions, deletions and substitutions of one character each."""
    if len(first) > len(second):
        first, second = second, first
    row = list(range(len(first) + 1))
    for i, other in enumerate(second, start=1):
        diagonal, row[0] = row[0], i
        for j, character in enumerate(first, start=1):
            substituted = diagonal + (character != other)
            diagonal = row[j]
            row[j] = min(substituted, row[j] + 1, row[j - 1] + 1)
    return row[-1]


def anls(prediction: str, answers: Sequence[str], threshold: float = 0.5) -> float:
    """Normalised Levenshtein similarity to the nearest of `answers`, 0 below `threshold`; from 0 to 1.

    As lmms-eval computes it for DocVQA and InfoVQA: the distance is between texts in lower case with single
    spaces, but it is divided by the length of the texts as they came, so extra spaces soften a mistake.

    Raises ValueError without answers.
    """
    if isinstance(answers, str) or not answers:
        raise ValueError(f"answers must be a non-empty list of strings, not {answers!r}")
    distances = []
    for answer in answers:
        # upper(), as there: it lengthens some letters, such as the German sharp s.
        length = max(len(answer.upper()), len(prediction.upper()))
        distances.append(edit_distance(_folded(answer), _folded(prediction)) / length if length else 0.0)
    similarity = 1 - min(distances)
    return similarity if similarity >= threshold else 0.0


def _folded(text: str) -> str:
    return " ".join(text.lower().split())


def relaxed_accuracy(prediction: str, answer: str, tolerance: float = 0.05) -> bool:
    """Whether a number lies within `tolerance`, relative, of the answer; other texts must be equal in lower
    case. As lmms-eval computes it for ChartQA: "5%" is 0.05, and an answer of 0 is compared as text."""
    predicted, expected = _number(prediction), _number(answer)
    if predicted is None or not expected:
        return prediction.lower() == answer.lower()
    return abs(predicted - expected) / abs(expected) <= tolerance


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a rate of `successes` in `n`.

    Raises ValueError for n < 1, successes outside 0..n, or a confidence outside (0, 1).
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"expected 0 <= successes <= n and n >= 1, not {successes} of {n}")
    _check_confidence(confidence)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, weight = successes / n, 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / weight
    half = z / weight * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # The ends are exact at 0 and n, where rounding would leave them a hair inside or outside.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def paired_bootstrap(
    first: Sequence[float],
    second: Sequence[float],
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Mean of `second - first` over the same samples with its percentile bootstrap interval, as (difference,
    low, high). Samples are drawn again with replacement, each keeping its pair; the same seed gives the same
    interval.

    Raises ValueError for lengths that differ, nothing to compare, or a confidence outside (0, 1).
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"expected two scores for each sample, not {len(first)} and {len(second)}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples}")
    _check_confidence(confidence)
    differences = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    generator = np.random.default_rng(seed)
    # One resample at a time, so that memory does not grow with resamples x samples.
    means = np.array([generator.choice(differences, differences.size).mean() for _ in range(resamples)])
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(differences.mean()), float(low), float(high)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
