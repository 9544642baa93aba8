"""The table that labelling makes, which people may edit while it is made.

    image,label,by,decided             (or text,label,…: the first column is the task's)
    photos/7.jpg,cat,"anna, otto",
    photos/9.jpg,dog,"anna, otto",otto    they differed, and otto decided

It is written anew as a whole, atomically, from what was said; a copy of what was written last is kept beside the log.
So a table that is not like its copy was edited, and the edit is known row by row: labels that were changed are taken
over, and everything else that was (rows that went or came, labels that nobody knows, a file that is no such table any
more) is not understood; then the edited file is kept under another name before it is written over.

What it does not do: watch the file. It is looked at before it is written.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

from sw2.base.errors import UsageError
from sw2.base.store import write_bytes

__all__ = ["Edits", "LabelTable"]

_REST: Final = ("label", "by", "decided")


@dataclass(kw_only=True)
class Edits:
    """What was changed in a table since it was written.

    Attributes:
        labels: by what stands in the first column, the label that stands there now.
        strange: what else was changed and is not understood, for people.
    """

    labels: dict[str, str] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)


@final
class LabelTable:
    """A table and the copy of what was written last.

    Args:
        path: of the table, a name that ends in .csv.
        copy: of the copy.
        column: the name of its first column.

    Raises:
        UsageError: the name ends otherwise, or there is a file that labelling did not write.
    """

    def __init__(self, path: Path, copy: Path, column: str) -> None:
        self.path, self._copy, self._head = path, copy, (column, *_REST)
        if path.suffix.lower() != ".csv":
            raise UsageError(
                "This kind of table cannot be written.",
                where=path,
                wanted="a name that ends in .csv",
                got=path.suffix or "no ending",
            )
        if path.exists() and not copy.exists():
            raise UsageError(
                "This file is there already, and labelling did not make it; nothing was changed.",
                where=path,
                wanted="a new file, or the table of an earlier session",
                got="another file" if path.is_file() else "a folder",
                do="Name another with --out.",
            )

    def edits(self, label_of: Callable[[str], str | None]) -> Edits:
        """What was changed since the table was written; nothing where it is not there.

        Args:
            label_of: the label that a text of a cell means; None for no known one.
        """
        found = Edits()
        now, before = _content(self.path), _content(self._copy)
        if now is None or now == before:
            return found
        was, has = self._rows(before or b"") or {}, self._rows(now)
        if has is None:
            found.strange.append(f"it is no table with the columns {', '.join(self._head)} any more")
            return found
        if gone := len(was.keys() - has.keys()):
            found.strange.append(f"{gone} rows are gone")
        for example, text in has.items():
            if example not in was:
                found.strange.append(f"a row came: {example[:80]}")
            elif text != was[example]:
                label = label_of(text)
                if label is None:
                    found.strange.append(f"{example[:80]} has an unknown label: {text[:80]}")
                else:
                    found.labels[example] = label
        return found

    def keep_aside(self) -> Path:
        """Give the table another name beside its own, so that it is not written over; the new name."""
        number = 1
        while (aside := self.path.with_name(f"{self.path.stem}.edited-{number}{self.path.suffix}")).exists():
            number += 1
        return self.path.replace(aside)

    def write(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Write the rows, each with the columns of the table.

        Raises:
            DiskFull: the table is as it was before.
        """
        file = io.StringIO()
        table = csv.DictWriter(file, self._head, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        content = file.getvalue().encode()
        if content == _content(self.path) == _content(self._copy):
            return
        # In this order: a table that is newer than its copy looks edited, with labels that were said anyway.
        write_bytes(self.path, content)
        write_bytes(self._copy, content)

    def _rows(self, content: bytes) -> dict[str, str] | None:
        """The label by what stands in the first column; None where it is no such table, or has one of these twice."""
        try:
            lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
            head, *rows = [row for row in lines if row]
            place, label = head.index(self._head[0]), head.index("label")
            found = {row[place]: row[label] for row in rows}
        except (UnicodeDecodeError, csv.Error, ValueError, IndexError):
            return None
        return found if len(found) == len(rows) else None


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
