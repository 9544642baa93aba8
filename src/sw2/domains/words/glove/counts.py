"""How often words stand near each other, counted once within bounded memory, as pairs in an order of chance.

    count of (i, j)    the sum of 1 / distance over all places of a line where j stands within `window` words of i, on
                       either side (Pennington et al. 2014, section 4.2); a word beside itself counts from both sides

Three passes, none of which holds more than `memory` bytes, however long the corpus is:

1. Pairs are counted in a table; when it is full, it is sorted and written as a run (in numpy, without a compiler, each
   piece of the corpus is a run). Sums are whole numbers of 1 / 232,792,560, which the distances 1 to 20 divide, so that
   they are exact: neither memory nor threads change a bit of the result.
2. Runs are merged, a piece of each at a time, and pairs are put into piles by a hash of the two words.
3. Each pile is sorted by the hash and appended to the file. So the order is one of chance, as gradient descent wants
   it, and always the same one.

The file lies in sw2's cache, 12 bytes for each distinct pair, and is mapped from there.

What it does not do: leave out rare pairs; another order for each pass over the pairs.

Shapes: V words, N tokens, C cells of a table, P pairs
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from sw2.base.store import canonical_json, folder, home, sha256_of_bytes, write_text
from sw2.domains.words.glove import native
from sw2.domains.words.glove.fit import PAIR
from sw2.domains.words.ppmi import neighbours
from sw2.domains.words.reference import mixed
from sw2.domains.words.vocabulary import Encoded

__all__ = ["LARGEST_WINDOW", "Counts", "counted"]

LARGEST_WINDOW: Final = 20
"""Words of one side: the distances that `_UNIT` is made for."""

_UNIT: Final = 232_792_560
_CELL: Final = 16
_TOKENS_AT_ONCE: Final = 1 << 20
_RUNS_AT_ONCE: Final = 128
_PILES: Final = 256
_SORTED: Final = 80
"""Bytes that a pair takes while numpy sorts or merges it, temporary arrays and all."""
_MARK: Final = 1

Cells = NDArray[np.uint64]


@dataclass(frozen=True)
class Counts:
    """The pairs of a corpus.

    Args:
        pairs: `PAIR` [P], in a mapped file.
        mapped: the file.
    """

    pairs: NDArray[Any]
    mapped: mmap.mmap

    def release(self) -> None:
        """Take what was read so far out of this process's memory; it is read again when it is asked for."""
        self.mapped.madvise(mmap.MADV_DONTNEED)


def counted(corpus: Encoded, name: str, words: int, *, window: int, memory: int, threads: int) -> Counts:
    """The pairs of a corpus, from the cache or counted now.

    Args:
        corpus: what is counted, with at least one line of two words.
        name: of the corpus and its vocabulary, a hash.
        words: V.
        window: how many words on each side count, 1 to `LARGEST_WINDOW`.
        memory: bytes that counting may take; at least some hundred kilobytes.
        threads: how many count at once, each with its share of memory.

    Raises:
        DiskFull: there is no room: 12 bytes for each pair, and several times that while counting.
    """
    key = sha256_of_bytes(f"{name} {words} {window} {_MARK}".encode())
    path = home() / "pairs" / key[:32]
    if not (path / "told.json").exists():
        with folder(path) as partial:
            runs = _runs(corpus, partial, words, window, memory, threads)
            while len(runs) > _RUNS_AT_ONCE:
                runs = [_joined(runs[at : at + _RUNS_AT_ONCE], memory) for at in range(0, len(runs), _RUNS_AT_ONCE)]
            pairs = _ordered(runs, partial, words, memory)
            write_text(partial / "told.json", canonical_json({"pairs": pairs}))
    assert json.loads((path / "told.json").read_text(encoding="utf-8"))["pairs"]
    with open(path / "pairs.bin", "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return Counts(np.frombuffer(mapped, PAIR), mapped)


# ------------------------------------------------------------------------------------------------------------ counting


def _runs(corpus: Encoded, into: Path, words: int, window: int, memory: int, threads: int) -> list[Path]:
    """The files of sorted cells, keys and sums."""
    length = len(corpus.tokens)
    borders = [length * part // threads for part in range(threads + 1)]
    take = _by_table if native.why_not() is None else _by_numpy

    def piece(part: int) -> list[Path]:
        found: list[Path] = []
        for cells in take(corpus, (borders[part], borders[part + 1]), words, window, memory // threads):
            found.append(into / f"run-{part}-{len(found)}.bin")
            cells.tofile(found[-1])
        return found

    with ThreadPoolExecutor(threads) as pool:
        return [run for runs in pool.map(piece, range(threads)) for run in runs]


def _by_table(corpus: Encoded, piece: tuple[int, int], words: int, window: int, memory: int) -> Iterator[Cells]:
    """Sorted cells [C, 2], each time as many as memory holds."""
    place, end = piece
    cells = min(memory // _CELL, 4 * window * (end - place))  # no more than the piece can fill
    table = np.zeros((1 << max(6, cells.bit_length() - 1), 2), np.uint64)
    most, used = len(table) * 3 // 4, np.zeros(1, np.int64)
    while place < end:
        stop = min(end, place + _TOKENS_AT_ONCE)
        place = native.count(corpus.tokens, place, stop, words, window, table, most, used)
        corpus.release()
        if place < stop or place == end:
            yield table[: native.sort(table)]
            table[:] = 0
            used[:] = 0


def _by_numpy(corpus: Encoded, piece: tuple[int, int], words: int, window: int, memory: int) -> Iterator[Cells]:
    """Sorted cells [C, 2] of each so many tokens."""
    at_once = max(1, min(_TOKENS_AT_ONCE, memory // (window * _SORTED)))
    for begin in range(*piece, at_once):
        found = [np.zeros((0, 2), np.int64)]
        for distance, one, other in neighbours(corpus.tokens, begin, min(piece[1], begin + at_once), window):
            keys = 1 + np.minimum(one, other) * words + np.maximum(one, other)
            found.append(np.stack([keys, np.full(len(keys), _UNIT // distance)], axis=1))
        yield _summed(np.concatenate(found).astype(np.uint64))
        corpus.release()


def _summed(cells: Cells) -> Cells:
    """Sorted by key, each key once with the sum of its sums."""
    if not len(cells):
        return cells
    cells = cells[np.argsort(cells[:, 0], kind="stable")]
    begins = np.flatnonzero(np.concatenate([[True], cells[1:, 0] != cells[:-1, 0]]))
    return np.stack([cells[begins, 0], np.add.reduceat(cells[:, 1], begins)], axis=1)


# ------------------------------------------------------------------------------------------------- merging and ordering


def _merged(runs: Sequence[Path], memory: int) -> Iterator[Cells]:
    """The cells of all runs, sorted, each key once, a piece at a time."""
    share = max(1, memory // (_SORTED * len(runs)))
    with ExitStack() as stack:
        files = [stack.enter_context(open(run, "rb")) for run in runs]
        heads = [np.zeros((0, 2), np.uint64) for _ in files]
        while True:
            heads = [np.concatenate([head, _read(file, share - len(head))]) for head, file in zip(heads, files)]
            if not any(map(len, heads)):
                return
            # Up to the smallest key that ends a full head: what is behind it in a file is larger.
            bound = min((head[-1, 0] for head in heads if len(head) == share), default=np.uint64(2**64 - 1))
            ends = [int(np.searchsorted(head[:, 0], bound, "right")) for head in heads]
            yield _summed(np.concatenate([head[:end] for head, end in zip(heads, ends)]))
            heads = [head[end:] for head, end in zip(heads, ends)]


def _read(file: IO[bytes], count: int) -> Cells:
    return np.fromfile(file, np.uint64, 2 * count).reshape(-1, 2)


def _joined(runs: Sequence[Path], memory: int) -> Path:
    """One run of several, which are removed."""
    whole = runs[0].with_name(f"joined-{runs[0].name}")
    with open(whole, "wb") as file:
        for cells in _merged(runs, memory):
            cells.tofile(file)
    for run in runs:
        run.unlink()
    return whole


def _ordered(runs: Sequence[Path], into: Path, words: int, memory: int) -> int:
    """Write the pairs of the runs, which are removed, in their order of chance: how many there are."""
    most = sum(run.stat().st_size for run in runs) // _CELL
    count = min(_PILES, 1 + most * _SORTED // memory)
    piles = [into / f"pile-{number}.bin" for number in range(count)]
    pairs = 0
    with ExitStack() as stack:
        files = [stack.enter_context(open(pile, "wb")) for pile in piles]
        for cells in _merged(runs, memory):
            found, chance = _pairs(cells, words)
            numbers = ((chance >> np.uint64(32)) * np.uint64(count) >> np.uint64(32)).astype(np.int64)
            order = np.argsort(numbers, kind="stable")
            borders = np.searchsorted(numbers[order], np.arange(count + 1))
            for number, file in enumerate(files):
                found[order[borders[number] : borders[number + 1]]].tofile(file)
            pairs += len(found)
    for run in runs:
        run.unlink()
    with open(into / "pairs.bin", "wb") as whole:
        for pile in piles:
            found = np.fromfile(pile, PAIR)
            found[np.argsort(_chance(found, words), kind="stable")].tofile(whole)
            pile.unlink()
    return pairs


def _pairs(cells: Cells, words: int) -> tuple[NDArray[Any], Cells]:
    """Cells as pairs, with the hashes that order them."""
    found = np.empty(len(cells), PAIR)
    found["smaller"], found["larger"] = np.divmod(cells[:, 0] - np.uint64(1), np.uint64(words))
    sides = 1 + (found["smaller"] == found["larger"])
    found["count"] = cells[:, 1] * sides / _UNIT
    return found, _chance(found, words)


def _chance(pairs: NDArray[Any], words: int) -> Cells:
    return mixed(pairs["smaller"].astype(np.uint64) * np.uint64(words) + pairs["larger"].astype(np.uint64))
