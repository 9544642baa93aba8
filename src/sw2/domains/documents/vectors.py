"""Vectors of passages: filled in behind the words, kept in one file, searched where they lie.

    vectors-1.f16     the rows, float16, one after the other; row r belongs to the passage that the table `vectors` says

Rows are only ever added, at the end, synced, and then committed with their passages in the database, so a kill leaves
rows that nobody knows and the next ones overwrite. A passage that goes takes its line in the table with it (a trigger);
its row stays, dead, until dead rows outnumber the living and all move into a new file. A reader maps as many rows as
its moment of the database knows, so nothing changes under it. Vectors of another program are other vectors: the file
is begun anew.

Searching is exact: all rows are compared, by usearch's kernels for float16, which read the mapped file as it is. Why
not a graph, and why usearch: docs/decisions/0021-vectors-are-compared-with-all.md.

Not here: which program embeds, and when (`index`).
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from sw2.base.errors import SessionError
from sw2.base.names import missing_extra
from sw2.domains.documents.database import Database, get_meta, set_meta, transaction

if TYPE_CHECKING:
    from sw2.core.capabilities import Embed

__all__ = ["Filled", "Near", "Vectors"]

_AT_ONCE: Final = 256
_LEAST_DEAD: Final = 1000
_MORE: Final = 8
_TYPE: Final = np.dtype("<f2")

_LACKING: Final = """
SELECT passages.id, headings, text FROM passages LEFT JOIN vectors ON passage = passages.id
WHERE passage IS NULL AND passages.id > ? ORDER BY passages.id LIMIT ?
"""
_ALLOWED: Final = """
SELECT row, passages.id FROM vectors JOIN passages ON passages.id = passage JOIN files ON files.id = passages.file
WHERE row IN (SELECT value FROM json_each(?)) AND access IN (SELECT value FROM json_each(?))
"""

# From the few files on, so that it takes as long as the caller may read much.
_OWN: Final = """
SELECT row, passages.id FROM files
CROSS JOIN passages ON passages.file = files.id CROSS JOIN vectors ON passage = passages.id
WHERE access IN (SELECT value FROM json_each(?))
"""


@dataclass(frozen=True)
class Filled:
    """How far the vectors are: how many passages were embedded just now, have a vector, and are there."""

    added: int
    embedded: int
    passages: int


@dataclass(frozen=True)
class Near:
    """A passage by its id, and the cosine between its vector and the question's."""

    id: int
    cosine: float


class Vectors:
    """The vectors of an index.

    Args:
        database: of the index.
        embedder: what turns texts into vectors of length 1.
        name: what tells this embedder from others, such as the id of its program.
    """

    def __init__(self, database: Database, embedder: Embed, name: str) -> None:
        self._database, self._embedder, self._name = database, embedder, name
        self._mapped: tuple[Path, np.ndarray] | None = None

    # ----------------------------------------------------------------------------------------------------------- search

    def question(self, text: str) -> np.ndarray:
        """The vector of a question, float32 [D]."""
        vector_D: np.ndarray = self._embedder.embed([text])[0]
        return vector_D

    def nearest(self, connection: sqlite3.Connection, vector_D: np.ndarray, count: int, allowed: str) -> list[Near]:
        """The passages whose vectors are nearest, best first; fewer while vectors are filled in.

        Args:
            connection: in a transaction.
            vector_D: of the question.
            count: at most so many.
            allowed: the accesses that the caller has, as JSON.
        """
        rows_RD = self._rows(connection)
        if rows_RD is None:
            return []
        for wanted in (count, _MORE * count):
            order, cosines = _nearest(rows_RD, vector_D, min(wanted, len(rows_RD)))
            known = dict(connection.execute(_ALLOWED, (json.dumps(order.tolist()), allowed)))
            found = [Near(known[row], cos) for row, cos in zip(order.tolist(), cosines.tolist()) if row in known]
            if len(found) >= count or wanted >= len(rows_RD):
                return found[:count]
        # Others own nearly all that is near, or it is gone: what is left is looked at by itself.
        own = sorted(connection.execute(_OWN, (allowed,)))
        if not own:
            return []
        order, cosines = _nearest(rows_RD[[row for row, _ in own]], vector_D, min(count, len(own)))
        return [Near(own[at][1], cos) for at, cos in zip(order.tolist(), cosines.tolist(), strict=True)]

    def cosines(self, connection: sqlite3.Connection, vector_D: np.ndarray, ids: Sequence[int]) -> dict[int, float]:
        """The cosines of some passages, as far as they have vectors."""
        rows_RD = self._rows(connection)
        known = list(
            connection.execute(
                "SELECT passage, row FROM vectors WHERE passage IN (SELECT value FROM json_each(?))",
                (json.dumps(list(ids)),),
            )
        )
        if not known or rows_RD is None:
            return {}
        cosines_N = rows_RD[[row for _, row in known]].astype(np.float32) @ vector_D
        return {id: float(cosine) for (id, _), cosine in zip(known, cosines_N, strict=True)}

    def _rows(self, connection: sqlite3.Connection) -> np.ndarray | None:
        """The rows that this moment of the database knows, float16 [R, D]; None for none of this embedder's."""
        state = _state(connection)
        if state is None or state.name != self._name or not state.rows:
            return None
        path = self._database.home / state.file
        if self._mapped is None or self._mapped[0] != path or len(self._mapped[1]) < state.rows:
            try:
                whole = np.memmap(path, _TYPE, "r", shape=(state.rows, state.width))
            except (OSError, ValueError) as error:
                raise self._damaged(path, state, error) from error
            self._mapped = path, whole
        rows_RD: np.ndarray = self._mapped[1][: state.rows]
        return rows_RD

    def _damaged(self, path: Path, state: _State, got: object) -> SessionError:
        return SessionError(
            "The vectors of this index are damaged.",
            where=path,
            wanted=f"{state.rows} rows of {state.width} numbers",
            got=got,
            do="Remove the folder of the index: it is made from the documents alone.",
        )

    # ------------------------------------------------------------------------------------------------------------- fill

    def fill(self, told: Callable[[Filled], bool]) -> Filled:
        """Embed every passage that has no vector; the index is searched and refreshed meanwhile.

        Args:
            told: before each batch, how far it is; False ends it there.

        Raises:
            SessionError: another process writes for longer than `wait_seconds`, or the index is damaged.
            DiskFull: what was committed stays.
        """
        added, last = 0, 0

        def far() -> Filled:
            with self._database.told():
                return self._far(connection, added)

        # What `told` and the embedder raise is theirs: SQLite's errors are told around each use of the database.
        with self._database.told():
            connection = self._database.connect()
        with contextlib.closing(connection):
            with self._database.told(), self._database.writing(), transaction(connection):
                self._begin(connection)
            while told(far()):
                with self._database.told():
                    batch = connection.execute(_LACKING, (last, _AT_ONCE)).fetchall()
                if not batch:
                    break
                last = batch[-1][0]
                vectors_ND = self._embedder.embed([_shown(headings, text) for _, headings, text in batch])
                with self._database.told(), self._database.writing():
                    added += self._append(connection, [id for id, _, _ in batch], vectors_ND)
            return far()

    def state(self, connection: sqlite3.Connection) -> Filled:
        """How far the vectors are."""
        return self._far(connection, 0)

    def _far(self, connection: sqlite3.Connection, added: int) -> Filled:
        state = _state(connection)
        own = state is not None and state.name == self._name
        embedded = connection.execute("SELECT count(*) FROM vectors").fetchone()[0] if own else 0
        return Filled(added, embedded, connection.execute("SELECT count(*) FROM passages").fetchone()[0])

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Whatever holds before anything is added: another program's vectors go, dead rows go when they are many."""
        state = _state(connection)
        if state is None or state.name != self._name:
            connection.execute("DELETE FROM vectors")
            _set_state(connection, _State(self._name, _next(state), 0, 0))
        else:
            living = connection.execute("SELECT count(*) FROM vectors").fetchone()[0]
            if state.rows - living > max(living, _LEAST_DEAD):
                self._compact(connection, state)
        self._sweep(connection)

    def _compact(self, connection: sqlite3.Connection, state: _State) -> None:
        """Move the living rows into a new file, in the open transaction."""
        kept = connection.execute("SELECT passage, row FROM vectors ORDER BY row").fetchall()
        rows_RD = self._rows(connection)
        new = _State(self._name, _next(state), len(kept), state.width)
        with open(self._database.home / new.file, "wb") as file:
            for start in range(0, len(kept), 4096):
                if rows_RD is not None:
                    file.write(rows_RD[[row for _, row in kept[start : start + 4096]]].tobytes())
            file.flush()
            os.fsync(file.fileno())
        connection.execute("DELETE FROM vectors")
        connection.executemany(
            "INSERT INTO vectors(passage, row) VALUES (?, ?)", ((id, row) for row, (id, _) in enumerate(kept))
        )
        _set_state(connection, new)

    def _sweep(self, connection: sqlite3.Connection) -> None:
        """Remove files of the past. Who has one mapped still reads it; the last one may be asked for once more."""
        state = _state(connection)
        for path in self._database.home.glob("vectors-*.f16"):
            if state is not None and path.name not in (state.file, _State(state.name, state.number - 1, 0, 0).file):
                path.unlink(missing_ok=True)

    def _append(self, connection: sqlite3.Connection, ids: Sequence[int], vectors_ND: np.ndarray) -> int:
        """Add the vectors of those passages that are still there and still lack one; how many."""
        with transaction(connection):
            state = _state(connection)
            if state is None or state.name != self._name:
                raise SessionError(
                    "Another program began to fill in the vectors of this index.",
                    where=self._database.home,
                    wanted=f"vectors of {self._name[:12]}",
                    got=f"those of {state.name[:12]}" if state else "none",
                    do="Use one program for one index.",
                )
            lacking = {
                id
                for (id,) in connection.execute(
                    "SELECT passages.id FROM passages LEFT JOIN vectors ON passage = passages.id"
                    " WHERE passage IS NULL AND passages.id IN (SELECT value FROM json_each(?))",
                    (json.dumps(list(ids)),),
                )
            }
            chosen = [at for at, id in enumerate(ids) if id in lacking]
            width = vectors_ND.shape[1]
            if state.rows and state.width != width:
                raise self._damaged(self._database.home / state.file, state, f"vectors of {width} numbers")
            path = self._database.home / state.file
            with open(path, "r+b" if path.exists() else "w+b") as file:
                # What lies beyond is of somebody who was killed before the database knew of it.
                if file.seek(0, os.SEEK_END) < state.rows * width * _TYPE.itemsize:
                    raise self._damaged(path, state, f"{file.tell()} bytes")
                file.seek(state.rows * width * _TYPE.itemsize)
                file.write(vectors_ND[chosen].astype(_TYPE).tobytes())
                file.flush()
                os.fsync(file.fileno())
            connection.executemany(
                "INSERT INTO vectors(passage, row) VALUES (?, ?)",
                ((ids[at], state.rows + number) for number, at in enumerate(chosen)),
            )
            _set_state(connection, _State(self._name, state.number, state.rows + len(chosen), width))
        return len(chosen)


@dataclass(frozen=True)
class _State:
    """What the database says of the vectors: whose they are, in which file, how many rows of which width."""

    name: str
    number: int
    rows: int
    width: int

    @property
    def file(self) -> str:
        return f"vectors-{self.number}.f16"


def _state(connection: sqlite3.Connection) -> _State | None:
    said = get_meta(connection, "vectors")
    return _State(**json.loads(said)) if said else None


def _set_state(connection: sqlite3.Connection, state: _State) -> None:
    set_meta(connection, "vectors", json.dumps(vars(state)))


def _next(state: _State | None) -> int:
    return 1 if state is None else state.number + 1


def _shown(headings: str, text: str) -> str:
    """What is embedded of a passage: the headings above it that do not stand in it, and its text."""
    above = [heading for heading in headings.split("\n") if heading and heading not in text]
    return "\n".join([*above, text])


def _nearest(rows_RD: np.ndarray, vector_D: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows nearest to a vector, best first: their numbers and cosines."""
    try:
        from usearch.compiled import MetricKind
        from usearch.index import search
    except ModuleNotFoundError as error:
        raise missing_extra(str(error.name)) from error
    found = search(rows_RD, vector_D.astype(_TYPE), count, MetricKind.IP, exact=True)
    return found.keys.astype(np.int64), 1 - found.distances
