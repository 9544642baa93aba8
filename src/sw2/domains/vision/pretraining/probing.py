"""What vectors know of labels that they were not learned from: a linear probe and nearest neighbours.

Held-out pictures are divided into folds; those of each fold are told by what the others' labels say. So no picture is
judged by itself, nor by a picture that the network was trained on, and programs that were trained on different pictures
are judged alike. Copies of a picture are in one fold, each label is spread over all of them, and where a picture goes
depends on its content alone.

- *Linear probe*: multinomial logistic regression on the vectors, each number of them brought to mean 0 and deviation 1
  over what it is fitted on (scikit-learn, at its usual penalty of 1).
- *Neighbours*: the ten vectors of the largest cosine vote, each with weight exp(cosine / 0.07).

Sources: the probe as in Chen et al. 2020, https://arxiv.org/abs/2002.05709, section 2.2; the vote: Wu et al. 2018,
https://arxiv.org/abs/1805.01978, section 3.4.

Shapes: N pictures, D dimensions, K labels.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import numpy as np

from sw2.base.errors import DataError
from sw2.core.data import Split
from sw2.parts.linear import logistic_regression

__all__ = ["folds", "labels_of", "neighbours", "probe"]

_FOLDS: Final = 5
_NEIGHBOURS: Final = 10
_TEMPERATURE: Final = 0.07
_AT_ONCE: Final = 1024


def labels_of(examples: Split) -> np.ndarray:
    """The label of each example as a number, int64 [N], in the order of their names.

    Raises:
        DataError: an example has no label, or all have the same.
    """
    if bare := sum("label" not in example for example in examples):
        raise DataError(
            "Vectors are judged by the labels of pictures, and these have none.",
            wanted="a folder for each label, or a table with a column of labels",
            got=f"{bare} of {len(examples)} pictures without a label",
            do="Judge on other pictures: sw2 eval PROGRAM LABELLED-PICTURES.",
        )
    names, numbers = np.unique([example["label"] for example in examples], return_inverse=True)
    if len(names) < 2:
        raise DataError(
            "There is nothing to tell apart.", wanted="pictures of at least two labels", got=", ".join(names) or "none"
        )
    return numbers


def folds(examples: Split) -> np.ndarray:
    """The fold of each labelled example, int64 [N], at most five of them.

    Raises:
        DataError: there are not two different pictures.
    """
    by_label: defaultdict[str, list[str]] = defaultdict(list)
    for digest, label in sorted({example["sha256"]: example["label"] for example in reversed(examples)}.items()):
        by_label[label].append(digest)
    # Labels follow each other without a gap, so that rare ones do not all fall into the first fold.
    order = [digest for _, digests in sorted(by_label.items()) for digest in digests]
    if len(order) < 2:
        raise DataError("One picture cannot be told by others.", wanted="at least two pictures", got=len(order))
    place = {digest: number % _FOLDS for number, digest in enumerate(order)}
    return np.array([place[example["sha256"]] for example in examples])


def probe(vectors_ND: np.ndarray, labels_N: np.ndarray, folds_N: np.ndarray) -> np.ndarray:
    """Which examples a linear probe tells right, bool [N]."""
    told_N = np.empty_like(labels_N)
    for fold in np.unique(folds_N):
        asked_N = folds_N == fold
        told_N[asked_N] = logistic_regression(vectors_ND[~asked_N], labels_N[~asked_N]).predict(vectors_ND[asked_N])
    right_N: np.ndarray = told_N == labels_N
    return right_N


def neighbours(vectors_ND: np.ndarray, labels_N: np.ndarray, folds_N: np.ndarray) -> np.ndarray:
    """Which examples their nearest neighbours tell right, bool [N].

    Args:
        vectors_ND: of length 1.
    """
    told_N = np.empty_like(labels_N)
    for fold in np.unique(folds_N):
        asked, known = np.flatnonzero(folds_N == fold), np.flatnonzero(folds_N != fold)
        most = min(_NEIGHBOURS, len(known))
        for start in range(0, len(asked), _AT_ONCE):
            some = asked[start : start + _AT_ONCE]
            cosines = vectors_ND[some] @ vectors_ND[known].T
            near = np.argpartition(-cosines, most - 1, axis=1)[:, :most]
            told_N[some] = _elected(np.take_along_axis(cosines, near, 1), labels_N[known][near], labels_N.max() + 1)
    right_N: np.ndarray = told_N == labels_N
    return right_N


def _elected(cosines: np.ndarray, labels: np.ndarray, K: int) -> np.ndarray:
    """For each row of neighbours the label with the most votes; of equals the first."""
    votes = np.zeros((len(labels), K))
    np.add.at(votes, (np.arange(len(labels))[:, None], labels), np.exp((cosines - 1) / _TEMPERATURE))
    elected: np.ndarray = votes.argmax(1)
    return elected
