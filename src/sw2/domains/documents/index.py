"""The index: a folder on disk that knows what stands in a folder of documents, kept up to date and searched by words.

    with Index(home) as index:
        report = index.refresh(documents)           what is new, changed, moved, gone, skipped
        for found in index.search("unfinished downloads", 5, names=["anna"]):
            print(found.place, found.text)

A Session: it changes in place. One SQLite database with FTS5 holds everything, in write-ahead mode, so that readers in
any process search the last committed state while a refresh goes on, and a kill at any moment loses at most the files
that were not committed, which the next refresh reads. A refresh commits after about a thousand passages; the passages
of one file change together.

What changed is seen by size and modification time first; then the content is hashed, and only new content is read. A
file that was modified within two seconds of being read is hashed again next time, since a clock of that grain cannot
tell. A new path with the content and ending of one that is gone is that file, moved: its passages keep their ids.

Scores are BM25 with words of headings counting four times; higher is better. Owners: see `owners`.

Sources: FTS5, https://www.sqlite.org/fts5.html; write-ahead logging, https://www.sqlite.org/wal.html; Robertson and
Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond".

Not here: embeddings, answers, links (which are named and left alone), folders on network drives, where SQLite's
write-ahead mode does not work. Counts behind the scores come from all documents, whoever may read them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import sqlite3
import stat
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from sw2.base.config import to_dict
from sw2.base.errors import DataError, DiskFull, SessionError, UsageError
from sw2.base.store import canonical_json, full_disk_told, sha256_of_bytes
from sw2.domains.documents import chunks, readers
from sw2.domains.documents.blocks import Unit, Unreadable
from sw2.domains.documents.chunks import ChunkConfig, Passage
from sw2.domains.documents.owners import FILE as OWNERS_FILE
from sw2.domains.documents.owners import Rules, may_read, read_rules
from sw2.domains.documents.query import expression, inner_words
from sw2.domains.documents.readers import ReadConfig

__all__ = ["Found", "Index", "IndexConfig", "Report", "Skipped"]

VERSION: Final = 1
_APPLICATION: Final = 0x73773264
_DATABASE: Final = "index.sqlite"
_LOCK: Final = "writer.lock"
_BATCH: Final = 1000
_NO_ROOM: Final = 2**20
_GRAIN_NS: Final = 2 * 10**9
_POLL_SECONDS: Final = 0.05
_BUSY_SECONDS: Final = 30.0
_LEFT_OUT: Final = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})

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


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """How an index is made. What changes the passages is recorded; a refresh with other settings reads all files again.

    Args:
        read: limits on what is read.
        chunk: how passages are cut.
        wait_seconds: how long a refresh waits for another one to end.
    """

    read: ReadConfig = field(default_factory=ReadConfig)
    chunk: ChunkConfig = field(default_factory=ChunkConfig)
    wait_seconds: float = 10.0

    def fingerprint(self) -> str:
        """What the passages depend on, beside the files."""
        return canonical_json(
            {"read": to_dict(self.read), "chunk": to_dict(self.chunk), "versions": [readers.VERSION, chunks.VERSION]}
        )


@dataclass(frozen=True)
class Skipped:
    """A file that could not be read: its path, fit for print, and why."""

    path: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a refresh did.

    Args:
        files, passages: in the index now.
        added, changed, gone: paths, sorted.
        moved: old and new paths.
        skipped: files that could not be read, those that were skipped by an earlier refresh and are unchanged included.
        others: how many files were left alone by ending, because no reader knows it.
        idle_owners: patterns of owners that match no file; a misspelt one protects nothing.
        seconds: that it took.
    """

    files: int
    passages: int
    added: tuple[str, ...]
    changed: tuple[str, ...]
    moved: tuple[tuple[str, str], ...]
    gone: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    others: dict[str, int]
    idle_owners: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Found:
    """A passage that answers a query.

    Args:
        id: of the passage, for good.
        path: of its file, relative to the folder of documents.
        unit: what `first` and `last` count, from 1.
        headings: the path of headings, outermost first.
        score: BM25, higher is better; comparable within one query only.
    """

    id: int
    path: str
    unit: Unit
    first: int
    last: int
    headings: tuple[str, ...]
    text: str
    score: float

    @property
    def place(self) -> str:
        """Where it stands, for people: "guide.md, lines 3-9"."""
        if self.first == self.last:
            return f"{self.path}, {self.unit} {self.first}"
        return f"{self.path}, {self.unit}s {self.first}-{self.last}"


@dataclass(frozen=True)
class _File:
    """A row of `files`."""

    id: int
    path: str
    size: int
    modified: int
    sha256: str
    why: str


@dataclass(frozen=True)
class _Change:
    """A file to be written: what its row says, and its passages; `row` is the one that it replaces."""

    path: str
    size: int
    modified: int
    sha256: str
    row: _File | None
    unit: Unit = "line"
    passages: tuple[Passage, ...] = ()
    why: str = ""


class Index:
    """An index in the folder `home`, made when there is none. One object may be shared by threads.

    Raises:
        SessionError: what is there is no index, damaged, or of another version.
        DiskFull: there is no room to make one.
    """

    def __init__(self, home: Path, config: IndexConfig | None = None) -> None:
        self._home, self._config = Path(home), config or IndexConfig()
        self._path = self._home / _DATABASE
        with self._told():
            self._home.mkdir(parents=True, exist_ok=True)
            if not self._path.exists():
                with self._writing():
                    self._create()
            self._reading = _connect(self._path)
        self._searching = threading.Lock()
        try:
            with self._told():
                self._check_version()
        except BaseException:
            self._reading.close()
            raise

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        with self._searching:
            self._reading.close()

    # ---------------------------------------------------------------------------------------------------------- search

    def search(self, query: str, count: int = 10, *, names: Collection[str] = ()) -> list[Found]:
        """The passages that answer `query` best, best first.

        Args:
            query: any text; nothing in it is syntax.
            count: at most so many, 1 or more.
            names: those by which the caller goes; without any, only documents without owners are searched.

        Raises:
            SessionError: the index is damaged.
        """
        if count < 1:
            raise UsageError("A search finds one passage or more.", wanted="a count of 1 or more", got=count)
        terms = expression(query)
        if not terms:
            return []
        with self._searching, self._told(), _transaction(self._reading, "DEFERRED"):
            # Owners and passages are seen at one moment, whatever a refresh commits meanwhile.
            known = self._reading.execute("SELECT id, owners FROM access")
            allowed = [id for id, owners in known if may_read(owners, names)]
            # The words come in order of rank and drive the loop, so that it ends when enough are found.
            rows = self._reading.execute(
                "SELECT passages.id, path, unit, first, last, passages.headings, passages.text, -rank FROM words"
                " CROSS JOIN passages ON passages.id = words.rowid CROSS JOIN files ON files.id = passages.file"
                " WHERE words MATCH ? AND access IN (SELECT value FROM json_each(?)) ORDER BY rank LIMIT ?",
                (terms, json.dumps(allowed), count),
            ).fetchall()
        return [
            Found(
                id=id,
                path=path,
                unit=unit,
                first=first,
                last=last,
                headings=tuple(headings.split("\n")) if headings else (),
                text=text,
                score=score,
            )
            for id, path, unit, first, last, headings, text, score in rows
        ]

    # --------------------------------------------------------------------------------------------------------- refresh

    def refresh(self, folder: Path) -> Report:
        """Make the index say what stands in `folder` now. Searchable throughout; killed, the next one goes on.

        Raises:
            DataError: there is no such folder.
            UsageError: the index belongs to another folder, or the owners cannot be read.
            SessionError: another refresh goes on for longer than `wait_seconds`, or the index is damaged.
            DiskFull: the index stays as it was after the last file that found room.
        """
        began = time.monotonic()
        folder = Path(folder).resolve()
        if not folder.is_dir():
            raise DataError("There is no folder of documents here.", where=folder, wanted="a folder", got="none")
        with self._told(), self._writing(), contextlib.closing(_connect(self._path)) as connection:
            self._check_folder(connection, folder)
            return _Refresh(connection, folder, self._config, self._rules(connection, folder)).run(began)

    def _check_folder(self, connection: sqlite3.Connection, folder: Path) -> None:
        """Bind the index to its folder. One that is there no longer was moved, for all we know."""
        before = _meta(connection, "folder")
        if before and before != str(folder) and Path(before).is_dir():
            raise UsageError(
                "This index belongs to another folder of documents.",
                where=self._home,
                wanted=before,
                got=folder,
                do="Keep an index for each folder, or remove this one and make it anew.",
            )
        if before != str(folder):
            with _transaction(connection):
                _set_meta(connection, "folder", str(folder))

    def _rules(self, connection: sqlite3.Connection, folder: Path) -> Rules:
        rules = read_rules(folder)
        if rules is None and _meta(connection, "owners"):
            raise UsageError(
                "The documents had owners, and the file that says so is gone; nothing was changed.",
                where=folder / OWNERS_FILE,
                wanted="the file, as everybody could read everything without it",
                got="none",
                do="Put it back; to open everything, leave the section [owners] in it empty.",
            )
        return rules or Rules({})

    # -------------------------------------------------------------------------------------------------------- database

    def _create(self) -> None:
        """The empty database, unless another process was quicker."""
        with contextlib.closing(_connect(self._path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            with _transaction(connection):
                if _pragma(connection, "application_id") == 0:
                    for statement in _statements(_SCHEMA):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                    connection.execute(f"PRAGMA user_version = {VERSION}")

    def _check_version(self) -> None:
        if _pragma(self._reading, "application_id") == 0 and _pragma(self._reading, "schema_version") == 0:
            with self._writing():  # killed before it was made, or being made at this moment
                self._create()
        if _pragma(self._reading, "application_id") != _APPLICATION:
            raise self._error(
                "There is something else where the index should be.", "an index of sw2", "another database"
            )
        found = _pragma(self._reading, "user_version")
        if found != VERSION:
            raise self._error("This index has another version.", f"version {VERSION}", f"version {found}")

    def _error(self, message: str, wanted: str, got: object) -> SessionError:
        return SessionError(
            message,
            where=self._path,
            wanted=wanted,
            got=got,
            do="Remove the folder of the index and refresh: it is made from the documents alone. Or choose another.",
        )

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Inside, SQLite's errors are those of sw2."""
        try:
            with full_disk_told(self._path):
                yield
        except sqlite3.Error as error:
            # Errors of the module itself have no code: those are mistakes of ours.
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            # Some files of SQLite's say only that writing failed when there is no room.
            full = code == sqlite3.SQLITE_IOERR and shutil.disk_usage(self._home).free < _NO_ROOM
            if code == sqlite3.SQLITE_FULL or full:
                raise self._full() from error
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise self._error("The index is damaged.", "a database of SQLite", error) from error
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise SessionError(
                    "The index is busy.",
                    where=self._path,
                    wanted=f"an answer within {_BUSY_SECONDS:g} seconds",
                    got=error,
                    do="Try again; if it stays so, look for a program that holds the database open.",
                ) from error
            if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
                raise SessionError(
                    "The index cannot be read or written.",
                    where=self._path,
                    wanted="a folder on a local disk that may be written",
                    got=error,
                    do="Look at the folder's permissions and the disk.",
                ) from error
            raise

    def _full(self) -> DiskFull:
        return DiskFull(
            "The disk is full; the index stays as it was after the last file that found room.",
            where=self._path,
            wanted="room for the index, which takes about twice the size of the text",
            got="none",
            do="Make room and refresh again: it goes on where it stopped.",
        )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Be the one process, and the one thread, that writes."""
        with open(self._home / _LOCK, "a+", encoding="utf-8", errors="replace") as file:
            until = time.monotonic() + self._config.wait_seconds
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        file.seek(0)
                        raise self._taken(file.read(1000)) from None
                    time.sleep(_POLL_SECONDS)
            file.truncate(0)
            file.write(
                f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
            )
            file.flush()
            # The lock ends with the file, also when the process is killed.
            yield

    def _taken(self, holder: str) -> SessionError:
        return SessionError(
            "Another refresh of this index goes on.",
            where=self._home,
            wanted=f"to be the only one that writes, within {self._config.wait_seconds:g} seconds",
            got=holder or "a process that did not write who it is",
            do="Wait until it ends; searching needs no waiting.",
        )


class _Refresh:
    """One refresh, from the walk to the report."""

    def __init__(self, connection: sqlite3.Connection, folder: Path, config: IndexConfig, rules: Rules) -> None:
        self._connection, self._folder, self._config, self._rules = connection, folder, config, rules
        self._skipped: list[Skipped] = []
        self._others: Counter[str] = Counter()
        self._added: list[str] = []
        self._changed: list[str] = []
        self._moved: list[tuple[str, str]] = []
        self._pending: list[_Change] = []
        self._pending_size = 0

    def run(self, began: float) -> Report:
        self._prepare()
        known = {file.path: file for file in self._known()}
        seen = dict(self._walk())
        gone = {path: file for path, file in known.items() if path not in seen}
        lost: dict[tuple[str, str], list[_File]] = {}
        for file in gone.values():
            lost.setdefault(_identity(file.path, file.sha256), []).append(file)
        for path, state in seen.items():
            before = known.get(path)
            if before is None or (before.size, before.modified) != (state.st_size, state.st_mtime_ns):
                self._look(path, before, lost, gone)
            elif before.why:
                self._skipped.append(Skipped(path, before.why))
        self._flush()
        for file in gone.values():
            self._remove(file)
        return self._report(began, sorted(gone), seen)

    def _prepare(self) -> None:
        """Whatever holds for files that are there already: other settings, other owners."""
        connection = self._connection
        with _transaction(connection):
            if _meta(connection, "settings") != self._config.fingerprint():
                connection.execute("UPDATE files SET modified = 0, sha256 = ''")
                _set_meta(connection, "settings", self._config.fingerprint())
            _set_meta(connection, "owners", canonical_json(dict(self._rules.owners)) if self._rules.owners else "")
            for id, path, access in connection.execute("SELECT id, path, access FROM files").fetchall():
                if (now := self._access(path)) != access:
                    connection.execute("UPDATE files SET access = ? WHERE id = ?", (now, id))

    def _access(self, path: str) -> int:
        """The row that says who may read the file at `path`, made in the open transaction where there is none."""
        owners = self._rules.access(path)
        self._connection.execute("INSERT OR IGNORE INTO access(owners) VALUES (?)", (owners,))
        found: int = self._connection.execute("SELECT id FROM access WHERE owners = ?", (owners,)).fetchone()[0]
        return found

    def _known(self) -> Iterator[_File]:
        for row in self._connection.execute("SELECT id, path, size, modified, sha256, why FROM files"):
            yield _File(*row)

    # ------------------------------------------------------------------------------------------------------------ walk

    def _walk(self) -> Iterator[tuple[str, os.stat_result]]:
        """Path and state of every file that a reader knows, in a fixed order."""
        folders = [("", self._folder)]
        while folders:
            before, folder = folders.pop()
            try:
                with os.scandir(folder) as entries:
                    listed = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                self._skipped.append(Skipped(before or ".", error.strerror or str(error)))
                continue
            below = []
            for entry in listed:
                if entry.name.startswith(".") or entry.name in _LEFT_OUT:
                    continue
                path = before + entry.name
                try:
                    path.encode("utf-8")
                except UnicodeEncodeError:
                    shown = os.fsencode(path).decode("utf-8", "backslashreplace")
                    self._skipped.append(Skipped(shown, "its name is not UTF-8"))
                    continue
                try:
                    state = entry.stat(follow_symlinks=False)
                except OSError as error:
                    self._skipped.append(Skipped(path, error.strerror or str(error)))
                    continue
                if stat.S_ISDIR(state.st_mode):
                    below.append((path + "/", folder / entry.name))
                elif stat.S_ISLNK(state.st_mode):
                    self._skipped.append(Skipped(path, "a link; what it points to is read where it stands"))
                elif not stat.S_ISREG(state.st_mode):
                    self._skipped.append(Skipped(path, "no regular file"))
                elif not readers.is_known(entry.name):
                    self._others[Path(entry.name).suffix.lower()] += 1
                else:
                    yield path, state
            folders += reversed(below)

    # ----------------------------------------------------------------------------------------------------------- files

    def _look(
        self, path: str, file: _File | None, lost: dict[tuple[str, str], list[_File]], gone: dict[str, _File]
    ) -> None:
        """Find out what became of a file that is new or looks changed."""
        began = time.time_ns()
        try:
            content, state = readers.load(self._folder / path, self._config.read)
        except Unreadable as error:
            self._skipped.append(Skipped(path, error.why))
            if file:  # what it said can be neither confirmed nor quoted
                gone[path] = file
            return
        digest = sha256_of_bytes(content)
        modified = state.st_mtime_ns if state.st_mtime_ns < began - _GRAIN_NS else 0
        if file and file.sha256 == digest:
            with _transaction(self._connection):
                self._connection.execute(
                    "UPDATE files SET size = ?, modified = ? WHERE id = ?", (state.st_size, modified, file.id)
                )
            if file.why:
                self._skipped.append(Skipped(path, file.why))
        elif candidates := lost.get(_identity(path, digest)):
            old = candidates.pop()
            del gone[old.path]
            self._move(old, path, file, state, modified)
        else:
            change = _Change(path, state.st_size, modified, digest, file)
            self._read(change, content, gone)

    def _read(self, change: _Change, content: bytes, gone: dict[str, _File]) -> None:
        path = change.path
        unit: Unit = "line"
        passages: tuple[Passage, ...] = ()
        why = ""
        try:
            unit, blocks = readers.read(path, content, self._config.read)
            passages = tuple(chunks.split(blocks, self._config.chunk))
        except Unreadable as error:
            self._skipped.append(Skipped(path, error.why))
            if not error.lasting:
                if change.row:
                    gone[path] = change.row
                return
            why = error.why
        if not why:
            (self._changed if change.row and not change.row.why else self._added).append(path)
        self._pending.append(
            _Change(path, change.size, change.modified, change.sha256, change.row, unit, passages, why)
        )
        self._pending_size += len(passages) + 1
        if self._pending_size >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        """Write what was read, in one transaction."""
        connection = self._connection
        with _transaction(connection):
            for change in self._pending:
                if change.row:
                    self._delete(change.row)
                id = connection.execute(
                    "INSERT INTO files(path, size, modified, sha256, unit, access, why) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        change.path,
                        change.size,
                        change.modified,
                        change.sha256,
                        change.unit,
                        self._access(change.path),
                        change.why,
                    ),
                ).lastrowid
                connection.executemany(
                    "INSERT INTO passages(file, number, first, last, headings, text, parts)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        (id, number, p.first, p.last, "\n".join(p.headings), p.text, inner_words(p.text))
                        for number, p in enumerate(change.passages)
                    ),
                )
        self._pending, self._pending_size = [], 0

    def _move(self, old: _File, path: str, replaced: _File | None, state: os.stat_result, modified: int) -> None:
        with _transaction(self._connection):
            if replaced:
                self._delete(replaced)
            self._connection.execute(
                "UPDATE files SET path = ?, size = ?, modified = ?, access = ? WHERE id = ?",
                (path, state.st_size, modified, self._access(path), old.id),
            )
        self._moved.append((old.path, path))
        if old.why:
            self._skipped.append(Skipped(path, old.why))

    def _remove(self, file: _File) -> None:
        with _transaction(self._connection):
            self._delete(file)

    def _delete(self, file: _File) -> None:
        self._connection.execute("DELETE FROM passages WHERE file = ?", (file.id,))
        self._connection.execute("DELETE FROM files WHERE id = ?", (file.id,))

    def _report(self, began: float, gone: list[str], seen: Collection[str]) -> Report:
        count = self._connection.execute
        return Report(
            files=count("SELECT count(*) FROM files WHERE why = ''").fetchone()[0],
            passages=count("SELECT count(*) FROM passages").fetchone()[0],
            added=tuple(sorted(self._added)),
            changed=tuple(sorted(self._changed)),
            moved=tuple(sorted(self._moved)),
            gone=tuple(gone),
            skipped=tuple(sorted(self._skipped, key=lambda each: each.path)),
            others=dict(sorted(self._others.items())),
            idle_owners=self._rules.idle(seen),
            seconds=time.monotonic() - began,
        )


def _identity(path: str, digest: str) -> tuple[str, str]:
    """What makes a file the same one at another path: its content, and the ending that says how to read it."""
    return digest, Path(path).suffix.lower()


# -------------------------------------------------------------------------------------------------------------- SQLite


def _connect(path: Path) -> sqlite3.Connection:
    """A connection that begins no transactions by itself."""
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        # With write-ahead logging this is safe against kills, and against power cuts but for the last commits.
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A full disk has rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


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


def _meta(connection: sqlite3.Connection, name: str) -> str:
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return row[0] if row else ""


def _set_meta(connection: sqlite3.Connection, name: str, value: str) -> None:
    connection.execute("INSERT OR REPLACE INTO meta(name, value) VALUES (?, ?)", (name, value))
