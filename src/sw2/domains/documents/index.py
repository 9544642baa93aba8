"""The index: a folder on disk that knows what stands in a folder of documents, kept up to date and searched by words.

    with Index(home) as index:
        report = index.refresh(documents)           what is new, changed, moved, gone, skipped
        for found in index.search("unfinished downloads", 5, owners=["anna"]):
            print(found.place, found.text)

A Session: it changes in place, searchable throughout, and survives kills; see `database` and `refresh`.

Scores are BM25 with words of headings counting four times; higher is better. In a large index most of the time would
go into passages that share nothing with the question but a common word. So the rarest terms, as many as have 5,000
passages between them, choose the passages, and all terms score them; a smaller index is searched as a whole.

Sources: FTS5, https://www.sqlite.org/fts5.html; Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework:
BM25 and Beyond".

Not here: embeddings, answers. Counts behind the scores come from all documents, whoever may read them.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from sw2.base.errors import DataError, UsageError
from sw2.domains.documents.blocks import Unit
from sw2.domains.documents.database import Database, get_meta, set_meta, transaction
from sw2.domains.documents.owners import FILE as OWNERS_FILE
from sw2.domains.documents.owners import Rules, may_read, read_rules
from sw2.domains.documents.query import any_of, terms
from sw2.domains.documents.refresh import IndexConfig, Refresh, Report

__all__ = ["Found", "Index"]

_CHOOSING: Final = 5000

# Words come in order of rank and drive the loop, so that it ends when enough are found that the caller may read.
_RANKED: Final = """
SELECT passages.id, -rank FROM words
CROSS JOIN passages ON passages.id = words.rowid CROSS JOIN files ON files.id = passages.file
WHERE words MATCH ? AND access IN (SELECT value FROM json_each(?)) ORDER BY rank LIMIT ?
"""
_COUNTED: Final = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)"
_SHOWN: Final = """
SELECT path, unit, first, last, headings, text FROM passages JOIN files ON files.id = file WHERE passages.id = ?
"""


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


class Index:
    """An index in the folder `home`, made when there is none. One object may be shared by threads.

    Raises:
        SessionError: what is there is no index, damaged, or of another version.
        DiskFull: there is no room to make one.
    """

    def __init__(self, home: Path, config: IndexConfig | None = None) -> None:
        self._config = config or IndexConfig()
        self._database = Database(Path(home), self._config.wait_seconds)
        with self._database.told():
            self._reading = self._database.connect()
        self._searching = threading.Lock()

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

    def search(self, query: str, count: int = 10, *, owners: Collection[str] = ()) -> list[Found]:
        """The passages that answer `query` best, best first.

        Args:
            query: any text; nothing in it is syntax.
            count: at most so many, 1 or more.
            owners: the names by which the caller goes; without any, only documents without owners are searched.

        Raises:
            SessionError: the index is damaged.
        """
        if count < 1:
            raise UsageError("A search finds one passage or more.", wanted="a count of 1 or more", got=count)
        asked = terms(query)
        if not asked:
            return []
        with self._searching, self._database.told(), transaction(self._reading, "DEFERRED"):
            # Owners and passages are seen at one moment, whatever a refresh commits meanwhile.
            known = self._reading.execute("SELECT id, owners FROM access")
            allowed = json.dumps([id for id, access in known if may_read(access, owners)])
            return [self._found(id, score) for id, score in self._ranked(asked, allowed, count)]

    def _ranked(self, asked: Sequence[str], allowed: str, count: int) -> list[tuple[int, float]]:
        """The ids and scores of the best passages, best first."""
        rare, common = self._divided(asked)
        scores: dict[int, float] = {}
        if rare:
            scores.update(self._reading.execute(_RANKED, (any_of(rare), allowed, count)))
        if common:
            # Of passages that hold one of either kind this is the whole score; of others the first one is.
            both = f"({any_of(rare)}) AND ({any_of(common)})"
            scores.update(self._reading.execute(_RANKED, (both, allowed, count)))
        return sorted(scores.items(), key=lambda each: (-each[1], each[0]))[:count]

    def _divided(self, asked: Sequence[str]) -> tuple[list[str], list[str]]:
        """The terms that choose passages, and those that are too common to; terms that no passage has are dropped."""
        counted = [
            (self._reading.execute(_COUNTED, (any_of([term]), _CHOOSING + 1)).fetchone()[0], term) for term in asked
        ]
        rare: list[str] = []
        common: list[str] = []
        total = 0
        for passages, term in sorted(counted, key=lambda each: each[0]):
            total += passages
            if passages:
                (rare if total <= _CHOOSING or not rare else common).append(term)
        return rare, common

    def _found(self, id: int, score: float) -> Found:
        path, unit, first, last, headings, text = self._reading.execute(_SHOWN, (id,)).fetchone()
        return Found(
            id=id,
            path=path,
            unit=unit,
            first=first,
            last=last,
            headings=tuple(headings.split("\n")) if headings else (),
            text=text,
            score=score,
        )

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
        database = self._database
        with database.told(), database.writing(), contextlib.closing(database.connect()) as connection:
            self._check_folder(connection, folder)
            return Refresh(connection, folder, self._config, self._rules(connection, folder)).run(began)

    def _check_folder(self, connection: sqlite3.Connection, folder: Path) -> None:
        """Bind the index to its folder. One that is there no longer was moved, for all we know."""
        before = get_meta(connection, "folder")
        if before and before != str(folder) and Path(before).is_dir():
            raise UsageError(
                "This index belongs to another folder of documents.",
                where=self._database.home,
                wanted=before,
                got=folder,
                do="Keep an index for each folder, or remove this one and make it anew.",
            )
        if before != str(folder):
            with transaction(connection):
                set_meta(connection, "folder", str(folder))

    def _rules(self, connection: sqlite3.Connection, folder: Path) -> Rules:
        rules = read_rules(folder)
        if rules is None and get_meta(connection, "owners"):
            raise UsageError(
                "The documents had owners, and the file that says so is gone; nothing was changed.",
                where=folder / OWNERS_FILE,
                wanted="the file, as everybody could read everything without it",
                got="none",
                do="Put it back; to open everything, leave the section [owners] in it empty.",
            )
        return rules or Rules({})
