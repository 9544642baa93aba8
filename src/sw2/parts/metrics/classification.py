"""Scores of a classifier, in numpy, each with its formula.

Shape legend: N examples, C classes. True classes are integers in [0, C). `scores_NC` are any numbers of which larger
is better; `probabilities_NC` are in [0, 1] with rows that sum to 1.

Where a formula divides zero by zero (precision of a class that was never predicted) the score is 0, as it is for
scikit-learn's `zero_division=0`, against which the tests hold every function that it has too.

Sources: Guo et al., "On calibration of modern neural networks" (2017), https://arxiv.org/abs/1706.04599, eq. 3, for the
calibration error; the rest is textbook.

It holds no interval (see `intervals`) and judges no program: that is a task's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sw2.base.errors import DataError

__all__ = [
    "PerClass",
    "accuracy",
    "confusion_matrix",
    "expected_calibration_error",
    "log_loss",
    "macro_f1",
    "per_class",
    "top_k_accuracy",
]

_Array = NDArray[Any]


@dataclass(frozen=True)
class PerClass:
    """Scores of each class, all [C]: precision, recall and f1 in [0, 1], support in examples."""

    precision_C: NDArray[np.float64]
    recall_C: NDArray[np.float64]
    f1_C: NDArray[np.float64]
    support_C: NDArray[np.int64]


def accuracy(predicted_N: ArrayLike, true_N: ArrayLike) -> float:
    """The share of examples whose predicted class is the true one.

    Raises:
        DataError: when there are no examples or the lengths differ.

    >>> accuracy([0, 1, 1, 2], [0, 1, 2, 2])
    0.75
    """
    predicted, true = _aligned(predicted_N, true_N)
    return float((predicted == true).mean())


def confusion_matrix(predicted_N: ArrayLike, true_N: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """Counts [C, C]: row t, column p holds how many examples of class t were taken for class p.

    Raises:
        DataError: when there are no examples, the lengths differ, or a class is outside [0, num_classes).
    """
    predicted, true = _aligned(predicted_N, true_N)
    for classes in (predicted, true):
        _within(classes, num_classes)
    counts = np.bincount(true * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def per_class(confusion_CC: NDArray[np.int64]) -> PerClass:
    """Precision hits / predicted, recall hits / true, and f1 = 2 hits / (predicted + true) of each class.

    Args:
        confusion_CC: counts [C, C] of `confusion_matrix`.
    """
    hits, predicted, true = np.diag(confusion_CC), confusion_CC.sum(axis=0), confusion_CC.sum(axis=1)
    return PerClass(
        precision_C=_ratio(hits, predicted),
        recall_C=_ratio(hits, true),
        f1_C=_ratio(2 * hits, predicted + true),
        support_C=true,
    )


def macro_f1(confusion_CC: NDArray[np.int64]) -> float:
    """The mean f1 over the classes that occur, as true or as predicted ones; each counts alike, however rare.

    Args:
        confusion_CC: counts [C, C] of `confusion_matrix`.
    """
    occurs = (confusion_CC.sum(axis=0) + confusion_CC.sum(axis=1)) > 0
    return float(per_class(confusion_CC).f1_C[occurs].mean())


def top_k_accuracy(scores_NC: ArrayLike, true_N: ArrayLike, k: int) -> float:
    """The share of examples whose true class is among the k best scored; of equal scores the lower class is better.

    Raises:
        DataError: when there are no examples, the lengths differ, or a class is outside [0, C).
    """
    scores, true = _aligned(scores_NC, true_N)
    _within(true, scores.shape[1])
    own_N1 = np.take_along_axis(scores, true[:, None], axis=1)
    earlier_NC = np.arange(scores.shape[1]) < true[:, None]
    better_N = ((scores > own_N1) | ((scores == own_N1) & earlier_NC)).sum(axis=1)
    return float((better_N < k).mean())


def log_loss(probabilities_NC: ArrayLike, true_N: ArrayLike) -> float:
    """The mean of -ln p(true class), in nats; p is at least float64's machine epsilon, so that it stays finite.

    Raises:
        DataError: when there are no examples, the lengths differ, or a class is outside [0, C).
    """
    probabilities, true = _aligned(probabilities_NC, true_N)
    _within(true, probabilities.shape[1])
    of_true = np.take_along_axis(probabilities.astype(np.float64), true[:, None], axis=1)
    return float(-np.log(np.maximum(of_true, np.finfo(np.float64).eps)).mean())


def expected_calibration_error(probabilities_NC: ArrayLike, true_N: ArrayLike, *, bins: int = 15) -> float:
    """How far confidence is from accuracy: sum over bins of |bin| / N * |accuracy(bin) - mean confidence(bin)|.

    The confidence of an example is its largest probability; bin b of B holds confidences in ((b - 1) / B, b / B].

    Args:
        probabilities_NC: [N, C].
        true_N: [N].
        bins: how many bins of equal width, at least 1.

    Raises:
        DataError: when there are no examples or the lengths differ.
    """
    probabilities, true = _aligned(probabilities_NC, true_N)
    confidence_N = probabilities.max(axis=1).astype(np.float64)
    surplus_N = confidence_N - (probabilities.argmax(axis=1) == true)
    bin_N = np.clip(np.ceil(confidence_N * bins).astype(np.int64) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(bin_N, weights=surplus_N, minlength=bins)).sum() / len(true))


def _aligned(left: ArrayLike, right: ArrayLike) -> tuple[_Array, _Array]:
    """Both as arrays of the same, non-zero length."""
    first, second = np.asarray(left), np.asarray(right)
    if len(first) != len(second):
        raise DataError(
            "Predictions and true classes do not belong together.",
            wanted=f"{len(second)} predictions",
            got=len(first),
        )
    if not len(first):
        raise DataError("There are no examples to score.", wanted="at least one example", got="none")
    return first, second


def _within(classes_N: _Array, num_classes: int) -> None:
    outside = classes_N[(classes_N < 0) | (classes_N >= num_classes)]
    if len(outside):
        raise DataError("A class is out of range.", wanted=f"a class from 0 to {num_classes - 1}", got=int(outside[0]))


def _ratio(parts: _Array, wholes: _Array) -> NDArray[np.float64]:
    return np.divide(parts, wholes, out=np.zeros(len(parts)), where=wholes > 0)
