"""Refreshing: from what an index knows and what a folder holds to an index that knows what the folder holds.

What changed is seen by size and modification time first; then the content is hashed, and only new content is read. A
file that was modified within two seconds of being read is hashed again next time, since a clock of that grain cannot
tell. A new path with the content and ending of one that is gone is that file, moved: its passages keep their ids.

A refresh commits after about a thousand passages, and the passages of one file change together; what a kill loses is
new again for the next refresh. Reading goes on outside of transactions.

Not here: links (named and left alone: behind them may be a loop, or what others own), hidden files and folders, folders
that machines fill (`__pycache__`, `node_modules`, …).
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sw2.base.config import check_ranges, to_dict
from sw2.base.store import canonical_json, sha256_of_bytes
from sw2.domains.documents import chunks, readers
from sw2.domains.documents.blocks import Unit, Unreadable
from sw2.domains.documents.chunks import ChunkConfig, Passage
from sw2.domains.documents.database import get_meta, set_meta, transaction
from sw2.domains.documents.owners import Rules
from sw2.domains.documents.query import inner_words
from sw2.domains.documents.readers import ReadConfig

__all__ = ["IndexConfig", "Refresh", "Report", "Skipped"]

_BATCH: Final = 1000
_GRAIN_NS: Final = 2 * 10**9
_LEFT_OUT: Final = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})


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

    def __post_init__(self) -> None:
        check_ranges("index", self, {"wait_seconds": (self.wait_seconds >= 0, "a number of 0 or more")})

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


class Refresh:
    """One refresh, from the walk to the report."""

    def __init__(self, connection: sqlite3.Connection, folder: Path, config: IndexConfig, rules: Rules) -> None:
        self._connection, self._folder, self._config, self._rules = connection, folder, config, rules
        self._access_rows: dict[str, int] = {}
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
        with transaction(connection):
            if get_meta(connection, "settings") != self._config.fingerprint():
                connection.execute("UPDATE files SET modified = 0, sha256 = ''")
                set_meta(connection, "settings", self._config.fingerprint())
            set_meta(connection, "owners", canonical_json(dict(self._rules.owners)) if self._rules.owners else "")
            for id, path, access in connection.execute("SELECT id, path, access FROM files").fetchall():
                if (now := self._access(path)) != access:
                    connection.execute("UPDATE files SET access = ? WHERE id = ?", (now, id))

    def _access(self, path: str) -> int:
        """The row that says who may read the file at `path`, made in the open transaction where there is none."""
        owners = self._rules.access(path)
        if owners not in self._access_rows:
            self._connection.execute("INSERT OR IGNORE INTO access(owners) VALUES (?)", (owners,))
            row = self._connection.execute("SELECT id FROM access WHERE owners = ?", (owners,)).fetchone()
            self._access_rows[owners] = row[0]
        return self._access_rows[owners]

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
            with transaction(self._connection):
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
        with transaction(connection):
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
        with transaction(self._connection):
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
        with transaction(self._connection):
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
