"""The database of an index: its tables, who may write, and what SQLite's errors mean.

One file of SQLite in write-ahead mode, so that readers in any process see the last committed state while one process
writes, and a kill at any moment leaves the last committed state. Writers of an index are kept apart by a lock of the
operating system on a file beside it, which ends with the process that holds it and names it to the others; SQLite's own
lock lasts for one transaction only, and a refresh is many.

Source: https://www.sqlite.org/wal.html.

Not here: network drives, where SQLite's write-ahead mode does not work.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from sw2.base.errors import DiskFull, SessionError
from sw2.base.store import Held, full_disk_told, held

__all__ = ["Database", "get_meta", "set_meta", "transaction"]

VERSION: Final = 2
_APPLICATION: Final = 0x73773264
_DATABASE: Final = "index.sqlite"
_LOCK: Final = "writer.lock"
_NO_ROOM: Final = 2**20
_BUSY_SECONDS: Final = 30.0

# The words of external content: FTS5 holds none of the text, and is told the old one when it changes.
_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE access (
    id INTEGER PRIMARY KEY,
    owners TEXT NOT NULL UNIQUE     -- see owners.Rules.access
);
CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,      -- relative, with slashes
    size INTEGER NOT NULL,
    modified INTEGER NOT NULL,      -- nanoseconds; 0 where it cannot be trusted
    sha256 TEXT NOT NULL,
    unit TEXT NOT NULL,             -- what positions count
    access INTEGER NOT NULL REFERENCES access(id),
    why TEXT NOT NULL               -- it could not be read; '' for all others
);
CREATE TABLE passages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,   -- never given twice: whoever keeps something by id can trust it
    file INTEGER NOT NULL REFERENCES files(id),
    number INTEGER NOT NULL,        -- in its file, from 0
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    headings TEXT NOT NULL,         -- a line each
    text TEXT NOT NULL,
    parts TEXT NOT NULL             -- words inside identifiers
);
CREATE UNIQUE INDEX passages_file ON passages(file, number);
CREATE VIRTUAL TABLE words USING fts5(
    headings, text, parts,
    content='passages', content_rowid='id', tokenize='porter unicode61 remove_diacritics 2'
);
INSERT INTO words(words, rank) VALUES ('rank', 'bm25(4.0, 1.0, 0.5)');
CREATE TRIGGER passages_insert AFTER INSERT ON passages BEGIN
    INSERT INTO words(rowid, headings, text, parts) VALUES (new.id, new.headings, new.text, new.parts);
END;
CREATE TRIGGER passages_delete AFTER DELETE ON passages BEGIN
    INSERT INTO words(words, rowid, headings, text, parts)
    VALUES ('delete', old.id, old.headings, old.text, old.parts);
END;
"""


# What each version added to the one before; an index of an older one is brought forward when it is opened.
_ADDED: Final = {
    2: """
CREATE TABLE vectors (
    passage INTEGER PRIMARY KEY REFERENCES passages(id),
    row INTEGER NOT NULL UNIQUE     -- in the file of vectors; see vectors.py
);
CREATE TRIGGER passages_forget AFTER DELETE ON passages BEGIN
    DELETE FROM vectors WHERE passage = old.id;
END;
"""
}


class Database:
    """The database in the folder `home`, made when there is none.

    Args:
        home: the folder of the index.
        wait_seconds: how long to wait for another writer.

    Raises:
        SessionError: what is there is no index, damaged, or of another version.
        DiskFull: there is no room to make one.
    """

    def __init__(self, home: Path, wait_seconds: float) -> None:
        self.home, self._wait_seconds = home, wait_seconds
        self.path = home / _DATABASE
        with self.told():
            home.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(self.connect()) as connection:
                if _is_empty(connection):
                    with self.writing():  # another process may be making it at this moment
                        self._create(connection)
                self._check(connection)

    def connect(self) -> sqlite3.Connection:
        """A connection that begins no transactions by itself."""
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            # With write-ahead logging this is safe against kills, and against power cuts but for the last commits.
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        with transaction(connection):
            if _is_empty(connection):
                for statement in _statements(_SCHEMA):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                connection.execute("PRAGMA user_version = 1")

    def _check(self, connection: sqlite3.Connection) -> None:
        if _pragma(connection, "application_id") != _APPLICATION:
            raise SessionError(
                "There is something else where the index should be.",
                where=self.path,
                wanted="an index of sw2",
                got="another database",
                do="Choose another folder for the index.",
            )
        if 1 <= _pragma(connection, "user_version") < VERSION:
            with self.writing(), transaction(connection):
                for version in range(_pragma(connection, "user_version") + 1, VERSION + 1):
                    for statement in _statements(_ADDED[version]):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {version}")
        found = _pragma(connection, "user_version")
        if found != VERSION:
            raise self._error("This index has another version.", f"version {VERSION}", f"version {found}")

    def _error(self, message: str, wanted: str, got: object) -> SessionError:
        return SessionError(
            message,
            where=self.path,
            wanted=wanted,
            got=got,
            do="Remove the folder of the index and refresh: it is made from the documents alone. Or choose another.",
        )

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Inside, SQLite's errors are those of sw2."""
        try:
            with full_disk_told(self.path):
                yield
        except OSError as error:
            raise self._unreachable(error) from error
        except sqlite3.Error as error:
            # Errors of the module itself have no code: those are mistakes of ours.
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            # Some files of SQLite's say only that writing failed when there is no room.
            full = code == sqlite3.SQLITE_IOERR and shutil.disk_usage(self.home).free < _NO_ROOM
            if code == sqlite3.SQLITE_FULL or full:
                raise self._full() from error
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise self._error("The index is damaged.", "a database of SQLite", error) from error
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise SessionError(
                    "The index is busy.",
                    where=self.path,
                    wanted=f"an answer within {_BUSY_SECONDS:g} seconds",
                    got=error,
                    do="Try again; if it stays so, look for a program that holds the database open.",
                ) from error
            if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
                raise self._unreachable(error) from error
            raise

    def _unreachable(self, error: Exception) -> SessionError:
        return SessionError(
            "The index cannot be read or written.",
            where=self.path,
            wanted="a folder on a local disk that may be written",
            got=error,
            do="Look at the folder's permissions and the disk.",
        )

    def _full(self) -> DiskFull:
        return DiskFull(
            "The disk is full; the index stays as it was after the last file that found room.",
            where=self.path,
            wanted="room for the index, which takes about twice the size of the text",
            got="none",
            do="Make room and refresh again: it goes on where it stopped.",
        )

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one process, and the one thread, that writes."""
        with contextlib.ExitStack() as lock:
            try:
                lock.enter_context(held(self.home / _LOCK, wait_seconds=self._wait_seconds))
            except Held as error:
                raise self._taken(str(error)) from None
            yield

    def _taken(self, holder: str) -> SessionError:
        return SessionError(
            "Another refresh of this index goes on.",
            where=self.home,
            wanted=f"to be the only one that writes, within {self._wait_seconds:g} seconds",
            got=holder,
            do="Wait until it ends; searching needs no waiting.",
        )


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, kind: Literal["IMMEDIATE", "DEFERRED"] = "IMMEDIATE") -> Iterator[None]:
    """All or nothing of what is written inside; DEFERRED to read one state of everything."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A full disk has rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _is_empty(connection: sqlite3.Connection) -> bool:
    """Whether nothing was made yet, as when a process was killed before it could."""
    return _pragma(connection, "application_id") == 0 and _pragma(connection, "schema_version") == 0


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, which `executescript` would commit one by one."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def get_meta(connection: sqlite3.Connection, name: str) -> str:
    """What the index recorded under a name; "" for nothing."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return row[0] if row else ""


def set_meta(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Record something under a name, in the transaction that is open."""
    connection.execute("INSERT OR REPLACE INTO meta(name, value) VALUES (?, ?)", (name, value))
