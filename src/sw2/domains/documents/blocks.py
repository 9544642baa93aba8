"""Blocks: what every reader makes of a file, and how it says that it cannot.

A block is the smallest unit of structure that a format knows: a heading, a paragraph or item of a list, a stretch of
code, a row of a table. It says where it stands, in the unit of its format: lines of a text file, pages of a PDF,
paragraphs of a Word file (which has no lines), messages of a mailbox (whose lines are encoded).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["Block", "Kind", "Reader", "Unit", "Unreadable", "lines_block", "paragraphs"]

Kind = Literal["heading", "paragraph", "code", "row"]
Unit = Literal["line", "page", "paragraph", "message"]


@dataclass(frozen=True, slots=True)
class Block:
    """A unit of structure.

    Args:
        text: without the marks of the format where they say only what `kind` says; never empty. Where it has as many
            line ends as lie between `first` and `last`, its lines are those of the file.
        kind: what it is.
        first, last: where it stands, counted from 1, in the unit of the format.
        level: of a heading: 0 for the title of the whole document, 1 and up for its parts; 0 for anything else.
    """

    text: str
    kind: Kind
    first: int
    last: int
    level: int = 0


Reader = Callable[[str], Iterator[Block]]
"""From the text of a file, whose lines end with one line feed, to its blocks."""


class Unreadable(Exception):
    """A file that is skipped; users meet it in the report of a refresh only.

    Args:
        why: for people, as in "encrypted".
        lasting: whether the same bytes would be refused again, so that they need not be read again.
    """

    def __init__(self, why: str, *, lasting: bool = True) -> None:
        self.why, self.lasting = why, lasting
        super().__init__(why)


def lines_block(lines: list[str], begin: int, end: int, kind: Kind) -> Iterator[Block]:
    """The lines [begin, end), counted from 0, as one block without blank lines around it; none if all are blank."""
    while begin < end and not lines[begin].strip():
        begin += 1
    while end > begin and not lines[end - 1].strip():
        end -= 1
    if begin < end:
        yield Block("\n".join(lines[begin:end]), kind, begin + 1, end)


def paragraphs(text: str) -> Iterator[Block]:
    """Plain text: what stands between blank lines."""
    lines = text.split("\n")
    begin = 0
    for number, line in enumerate([*lines, ""]):
        if not line.strip():
            yield from lines_block(lines, begin, number, "paragraph")
            begin = number + 1
