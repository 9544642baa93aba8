"""Phrases: pairs of words that stand together far more often than by chance, taken as one word ("new_york").

    score(a, b) = (count(a b) - 5) · T / (count(a) · count(b))        T: all words of the text

Pairs above a threshold are phrases (Mikolov et al. 2013, arXiv 1310.4546, eq. 6; the factor T as in the authors' code,
so that a threshold means the same for texts of all sizes). A line is joined from left to right, each word once.

Memory holds some millions of pairs at most: when there are more, those that were seen least so far are forgotten.

What it does not do: phrases of three words and more.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

__all__ = ["find_phrases", "joined"]

_DISCOUNT: Final = 5
_MOST: Final = 5_000_000


def find_phrases(lines: Iterable[Sequence[str]], counts: Counter[str], threshold: float) -> frozenset[str]:
    """The phrases of a text, each as it is written when joined.

    Args:
        lines: the words of each line.
        counts: how often each word occurs in them.
        threshold: above 0; 100 is usual, less finds more.
    """
    pairs, least = Counter[tuple[str, str]](), 1
    for line in lines:
        pairs.update(itertools.pairwise(line))
        if len(pairs) > _MOST:
            least += 1
            pairs = Counter({pair: count for pair, count in pairs.items() if count >= least})
    total = counts.total()
    return frozenset(
        f"{a}_{b}" for (a, b), count in pairs.items() if (count - _DISCOUNT) * total > threshold * counts[a] * counts[b]
    )


def joined(words: Sequence[str], is_phrase: Callable[[str], object]) -> list[str]:
    """The words with phrases joined.

    >>> joined(["new", "york", "york", "new"], {"new_york"}.__contains__)
    ['new_york', 'york', 'new']
    """
    found: list[str] = []
    place = 0
    while place < len(words):
        pair = "_".join(words[place : place + 2])
        whole = place + 1 < len(words) and is_phrase(pair)
        found.append(pair if whole else words[place])
        place += 2 if whole else 1
    return found
