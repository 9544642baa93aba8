"""Four-grams of words: how much of one set of texts stands in another.

Words and numbers in lower case; "12.50" is one word. What counts is different four-grams, not how often each occurs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["FourGrams", "four_grams", "shared"]

FourGrams = set[tuple[str, ...]]


def four_grams(texts: Iterable[str]) -> FourGrams:
    """Those of all texts; none reaches from one into the next.

    >>> sorted(four_grams(["One of 12.50 each."]))
    [('one', 'of', '12.50', 'each')]
    """
    found = FourGrams()
    for text in texts:
        words = re.findall(r"\w+(?:\.\d+)?", text.lower())
        found.update(zip(words, words[1:], words[2:], words[3:], strict=False))
    return found


def shared(some: FourGrams, known: FourGrams) -> float:
    """The share of `some` that is known, 0 of nothing."""
    return len(some & known) / len(some) if some else 0.0
