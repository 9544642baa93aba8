"""Documents in rows of equal length: which tokens of a shard stand in which row.

    concatenated    the shard cut every T tokens; nothing but its last row's rest is lost, documents are cut anywhere
    best_fit        a document is cut only where it is longer than a row, and then every T tokens; pieces fill rows so
                    that little room is left over, and the room is padding

A row is a list of pieces, a piece is a place in the shard and a length. The token after each one is its target, so a
piece needs nothing but its own tokens and the one after them.

Texts that are never cut share rows (`shared_rows`), and those that begin alike can be put together first, so that a row
holds what they have in common once (`alike`).

Source: Ding et al. 2024, https://arxiv.org/abs/2404.10830, section 3 (best-fit decreasing).

Shapes: T tokens in a row, R rows, P pieces in all rows.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Alike", "Rows", "alike", "best_fit", "concatenated", "in_common", "shared_rows"]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The pieces of each row.

    Args:
        starts_P: where each piece begins in the shard.
        lengths_P: how many tokens of it are read; each has a target.
        borders: row r has the pieces `borders[r]` to `borders[r + 1]`, int64 [R + 1].
        length: T.
        dropped: share of the targets that stand in no row.
        padded: share of the room in the rows that stays empty.
        cut: share of the documents that would fit a row and were cut all the same.
    """

    starts_P: NDArray[np.int64]
    lengths_P: NDArray[np.int64]
    borders: NDArray[np.int64]
    length: int
    dropped: float
    padded: float
    cut: float

    def __len__(self) -> int:
        return len(self.borders) - 1

    def pieces(self, row: int) -> list[tuple[int, int]]:
        """(start, length) of each piece of a row."""
        part = slice(self.borders[row], self.borders[row + 1])
        return list(zip(self.starts_P[part].tolist(), self.lengths_P[part].tolist(), strict=True))


def concatenated(documents: NDArray[np.int64], length: int) -> Rows:
    """Rows of a shard read from its beginning to its end.

    Args:
        documents: the borders of a shard's documents, int64 [documents + 1].
        length: T.
    """
    targets = max(0, int(documents[-1]) - 1)
    rows = targets // length
    begins, ends = documents[:-1], documents[1:].copy()
    ends[-1:] -= 1  # the last token of all has no target
    cut = (ends - begins <= length) & (begins // length != (ends - 1) // length)
    return Rows(
        starts_P=np.arange(rows, dtype=np.int64) * length,
        lengths_P=np.full(rows, length, dtype=np.int64),
        borders=np.arange(rows + 1, dtype=np.int64),
        length=length,
        dropped=1 - rows * length / targets if targets else 0.0,
        padded=0.0,
        cut=float(cut.mean()) if len(cut) else 0.0,
    )


def best_fit(documents: NDArray[np.int64], length: int) -> Rows:
    """Rows in which documents stay whole where they can.

    Pieces are placed from the longest to the shortest, each into the row with the least room that still takes it, of
    equal rows the latest. About 2 µs a document.

    Args:
        documents: the borders of a shard's documents, int64 [documents + 1].
        length: T.
    """
    sizes = np.diff(documents)
    sizes[-1:] -= 1  # the last token of all has no target
    counts = -(-sizes // length)
    total = int(counts.sum())
    owner = np.repeat(np.arange(len(sizes)), counts)
    number = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = documents[:-1][owner] + number * length
    lengths = np.minimum(length, sizes[owner] - number * length)
    row_of = _row_of(lengths, length)
    rows = int(row_of.max(initial=-1)) + 1
    together = np.argsort(row_of, kind="stable")
    used = int(lengths.sum())
    return Rows(
        starts_P=starts[together],
        lengths_P=lengths[together],
        borders=np.searchsorted(row_of[together], np.arange(rows + 1)).astype(np.int64),
        length=length,
        dropped=0.0,
        padded=1 - used / (rows * length) if rows else 0.0,
        cut=0.0,
    )


@final
@dataclass(frozen=True)
class Alike:
    """Texts that begin alike.

    Args:
        common: how many tokens they have in common, 0 of one alone.
        members: their numbers.
        size: how many tokens they take together.
    """

    common: int
    members: tuple[int, ...]
    size: int


def alike(
    beginnings: Sequence[NDArray[np.int64]], sizes: NDArray[np.int64], length: int, most: int = 4, least: int = 16
) -> list[Alike]:
    """Put texts together that begin alike, those first that have the most in common.

    Args:
        beginnings: of each text the tokens that it may have in common with others.
        sizes: of each text, at least that of its beginning and at most `length`, int64 [texts].
        length: the most tokens that a group may take.
        most: the most texts of a group. What they learn they learn in one step, and they are much alike.
        least: the fewest tokens worth having in common.

    Returns:
        Groups in which every text is once. About 30 µs a text.
    """
    order = sorted(range(len(beginnings)), key=lambda number: beginnings[number].tobytes())
    shared = [in_common([beginnings[one], beginnings[other]]) for one, other in itertools.pairwise(order)]
    # Groups are stretches of `order`; from the first of each its last, and the other way round.
    groups = {place: Alike(0, (number,), int(sizes[number])) for place, number in enumerate(order)}
    ends = {place: place for place in groups}
    begins = dict(ends)
    for place in sorted(range(len(shared)), key=lambda place: -shared[place]):
        if shared[place] < least:
            break
        first, second = begins[place], place + 1
        one, other = groups[first], groups[second]
        members = one.members + other.members
        common = min(each for each in (one.common, other.common, shared[place]) if each)
        size = int(sizes[list(members)].sum()) - (len(members) - 1) * common
        if len(members) <= most and size <= length and size < one.size + other.size:
            groups[first] = Alike(common, members, size)
            del groups[second]
            ends[first] = ends.pop(second)
            begins[ends[first]] = first
    return [groups[first] for first in sorted(groups)]


def in_common(texts: Sequence[NDArray[np.int64]]) -> int:
    """With how many tokens all texts begin."""
    shortest = min(map(len, texts))
    first = texts[0][:shortest]
    unlike = np.flatnonzero(np.any([text[:shortest] != first for text in texts], axis=0))
    return int(unlike[0]) if len(unlike) else shortest


def shared_rows(sizes: NDArray[np.int64], length: int) -> list[list[int]]:
    """Rows of things that are never cut: for each row the numbers of those that share it, placed as by `best_fit`.

    Args:
        sizes: of each thing, 1 to `length`, int64 [things].
        length: T.
    """
    rows: list[list[int]] = []
    row_of = _row_of(sizes, length)
    for number in np.argsort(row_of, kind="stable").tolist():
        while len(rows) <= row_of[number]:
            rows.append([])
        rows[row_of[number]].append(number)
    return rows


def _row_of(sizes: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """The row of each, from 0 without gaps, by best-fit decreasing."""
    row_of = np.empty(len(sizes), dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    with_room: dict[int, list[int]] = {}  # rows by the room that is left in them
    rooms: list[int] = []  # the keys of `with_room`, sorted
    rows = 0
    for piece, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        place = bisect_left(rooms, size)
        if place == len(rooms):
            row, room = rows, length
            rows += 1
        else:
            room = rooms[place]
            row = with_room[room].pop()
            if not with_room[room]:
                del with_room[room], rooms[place]
        row_of[piece] = row
        if left := room - size:
            if left not in with_room:
                with_room[left] = []
                insort(rooms, left)
            with_room[left].append(row)
    return row_of
