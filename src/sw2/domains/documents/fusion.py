"""Fusing two rankings, one by words and one by meaning, into one.

    score = (1 - w) · words / best words + w · cosine          w = 0.75, the cosine at least 0

BM25 has no upper end, so a passage's is divided by the best of the question; a cosine is taken as it is, and so keeps
saying how near the nearest is. What one ranking did not find counts 0 there, unless its cosine was looked up. w was
chosen on the validation half of `benchmarks/document_search.py`, beside reciprocal rank fusion (Cormack et al. 2009,
https://doi.org/10.1145/1571941.1572114): see README.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["WEIGHT", "by_rank", "weighted"]

WEIGHT: Final = 0.75
"""How much the meaning counts."""


def weighted(words: Mapping[int, float], cosines: Mapping[int, float], weight: float = WEIGHT) -> dict[int, float]:
    """The fused score of every passage in either ranking, by id.

    Args:
        words: BM25 by id, above 0.
        cosines: by id.
        weight: of the cosines, from 0 to 1.

    >>> weighted({1: 8.0, 2: 4.0}, {2: 0.6, 3: 0.4}, 0.5)
    {1: 0.5, 2: 0.55, 3: 0.2}
    """
    best = max(words.values(), default=0.0) or 1.0
    return {
        id: round((1 - weight) * words.get(id, 0.0) / best + weight * max(0.0, cosines.get(id, 0.0)), 9)
        for id in {**words, **cosines}
    }


def by_rank(words: Mapping[int, float], cosines: Mapping[int, float], offset: float = 60.0) -> dict[int, float]:
    """Reciprocal rank fusion: the sum of 1 / (offset + rank) over the rankings that have the passage, by id."""
    fused = dict.fromkeys({**words, **cosines}, 0.0)
    for scores in (words, cosines):
        for rank, id in enumerate(sorted(scores, key=lambda id: (-scores[id], id)), 1):
            fused[id] += 1 / (offset + rank)
    return fused
