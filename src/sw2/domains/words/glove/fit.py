"""What a step of GloVe takes, and the step in numpy: the same as `kernels.cpp` on one thread, up to rounding.

Shapes: P pairs, V words, D dimensions, S floats of a row (D, two more, and zeros behind)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sw2.domains.words.lesson import matrix

__all__ = ["PAIR", "Fit", "fit", "squares"]

PAIR: Final = np.dtype([("smaller", "<i4"), ("larger", "<i4"), ("count", "<f4")])
"""Two words, the one with the smaller number first, and how often they stand near each other."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Everything but the place in the pairs; `kernels.cpp` tells the formulas and what stands in a row.

    Args:
        pairs: `PAIR` [P], each pair of words once, counts above 0.
        first, second: float32 [V, S], from `matrix`.
        first_squares, second_squares: float32 [V, S], from `squares`.
        rate: above 0.
        x_max: the count from which on pairs weigh the same.
        alpha: to which power of their count rarer ones weigh less.
        threads: at least 1.
    """

    pairs: NDArray[Any]
    first: NDArray[np.float32]
    second: NDArray[np.float32]
    first_squares: NDArray[np.float32]
    second_squares: NDArray[np.float32]
    rate: float
    x_max: float
    alpha: float
    threads: int


def squares(words: int, dimensions: int, fixed: int) -> NDArray[np.float32]:
    """Sums of squares at the beginning, [V, S]: ones, and infinite in column `fixed`, whose numbers never change."""
    made = matrix(words, dimensions + 2)
    made[:] = 1
    made[:, fixed] = np.inf
    return made


def fit(given: Fit, begin: int, end: int) -> float:
    """Learn from pairs[begin:end]: the sum of the losses; the matrices of `given` change.

    Args:
        given: what is learned; its `threads` say nothing here.
        begin, end: the piece.
    """
    loss, most = 0.0, np.float32(np.log(given.x_max))
    for smaller, larger, count in given.pairs[begin:end].tolist():
        logarithm = np.log(np.float32(count))
        weight = np.exp(np.float32(given.alpha) * np.minimum(np.float32(0), logarithm - most))
        for i, j in ((smaller, larger), (larger, smaller))[: 1 + (smaller != larger)]:
            x, y = given.first[i].copy(), given.second[j].copy()
            off = x @ y - logarithm
            of_x, of_y = (weight * off * np.float32(given.rate) * other for other in (y, x))
            given.first[i] -= of_x / np.sqrt(given.first_squares[i])
            given.second[j] -= of_y / np.sqrt(given.second_squares[j])
            given.first_squares[i] += of_x * of_x
            given.second_squares[j] += of_y * of_y
            loss += float(weight * off * off)
    return loss
