"""Word files (.docx): paragraphs, headings by their style, rows of tables.

A .docx is a zip archive of XML, in which a small file can stand for a huge one, so what is unpacked is counted while it
streams through the standard library's expat; nothing of the archive but the body and its styles is opened, and a
document type, which Word never writes and entity bombs need, is refused. python-docx does more than reading and holds
everything in memory, without limits; with lxml it weighs 15 MB.

Positions are paragraphs, counted from 1 through the whole body, empty ones and those in tables included: pages exist
only once Word lays them out.

Source: ECMA-376, part 1, section 17 (WordprocessingML).

Not here: comments, headers and footers, footnotes, the text that a tracked change deleted, the old .doc format.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from sw2.domains.documents.blocks import Block, Kind, Unreadable

__all__ = ["word"]

_WORD: Final = "http://schemas.openxmlformats.org/wordprocessingml/2006/main "
_STRICT: Final = "http://purl.oclc.org/ooxml/wordprocessingml/main "
_FALLBACK: Final = "http://schemas.openxmlformats.org/markup-compatibility/2006 Fallback"
_BODY: Final = "word/document.xml"
_STYLES: Final = "word/styles.xml"
_PIECE: Final = 2**16
_FREE: Final = 10_000_000


def word(content: bytes, most: int, ratio: float) -> Iterator[Block]:
    """The blocks of a Word file.

    Args:
        content: of the file.
        most: bytes that may be unpacked altogether.
        ratio: how many times as large as its packed form a part may become once it is over 10 MB.

    Raises:
        Unreadable: it is none, damaged, encrypted, or more would have to be unpacked.
    """
    if content.startswith(b"\xd0\xcf\x11\xe0"):
        raise Unreadable("encrypted, or in Word's old format")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = set(archive.namelist())
            if _BODY not in names:
                raise Unreadable("damaged: no Word document inside")
            unpacking = _Unpacking(archive, most, ratio)
            styles = _Styles()
            if _STYLES in names:
                unpacking.parse(_STYLES, styles)
            body = _Body(styles.levels)
            yield from unpacking.blocks(_BODY, body)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        encrypted = isinstance(error, RuntimeError) and "encrypted" in str(error)
        raise Unreadable("encrypted" if encrypted else f"damaged: {error}") from error
    except expat.ExpatError as error:
        raise Unreadable(f"damaged: {error}") from error


@dataclass
class _Unpacking:
    """Parts of an archive, unpacked in pieces and counted."""

    archive: zipfile.ZipFile
    most: int
    ratio: float
    unpacked: int = 0

    def pieces(self, name: str) -> Iterator[bytes]:
        packed = max(self.archive.getinfo(name).compress_size, 1)
        size = 0
        with self.archive.open(name) as file:
            while piece := file.read(_PIECE):
                size += len(piece)
                self.unpacked += len(piece)
                if self.unpacked > self.most or (size > _FREE and size > self.ratio * packed):
                    raise Unreadable(f"a zip bomb: {name} unpacks to more than {size // 10**6} MB from {packed} bytes")
                yield piece

    def parse(self, name: str, styles: _Styles) -> None:
        parser = _parser()
        parser.StartElementHandler, parser.EndElementHandler = styles.start, styles.end
        for piece in self.pieces(name):
            parser.Parse(piece, False)
        parser.Parse(b"", True)

    def blocks(self, name: str, body: _Body) -> Iterator[Block]:
        parser = _parser()
        parser.StartElementHandler, parser.EndElementHandler = body.start, body.end
        parser.CharacterDataHandler = body.data
        for piece in self.pieces(name):
            parser.Parse(piece, False)
            yield from body.taken()
        parser.Parse(b"", True)
        yield from body.taken()


def _parser() -> expat.XMLParserType:
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    return parser


def _refuse_doctype(*_: object) -> None:
    raise Unreadable("it declares a document type, which Word never does and entity bombs need")


def _local(name: str) -> str:
    """The name of an element or attribute of Word's; "" for another's."""
    for space in (_WORD, _STRICT):
        if name.startswith(space):
            return name[len(space) :]
    return ""


def _value(attributes: dict[str, str], wanted: str) -> str:
    return next((value for name, value in attributes.items() if _local(name) == wanted), "")


@dataclass
class _Styles:
    """Which styles are headings of which level: by name, which stays English in every language, or by outline."""

    levels: dict[str, int] = field(default_factory=dict)
    _style: str = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        element = _local(name)
        if element == "style":
            self._style = _value(attributes, "styleId")
        elif element == "name" and self._style:
            title = _value(attributes, "val").lower()
            if title == "title":
                self.levels[self._style] = 0
            elif title.startswith("heading ") and title[8:].isdecimal():
                self.levels[self._style] = int(title[8:])
        elif element == "outlineLvl" and self._style and _value(attributes, "val") in set("012345678"):
            self.levels.setdefault(self._style, int(_value(attributes, "val")) + 1)

    def end(self, name: str) -> None:
        if _local(name) == "style":
            self._style = ""


@dataclass
class _Paragraph:
    number: int
    style: str = ""
    pieces: list[str] = field(default_factory=list)


@dataclass
class _Row:
    first: int = 0
    last: int = 0
    cells: list[list[str]] = field(default_factory=list)


class _Body:
    """Gathers blocks from the events of the body. Text boxes put paragraphs into paragraphs, cells tables into rows."""

    def __init__(self, levels: dict[str, int]) -> None:
        self._levels = levels
        self._done: list[Block] = []
        self._paragraphs: list[_Paragraph] = []
        self._rows: list[_Row] = []
        self._count = self._fallbacks = 0
        self._in_text = False

    def taken(self) -> list[Block]:
        """The blocks that were finished since the last call."""
        done, self._done = self._done, []
        return done

    def start(self, name: str, attributes: dict[str, str]) -> None:
        # Word writes drawings twice, once for old readers; the second time says the same.
        if name == _FALLBACK or self._fallbacks:
            self._fallbacks += name == _FALLBACK
            return
        element = _local(name)
        if element == "p":
            self._count += 1
            self._paragraphs.append(_Paragraph(self._count))
        elif element == "tr":
            self._rows.append(_Row())
        elif element == "tc" and self._rows:
            self._rows[-1].cells.append([])
        elif self._paragraphs:
            if element == "pStyle":
                self._paragraphs[-1].style = _value(attributes, "val")
            elif element == "t":
                self._in_text = True
            elif element in ("tab", "br", "cr"):
                self._paragraphs[-1].pieces.append(" ")

    def data(self, text: str) -> None:
        if self._in_text and not self._fallbacks:
            self._paragraphs[-1].pieces.append(text)

    def end(self, name: str) -> None:
        if self._fallbacks:
            self._fallbacks -= name == _FALLBACK
            return
        element = _local(name)
        if element == "t":
            self._in_text = False
        elif element == "p":
            self._finish(self._paragraphs.pop())
        elif element == "tr":
            row = self._rows.pop()
            text = " | ".join(" ".join(cell) for cell in row.cells if cell)
            self._add(text, Block(text, "row", row.first, row.last) if text else None)

    def _finish(self, paragraph: _Paragraph) -> None:
        text = " ".join("".join(paragraph.pieces).split())
        if not text:
            return
        level = self._levels.get(paragraph.style)
        kind: Kind = "paragraph" if level is None else "heading"
        self._add(text, Block(text, kind, paragraph.number, paragraph.number, level or 0))

    def _add(self, text: str, block: Block | None) -> None:
        """Into the cell that is open, else among the blocks."""
        if block is None:
            return
        if self._rows and self._rows[-1].cells:
            row = self._rows[-1]
            row.cells[-1].append(text)
            row.first, row.last = row.first or block.first, max(row.last, block.last)
        else:
            self._done.append(block)
