"""The index: a folder on disk that knows what stands in a folder of documents, kept up to date and searched.

    with Index(home, embedder=sw2.load("all-minilm-l6-v2")) as index:
        report = index.refresh(documents)           what is new, changed, moved, gone, skipped
        index.fill()                                vectors of what has none
        for found in index.search("unfinished downloads", 5, owners=["anna"]):
            print(found.place, found.text)

A Session: it changes in place, searchable throughout, and survives kills; see `database`, `refresh` and `vectors`.

Without a program that can `Embed` passages are found by their words; with one, by words and meaning, as far as their
vectors are filled in.

Words score BM25, those of headings counting four times, as a share of the most that it could be. In a large index most
of the time would go into passages that share nothing with the question but a common word. So the rarest terms, as many
as have 5,000 passages between them, choose the passages, and all terms score them; a smaller index is searched as a
whole.

Sources: FTS5, https://www.sqlite.org/fts5.html; Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework:
BM25 and Beyond".

Not here: answers (`verbs.ask`). Counts behind the scores come from all documents, whoever may read them.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

from sw2.base.errors import DataError, UsageError
from sw2.core.capabilities import Embed
from sw2.core.program import Program
from sw2.domains.documents.blocks import Unit
from sw2.domains.documents.database import Database, get_meta, set_meta, transaction
from sw2.domains.documents.fusion import fused, most_bm25
from sw2.domains.documents.owners import FILE as OWNERS_FILE
from sw2.domains.documents.owners import Rules, may_read, read_rules
from sw2.domains.documents.query import any_of, terms
from sw2.domains.documents.refresh import IndexConfig, Refresh, Report
from sw2.domains.documents.vectors import Filled, Vectors

__all__ = ["By", "Found", "Index"]

By = Literal["words", "meaning", "both"]
"""How passages are found."""

_CHOOSING: Final = 5000
_FUSED: Final = 100
"""How many of each ranking are fused, or as many as are asked for."""

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
_AROUND: Final = """
SELECT passages.id FROM passages JOIN passages AS middle ON middle.id = ? JOIN files ON files.id = passages.file
WHERE passages.file = middle.file AND passages.number BETWEEN middle.number - ? AND middle.number + ?
AND access IN (SELECT value FROM json_each(?)) ORDER BY passages.number
"""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A passage that answers a query.

    Args:
        id: of the passage, for good.
        path: of its file, relative to the folder of documents.
        unit: what `first` and `last` count, from 1.
        headings: the path of headings, outermost first.
        score: what it is ranked by, higher is better: `words`, `cosine`, or both fused (`fusion`).
        words: BM25 as a share of the most that it could be for the query, from 0 to 1; 0 where it is not among those
            found by words.
        cosine: how near its meaning is to the question's, at most 1, comparable between queries; None without a vector.
    """

    id: int
    path: str
    unit: Unit
    first: int
    last: int
    headings: tuple[str, ...]
    text: str
    score: float
    words: float
    cosine: float | None

    @property
    def place(self) -> str:
        """Where it stands, for people: "guide.md, lines 3-9"."""
        if self.first == self.last:
            return f"{self.path}, {self.unit} {self.first}"
        return f"{self.path}, {self.unit}s {self.first}-{self.last}"


class Index:
    """An index in the folder `home`, made when there is none. One object may be shared by threads.

    Args:
        home: its folder.
        config: how it is made.
        embedder: a program that can `Embed` texts as vectors of length 1; None searches by words alone.

    Raises:
        ProgramError: the embedder cannot embed.
        SessionError: what is there is no index, damaged, or of another version.
        DiskFull: there is no room to make one.
    """

    def __init__(self, home: Path, config: IndexConfig | None = None, *, embedder: Program | None = None) -> None:
        embeds = None if embedder is None else embedder.capability(Embed)  # type: ignore[type-abstract]
        self._config = config or IndexConfig()
        self._database = Database(Path(home), self._config.wait_seconds)
        with self._database.told():
            self._reading = self._database.connect()
        self._searching = threading.Lock()
        self._vectors: Vectors | None = None
        if embeds is not None and embedder is not None:
            self._vectors = Vectors(self._database, embeds, embedder.id)

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

    def search(self, query: str, count: int = 10, *, owners: Collection[str] = (), by: By | None = None) -> list[Found]:
        """The passages that answer `query` best, best first.

        Args:
            query: any text; nothing in it is syntax.
            count: at most so many, 1 or more.
            owners: the names by which the caller goes; without any, only documents without owners are searched.
            by: words, meaning, or both; None for both where the index has an embedder, else words.

        Raises:
            UsageError: meaning is asked for, and the index has no embedder.
            SessionError: the index is damaged.
        """
        if count < 1:
            raise UsageError("A search finds one passage or more.", wanted="a count of 1 or more", got=count)
        most = count if by in ("words", "meaning") or self._vectors is None else max(count, _FUSED)
        with self._found_by(query, most, owners, by) as (words, cosines):
            scores = words if cosines is None else cosines if by == "meaning" else fused(words, cosines)
            best = sorted(scores.items(), key=lambda each: (-each[1], each[0]))[:count]
            return [self._found(id, score, words.get(id, 0.0), (cosines or {}).get(id)) for id, score in best]

    def rankings(
        self, query: str, count: int = _FUSED, *, owners: Collection[str] = ()
    ) -> tuple[dict[int, float], dict[int, float]]:
        """What is fused: `Found.words` of the passages found by words, and the cosines of these and of the nearest."""
        with self._found_by(query, count, owners, "both") as (words, cosines):
            return words, cosines or {}

    @contextlib.contextmanager
    def _found_by(
        self, query: str, count: int, owners: Collection[str], by: By | None
    ) -> Iterator[tuple[dict[int, float], dict[int, float] | None]]:
        """What words find and what meaning finds, None where nobody asks for it; inside, nothing changes."""
        vectors = None if by == "words" else self._vectors
        if by in ("meaning", "both") and vectors is None:
            raise UsageError("This index has no embedder.", wanted="a search by words", got=by, do="Open it with one.")
        asked = [] if by == "meaning" else terms(query)
        # Nothing waits for the network: it runs before the search begins.
        vector_D = vectors.question(query) if vectors is not None and query.strip() else None
        with self._searching, self._database.told(), transaction(self._reading, "DEFERRED"):
            # Owners and passages are seen at one moment, whatever a refresh commits meanwhile.
            allowed = self._allowed(owners)
            words = dict(self._ranked(asked, allowed, count)) if asked else {}
            cosines: dict[int, float] = {}
            if vectors is not None and vector_D is not None:
                cosines = vectors.cosines(self._reading, vector_D, list(words))
                near = vectors.nearest(self._reading, vector_D, count, allowed)
                cosines |= {each.id: each.cosine for each in near}
            yield words, None if vectors is None else cosines

    def around(self, id: int, count: int, *, owners: Collection[str] = ()) -> list[Found]:
        """The passage with this id, and up to `count` ≥ 0 on either side of it in its file, in order.

        None where it is there no longer, or somebody who goes by `owners` may not read it. Scores are 0.

        Raises:
            SessionError: the index is damaged.
        """
        with self._searching, self._database.told(), transaction(self._reading, "DEFERRED"):
            allowed = self._allowed(owners)
            rows = self._reading.execute(_AROUND, (id, count, count, allowed)).fetchall()
            return [self._found(each, 0.0, 0.0, None) for (each,) in rows]

    def _allowed(self, owners: Collection[str]) -> str:
        """What somebody who goes by these names may read, as JSON for a query."""
        known = self._reading.execute("SELECT id, owners FROM access")
        return json.dumps([id for id, access in known if may_read(access, owners)])

    def _ranked(self, asked: Sequence[str], allowed: str, count: int) -> list[tuple[int, float]]:
        """The ids of the best passages, best first, each with its share of the most BM25."""
        counts = {
            term: self._reading.execute(_COUNTED, (any_of([term]), _CHOOSING + 1)).fetchone()[0] for term in asked
        }
        rare, common = _divided(counts)
        scores: dict[int, float] = {}
        if rare:
            scores.update(self._reading.execute(_RANKED, (any_of(rare), allowed, count)))
        if common:
            # Of passages that hold one of either kind this is the whole score; of others the first one is.
            both = f"({any_of(rare)}) AND ({any_of(common)})"
            scores.update(self._reading.execute(_RANKED, (both, allowed, count)))
        if not scores:
            return []
        passages = self._reading.execute("SELECT count(*) FROM passages").fetchone()[0]
        # A common term is not counted to the end, which would take long: the middle of what is possible has to do.
        most = most_bm25(
            (each if each <= _CHOOSING else math.sqrt(each * passages) for each in counts.values()), passages
        )
        best = sorted(scores.items(), key=lambda each: (-each[1], each[0]))[:count]
        return [(id, min(1.0, score / most)) for id, score in best]

    def _found(self, id: int, score: float, words: float, cosine: float | None) -> Found:
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
            words=words,
            cosine=cosine,
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

    def fill(self, told: Callable[[Filled], bool] = lambda _: True) -> Filled:
        """Embed every passage that has no vector yet; searchable throughout, and killed, the next one goes on.

        Args:
            told: before each batch, how far it is; False ends it there.

        Raises:
            UsageError: the index has no embedder.
            SessionError: a refresh goes on for longer than `wait_seconds`, or the index is damaged.
            DiskFull: what was committed stays.
        """
        return self._embedding().fill(told)

    def filled(self) -> Filled:
        """How many passages have vectors, of how many."""
        with self._searching, self._database.told(), transaction(self._reading, "DEFERRED"):
            return self._embedding().state(self._reading)

    def _embedding(self) -> Vectors:
        if self._vectors is None:
            raise UsageError("This index has no embedder.", wanted="a program that can Embed", got="none")
        return self._vectors

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


def _divided(counts: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """The terms that choose passages, and those that are too common to; terms that no passage has are dropped."""
    rare: list[str] = []
    common: list[str] = []
    total = 0
    for term, passages in sorted(counts.items(), key=lambda each: each[1]):
        total += passages
        if passages:
            (rare if total <= _CHOOSING or not rare else common).append(term)
    return rare, common
