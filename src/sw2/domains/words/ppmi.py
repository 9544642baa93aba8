"""PPMI-SVD: word vectors in closed form, by counting and one factorisation.

    PPMI(w, c) = max(0, log(#(w, c) · Σ #(·)^0.75 / (#(w) · #(c)^0.75)))      # counts pairs in windows
    vectors    = U sqrt(S), with PPMI ≈ U S Vᵀ

Skip-gram with negative sampling factorises a matrix of the same kind (Levy and Goldberg 2014, "Neural word embedding as
implicit matrix factorization"); smoothing and the root of S are those that did best in Levy, Goldberg and Dagan 2015
(https://aclanthology.org/Q15-1016, sections 3.2 and 3.3). A baseline that takes no learning rate and no luck.

What it does not do: vocabularies whose pairs do not fit in memory; weights by distance.

Shapes: N tokens, V words, D dimensions
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sw2.base.seed import derive

__all__ = ["neighbours", "pairs_of", "ppmi_svd"]

_SMOOTHING: Final = 0.75
_AT_ONCE: Final = 1 << 21
_EXTRA: Final = 16
"""Dimensions beyond those wanted that the random factorisation works with."""


def neighbours(
    tokens: NDArray[np.int32], begin: int, end: int, window: int
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """The pairs of a line whose first word stands in tokens[begin:end] and whose second one at most `window` behind it.

    Args:
        tokens: [N], numbers of words; -1 between lines, -2 for a word that does not count.
        begin, end: the piece.
        window: at least 1.

    Yields:
        For each distance from 1 on the first and the second words.
    """
    part = np.asarray(tokens[begin : end + window], np.int64)
    lines = np.cumsum(part == -1)
    for distance in range(1, min(window, len(part) - 1) + 1):
        first, second = part[:-distance][: end - begin], part[distance:][: end - begin]
        near = (first >= 0) & (second >= 0) & (lines[:-distance] == lines[distance:])[: len(first)]
        yield distance, first[near], second[near]


def pairs_of(tokens: NDArray[np.int32], words: int, window: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How often two words stand within `window` of each other in a line, the first before the second.

    Args:
        tokens: [N], numbers of words; -1 between lines, -2 for a word that does not count.
        words: V.
        window: at least 1.

    Returns:
        Keys first · V + second, sorted and distinct, and their counts.
    """
    keys, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    for begin in range(0, len(tokens), _AT_ONCE):
        found = [keys]
        weights = [counts]
        for _, first, second in neighbours(tokens, begin, begin + _AT_ONCE, window):
            some, times = np.unique(first * words + second, return_counts=True)
            found.append(some)
            weights.append(times)
        keys, places = np.unique(np.concatenate(found), return_inverse=True)
        counts = np.bincount(places, np.concatenate(weights)).astype(np.int64)
    return keys, counts


def ppmi_svd(
    tokens: NDArray[np.int32], words: int, *, dimensions: int, window: int = 5, seed: int
) -> NDArray[np.float32]:
    """Vectors [V, D] of words 0 to V - 1; zeros for words without neighbours.

    Args:
        tokens: [N], numbers of words; -1 between lines, -2 for a word that does not count.
        words: V.
        dimensions: D, below V.
        window: how many words on each side count.
        seed: of the random factorisation.
    """
    keys, counts = pairs_of(tokens, words, window)
    first, second = np.divmod(keys, words)
    # Neighbours on both sides: each pair the other way round too, and added to where it stands already.
    keys, places = np.unique(np.concatenate([keys, second * words + first]), return_inverse=True)
    together = np.bincount(places, np.concatenate([counts, counts]))
    rows, columns = np.divmod(keys, words)
    total = np.bincount(rows, together, words)
    smoothed = total**_SMOOTHING
    values = np.log(together * smoothed.sum() / (total[rows] * smoothed[columns]))
    kept = values > 0
    where = torch.from_numpy(np.stack([rows[kept], columns[kept]]))
    matrix = torch.sparse_coo_tensor(
        where, torch.from_numpy(values[kept].astype(np.float32)), (words, words), check_invariants=False
    ).coalesce()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "ppmi"))
        u, s, _ = torch.svd_lowrank(matrix, q=min(words, dimensions + _EXTRA), niter=4)
    found: NDArray[np.float32] = (u * s.sqrt())[:, :dimensions].contiguous().numpy()
    return found
