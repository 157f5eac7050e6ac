"""The project's metrics against lmms-eval's own, on pairs drawn at random and on pairs made to tell them apart."""

from __future__ import annotations

import itertools
import random

import pytest
from lmms_eval.api.metrics import anls as their_anls
from lmms_eval.api.metrics import exact_match_hf_evaluate
from lmms_eval.tasks.ai2d.utils import MultiChoiceRegexFilter
from lmms_eval.tasks.chartqa.utils import relaxed_correctness

from redvtp.metrics import anls, option_match, relaxed_accuracy

ODD = (
    "", " ", ".", "%", "0", "0.0", "-0", "00", "5%", "5 %", "0.05", "5%%", "%5", "1e3", "1E3", "1,000", "1_000", "nan",
    "inf", "-inf", "infinity", "NaN%", "inf%", " 42 ", "42\n", "\t42", "+42", "42.", ".5", "5.", "½", "٣", "Straße",
    "STRASSE", "ß", "ǰ", "ﬁ", "İ", "i̇", "Σ", "ς", "A", "a", "A.", "a.", "(A)", "A)", "A:", "A. cat", " A. cat", "A.cat",
    "AB.", "B", "B.", "Answer: B", "The answer is B.", "b\n", "A.\n", "A .", "É", "É.", "Ａ", "Ａ.", "yes", "Yes.",
    "Yes, it is", "don't", "dont", "x\u00a0y", "x y", "x  y", "x\x00", "x", "«x»",
)  # fmt: skip


def pairs() -> list[tuple[str, str]]:
    """1000 pairs at random, half of them near each other, after all pairs of odd texts."""
    draw = random.Random(0)
    letters = "abcDEF 019.%-,()"
    found = list(itertools.product(ODD, ODD))
    for place in range(1000):
        answer = "".join(draw.choices(letters, k=draw.randint(0, 12)))
        prediction = list(answer)
        for _ in range(draw.randint(0, 4) if place % 2 else 12):
            at = draw.randint(0, len(prediction))
            prediction[at : at + draw.randint(0, 1)] = draw.choices(letters, k=draw.randint(0, 2))
        found.append(("".join(prediction), answer))
    for _ in range(1000):  # numbers around the tolerance
        answer = round(draw.uniform(-200, 200), draw.randint(0, 3))
        factor = 1 + draw.choice((0, 0.04, 0.049, 0.05, 0.051, 0.06, -0.05, -0.0501))
        found.append((f"{answer * factor:.6g}{draw.choice(('', '', '%'))}", f"{answer:g}{draw.choice(('', '', '%'))}"))
    return found


PAIRS = pairs()


def test_anls_is_lmms_evals():
    for prediction, answer in PAIRS:
        theirs = their_anls(references=[answer], predictions=[prediction])["anls"]
        assert anls(prediction, [answer]) == theirs, (prediction, answer)


def test_anls_of_several_answers_is_lmms_evals():
    draw = random.Random(1)
    for prediction, _ in PAIRS[-2000:]:
        answers = [answer for _, answer in draw.choices(PAIRS, k=draw.randint(1, 4))]
        assert anls(prediction, answers) == their_anls(references=answers, predictions=[prediction])["anls"]


def test_relaxed_accuracy_is_lmms_evals():
    for prediction, answer in PAIRS:
        assert relaxed_accuracy(prediction, answer) is relaxed_correctness(prediction, answer), (prediction, answer)


@pytest.fixture(scope="module")
def letters_filter():
    return MultiChoiceRegexFilter(group_select=0, ignore_case=True, ignore_punctuation=True, regex_pattern="([A-Z])\\.")


def test_option_match_is_lmms_evals(letters_filter):
    """AI2D's way: the filter, then lmms-eval strips, then exact match blind to case and punctuation."""
    told = set()
    for prediction, answer in PAIRS:
        kept = letters_filter.apply([[prediction]], [{}])[0].strip()
        theirs = exact_match_hf_evaluate([kept], [answer], ignore_case=True, ignore_punctuation=True)["exact_match"]
        assert option_match(prediction, answer) is bool(theirs), (prediction, answer)
        told.add(bool(theirs))
    assert told == {True, False}
