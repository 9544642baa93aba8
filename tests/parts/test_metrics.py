"""Scores against scikit-learn and scipy, their properties, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn

from sw2.base.errors import DataError, UsageError
from sw2.parts.metrics import (
    accuracy,
    bits_per_byte,
    bootstrap,
    confusion_matrix,
    expected_calibration_error,
    log_loss,
    macro_f1,
    paired_bootstrap,
    per_class,
    perplexity,
    student,
    top_k_accuracy,
    wilson,
)

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


def _probabilities(examples: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    logits = random.normal(size=(examples, classes))
    exponentials = np.exp(2 * logits)
    true = random.integers(classes, size=examples)
    true[:classes] = np.arange(classes)
    return exponentials / exponentials.sum(axis=1, keepdims=True), true


# --------------------------------------------------------------------------------------------------- classification


@given(pairs)
def test_counts_and_scores_are_those_of_scikit_learn(rows: list[tuple[int, int]]) -> None:
    predicted, true = np.array(rows).T
    confusion = confusion_matrix(predicted, true, 5)
    labels = list(range(5))
    assert np.array_equal(confusion, sklearn.confusion_matrix(true, predicted, labels=labels))
    assert accuracy(predicted, true) == pytest.approx(sklearn.accuracy_score(true, predicted))
    ours = per_class(confusion)
    theirs = sklearn.precision_recall_fscore_support(true, predicted, labels=labels, zero_division=0)
    for one, other in zip((ours.precision_C, ours.recall_C, ours.f1_C, ours.support_C), theirs, strict=True):
        np.testing.assert_allclose(one, other)
    assert macro_f1(confusion) == pytest.approx(sklearn.f1_score(true, predicted, average="macro", zero_division=0))


def test_log_loss_and_top_k_are_those_of_scikit_learn() -> None:
    probabilities, true = _probabilities(200, 6)
    assert log_loss(probabilities, true) == pytest.approx(sklearn.log_loss(true, probabilities))
    for k in (1, 2, 5):
        expected = sklearn.top_k_accuracy_score(true, probabilities, k=k)
        assert top_k_accuracy(probabilities, true, k) == pytest.approx(expected)


def test_top_one_is_accuracy_even_when_scores_tie() -> None:
    scores = np.random.default_rng(0).integers(3, size=(300, 4))
    true = np.random.default_rng(1).integers(4, size=300)
    assert top_k_accuracy(scores, true, 1) == accuracy(scores.argmax(axis=1), true)
    assert top_k_accuracy(scores, true, 4) == 1.0


def test_log_loss_of_a_certain_mistake_is_finite() -> None:
    assert log_loss([[1.0, 0.0]], [1]) == pytest.approx(-math.log(np.finfo(np.float64).eps))


def test_calibration_error_by_hand() -> None:
    """Two bins of 10: confidences 0.95 (right), 0.91 (wrong) and 0.55 (right)."""
    probabilities = [[0.95, 0.05], [0.91, 0.09], [0.45, 0.55]]
    expected = 2 / 3 * abs(0.5 - 0.93) + 1 / 3 * abs(1 - 0.55)
    assert expected_calibration_error(probabilities, [0, 1, 1], bins=10) == pytest.approx(expected)


def test_calibration_error_is_the_loop_over_bins() -> None:
    probabilities, true = _probabilities(500, 3)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == true
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(probabilities, true) == pytest.approx(expected)


def test_a_classifier_that_is_always_sure_and_right_is_calibrated() -> None:
    assert expected_calibration_error([[1.0, 0.0], [0.0, 1.0]], [0, 1]) == 0.0


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(DataError, match="no examples"):
        accuracy([], [])
    with pytest.raises(DataError, match="do not belong together"):
        accuracy([1], [1, 2])
    with pytest.raises(DataError, match="out of range") as caught:
        confusion_matrix([0, 7], [0, 1], 3)
    assert caught.value.got == 7
    with pytest.raises(DataError, match="out of range"):
        log_loss([[0.5, 0.5]], [2])
    with pytest.raises(DataError, match="out of range"):
        top_k_accuracy([[0.5, 0.5]], [-1], 1)


# -------------------------------------------------------------------------------------------------------- intervals


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_is_that_of_scipy(counts: tuple[int, int], level: float) -> None:
    ours = wilson(*counts, level=level)
    theirs = stats.binomtest(*counts).proportion_ci(level, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0.0 <= ours.low <= ours.value <= ours.high <= 1.0


def test_bootstrap_is_that_of_scipy() -> None:
    values = np.random.default_rng(3).exponential(size=200)
    for statistic in (np.mean, np.median):
        ours = bootstrap(values, statistic, seed=0, resamples=4000)
        theirs = stats.bootstrap((values,), statistic, n_resamples=4000, method="percentile", rng=1)
        interval = theirs.confidence_interval
        width = interval.high - interval.low
        assert ours.low == pytest.approx(interval.low, abs=0.06 * width)
        assert ours.high == pytest.approx(interval.high, abs=0.06 * width)
        assert ours.value == statistic(values)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    hits = 0
    for repeat in range(200):
        interval = bootstrap(random.normal(1.0, 2.0, size=60), seed=repeat, resamples=200, level=0.9)
        hits += not interval.excludes(1.0)
    assert 0.83 < hits / 200 < 0.96


def test_bootstrap_draws_whole_rows_and_repeats_by_seed() -> None:
    rows = np.stack([np.arange(50), np.arange(50) * 2], axis=1)

    def slope(chosen: np.ndarray) -> float:
        return float(chosen[:, 1].sum() / max(1, chosen[:, 0].sum()))

    assert bootstrap(rows, slope, seed=0, resamples=50).low == 2.0
    assert bootstrap(rows[:, 0], seed=0) == bootstrap(rows[:, 0], seed=0)
    assert bootstrap(rows[:, 0], seed=0) != bootstrap(rows[:, 0], seed=1)


def test_pairing_finds_a_change_that_separate_intervals_miss() -> None:
    random = np.random.default_rng(0)
    hardness = random.normal(size=300)
    old = hardness + 0.1 * random.normal(size=300)
    new = hardness + 0.05 + 0.1 * random.normal(size=300)
    assert paired_bootstrap(old, new, seed=0).excludes(0.0)
    assert not bootstrap(new, seed=0).excludes(float(old.mean()))
    assert not paired_bootstrap(old, old, seed=0).excludes(0.0)


def test_intervals_refuse_what_is_not_there() -> None:
    with pytest.raises(DataError, match="no share"):
        wilson(3, 2)
    with pytest.raises(DataError, match="no share"):
        wilson(0, 0)
    with pytest.raises(DataError, match="no examples"):
        bootstrap([], seed=0)
    with pytest.raises(DataError, match="same examples"):
        paired_bootstrap([1, 2], [1], seed=0)
    with pytest.raises(UsageError, match="level"):
        wilson(1, 2, level=95)


# ------------------------------------------------------------------------------------------------------------- text


def test_bits_per_byte_does_not_depend_on_the_tokens() -> None:
    """A uniform model of bytes costs 8 bits each, and one over pairs of bytes as much."""
    assert bits_per_byte(100 * math.log(256), 100) == pytest.approx(8)
    assert bits_per_byte(50 * math.log(256**2), 100) == pytest.approx(8)
    assert perplexity(50 * math.log(256**2), 50) == pytest.approx(65536)
    assert perplexity(1e6, 1) == math.inf


def test_empty_texts_are_refused() -> None:
    with pytest.raises(DataError, match="no text"):
        bits_per_byte(1.0, 0)
    with pytest.raises(DataError, match="no token"):
        perplexity(1.0, 0)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_student_is_that_of_scipy(values: list[float], level: float) -> None:
    ours = student(values, level=level)
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    assert ours.low == pytest.approx(np.mean(values) - half, rel=1e-6, abs=1e-6)
    assert ours.high == pytest.approx(np.mean(values) + half, rel=1e-6, abs=1e-6)


def test_one_repeat_has_no_interval() -> None:
    with pytest.raises(DataError, match="no spread"):
        student([1.0])
