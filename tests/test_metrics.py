import numpy as np
import pytest
from scipy.stats import binomtest

from redvtp.metrics import anls, edit_distance, exact_match, paired_bootstrap, relaxed_accuracy, wilson_interval


@pytest.mark.parametrize(
    ("prediction", "answer", "same"),
    [(" 42\n", "42", True), ("42.", "42", True), ("42..", "42", False), ("Ab", "ab", False), ("", ".", True)],
)
def test_exact_match(prediction, answer, same):
    assert exact_match(prediction, answer) is same


def test_edit_distance():
    assert edit_distance("kitten", "sitting") == edit_distance("sitting", "kitten") == 3
    assert edit_distance("", "abc") == 3 and edit_distance("same", "same") == 0


def test_anls_takes_the_nearest_answer_and_cuts_below_the_threshold():
    assert anls("Hello  World", ["nothing", "hello world"]) == 1
    assert anls("abcd", ["abcx"]) == 0.75
    assert anls("ab", ["xb"]) == 0.5        # the threshold itself counts
    assert anls("abc", ["axx"]) == 0
    assert anls("", [""]) == 1


def test_anls_divides_by_the_length_of_the_texts_as_they_came():
    # One wrong character of 4, but 8 characters with the spaces around: 1 - 1/8, not 1 - 1/4.
    assert anls("  abcx  ", ["abcd"]) == 0.875


def test_anls_refuses_a_bare_string():
    with pytest.raises(ValueError, match="non-empty list of strings, not 'abc'"):
        anls("abc", "abc")


@pytest.mark.parametrize(
    ("prediction", "answer", "right"),
    [
        ("104", "100", True), ("105", "100", True), ("106", "100", False), ("-95", "-100", True),
        ("5%", "0.05", True), ("5%", "5", False), ("0", "0", True), ("0.0", "0", False),
        ("Yes", "yes", True), ("100", "a hundred", False),
    ],
)
def test_relaxed_accuracy(prediction, answer, right):
    assert relaxed_accuracy(prediction, answer) is right


@pytest.mark.parametrize(("successes", "n"), [(0, 16), (16, 16), (1, 1), (77, 100), (299, 300)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_interval_equals_scipy(successes, n, confidence):
    expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert wilson_interval(successes, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_interval_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match=f"not {successes} of {n}"):
        wilson_interval(successes, n)


def test_paired_bootstrap_is_seeded_and_uses_the_pairs():
    generator = np.random.default_rng(1)
    first = generator.normal(size=200)
    second = first + 0.1 + 0.01 * generator.normal(size=200)
    difference, low, high = paired_bootstrap(first, second, resamples=500)
    assert low < difference < high and difference == pytest.approx(0.1, abs=0.01)
    assert high - low < 0.01    # unpaired, the interval would be about 0.4 wide
    assert paired_bootstrap(first, second, resamples=500) == (difference, low, high)
    assert paired_bootstrap(first, second, resamples=500, seed=1) != (difference, low, high)


def test_paired_bootstrap_of_constant_scores_has_no_width():
    assert paired_bootstrap([0, 1, 1], [1, 2, 2], resamples=10) == (1, 1, 1)


def test_paired_bootstrap_refuses_unpaired_scores():
    with pytest.raises(ValueError, match="not 1 and 2"):
        paired_bootstrap([1], [1, 0])
