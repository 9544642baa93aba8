"""What `kernels.cpp` does, in numpy: hashes, features, scores, learning and the bits of a Bloom filter.

The same answers, bit for bit, but for learning, whose sums may be rounded otherwise. For tests, and for machines
without a compiler; slower by far.

Shapes: N keys · F features of all of them · B bytes of all texts · K bits of a key in a filter
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LONGEST",
    "SHORTEST",
    "add",
    "ask",
    "features_of_numbers",
    "features_of_texts",
    "hashes_of_numbers",
    "hashes_of_texts",
    "learn",
    "mixed",
    "scores",
]

SHORTEST: Final = 2
"""Bytes of the shortest gram; the same as in `kernels.cpp`."""

LONGEST: Final = 5
"""Bytes of the longest gram; the same as in `kernels.cpp`."""

_ODD: Final = 0x9E3779B97F4A7C15
_BEGIN: Final = 2
_END: Final = 3
_LEADING: Final = tuple(range(4, 64, 4))
_LAST: Final = (1, 2, 3, 4, 6, 8, 12, 16)
_ALL: Final = (1 << 64) - 1

Features = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Which weight each feature has, [F], and where the features of each key begin, [N + 1]."""


def _u(number: int) -> np.uint64:
    return np.uint64(number & _ALL)


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers of 64 bits, each bit of which depends on all of `values`' bits; one to one."""
    values = (values ^ (values >> _u(33))) * _u(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> _u(33))) * _u(0xC4CEB9FE1A85EC53)
    return values ^ (values >> _u(33))


def hashes_of_numbers(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A hash of each number, [N]."""
    return mixed(values + _u(_ODD))


def hashes_of_texts(text: NDArray[np.uint8], starts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A hash of each text, [N]."""
    lengths = np.diff(starts)
    padded = np.append(text, np.zeros(8, np.uint8)).astype(np.uint64)
    found = (lengths + 1).astype(np.uint64) * _u(_ODD)
    at = 0
    while (some := np.flatnonzero(lengths > at)).size:
        word = np.zeros(len(some), np.uint64)
        for j in range(8):
            inside = at + j < lengths[some]
            word |= np.where(inside, padded[starts[some] + at + j], 0).astype(np.uint64) << _u(8 * j)
        found[some] = mixed(found[some] ^ word)
        at += 8
    return found


def features_of_numbers(values: NDArray[np.uint64], power: int) -> Features:
    """Features of numbers: their leading bits and their last, among 2^power weights."""
    columns = [np.full(len(values), mixed(np.zeros(1, np.uint64))[0])]
    columns += [mixed((values >> _u(64 - bits)) + _u(bits * _ODD)) for bits in _LEADING]
    columns += [mixed((values & _u((1 << bits) - 1)) + _u((64 + bits) * _ODD)) for bits in _LAST]
    found = np.stack(columns, axis=1) >> _u(64 - power)
    return found.ravel().astype(np.int64), np.arange(len(values) + 1) * len(columns)


def features_of_texts(text: NDArray[np.uint8], starts: NDArray[np.int64], power: int) -> Features:
    """Features of texts: their grams, with a mark at each end, among 2^power weights."""
    lengths = np.diff(starts)
    ends = np.cumsum(lengths + 2)
    marked = np.zeros(int(ends[-1]) + LONGEST if len(ends) else LONGEST, np.uint64)
    whose = np.repeat(np.arange(len(lengths)), lengths + 2)
    inside = np.ones(len(whose), bool)
    inside[ends - lengths - 2] = inside[ends - 1] = False
    marked[: len(whose)][inside] = text[starts[0] : starts[-1]]
    marked[ends - lengths - 2], marked[ends - 1] = _BEGIN, _END
    places = np.arange(len(whose))
    left = np.repeat(ends, lengths + 2) - places  # bytes from here to the end of the text
    gram, found = np.zeros(len(whose), np.uint64), [np.zeros(len(lengths), np.uint64)]
    owners = [np.arange(len(lengths))]
    for size in range(1, LONGEST + 1):
        gram |= marked[places + size - 1] << _u(8 * (size - 1))
        if size >= SHORTEST:
            some = left >= size
            found.append(((gram[some] | _u(size << 56)) * _u(_ODD)) >> _u(64 - power))
            owners.append(whose[some])
    owner = np.concatenate(owners)
    begins = np.searchsorted(np.sort(owner), np.arange(len(lengths) + 1))
    return np.concatenate(found)[np.argsort(owner, kind="stable")].astype(np.int64), begins


def scores(features: Features, weights: NDArray[np.int8]) -> NDArray[np.int32]:
    """The sum of each key's weights, [N]."""
    at, starts = features
    return np.add.reduceat(weights[at].astype(np.int32), starts[:-1]) if len(starts) > 1 else np.empty(0, np.int32)


def learn(
    features: Features,
    order: NDArray[np.int64],
    member: NDArray[np.uint8],
    batch: int,
    rate: np.float32,
    weights: NDArray[np.float32],
    squares: NDArray[np.float32],
) -> None:
    """One pass of AdaGrad over the examples of `order`; changes `weights` and `squares` in their place."""
    at, starts = features
    for begin in range(0, len(order), batch):
        some = order[begin : begin + batch]
        counts = starts[some + 1] - starts[some]
        first = np.cumsum(counts) - counts
        these = at[np.arange(counts.sum()) + np.repeat(starts[some] - first, counts)]
        sums = np.add.reduceat(weights[these].astype(np.float64), first)
        gaps = np.repeat((member[some] - 1 / (1 + np.exp(-sums))).astype(np.float32), counts)
        np.add.at(squares, these, gaps * gaps)
        np.add.at(weights, these, rate * gaps / np.sqrt(squares[these]))


def _places(bits: int, hashes_per_key: int, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The bits of each hash, [N, K]."""
    step = mixed(hashes + _u(_ODD)) | _u(1)
    turns = hashes[:, None] + np.arange(hashes_per_key, dtype=np.uint64) * step[:, None]
    return ((turns >> _u(32)) * _u(bits) >> _u(32)).astype(np.int64)


def add(field: NDArray[np.uint64], bits: int, hashes_per_key: int, hashes: NDArray[np.uint64]) -> None:
    """Set the bits of each hash in `field`, in its place."""
    places = _places(bits, hashes_per_key, hashes).ravel()
    np.bitwise_or.at(field, places >> 6, _u(1) << (places & 63).astype(np.uint64))


def ask(field: NDArray[np.uint64], bits: int, hashes_per_key: int, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether all bits of each hash are set, [N]."""
    places = _places(bits, hashes_per_key, hashes)
    set_ = field[places >> 6] >> (places & 63).astype(np.uint64) & _u(1)
    return set_.all(axis=1)
