"""What can be asked of vectors: the nearest words, analogies, the odd one out.

    nearest      by cosine
    analogy      a is to b as c is to: the word nearest to b - a + c, all of length 1 ("3CosAdd", Mikolov et al. 2013,
                 https://aclanthology.org/N13-1090, section 4); a, b and c are no answers
    odd one out  the word whose cosine to the mean of all is smallest, all of length 1

A word's frequency decides nothing but the order of equals.

Shapes: V words, D dimensions, N questions
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["WordSpace", "odd_one_out", "unit"]

Vectors = NDArray[np.float32]

_AT_ONCE: Final = 1 << 24


def unit(vectors: Vectors) -> Vectors:
    """Rows of length 1; rows of zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


@final
class WordSpace:
    """Words with their vectors.

    Args:
        words: V distinct words, the most frequent first.
        matrix: float32 [V, D].
    """

    def __init__(self, words: Sequence[str], matrix: Vectors) -> None:
        self.words, self.units = words, unit(matrix)
        self.numbers = {word: number for number, word in enumerate(words)}

    def nearest(self, vector: Vectors, count: int, without: Iterable[str] = ()) -> list[tuple[str, float]]:
        """The `count` words with the largest cosines to a vector [D], with these; `without` are no answers."""
        cosines = self.units @ unit(vector)
        cosines[[self.numbers[word] for word in without if word in self.numbers]] = -np.inf
        return [(self.words[number], float(cosines[number])) for number in _largest(cosines, count)]

    def analogies(self, questions: Sequence[tuple[str, str, str]]) -> list[str]:
        """The answer to each "a is to b as c is to", N of them; all words have to be of the V."""
        numbers = np.array([[self.numbers[word] for word in each] for each in questions]).reshape(-1, 3)
        answers: list[str] = []
        rows = max(1, _AT_ONCE // len(self.words))
        for some in np.split(numbers, range(rows, len(numbers), rows)):
            a, b, c = (self.units[some[:, place]] for place in range(3))
            scores = (b - a + c) @ self.units.T
            np.put_along_axis(scores, some, -np.inf, axis=1)
            answers += [self.words[number] for number in scores.argmax(1)]
        return answers


def odd_one_out(vectors: Vectors) -> list[float]:
    """The cosine of each of N vectors [N, D] to the mean of all, each of length 1; the odd one has the smallest."""
    units = unit(vectors)
    return [float(cosine) for cosine in units @ unit(units.mean(0))]


def _largest(values: NDArray[np.float32], count: int) -> list[int]:
    """The places of the largest finite values, largest first."""
    count = min(count, len(values))
    found = np.argpartition(-values, count - 1)[:count]
    return [int(place) for place in found[np.argsort(-values[found], kind="stable")] if np.isfinite(values[place])]
