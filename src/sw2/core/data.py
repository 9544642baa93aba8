"""Data: examples by split, with where they came from and what was wrong with them.

An example is a mapping of raw values by name ({"image": path, "label": "cat"}); a split is any sequence of examples, so
that large sets stay lazy. Readers live with the tasks that understand their formats.

A bad row is never dropped in silence: it is counted, named in `Data.rejected`, and an error above a stated share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sw2.base.errors import DataError

__all__ = ["Data", "Example", "Rejected", "Split", "refuse_if_too_many"]

Example = Mapping[str, Any]
Split = Sequence[Example]


@dataclass(frozen=True)
class Rejected:
    """A row that was skipped: where it is and why."""

    where: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Data:
    """Examples by split.

    Args:
        name: how the card calls it.
        splits: "train", and where they exist "validation" and "test".
        fingerprint: SHA-256 over the content, in hexadecimal.
        licence: the licence of the content, "unknown" for a user's own.
        source: where it came from, in words or as a path.
        rejected: rows that were skipped.
        facts: numbers worth showing, by name (documents, bytes, classes …).
    """

    name: str
    splits: Mapping[str, Split]
    fingerprint: str
    licence: str = "unknown"
    source: str = ""
    rejected: Sequence[Rejected] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def split(self, name: str) -> Split:
        """The examples of one split.

        Raises:
            DataError: when the data has no such split.
        """
        if name not in self.splits:
            raise DataError(
                f"The data has no split '{name}'.", where=self.name, wanted=name, got=", ".join(self.splits) or "none"
            )
        return self.splits[name]


def refuse_if_too_many(rejected: Sequence[Rejected], total: int, *, where: object, share: float = 0.1) -> None:
    """Raise when more than `share` of `total` rows were rejected; a few bad rows are a note, many are a mistake.

    Raises:
        DataError: naming the first bad rows.
    """
    if total and len(rejected) > share * total:
        shown = "; ".join(f"{row.where}: {row.why}" for row in rejected[:3])
        raise DataError(
            f"Too many rows cannot be used: {len(rejected)} of {total}.",
            where=where,
            wanted=f"at most {share:.0%} unusable rows",
            got=shown + (" …" if len(rejected) > 3 else ""),
            do="Repair or remove these rows.",
        )
