"""What a session has in memory, and its log: in compiled code (`session.cpp`), or in numpy where there is no compiler.

A record is a kind, "came" or "went" (4 bytes), how many keys (4), the CRC-32 of these and the keys (4), and the keys (8
each), little-endian. It is written, and synced where that is asked for, before anything in memory changes; what could
not be written is taken away again. Behind the last record may be zeros, which are room for more. What is not whole
was never acknowledged if it is the last that was written; where something was written behind it, it is damaged.

- `CompiledSide`: one call for each batch. Two trees that count, so that a place is one way down each, and so is a key.
- `NumpySide`: the reference. Sorted runs, each at most an eighth as long as the one before it: a new one is merged with
  its neighbours until that holds, as a number of digits counts (Bentley & Saxe 1980,
  https://doi.org/10.1016/0196-6774(80)90015-2). An eighth and not a half: a look-up searches each run, and merging
  costs less than that.

Several threads may use one: each call sees all of a record or nothing of it. In compiled code those that look up do not
wait while a record is synced.

What it does not do: questions that are no keys of the type, the header of a log (`session` does).
"""

from __future__ import annotations

import errno
import functools
import os
import struct
import threading
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from sw2.base.errors import SessionError, UsageError
from sw2.base.native import compiled
from sw2.base.store import full_disk_told
from sw2.domains.indexes import native
from sw2.domains.indexes.key_model import KeyModel
from sw2.domains.indexes.prep import ColumnPrep

__all__ = ["CompiledSide", "Damaged", "NumpySide", "Side", "library", "side_of"]

_HEAD: Final = struct.Struct("<4sII")
_CAME: Final = b"came"
_WENT: Final = b"went"
_TYPES: Final = ("int64", "uint64", "float64")  # as session.cpp counts them
_CHANGED: Final = -1000  # as there
_ROOM: Final = 1024  # keys of a range that are listed without asking first how many there are
_SHRINKS: Final = 8  # from a run to the next


class Damaged(Exception):
    """A record is damaged, with others behind it; its place in the file."""


class Side(ABC):
    """Keys that came and went beside a column."""

    @abstractmethod
    def replay(self, content: bytes, at: int) -> int:
        """Take in the records of a log from byte `at` on, and go on writing where they end.

        Returns:
            Where the last whole one ends; what lies behind was never acknowledged.

        Raises:
            Damaged: a record is, and others stand behind it.
        """

    @abstractmethod
    def counts(self) -> tuple[int, int]:
        """How many keys came, and how many went."""

    @abstractmethod
    def insert(self, keys: np.ndarray) -> None:
        """Add keys, [M], of the type and contiguous: all of them or none.

        Raises:
            DiskFull: there is no room for the record.
            SessionError: it cannot be written for another reason.
        """

    @abstractmethod
    def delete(self, keys: np.ndarray) -> None:
        """Take away one for each key, [M], of the type and contiguous: all or none. Errors as `insert`, and:

        Raises:
            UsageError: one is not there, or not so often.
            DataError: the column's file is gone, or has changed.
        """

    @abstractmethod
    def places(self, keys: np.ndarray) -> NDArray[np.int64]:
        """How many keys are now below each, shaped like `keys`, which are of the type and contiguous.

        Raises:
            DataError: the column's file is gone, or has changed.
        """

    @abstractmethod
    def between(self, low: Any, high: Any) -> np.ndarray:
        """The keys with low <= key < high, sorted, a copy. An end is a number of the type; None leaves it open.

        Raises:
            DataError: the column's file is gone, or has changed.
        """

    @abstractmethod
    def close(self) -> None:
        """Give the memory back. The log's file is its owner's to close."""


def side_of(model: KeyModel, prep: ColumnPrep, path: Path, file: Any, *, sync: bool) -> Side:
    """A compiled one where that runs, else one in numpy.

    Args:
        model: finds places in the column.
        prep: the column.
        path: of the log, for errors.
        file: the log, open for reading and writing, without a buffer.
        sync: whether a record is on the disk before it is acknowledged.
    """
    way = CompiledSide if native.why_not() is None else NumpySide
    return way(model, prep, path, file, sync=sync)


@functools.cache
def library() -> Any:
    """`session.cpp`, compiled for this processor."""
    path = native.best_path()
    return compiled(Path(__file__).with_name("session.cpp"), path, native.PATHS[path])


@final
class CompiledSide(Side):
    """See `Side`; the arguments are those of `side_of`."""

    def __init__(self, model: KeyModel, prep: ColumnPrep, path: Path, file: Any, *, sync: bool) -> None:
        self._model, self._prep, self._path = model, prep, path
        self._dtype = np.dtype(prep.kind.dtype)
        self._library = library()
        self._find, self._list = self._library.find_places, native.typed(self._library.keys_between, 7)
        self._rooms: list[tuple[np.ndarray, int]] = []  # and their addresses; a thread takes one while it needs it
        self._bound: tuple[Any, ...] = ()
        kind = _TYPES.index(prep.kind.dtype)
        self._session = native.invoke(self._library.open_session, kind, file.fileno(), int(sync))

    def close(self) -> None:
        native.invoke(self._library.close_session, self._session)

    def replay(self, content: bytes, at: int) -> int:
        end = native.invoke(self._library.replay, self._session, np.frombuffer(content, np.uint8), len(content), at)
        if end < 0:
            raise Damaged(-end - 1)
        return end

    def counts(self) -> tuple[int, int]:
        counts = np.empty(2, np.int64)
        native.invoke(self._library.count_keys, self._session, counts)
        return int(counts[0]), int(counts[1])

    def insert(self, keys: np.ndarray) -> None:
        if error := native.invoke(self._library.insert_keys, self._session, keys, keys.size):
            raise self._not_written(-error)

    def delete(self, keys: np.ndarray) -> None:
        missing = np.empty(3, np.int64)
        found = self._ask(self._library.delete_keys, keys, keys.size, missing)
        if found > 0:
            at, times, there = missing.tolist()
            raise _missing(self._prep, keys[at], times, there)
        if found:
            raise self._not_written(-found)

    def places(self, keys: np.ndarray) -> NDArray[np.int64]:
        answers = np.empty(keys.shape, np.int64)
        while native.invoke(self._find, self._session, keys, keys.size, answers) == _CHANGED:
            self._bind()
        return answers

    def between(self, low: Any, high: Any) -> np.ndarray:
        ends = self._word(low), self._word(high), low is not None, high is not None
        try:
            room, address = self._rooms.pop()
        except IndexError:
            room = np.empty(_ROOM, self._dtype)
            address = room.ctypes.data
        try:
            if (count := self._listed(*ends, address, _ROOM)) <= _ROOM:
                return room[:count].copy()
        finally:
            self._rooms.append((room, address))
        while True:
            keys = np.empty(count, self._dtype)
            if (found := self._listed(*ends, keys.ctypes.data, count)) <= count:
                return keys[:found]
            count = found  # others came meanwhile

    def _listed(self, *arguments: int) -> int:
        """As `_ask`, for `keys_between`: of few keys the call would take longer than what is called."""
        while (found := self._list(self._session, *arguments)) == _CHANGED:
            self._bind()
        return int(found)

    def _word(self, end: Any) -> int:
        """The 64 bits of an end; 0 for one that is open."""
        if end is None:
            return 0
        return int(end) if self._dtype.kind != "f" else int(np.float64(end).view(np.int64))

    def _ask(self, function: Any, *arguments: Any) -> int:
        """Call a function that looks into the column; it tells when the file is not as it was when it was bound."""
        while (found := native.invoke(function, self._session, *arguments)) == _CHANGED:
            self._bind()
        return found

    def _bind(self) -> None:
        column = self._prep.column()
        keys = np.ascontiguousarray(column.keys)
        searched, given = self._model.array(keys[: column.numbers]), self._model.arguments()
        words = [each.ctypes.data if isinstance(each, np.ndarray) else each for each in given]
        native.invoke(
            self._library.bind_array,
            self._session,
            native.address(f"locate_{self._model.function}", keys.dtype),
            searched,
            keys,
            column.numbers,
            len(keys),
            np.array(words, np.int64),
            len(words),
            np.frombuffer(os.fsencode(column.place.path) + b"\0", np.uint8),
            np.array(column.signature, np.int64),
        )
        self._bound = (keys, searched, given)  # what is pointed to stays in memory

    def _not_written(self, number: int) -> Exception:
        return _not_written(self._path, OSError(number, os.strerror(number)))


@final
class NumpySide(Side):
    """See `Side`; the arguments are those of `side_of`."""

    def __init__(self, model: KeyModel, prep: ColumnPrep, path: Path, file: Any, *, sync: bool) -> None:
        self._model, self._prep, self._path, self._file, self._sync = model, prep, path, file, sync
        self._came, self._went = _Runs(), _Runs()
        self._end, self._broken = 0, False
        self._alone = threading.Lock()

    def close(self) -> None:
        self._came, self._went = _Runs(), _Runs()

    def replay(self, content: bytes, at: int) -> int:
        dtype = np.dtype(self._prep.kind.dtype)
        while size := _whole_record(content, at):
            keys = np.frombuffer(content[at + _HEAD.size : at + size], dtype.newbyteorder("<")).astype(dtype)
            (self._came if content.startswith(_CAME, at) else self._went).add(keys)
            at += size
        if _followed(content, at):
            raise Damaged(at)
        self._end = at
        return at

    def counts(self) -> tuple[int, int]:
        with self._alone:
            return len(self._came), len(self._went)

    def insert(self, keys: np.ndarray) -> None:
        with self._alone:
            self._append(_CAME, keys)
            self._came.add(keys)

    def delete(self, keys: np.ndarray) -> None:
        with self._alone:
            different, times = np.unique(keys, return_counts=True)
            column = [self._prep.column().searched]
            there = _equal(column, different) + _equal(self._came.runs, different) - _equal(self._went.runs, different)
            if (missing := there < times).any():
                at = int(missing.argmax())
                raise _missing(self._prep, different[at], int(times[at]), int(there[at]))
            self._append(_WENT, keys)
            self._went.add(keys)

    def places(self, keys: np.ndarray) -> NDArray[np.int64]:
        some = keys.ravel()
        with self._alone:
            found = self._model.locate(self._prep.column().searched, some)
            return (found + self._came.below(some) - self._went.below(some)).reshape(keys.shape)

    def between(self, low: Any, high: Any) -> np.ndarray:
        with self._alone:
            keys = self._prep.column().keys
            kept = np.concatenate([_part(run, low, high) for run in (keys, *self._came.runs)])
            kept.sort(kind="stable")
            gone = np.sort(np.concatenate([kept[:0], *(_part(run, low, high) for run in self._went.runs)]))
        nth = np.arange(len(gone)) - np.searchsorted(gone, gone)  # of those that equal it
        return np.delete(kept, np.searchsorted(kept, gone) + nth)

    def _append(self, kind: bytes, keys: np.ndarray) -> None:
        if self._broken:
            raise _not_written(self._path, OSError(errno.EIO, os.strerror(errno.EIO)))
        body = keys.astype(keys.dtype.newbyteorder("<")).tobytes()
        head = kind + len(keys).to_bytes(4, "little")
        record = memoryview(_HEAD.pack(kind, len(keys), zlib.crc32(body, zlib.crc32(head))) + body)
        try:
            written = 0
            while written < len(record):
                written += os.pwrite(self._file.fileno(), record[written:], self._end + written)
            if self._sync:
                os.fsync(self._file.fileno())
        except OSError as error:
            try:
                self._file.truncate(self._end)  # what was not acknowledged is not there
            except OSError:
                self._broken = True
            raise _not_written(self._path, error) from None
        self._end += len(record)


def _whole_record(content: bytes, at: int) -> int:
    """How many bytes the record has that begins there; 0 where none does that is whole."""
    if not content.startswith((_CAME, _WENT), at) or len(content) - at < _HEAD.size:
        return 0
    _, count, checksum = _HEAD.unpack_from(content, at)
    size = _HEAD.size + 8 * count
    body = content[at + _HEAD.size : at + size]
    there = len(body) == 8 * count and zlib.crc32(body, zlib.crc32(content[at : at + 8])) == checksum
    return size if there else 0


def _followed(content: bytes, at: int) -> bool:
    """Whether something was written behind the record that begins there and is not whole, as in `session.cpp`."""
    if any(_whole_record(content, behind) for behind in range(at + 4, len(content), 4)):
        return True
    if not content.startswith((_CAME, _WENT), at) or len(content) - at < _HEAD.size:
        return False
    _, count, _ = _HEAD.unpack_from(content, at)
    return bool(content[at + _HEAD.size + 8 * count :].strip(b"\0"))


def _missing(prep: ColumnPrep, key: Any, times: int, there: int) -> UsageError:
    return UsageError(
        "A key that is not there cannot be deleted; none was.",
        where=prep.kind.spoken(key),
        wanted=f"at least {times} of them",
        got=there,
    )


def _not_written(path: Path, error: OSError) -> Exception:
    """What a user is told: of a full disk in the words of all others."""
    try:
        with full_disk_told(path):
            raise error
    except OSError:
        return SessionError(
            "The log cannot be written; nothing was changed.",
            where=path,
            wanted="room for a record, on the disk and within the limits of this process",
            got=error.strerror,
            do="What was acknowledged before is there: open it again when the cause is gone.",
        )
    except Exception as told:  # DiskFull
        return told


# ------------------------------------------------------------------------------------------------------ runs, in numpy


@final
class _Runs:
    """Keys in sorted runs, of which there are few: two that are not of very different lengths become one."""

    def __init__(self) -> None:
        self.runs: list[np.ndarray] = []

    def __len__(self) -> int:
        return sum(map(len, self.runs))

    def add(self, keys: np.ndarray) -> None:
        self.runs.append(np.sort(keys))
        while len(self.runs) > 1 and len(self.runs[-2]) < _SHRINKS * len(self.runs[-1]):
            later, earlier = self.runs.pop(), self.runs.pop()
            self.runs.append(np.sort(np.concatenate([earlier, later]), kind="stable"))

    def below(self, keys: np.ndarray) -> NDArray[np.int64]:
        """How many are below each of `keys`."""
        found = np.zeros(len(keys), np.int64)
        for run in self.runs:
            found += np.searchsorted(run, keys)
        return found


def _equal(runs: list[np.ndarray], keys: np.ndarray) -> NDArray[np.int64]:
    found = np.zeros(len(keys), np.int64)
    for run in runs:
        found += np.searchsorted(run, keys, "right") - np.searchsorted(run, keys)
    return found


def _part(run: np.ndarray, low: Any, high: Any) -> np.ndarray:
    start, stop = (None if end is None else np.searchsorted(run, run.dtype.type(end)) for end in (low, high))
    return run[start : stop if start is None or stop is None else max(start, stop)]
