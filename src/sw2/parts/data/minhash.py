"""Near-duplicates: how alike two texts are by the runs of words they share, and which of many are alike.

    text → runs of five words → a signature of 120 minima → keys of 20 bands → candidates → groups

Notable
- Text is bytes. A word is a run of letters, digits and underscores, in lower case; every byte of a character beyond
  ASCII counts as a letter, and each Chinese or Japanese character is a word of its own. Punctuation and space do not
  count, so two texts that differ in nothing else are alike.
- Everything is arithmetic on whole arrays: words are hashed by differences of running sums of byte · Pⁱ (mod 2⁶⁴),
  hash functions are a · x + b (mod 2³²) over hashes that are well mixed already.
- Signatures estimate; a caller that drops texts should compare the candidates exactly, with `jaccard` over `runs`.

With s the Jaccard similarity of the sets of runs, each minimum agrees with probability s, the standard error of the
estimate is √(s (1 - s) / 120), and 20 bands of 6 find a pair with probability 1 - (1 - s⁶)²⁰: 0.998 at 0.8, 0.92 at
0.7, 0.27 at 0.5.

Sources: Broder 1997, "On the resemblance and containment of documents"; Indyk & Motwani 1998 (bands); Rajaraman &
Ullman, "Mining of massive datasets", chapter 3; Lee et al. 2022, https://arxiv.org/abs/2107.06499 (runs of five words).

What it does not do: substrings that many texts share; languages without spaces beyond Chinese and Japanese, whose
sentences count as words.

Shapes: N bytes · W words, and runs · R texts · K minima · B bands
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sw2.base.seed import numpy_generator

__all__ = ["BANDS", "MINIMA", "band_keys", "distinct", "groups", "jaccard", "runs", "signatures", "whole_runs"]

Hashes = NDArray[np.uint64]

MINIMA: Final = 120
BANDS: Final = 20

_PIECE: Final = 2**18
"""Texts are hashed in pieces of so many bytes; runs do not reach over the border of two."""
_FACTOR: Final = 0x9E3779B97F4A7C15
_ROOTS_KEPT: Final = 16
"""A text is compared with at most so many groups that share a band with it."""


@cache
def _tables() -> tuple[Hashes, Hashes, Hashes]:
    """A value for each byte (0: no part of a word), the powers of `_FACTOR`, and those of its inverse mod 2⁶⁴."""
    values = numpy_generator(0, "bytes").integers(1, 2**63, size=256, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    for byte in range(128):
        if not (chr(byte).isalnum() or chr(byte) == "_"):
            values[byte] = 0
        elif chr(byte).isupper():
            values[byte] = values[ord(chr(byte).lower())]
    powers = [
        np.cumprod(np.r_[np.uint64(1), np.full(_PIECE - 1, factor, dtype=np.uint64)], dtype=np.uint64)
        for factor in (_FACTOR, pow(_FACTOR, -1, 2**64))
    ]
    return values, powers[0], powers[1]


def _mixed(hashes: Hashes) -> Hashes:
    """Every bit of the result depends on every bit of the input (Steele et al. 2014, SplitMix64's last steps)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def _words(piece: bytes) -> tuple[Hashes, NDArray[np.int64]]:
    """The hash of each word of a piece, and where it begins, both [W]."""
    values, powers, inverses = _tables()
    text_N = np.frombuffer(piece, dtype=np.uint8)
    value_N = values[text_N]
    inside_N = value_N != 0
    begins_N = inside_N.copy()
    begins_N[1:] &= ~inside_N[:-1]
    if text_N.size and text_N.max() >= 0xE3:
        # UTF-8 of U+3000 to U+9FFF begins with E3 to E9 and has three bytes; what follows one begins anew.
        single_N = (text_N >= 0xE3) & (text_N <= 0xE9)
        begins_N |= single_N
        begins_N[3:] |= single_N[:-3] & inside_N[3:]
    ends_N = np.empty_like(inside_N)
    ends_N[:-1] = inside_N[:-1] & (~inside_N[1:] | begins_N[1:])
    ends_N[-1:] = inside_N[-1:]
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(value_N * powers[: text_N.size], dtype=np.uint64)])
    first_W, last_W = np.flatnonzero(begins_N), np.flatnonzero(ends_N)
    return _mixed((sums[last_W + 1] - sums[first_W]) * inverses[first_W]), first_W


def _pieces(texts: Sequence[bytes]) -> Iterator[tuple[bytes, list[int], list[int]]]:
    """Parts of at most `_PIECE` bytes: the bytes, which texts begin in them, and where.

    Short texts are joined by a zero byte, which is no part of a word; long ones are cut.
    """
    parts: list[bytes] = []
    owners: list[int] = []
    places: list[int] = []
    size = 0
    for number, text in enumerate(texts):
        if parts and size + len(text) > _PIECE:
            yield b"\0".join(parts), owners, places
            parts, owners, places, size = [], [], [], 0
        while len(text) > _PIECE:
            yield text[:_PIECE], [number], [0]
            text = text[_PIECE:]
        parts.append(text)
        owners.append(number)
        places.append(size)
        size += len(text) + 1
    if parts:
        yield b"\0".join(parts), owners, places


def _words_of(texts: Sequence[bytes]) -> Iterator[tuple[Hashes, NDArray[np.int64]]]:
    """For each piece the hashes of its words and the text that each belongs to, both [W]."""
    for piece, owners, places in _pieces(texts):
        words_W, first_W = _words(piece)
        yield words_W, np.asarray(owners)[np.searchsorted(places, first_W, side="right") - 1]


def runs(texts: Sequence[bytes], length: int = 5) -> list[Hashes]:
    """For each text the hashes of the `length` words from each of its words on, uint64 [W]; at its end of fewer.

    So only a text without words has none.
    """
    found, owners = [], []
    for words_W, owner_W in _words_of(texts):
        # Words of nothing between two texts, so that no run reaches from one into the next.
        place_W = np.arange(len(words_W)) + owner_W * (length - 1) if len(words_W) else np.zeros(0, np.int64)
        place_W = place_W - (place_W[0] if len(place_W) else 0)
        padded = np.zeros((int(place_W[-1]) if len(place_W) else 0) + length, dtype=np.uint64)
        padded[place_W] = words_W
        found.append(_joined(padded, length)[place_W])
        owners.append(owner_W)
    return _by_owner(found, owners, len(texts))


def whole_runs(texts: Sequence[bytes], length: int) -> list[Hashes]:
    """For each text the hashes of its runs of exactly `length` words: uint64 [W - length + 1], or none."""
    found, owners = [], []
    for words_W, owner_W in _words_of(texts):
        if len(words_W) >= length:
            inside = owner_W[length - 1 :] == owner_W[: len(owner_W) - length + 1]
            found.append(_joined(words_W, length)[inside])
            owners.append(owner_W[: len(inside)][inside])
    return _by_owner(found, owners, len(texts))


def _joined(words_W: Hashes, length: int) -> Hashes:
    """The hash of `length` words from each place on, as far as they reach."""
    total = np.zeros(len(words_W) - length + 1, dtype=np.uint64)
    for place in range(length):
        total += words_W[place : place + len(total)] * np.uint64(pow(_FACTOR, place, 2**64))
    return _mixed(total)


def _by_owner(hashes: Sequence[Hashes], owners: Sequence[NDArray[np.int64]], texts: int) -> list[Hashes]:
    if not hashes:
        return [np.zeros(0, np.uint64)] * texts
    borders = np.searchsorted(np.concatenate(owners), np.arange(1, texts))
    return np.split(np.concatenate(hashes), borders) if texts else []


def distinct(hashes: Hashes) -> Hashes:
    """The different ones, in rising order. (`np.unique` is several times slower on short arrays.)"""
    ordered = np.sort(hashes)
    return ordered[np.r_[True, ordered[1:] != ordered[:-1]]] if len(ordered) else ordered


def jaccard(one: Hashes, other: Hashes) -> float:
    """|A ∩ B| / |A ∪ B| of two sets of runs, given in any order; 0 where both are empty."""
    a, b = distinct(one), distinct(other)
    both = np.sort(np.concatenate([a, b]))
    common = int((both[1:] == both[:-1]).sum())
    return common / (len(both) - common) if common else 0.0


def signatures(texts: Sequence[Hashes]) -> NDArray[np.uint32]:
    """The minima of `MINIMA` hash functions over the runs of each text, uint32 [R, K]; all ones for a text without."""
    draw = numpy_generator(0, "minima")
    factors = draw.integers(0, 2**31, MINIMA, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    shifts = draw.integers(0, 2**32, MINIMA, dtype=np.uint32)
    found = np.full((len(texts), MINIMA), 2**32 - 1, dtype=np.uint32)
    filled = np.array([row for row, text in enumerate(texts) if len(text)], dtype=np.int64)
    if not len(filled):
        return found
    hashes_W = (np.concatenate([texts[row] for row in filled]) >> np.uint64(32)).astype(np.uint32)
    borders = np.cumsum([0, *(len(texts[row]) for row in filled)])[:-1]
    values_W = np.empty_like(hashes_W)
    for number in range(MINIMA):
        np.multiply(hashes_W, factors[number], out=values_W)
        np.add(values_W, shifts[number], out=values_W)
        found[filled, number] = np.minimum.reduceat(values_W, borders)
    return found


def band_keys(signatures_RK: NDArray[np.uint32]) -> Hashes:
    """A hash of the minima of each band, uint64 [R, B]; texts that agree in a whole band are candidates."""
    rows = signatures_RK.reshape(len(signatures_RK), BANDS, MINIMA // BANDS).astype(np.uint64)
    total = np.zeros(rows.shape[:2], dtype=np.uint64)
    for place in range(rows.shape[2]):
        total = _mixed(total + rows[:, :, place])
    return total


def groups(keys_RB: Hashes, alike: Callable[[int, int], bool]) -> NDArray[np.int64]:
    """Which texts belong together: for each the number of the first text of its group, int64 [R].

    Two texts are joined when they share a band and are `alike`; so are those that a chain of such pairs connects. The
    answer depends on nothing but the order of the texts and what `alike` says.

    Args:
        keys_RB: see `band_keys`.
        alike: says whether two texts are alike, given their numbers; asked only about candidates.
    """
    parent = np.arange(len(keys_RB))

    def root(text: int) -> int:
        while parent[text] != text:
            parent[text] = parent[parent[text]]
            text = int(parent[text])
        return text

    for band in range(keys_RB.shape[1]):
        order = np.argsort(keys_RB[:, band], kind="stable")
        keys = keys_RB[order, band]
        changes = np.concatenate([[True], keys[1:] != keys[:-1], [True]]) if len(keys) else np.zeros(0, bool)
        for start, end in itertools.pairwise(np.flatnonzero(changes)):
            if end - start < 2:
                continue
            seen: dict[int, int] = {}  # the group's root, and its text in this band to compare with
            for text in map(int, order[start:end]):
                own = root(text)
                if own in seen:
                    continue
                for other_root, other in list(seen.items())[:_ROOTS_KEPT]:
                    if alike(other, text):
                        first, second = sorted((root(other_root), own))
                        parent[second] = first
                        own = first
                        del seen[other_root]
                        seen[first] = other
                        break
                else:
                    seen[own] = text
    return np.array([root(text) for text in range(len(parent))], dtype=np.int64)
