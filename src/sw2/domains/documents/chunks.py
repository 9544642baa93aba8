"""Chunking: from blocks to passages, the pieces that are searched, embedded and quoted.

Blocks are packed in order, as many as fit. A heading begins a new passage (several in a row go down together with
what follows); a block that is too long for one is cut: code at line ends, prose after sentences, else at white space,
at last anywhere. Every passage carries the path of headings above it, and its exact place.

No text is lost and none stands twice: joined, the passages are the blocks, but for white space. Overlapping passages
would answer some questions better that lie across a cut; they also make everything larger and quotations ambiguous.

The limit counts characters, because words mean little in code and in languages without spaces: 800 are about 200 tokens
of English at four characters each, and all-MiniLM-L6-v2 reads 256.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from sw2.base.config import check_ranges
from sw2.domains.documents.blocks import Block

__all__ = ["VERSION", "ChunkConfig", "Passage", "split"]

VERSION: Final = 1
"""Raised whenever the same blocks make other passages, so that indexes read everything again."""

_LONGEST_HEADING: Final = 120
_DEEPEST: Final = 8
_SENTENCE_END: Final = re.compile(r"[.!?…][\"'”’)\]]?\s|[。！？]|\n\s*\n")
_SPACE: Final = re.compile(r"\s")
_SPACES: Final = re.compile(r"\s*")


@dataclass(frozen=True, kw_only=True)
class ChunkConfig:
    """How passages are cut.

    Args:
        most_characters: of a passage, 40 or more.
    """

    most_characters: int = 800

    def __post_init__(self) -> None:
        check_ranges("chunk", self, {"most_characters": (self.most_characters >= 40, "a whole number of 40 or more")})


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document.

    Args:
        text: at most `most_characters`, headings included where they stand in it.
        headings: the path of headings above it and at its beginning, outermost first; at most 8 of 120 characters.
        first, last: where it stands, in the unit of its file.
    """

    text: str
    headings: tuple[str, ...]
    first: int
    last: int


def split(blocks: Iterable[Block], config: ChunkConfig) -> Iterator[Passage]:
    """The passages of one document, in order."""
    most = config.most_characters
    path: list[tuple[int, str]] = []
    parts: list[Block] = []
    used = 0

    def passage() -> Iterator[Passage]:
        nonlocal used
        if parts:
            text = parts[0].text + "".join(_between(a, b) + b.text for a, b in pairwise(parts))
            headings = tuple(title for _, title in path)
            yield Passage(text, headings, min(p.first for p in parts), max(p.last for p in parts))
        parts.clear()
        used = 0

    for block in blocks:
        only_headings = bool(parts) and all(part.kind == "heading" for part in parts)
        if block.kind == "heading":
            if not (only_headings and block.level > parts[-1].level):
                yield from passage()
            while path and (path[-1][0] >= block.level or len(path) == _DEEPEST):
                path.pop()
            path.append((block.level, " ".join(block.text[: 2 * _LONGEST_HEADING].split())[:_LONGEST_HEADING]))
        elif used + 2 + len(block.text) > most and not only_headings:
            yield from passage()
        text, at, line = block.text, 0, block.first
        by_line = text.count("\n") == block.last - block.first
        while at < len(text):
            room = most - used - 2 if parts else most
            if len(text) - at > room and parts and room < most // 2:
                yield from passage()
                continue
            end, resume = _cut(text, at, room, block.kind == "code")
            piece = text[at:end].rstrip()
            last = line + piece.count("\n") if by_line else block.last
            used += len(piece) + (2 if parts else 0)
            parts.append(Block(piece, block.kind, line, last, block.level))
            # Offsets, not what is left of the text: a file of one line would be copied at every cut.
            line += text.count("\n", at, resume) if by_line else 0
            at = resume
            if at < len(text):
                yield from passage()
    yield from passage()


def _between(before: Block, after: Block) -> str:
    """One line end where the second stands on the line after the first, else a blank line."""
    return "\n" if after.first == before.last + 1 else "\n\n"


def _cut(text: str, at: int, room: int, is_code: bool) -> tuple[int, int]:
    """Where a piece that begins at `at` ends, and where the next one begins; the white space between is dropped."""
    if len(text) - at <= room:
        return len(text), len(text)
    end = _place(text, at, room, is_code)
    resume = _SPACES.match(text, end).end()  # type: ignore[union-attr]  # it matches nothing, too
    if is_code and (newline := text.rfind("\n", end, resume)) >= 0:
        resume = newline + 1  # the next line keeps its indentation
    return end, resume


def _place(text: str, at: int, room: int, is_code: bool) -> int:
    """Where to cut: at most `room` characters on, at the best kind of place in the last two thirds of them."""
    least, most = at + room // 3, at + room
    if is_code and (newline := text.rfind("\n", least, most + 1)) > at:
        return newline
    if not is_code:
        ends = [found.end() for found in _SENTENCE_END.finditer(text, least, most)]
        if ends:
            return ends[-1]
    spaces = [found.start() for found in _SPACE.finditer(text, least, most + 1)]
    return spaces[-1] if spaces and spaces[-1] > at else most
