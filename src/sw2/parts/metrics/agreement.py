"""How far people who label the same examples agree, beyond what chance alone would give.

- `cohen_kappa`: two people, each with a label for every example.
- `krippendorff_alpha`: any number of people, each with labels for some of the examples; of two who labelled all it is
  nearly the same.

Both are 1 where all agree, about 0 where labels are as if drawn, and below 0 where people agree less than that. Where
only one label was ever given, chance explains everything and both are not defined: nan.

Shape legend: N examples, U of them with labels of at least two people, K labels. Labels are integers in [0, K).

Sources: J. Cohen, "A coefficient of agreement for nominal scales" (1960), Educational and Psychological Measurement 20;
K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C, for nominal data. The tests hold kappa
against scikit-learn, and alpha against the published example and against pairs counted one by one.

What it does not do: labels with an order (a weighted kappa), several labels for one example.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sw2.base.errors import DataError
from sw2.parts.metrics.classification import confusion_matrix

__all__ = ["cohen_kappa", "krippendorff_alpha"]


def cohen_kappa(one_N: ArrayLike, other_N: ArrayLike) -> float:
    """Cohen's kappa of two people: (o - e) / (1 - e).

    With o the share of examples with the same label from both, and e the sum over labels of the product of the two
    people's shares of it.

    Args:
        one_N, other_N: the labels of each, [N], N at least 1.

    Raises:
        DataError: when there are no examples or the lengths differ.

    >>> round(cohen_kappa([0, 0, 1, 1], [0, 1, 1, 1]), 3)
    0.5
    """
    labels = int(max(np.max(one_N, initial=0), np.max(other_N, initial=0))) + 1
    counts_KK = confusion_matrix(one_N, other_N, labels)
    shares_KK = counts_KK / counts_KK.sum()
    by_chance = float(shares_KK.sum(0) @ shares_KK.sum(1))
    if by_chance >= 1.0:
        return math.nan
    return float((np.trace(shares_KK) - by_chance) / (1 - by_chance))


def krippendorff_alpha(counts_NK: ArrayLike) -> float:
    """Krippendorff's alpha for labels without an order: 1 - observed / expected disagreement.

    With n_uk how many people gave example u the label k, n_u their sum over labels, n_k that over examples and n that
    over both, examples with fewer than two labels left out (section C, step 3):

        observed = sum_u sum_{k ≠ l} n_uk n_ul / (n_u - 1) / n,      expected = sum_{k ≠ l} n_k n_l / (n (n - 1))

    Args:
        counts_NK: how many people gave each example each label, [N, K], whole numbers from 0.

    Raises:
        DataError: when no example has two labels.

    >>> round(krippendorff_alpha([[2, 0], [1, 1], [0, 2], [0, 2]]), 3)
    0.533
    """
    counts: NDArray[np.float64] = np.asarray(counts_NK, np.float64)
    paired_UK = counts[counts.sum(1) >= 2]
    if not len(paired_UK):
        raise DataError("Nobody labelled the same.", wanted="an example with the labels of two people", got="none")
    people_U, labels_K = paired_UK.sum(1), paired_UK.sum(0)
    total = people_U.sum()
    observed = ((people_U**2 - (paired_UK**2).sum(1)) / (people_U - 1)).sum() / total
    expected = (total**2 - (labels_K**2).sum()) / (total * (total - 1))
    return float(1 - observed / expected) if expected > 0 else math.nan
