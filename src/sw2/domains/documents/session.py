"""An index and its folder as what others know: `core.documents.Documents`.

The index of a folder lies in sw2's home (`base.store.home`), under the name of the folder and a hash of its path,
unless another place is said: a user's documents are not written to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import final

import numpy as np

from sw2.base.errors import DataError
from sw2.base.store import home as own_home
from sw2.core.capabilities import Embed
from sw2.core.documents import Documents, Embedded, Refreshed
from sw2.core.program import Program
from sw2.domains.documents.index import Found, Index
from sw2.domains.documents.refresh import Report

__all__ = ["FolderOfDocuments", "open_documents"]

_SHOWN = 5


def open_documents(folder: Path, home: Path | None, embedder: Program | None) -> Documents:
    """The documents in `folder`, with their index in `home`; None takes a place of its own for each folder.

    Raises:
        DataError: there is no such folder.
        SessionError: what is at `home` is no index, damaged, or of another version.
    """
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise DataError("There is no folder of documents here.", where=folder, wanted="a folder", got="none")
    if home is None:
        home = own_home() / "documents" / f"{folder.name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    return FolderOfDocuments(folder, Index(home, embedder=embedder), embedder)


@final
class FolderOfDocuments(Documents):
    """A folder and its index; `open_documents` makes one."""

    def __init__(self, folder: Path, index: Index, embedder: Program | None) -> None:
        self._folder, self._index = folder, index
        self._embed = None if embedder is None else embedder.capability(Embed)  # type: ignore[type-abstract]

    def close(self) -> None:
        self._index.close()

    def refresh(self) -> Refreshed:
        report = self._index.refresh(self._folder)
        changed = bool(report.added or report.changed or report.moved or report.gone)
        return Refreshed(tuple(_sentences(report)), changed, report.files, report.passages)

    def fill(self, told: Callable[[Embedded], bool]) -> Embedded:
        if self._embed is None:
            return Embedded(0, 0)
        filled = self._index.fill(lambda far: told(Embedded(far.embedded, far.passages)))
        return Embedded(filled.embedded, filled.passages)

    def search(self, question: str, count: int, *, owners: Collection[str] = ()) -> Sequence[Found]:
        return self._index.search(question, count, owners=owners)

    def around(self, id: int, count: int, *, owners: Collection[str] = ()) -> Sequence[Found]:
        return self._index.around(id, count, owners=owners)

    def cosines(self, question: str, texts: Sequence[str]) -> np.ndarray | None:
        if self._embed is None or not texts:
            return None
        asked, *found = self._embed.embed([question, *texts])
        cosines_N: np.ndarray = np.stack(found) @ asked
        return cosines_N


def _sentences(report: Report) -> list[str]:
    """A report for people."""
    did = [
        f"{len(paths)} {what}"
        for what, paths in (
            ("new", report.added),
            ("changed", report.changed),
            ("moved", report.moved),
            ("gone", report.gone),
        )
        if paths
    ]
    said = [
        f"{report.files} {'file' if report.files == 1 else 'files'}, {report.passages} passages: "
        f"{', '.join(did) or 'nothing changed'} ({report.seconds:.1f} s)"
    ]
    said += [f"skipped {each.path}: {each.why}" for each in report.skipped[:_SHOWN]]
    if len(report.skipped) > _SHOWN:
        said.append(f"skipped {len(report.skipped) - _SHOWN} more")
    if report.others:
        kinds = ", ".join(f"{count} {suffix or 'without ending'}" for suffix, count in report.others.items())
        said.append(f"left alone, as no reader knows them: {kinds}")
    said += [f"the pattern of owners {pattern!r} matches no file" for pattern in report.idle_owners]
    return said
