"""A folder of documents as a session: brought up to date, embedded behind, searched.

Whoever answers from documents asks for this and never for the index that is behind it, as faces ask a program for a
capability. The catalogue makes one (`Catalog.documents`); the domain that can, registers the function that does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import numpy as np

__all__ = ["Documents", "Embedded", "Passage", "Refreshed"]


class Passage(Protocol):
    """A piece of a document that was found.

    Attributes:
        id: of the passage, for good.
        path: of its file, relative to the folder, with slashes.
        unit: what `first` and `last` count, from 1: "line", "page", "paragraph" or "message".
        headings: the path of headings above it, outermost first.
        score: what it is ranked by; comparable within one search.
        cosine: how near its meaning is to the question's, at most 1; None without a vector.
    """

    @property
    def id(self) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def headings(self) -> tuple[str, ...]: ...
    @property
    def text(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def cosine(self) -> float | None: ...


@dataclass(frozen=True)
class Refreshed:
    """What bringing it up to date did, in sentences for people; whether anything changed, and what is there now."""

    said: tuple[str, ...]
    changed: bool
    files: int
    passages: int


@dataclass(frozen=True)
class Embedded:
    """How many passages have a vector, of how many."""

    embedded: int
    passages: int


class Documents(ABC):
    """A folder of documents. It may be used by several threads."""

    def __enter__(self) -> Documents:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Let go of the files."""

    @abstractmethod
    def refresh(self) -> Refreshed:
        """Read what is new or changed in the folder.

        Raises:
            DataError: there is no such folder.
            SessionError: another process writes, or the index is damaged.
            DiskFull: there is no room; what was there stays.
        """

    @abstractmethod
    def fill(self, told: Callable[[Embedded], bool]) -> Embedded:
        """Embed what has no vector yet, where there is an embedder; it is searched meanwhile.

        Args:
            told: before each batch, how far it is; False ends it there.
        """

    @abstractmethod
    def search(self, question: str, count: int, *, owners: Collection[str] = ()) -> Sequence[Passage]:
        """The passages that fit best and that somebody who goes by `owners` may read, best first."""

    @abstractmethod
    def around(self, id: int, count: int, *, owners: Collection[str] = ()) -> Sequence[Passage]:
        """The passage with this id, and up to `count` on either side of it in its file, in order.

        None where it is there no longer, or somebody who goes by `owners` may not read it. Scores are 0.
        """

    @abstractmethod
    def cosines(self, question: str, texts: Sequence[str]) -> np.ndarray | None:
        """How near the meaning of each text is to the question's, float32 [N]; None without an embedder."""
