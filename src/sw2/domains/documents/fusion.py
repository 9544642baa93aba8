"""Fusing two rankings, one by words and one by meaning, into one.

    score = (cosine + 2.5 · share ** 1.5) / 3.5
    share = BM25 / the most that BM25 could be for this question

A cosine says by itself how near something is; BM25 does not, since it grows with the question. Divided by its upper
end it says how much of the question the words of a passage account for: nearly all where the question repeats the
passage, and then words decide; a little where question and passage share a word or two, and then meaning does. Dividing
by the best passage of the question instead would call the best one perfect, however little it has. The power lets what
accounts for half of a question count less than half of what accounts for all.

    most = Σ idf(term) · (k1 + 1)      idf = ln((N - n + 0.5) / (n + 0.5)), k1 = 1.2, as in FTS5

What is not among the passages found by words counts 0 there. What has no vector yet counts as near as the middle of
those that have one, so that it is found by its words while vectors are filled in.

Sources: Bruch, Gai, Ingber 2023, "An Analysis of Fusion Functions for Hybrid Retrieval",
https://doi.org/10.1145/3596512 (scores rather than ranks, a theoretical end rather than one of the sample); Robertson
and Zaragoza 2009 (BM25); Cormack et al. 2009, https://doi.org/10.1145/1571941.1572114 (`by_rank`, which is compared
with). Weight and power were chosen on the validation questions of `benchmarks/document_search.py`: see README.md.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["POWER", "WEIGHT", "by_rank", "fused", "most_bm25"]

WEIGHT: Final = 2.5
"""How much words count that account for the whole question, beside a cosine of 1."""
POWER: Final = 1.5

_K1: Final = 1.2
_LEAST_IDF: Final = 1e-6


def most_bm25(counts: Iterable[float], passages: int) -> float:
    """The most that BM25 could be: of a passage that had every term more often than could be told.

    Args:
        counts: of each term of the question, how many passages have it.
        passages: how many there are.

    >>> round(most_bm25([1, 50], 100), 3)
    9.228
    """
    return sum(
        (_K1 + 1) * max(_LEAST_IDF, math.log(max(0.5, passages - count + 0.5) / (count + 0.5))) for count in counts
    )


def fused(
    words: Mapping[int, float], cosines: Mapping[int, float], weight: float = WEIGHT, power: float = POWER
) -> dict[int, float]:
    """The fused score of every passage in either ranking, by id, from 0 to 1.

    Args:
        words: the share of the most BM25 by id, from 0 to 1.
        cosines: by id.
        weight: of words, 0 or more.
        power: of their share, above 0.

    >>> fused({1: 1.0, 2: 0.5}, {2: 0.6, 3: 0.4}, 1.0, 1.0)
    {1: 0.75, 2: 0.55, 3: 0.2}
    """
    middle = statistics.median(cosines.values()) if cosines else 0.0
    return {
        id: round((weight * words.get(id, 0.0) ** power + max(0.0, cosines.get(id, middle))) / (weight + 1), 9)
        for id in {**words, **cosines}
    }


def by_rank(words: Mapping[int, float], cosines: Mapping[int, float], offset: float = 60.0) -> dict[int, float]:
    """Reciprocal rank fusion: the sum of 1 / (offset + rank) over the rankings that have the passage, by id."""
    fused = dict.fromkeys({**words, **cosines}, 0.0)
    for scores in (words, cosines):
        for rank, id in enumerate(sorted(scores, key=lambda id: (-scores[id], id)), 1):
            fused[id] += 1 / (offset + rank)
    return fused
