"""Keys that come and go beside an index that does not change: a session.

    with program.capability(Amend).amended("keys.session") as session:
        session.insert([17, 18])
        session.delete(5)
        session.position(20)       among the keys as they are now
        session.between(10, 20)    those keys
        session.fold("new.npy")    all of them in a file, to train the next index on

Each call of `insert` or `delete` is one record at the end of a log. When the call returns it is acknowledged: `kill -9`
loses nothing of it, and with `sync="each"` (unless told otherwise) neither does a power cut, as far as the disk keeps
what it says it has. A record that was cut short was never acknowledged, and is taken away when the log is opened again.
While a session that syncs is open, its log ends in up to 256 KiB of zeros, room for what comes; a kill leaves them.

In memory the keys that came and those that went stand beside the index (`sides`). A place is the index's answer, plus
how many that came are below, less how many that went. Several threads may use a session; one process at a time has it.

What it does not do: name rows, several writers, fold its log into the file that the index is bound to: that would leave
a moment without an index. `fold` writes another, which is whole or not there.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, final

import numpy as np
from numpy.typing import NDArray

from sw2.base.errors import SessionError, UsageError
from sw2.base.store import Held, canonical_json, full_disk_told, held, replacing, write_bytes
from sw2.core.capabilities import Amended
from sw2.domains.indexes.key_model import KeyModel
from sw2.domains.indexes.keys import asked
from sw2.domains.indexes.prep import ColumnPrep, ends_of
from sw2.domains.indexes.sides import Damaged, side_of

__all__ = ["KeySession"]

_FORMAT: Final = 1
_BOUND: Final = ("sha256", "key", "table", "order", "dtype", "unit")


@final
class KeySession(Amended):
    """An index that takes inserts and deletes; on disk one file, for one process at a time.

    Args:
        model: a learned index.
        prep: the column that it is about.
        path: of the log; made where it is not there. Beside it stands a file that says who has it open.
        sync: "each" waits until a record is on the disk; "never" leaves that to the system, which is faster by far.

    Attributes:
        taken_away: bytes of a last record that were taken away on opening, since it was not whole.

    Raises:
        SessionError: another process has it open, it is damaged, or it is about another column.
        UsageError: no file can be made at `path`.
        DiskFull: there is no room for it.
    """

    def __init__(
        self, model: KeyModel, prep: ColumnPrep, path: str | Path, *, sync: Literal["each", "never"] = "each"
    ) -> None:
        if sync not in ("each", "never"):
            raise UsageError("There is no such way to sync.", where="sync", wanted="each or never", got=sync)
        self._prep, self._kind, self._dtype = prep, prep.kind, np.dtype(prep.kind.dtype)
        self._whole = self._dtype.kind in "iu"
        self._ends = (int(np.iinfo(self._dtype).min), int(np.iinfo(self._dtype).max)) if self._whole else (0, -1)
        self._path = Path(path)
        self.taken_away = 0
        header = canonical_json({"format": _FORMAT, **{name: prep.facts[name] for name in _BOUND}}).encode() + b"\n"
        with contextlib.ExitStack() as opening:
            with _made(self._path):
                with full_disk_told(self._path):
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    self._take(opening)
                if not self._path.exists():
                    write_bytes(self._path, header)
                self._file = opening.enter_context(open(self._path, "r+b", buffering=0))
            self._side = side_of(model, prep, self._path, self._file, sync=sync == "each")
            opening.callback(self._side.close)
            self._read(header)
            self._open = opening.pop_all()

    def close(self) -> None:
        """Give the file back. Nothing is written: what was acknowledged is there already."""
        self._open.close()
        self._side = _Closed(self._path)  # type: ignore[assignment]

    def __len__(self) -> int:
        """How many keys there are now."""
        came, went = self._side.counts()
        return int(self._prep.facts["keys"]) + came - went

    def insert(self, keys: Any) -> None:
        """Add keys, equal ones too.

        Args:
            keys: one or an array, of the column's type without loss.

        Raises:
            UsageError: one of them is no key of the type, or NaN; none was added.
            DiskFull: there is no room; none was added.
        """
        if len(added := self._exact(keys)):
            self._side.insert(added)

    def delete(self, keys: Any) -> None:
        """Take away one key for each that is named.

        Raises:
            UsageError: one of them is not there, or not so often; none was taken away.
            DiskFull: there is no room; none was taken away.
        """
        if len(removed := self._exact(keys)):
            self._side.delete(removed)

    def position(self, keys: Any) -> NDArray[np.int64]:
        """Int64, shaped like `keys`: how many keys are now below each. See `Locate.position`."""
        if isinstance(keys, np.ndarray) and keys.dtype == self._dtype:  # nothing to read: the way of batches
            return self._side.places(keys if keys.flags.c_contiguous else np.ascontiguousarray(keys))
        question = asked(keys, self._kind)
        places = self._side.places(question.keys)
        if question.beyond.any():
            places[question.beyond] = len(self)
        return places.reshape(np.shape(keys))

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
        if low is not None and (low := self._end(low)) is None:
            return np.empty(0, self._dtype)
        return self._side.between(low, None if high is None else self._end(high))

    def fold(self, path: str | Path) -> Path:
        """Write all keys as they are now to an .npy file, whole or not at all: what the next index is trained on.

        The log stays, and belongs to the old index; what is inserted after this is not in the file.

        Args:
            path: of a file that ends in .npy, or of one that may be replaced.

        Returns:
            The path.

        Raises:
            UsageError: it ends otherwise, is the file of this very index, or no file can be made there.
            DiskFull: there is no room; what was there before is unchanged.
        """
        path = Path(path)
        own = Path(self._prep.column().place.path)
        with _made(path):
            is_own = path.exists() and path.samefile(own)
        if path.suffix != ".npy" or is_own:
            raise UsageError(
                "Keys are not folded into this file.",
                where=path,
                wanted="a path that ends in .npy, beside the file that the index is bound to",
                got="that file" if path.suffix == ".npy" else path.suffix or "no ending",
            )
        keys = self.keys()
        with _made(path), replacing(path) as partial, open(partial, "wb") as file:
            np.save(file, keys.view(f"datetime64[{self._kind.unit}]") if self._kind.unit else keys)
        return path

    def _end(self, end: Any) -> Any:
        """The smallest key of the type that is not below; None where there is none."""
        if type(end) is int and self._ends[0] <= end <= self._ends[1]:  # nothing to read, mostly
            return end
        question = asked(end, self._kind)
        return None if question.beyond[0] else question.keys[0]

    def _places_behind(self, keys: np.ndarray) -> NDArray[np.int64]:
        """How many keys are now at most each of `keys`."""
        if keys.dtype == np.float64:
            return self.position(np.where(keys < np.inf, np.nextafter(keys, np.inf), np.nan))
        last = keys == np.iinfo(keys.dtype).max
        return np.where(last, len(self), self.position(np.where(last, keys, keys + keys.dtype.type(1))))

    def _exact(self, keys: Any) -> np.ndarray:
        if self._whole and isinstance(keys, np.ndarray) and keys.dtype == self._dtype:
            return keys if keys.ndim == 1 and keys.flags.c_contiguous else np.ascontiguousarray(keys.ravel())
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

    def _read(self, header: bytes) -> None:
        content = self._file.read()
        first = content[: 1 << 16].partition(b"\n")[0] + b"\n"
        if first != header:
            self._refuse(first, header)
        try:
            end = self._side.replay(content, len(header))
        except Damaged as damage:
            raise SessionError(
                "The log is damaged.",
                where=f"{self._path}, byte {damage}",
                wanted="a record with its checksum",
                got="other bytes, and records behind them",
                do="Bring back a copy of the file, or shorten it to that byte: what lies behind is then lost.",
            ) from None
        self.taken_away = len(content[end:].rstrip(b"\0"))  # zeros were room
        if len(content) > end:
            self._file.truncate(end)

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
            wanted=_told(wanted, wrong),
            got=_told(found, wrong) if found else "another file",
            do="Open them with the index that they were made with, or begin anew at another path.",
        )


def _told(facts: Mapping[str, Any], names: Sequence[str]) -> str:
    """These facts; what is not there, as the table of a file that has none, is left out."""
    there = [f"{name} {facts[name]}" for name in names if facts.get(name) not in ("", None)]
    return ", ".join(there) or f"no {' and no '.join(names)}"


@contextlib.contextmanager
def _made(path: Path) -> Iterator[None]:
    """Inside, a file is made or opened at a path that somebody gave; what the system refuses is told to them."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            "No file can be made here.",
            where=path,
            wanted="a path in a folder that takes files",
            got=error.strerror or error,
            do="Give another path.",
        ) from None


@final
class _Closed:
    """Stands where a side was, whose memory is given back."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __getattr__(self, name: str) -> Any:
        raise SessionError(
            "These keys are closed.", where=self._path, wanted="an open session", got=name, do="Open them again."
        )
