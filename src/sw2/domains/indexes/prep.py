"""What an index knows of its column, and how a question is read: one key, or the two ends of a range.

The file itself is no part of a program; it is bound by its hash, which is looked at when it is opened.

What it does not do: find keys (`task`), keep inserts (`session`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from sw2.base.errors import DataError, ProgramError
from sw2.base.store import sha256_of_file
from sw2.core.task import Prep, PrepState
from sw2.domains.indexes.columns import Column, Place, open_column
from sw2.domains.indexes.data import path_of
from sw2.domains.indexes.keys import TEXT, KeyKind

__all__ = ["ColumnPrep", "ends_of"]


@final
class ColumnPrep(Prep):
    """Which column a program is about. It is opened when it is needed, and only if it is the same file still.

    Args:
        facts: the file's path, column, type, how many keys, hash and size.
        column: the column, where it is open already.
    """

    def __init__(self, facts: Mapping[str, Any], column: Column | None = None) -> None:
        self.facts, self._column = dict(facts), column
        self.kind = KeyKind(facts["dtype"], facts["unit"])

    @classmethod
    def of(cls, column: Column, source: str) -> ColumnPrep:
        """Of an open column."""
        place = {"path": source, "key": column.place.key, "table": column.place.table, "order": column.place.order}
        kind = {"dtype": column.kind.dtype, "unit": column.kind.unit}
        counts = {"keys": len(column.keys), "numbers": column.numbers}
        return cls({**place, **kind, **counts, "sha256": column.sha256, "bytes": column.size}, column)

    def state(self) -> PrepState:
        return PrepState(config=self.facts)

    @classmethod
    def restore(cls, state: PrepState) -> ColumnPrep:
        wanted: dict[str, type] = {
            "path": str,
            "key": str,
            "table": str,
            "order": str,
            "dtype": str,
            "unit": str,
            "sha256": str,
        }
        wanted |= {"keys": int, "numbers": int, "bytes": int}
        if wrong := [name for name, kind in wanted.items() if type(state.config.get(name)) is not kind]:
            raise ProgramError("The column of this index is not told.", wanted=", ".join(wrong), got=str(state.config))
        return cls(state.config)

    def column(self) -> Column:
        """The column, opened and held to the hash.

        Raises:
            DataError: the file is gone, or has changed.
        """
        if self._column is not None and self._column.unchanged():
            return self._column
        path = path_of(self.facts["path"])
        if not path.exists():
            raise DataError(
                "The file that this index is about is not there.",
                where=path,
                wanted=f"the file with SHA-256 {self.facts['sha256'][:12]}…",
                got="no such file",
                do="Bring it back, or train an index of the file where it is now.",
            )
        if path.stat().st_size != self.facts["bytes"] or (found := sha256_of_file(path)) != self.facts["sha256"]:
            size = path.stat().st_size
            raise DataError(
                "The file has changed since the index was built.",
                where=path,
                wanted=f"{self.facts['bytes']} bytes with SHA-256 {self.facts['sha256'][:12]}…",
                got=f"{size} bytes" + (f" with SHA-256 {found[:12]}…" if size == self.facts["bytes"] else ""),
                do=f"Train a new index: sw2 train learned-index {path}",
            )
        told = {name: self.facts[name] for name in ("key", "table", "order")}
        self._column = open_column(Place(path=str(path), type="text" if self.kind == TEXT else "found", **told))
        return self._column


def ends_of(asked_for: Any) -> tuple[Any, Any, bool]:
    """The ends of a range and True, or a key, None and False."""
    if not isinstance(asked_for, str) or ".." not in asked_for:
        return asked_for, None, False
    low, _, high = asked_for.partition("..")
    return low.strip() or None, high.strip() or None, True
