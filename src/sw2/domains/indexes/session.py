"""Keys that come and go beside an index that does not change: a session.

    with program.capability(Amend).amended("keys.session") as session:
        session.insert([17, 18])
        session.delete(5)
        session.position(20)       among the keys as they are now
        session.between(10, 20)    those keys
        session.fold("new.npy")    all of them in a file, to train the next index on

Each call of `insert` or `delete` is one record at the end of a log: what kind, how many, a checksum, the keys. When the
call returns it is acknowledged: `kill -9` loses nothing of it, and with `sync="each"` (unless told otherwise) neither
does a power cut. A record that was cut short was never acknowledged, and is taken away when the log is opened again.

In memory these are sorted runs, some of keys that came and some of keys that went, each at most an eighth as long as
the one before it: a new one is merged with its neighbours until that holds, as a number of digits counts (Bentley &
Saxe 1980, https://doi.org/10.1016/0196-6774(80)90015-2). A place is the index's answer, plus how many that came are
below, less how many that went. An eighth and not a half: a look-up searches each run, and merging costs less than that.

What it does not do: name rows, several writers, fold its log into the file that the index is bound to: that would leave
a moment without an index. `fold` writes another, which is whole or not there.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, final

import numpy as np
from numpy.typing import NDArray

from sw2.base.errors import SessionError, UsageError
from sw2.base.store import Held, canonical_json, full_disk_told, held, replacing, write_bytes
from sw2.core.capabilities import Amended, Locate
from sw2.domains.indexes.keys import Asked, KeyKind, asked
from sw2.domains.indexes.models import BinarySearch
from sw2.domains.indexes.prep import ColumnPrep, ends_of

__all__ = ["KeySession"]

_FORMAT: Final = 1
_HEAD: Final = struct.Struct("<4sII")  # "came" or "went", how many keys, CRC-32 of the first 8 bytes and the keys
_CAME: Final = b"came"
_WENT: Final = b"went"
_SHRINKS: Final = 8  # from a run to the next
_FEW: Final = 32
_BOUND: Final = ("sha256", "key", "table", "order", "dtype", "unit")


@final
class KeySession(Amended):
    """An index that takes inserts and deletes; on disk one file, for one process at a time.

    Args:
        locate: a learned index.
        prep: the column that it is about.
        path: of the log; made where it is not there. Beside it stands a file that says who has it open.
        sync: "each" waits until a record is on the disk; "never" leaves that to the system, which is faster by far.

    Attributes:
        taken_away: bytes of a last record that were taken away on opening, since it was not whole.

    Raises:
        SessionError: another process has it open, it is damaged, or it is about another column.
        DiskFull: there is no room for it.
    """

    def __init__(
        self, locate: Locate, prep: ColumnPrep, path: str | Path, *, sync: Literal["each", "never"] = "each"
    ) -> None:
        if sync not in ("each", "never"):
            raise UsageError("There is no such way to sync.", where="sync", wanted="each or never", got=sync)
        self._locate, self._prep, self._kind = locate, prep, prep.kind
        self._path, self._sync = Path(path), sync == "each"
        self._came, self._went = _Runs(self._kind), _Runs(self._kind)
        self.taken_away = 0
        header = canonical_json({"format": _FORMAT, **{name: prep.facts[name] for name in _BOUND}}).encode() + b"\n"
        with contextlib.ExitStack() as opening:
            with full_disk_told(self._path):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._take(opening)
            if not self._path.exists():
                write_bytes(self._path, header)
            self._file = opening.enter_context(open(self._path, "r+b", buffering=0))
            self._read(header)
            self._open = opening.pop_all()

    def close(self) -> None:
        """Give the file back. Nothing is written: what was acknowledged is there already."""
        self._open.close()

    def __len__(self) -> int:
        """How many keys there are now."""
        return self._locate.range(None, None)[1] + len(self._came) - len(self._went)

    def insert(self, keys: Any) -> None:
        """Add keys, equal ones too.

        Args:
            keys: one or an array, of the column's type without loss.

        Raises:
            UsageError: one of them is no key of the type, or NaN; none was added.
            DiskFull: there is no room; none was added.
        """
        added = self._exact(keys)
        self._append(_CAME, added)
        self._came.add(added)

    def delete(self, keys: Any) -> None:
        """Take away one key for each that is named.

        Raises:
            UsageError: one of them is not there, or not so often; none was taken away.
            DiskFull: there is no room; none was taken away.
        """
        removed = self._exact(keys)
        different, times = np.unique(removed, return_counts=True)
        there = self._places_behind(different) - self.position(different)
        if (missing := there < times).any():
            at = int(missing.argmax())
            raise UsageError(
                "A key that is not there cannot be deleted; none was.",
                where=self._kind.spoken(different[at]),
                wanted=f"at least {times[at]} of them",
                got=int(there[at]),
            )
        self._append(_WENT, removed)
        self._went.add(removed)

    def position(self, keys: Any) -> NDArray[np.int64]:
        """Int64, shaped like `keys`: how many keys are now below each. See `Locate.position`."""
        question = asked(keys, self._kind)
        change = self._came.below(question.keys) - self._went.below(question.keys)
        change[question.beyond] = len(self._came) - len(self._went)
        return np.asarray(self._locate.position(keys) + change.reshape(np.shape(keys)))

    def range(self, low: Any, high: Any) -> tuple[int, int]:
        """The places [start, stop) of keys with low <= key < high; None leaves an end open."""
        start = 0 if low is None else int(self.position(low))
        return start, max(start, len(self) if high is None else int(self.position(high)))

    def answer(self, inputs: Sequence[Any]) -> list[Mapping[str, Any]]:
        """Keys and ranges as the program answers them, among the keys as they are now."""
        answers: list[Mapping[str, Any]] = []
        for low, high, ranged in map(ends_of, inputs):
            if ranged:
                start, stop = self.range(low, high)
            else:
                question = asked(low, self._kind)
                start, stop = int(self.position(low)), 0
                if question.exact[0] and not question.beyond[0]:
                    is_nan = bool(question.keys[0] != question.keys[0])
                    stop = len(self) if is_nan else int(self._places_behind(question.keys)[0])
            answers.append({"position": start, "count": max(stop - start, 0)})
        return answers

    def keys(self) -> np.ndarray:
        """All keys as they are now, sorted."""
        return self.between(None, None)

    def between(self, low: Any, high: Any) -> np.ndarray:
        """The keys with low <= key < high as they are now, sorted; None leaves an end open."""
        start, stop = self._locate.range(low, high)
        came, went = (runs.between(low, high) for runs in (self._came, self._went))
        kept = np.concatenate([self._prep.column().keys[start:stop], *came])
        kept.sort(kind="stable")
        gone = np.sort(np.concatenate([kept[:0], *went]))
        nth = np.arange(len(gone)) - np.searchsorted(gone, gone)  # of those that equal it
        return np.delete(kept, np.searchsorted(kept, gone) + nth)

    def fold(self, path: str | Path) -> Path:
        """Write all keys as they are now to an .npy file, whole or not at all: what the next index is trained on.

        The log stays, and belongs to the old index; what is inserted after this is not in the file.

        Args:
            path: of a file that ends in .npy, or of one that may be replaced.

        Returns:
            The path.

        Raises:
            UsageError: it ends otherwise, or is the file of this very index.
            DiskFull: there is no room; what was there before is unchanged.
        """
        path = Path(path)
        own = Path(self._prep.column().place.path)
        if path.suffix != ".npy" or (path.exists() and path.samefile(own)):
            raise UsageError(
                "Keys are not folded into this file.",
                where=path,
                wanted="a path that ends in .npy, beside the file that the index is bound to",
                got="that file" if path.suffix == ".npy" else path.suffix or "no ending",
            )
        keys = self.keys()
        with replacing(path) as partial, open(partial, "wb") as file:
            np.save(file, keys.view(f"datetime64[{self._kind.unit}]") if self._kind.unit else keys)
        return path

    def _places_behind(self, keys: np.ndarray) -> NDArray[np.int64]:
        """How many keys are now at most each of `keys`."""
        if keys.dtype == np.float64:
            return self.position(np.where(keys < np.inf, np.nextafter(keys, np.inf), np.nan))
        last = keys == np.iinfo(keys.dtype).max
        return np.where(last, len(self), self.position(np.where(last, keys, keys + keys.dtype.type(1))))

    def _exact(self, keys: Any) -> np.ndarray:
        found = asked(keys, self._kind)
        wrong = found.beyond | ~found.exact | (found.keys != found.keys)
        if wrong.any():
            at = int(wrong.argmax())
            raise UsageError(
                "This is no key of the column's type.",
                where=f"key {at}, counted from 0",
                wanted=f"{self._kind}, without loss, and not NaN",
                got=repr(np.atleast_1d(np.asarray(keys)).ravel()[at]),
            )
        return found.keys

    # --------------------------------------------------------------------------------------------------------- the log

    def _take(self, opening: contextlib.ExitStack) -> None:
        try:
            opening.enter_context(held(self._path.with_name(f"{self._path.name}.lock")))
        except Held as error:
            raise SessionError(
                "Another process has these keys open.",
                where=self._path,
                wanted="to be the only one",
                got=error,
                do="Wait until it ends.",
            ) from None

    def _append(self, kind: bytes, keys: np.ndarray) -> None:
        if not len(keys):
            return
        body = keys.astype(keys.dtype.newbyteorder("<")).tobytes()
        head = kind + len(keys).to_bytes(4, "little")
        record = memoryview(_HEAD.pack(kind, len(keys), zlib.crc32(body, zlib.crc32(head))) + body)
        end = self._file.seek(0, os.SEEK_END)
        try:
            with full_disk_told(self._path):
                written = 0
                while written < len(record):
                    written += self._file.write(record[written:])
                if self._sync:
                    os.fsync(self._file.fileno())
        except BaseException:
            self._file.truncate(end)  # what was not acknowledged is not there
            raise

    def _read(self, header: bytes) -> None:
        content = memoryview(self._file.read())
        first = bytes(content[: 1 << 16]).partition(b"\n")[0] + b"\n"
        if first != header:
            self._refuse(first, header)
        at = len(header)
        while len(content) - at >= _HEAD.size:
            kind, count, checksum = _HEAD.unpack_from(content, at)
            stop = at + _HEAD.size + 8 * count
            if stop > len(content):
                break
            body = content[at + _HEAD.size : stop]
            if zlib.crc32(body, zlib.crc32(content[at : at + 8])) != checksum or kind not in (_CAME, _WENT):
                if stop == len(content):
                    break
                raise SessionError(
                    "The log is damaged.",
                    where=f"{self._path}, byte {at}",
                    wanted="a record with its checksum",
                    got="other bytes, and records behind them",
                    do="Bring back a copy of the file, or shorten it to that byte: what lies behind is then lost.",
                )
            keys = np.frombuffer(body, np.dtype(self._kind.dtype).newbyteorder("<")).astype(self._kind.dtype)
            (self._came if kind == _CAME else self._went).add(keys)
            at = stop
        self.taken_away = len(content) - at
        if self.taken_away:
            self._file.truncate(at)

    def _refuse(self, first: bytes, header: bytes) -> None:
        try:
            found = json.loads(first)
            assert isinstance(found, dict)
        except (ValueError, AssertionError):
            found = {}
        wanted = json.loads(header)
        wrong = [name for name in wanted if found.get(name) != wanted[name]]
        raise SessionError(
            "These keys belong to another column." if found else "This is no log of keys.",
            where=self._path,
            wanted=", ".join(f"{name} {wanted[name]}" for name in wrong),
            got=", ".join(f"{name} {found.get(name)}" for name in wrong) if found else "another file",
            do="Open them with the index that they were made with, or begin anew at another path.",
        )


@final
class _Runs:
    """Keys in sorted runs, of which there are few: two that are not of very different lengths become one."""

    def __init__(self, kind: KeyKind) -> None:
        self.runs: list[np.ndarray] = []
        self._kind = kind
        config = BinarySearch.Config(keys=kind.dtype)  # type: ignore[arg-type]
        self._search = BinarySearch(config)

    def __len__(self) -> int:
        return sum(map(len, self.runs))

    def add(self, keys: np.ndarray) -> None:
        if not len(keys):
            return
        self.runs.append(np.sort(keys))
        while len(self.runs) > 1 and len(self.runs[-2]) < _SHRINKS * len(self.runs[-1]):
            later, earlier = self.runs.pop(), self.runs.pop()
            self.runs.append(np.sort(np.concatenate([earlier, later]), kind="stable"))

    def below(self, keys: np.ndarray) -> NDArray[np.int64]:
        """How many are below each of `keys`."""
        found = np.zeros(len(keys), np.int64)
        # A call of the kernels costs some microseconds, which are shared by the keys that are asked at once.
        search = np.searchsorted if len(keys) < _FEW else self._search.locate
        for run in self.runs:
            found += search(run, keys)
        return found

    def between(self, low: Any, high: Any) -> list[np.ndarray]:
        """The part of each run with low <= key < high that is not empty; None leaves an end open."""
        start, stop = (None if end is None else asked(end, self._kind) for end in (low, high))
        parts = []
        for run in self.runs:
            first = 0 if start is None else _place(run, start)
            last = len(run) if stop is None else _place(run, stop)
            if first < last:
                parts.append(run[first:last])
        return parts


def _place(run: np.ndarray, question: Asked) -> int:
    return len(run) if question.beyond[0] else int(np.searchsorted(run, question.keys[0]))
