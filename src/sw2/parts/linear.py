"""Logistic regression on rows of numbers: the plainest learner, as a baseline, a probe, and a network's last layer.

scikit-learn fits it; here stand what is around it: numbers brought to mean 0 and deviation 1 first and folded back into
the weights afterwards, one pair of weights and bias for two labels as for more, and silence about what is left to gain
after so many iterations, which is far below the noise of a score.

Shapes: N rows, D numbers in a row, K labels.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from sw2.base.names import missing_extra

__all__ = ["Linear", "logistic_regression"]


@dataclass(frozen=True)
class Linear:
    """Scores of labels that are linear in a row.

    Args:
        weight: float64 [K, D].
        bias: float64 [K].
        labels: the label that each of the K stands for, as they were given, rising.
    """

    weight: np.ndarray
    bias: np.ndarray
    labels: np.ndarray

    def predict(self, x_ND: np.ndarray) -> np.ndarray:
        """The label of the highest score of each row, [N]."""
        told: np.ndarray = self.labels[(x_ND @ self.weight.T + self.bias).argmax(1)]
        return told


def logistic_regression(
    x_ND: np.ndarray, labels_N: np.ndarray, *, iterations: int = 200, standardise: bool = True
) -> Linear:
    """Multinomial logistic regression at scikit-learn's usual penalty (C = 1).

    Args:
        x_ND: rows, any real type.
        labels_N: whole numbers; those that occur are told apart. Of one label alone nothing is fitted: it is told.
        iterations: at most so many of L-BFGS.
        standardise: whether each number of a row is brought to mean 0 and deviation 1 over the rows first. The penalty
            then treats them alike.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
    except ModuleNotFoundError as error:
        raise missing_extra("sklearn") from error
    found = np.unique(labels_N)
    if len(found) < 2:
        return Linear(np.zeros((1, x_ND.shape[1])), np.zeros(1), found)
    mean, deviation = 0.0, 1.0
    if standardise:
        x_ND = x_ND.astype(np.float64)
        mean, deviation = x_ND.mean(0), x_ND.std(0)
        deviation[deviation < 1e-6] = 1.0
        x_ND = (x_ND - mean) / deviation
    model = LogisticRegression(max_iter=iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x_ND, labels_N)
    weight, bias = np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)
    if len(found) == 2:  # scikit-learn tells by one row how much the second is before the first
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / deviation
    return Linear(weight, bias - weight @ np.broadcast_to(mean, x_ND.shape[1]), found)
