"""What one step of learning takes: the corpus as numbers, the chances of words, and the matrices that change.

    keep        sqrt(t / f) + t / f for a word of frequency f: common words say little about their neighbours (Mikolov
                et al. 2013, arXiv 1310.4546, eq. 5; the second term is that of the authors' code, and of fastText's)
    threshold,  which words are drawn to be told apart from the right ones: by frequency to the power 3/4 (ibid.,
    alias       section 2.2), or with subwords 1/2 (Bojanowski et al. 2017, arXiv 1607.04606, section 4.2), in one
                look-up a draw (Walker 1977, doi:10.1145/355744.355749)

`native` and `reference` take the step.

Shapes: V words, R rows (V, and one for each bucket of n-grams), S floats of a row (the dimensions, and zeros behind)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["LANES", "POWERS", "Lesson", "Told", "Tree", "Way", "alias_table", "keep_chances", "matrix"]

LANES: Final = 16
"""Floats that the kernels take at once; a row is as many of these as hold the dimensions."""

Way = Literal["skip-gram", "cbow", "subwords"]

POWERS: Final[Mapping[Way, float]] = {"skip-gram": 0.75, "cbow": 0.75, "subwords": 0.5}
"""To which power of their frequency words are drawn."""


@dataclass(frozen=True)
class Tree:
    """The way to each word down a binary tree of all words, for hierarchical softmax.

    Args:
        borders: int64 [V + 1]: the way to word i is nodes[borders[i] : borders[i + 1]], in any order.
        nodes: int32, rows of `output`.
        turns: float32, 1 where the way goes to the right from this node, else 0.
    """

    borders: NDArray[np.int64]
    nodes: NDArray[np.int32]
    turns: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Everything but the place in the corpus.

    Args:
        tokens: int32, numbers of words; -1 between lines.
        keep: float32 [V], with which chance an occurrence stays.
        threshold, alias: float32 [V] and int32 [V], see `alias_table`.
        input: float32 [R, S], from `matrix`; what is looked for.
        output: float32 [V, S], from `matrix`; what words are told apart by while learning: one row for each, or with a
            tree for each of its nodes, of which there are V - 1.
        borders, parts: int64 [V + 1] and int32: the rows of `input` that make up word i are
            parts[borders[i] : borders[i + 1]]; None where it has row i alone.
        tree: for hierarchical softmax; None where words are drawn.
        way: see `kernels.cpp`.
        window: how many words on each side at most, 1 to 20.
        negatives: how many words are drawn for each pair, 1 to 20; 0 with a tree.
        threads: at least 1.
    """

    tokens: NDArray[np.int32]
    keep: NDArray[np.float32]
    threshold: NDArray[np.float32]
    alias: NDArray[np.int32]
    input: NDArray[np.float32]
    output: NDArray[np.float32]
    borders: NDArray[np.int64] | None
    parts: NDArray[np.int32] | None
    tree: Tree | None
    way: Way
    window: int
    negatives: int
    threads: int


class Told(NamedTuple):
    """What a step tells of: the sum of the losses that were computed, of how many pairs, and how many words stayed."""

    loss: float
    pairs: int
    stayed: int


def keep_chances(counts: NDArray[np.int64], threshold: float) -> NDArray[np.float32]:
    """With which chance an occurrence of each word stays, float32 [V]; 1 for all where `threshold` is 0.

    Args:
        counts: [V], each at least 1.
        threshold: the frequency up to which all of them stay; 1e-3 or 1e-4 is usual.
    """
    if threshold == 0:
        return np.ones(len(counts), np.float32)
    share = threshold * counts.sum() / counts
    return np.minimum(1.0, np.sqrt(share) + share).astype(np.float32)


def alias_table(counts: NDArray[np.int64], power: float) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The tables for draws by a power of counts: take a place at random, and it or its alias by its threshold.

    Args:
        counts: [V], each at least 1.
        power: 0 draws all words alike, 1 as often as they occur.

    Returns:
        threshold float32 [V] in [0, 1], and alias int32 [V].
    """
    weights = counts.astype(np.float64) ** power
    chance = weights * (len(weights) / weights.sum())
    threshold, alias = np.ones(len(weights)), np.arange(len(weights))
    rest = chance.tolist()
    small, large = np.flatnonzero(chance < 1).tolist(), np.flatnonzero(chance >= 1).tolist()
    while small and large:
        less, more = small.pop(), large[-1]
        threshold[less], alias[less] = rest[less], more
        rest[more] -= 1 - rest[less]
        if rest[more] < 1:
            small.append(large.pop())
    return threshold.astype(np.float32), alias.astype(np.int32)


def matrix(rows: int, dimensions: int) -> NDArray[np.float32]:
    """Zeros [rows, S] as the kernels want them: S a multiple of 16, at an address that is a multiple of 64."""
    stride = -(-dimensions // LANES) * LANES
    room = np.zeros(rows * stride + LANES, np.float32)
    begin = -(room.ctypes.data // 4) % LANES
    return room[begin : begin + rows * stride].reshape(rows, stride)
