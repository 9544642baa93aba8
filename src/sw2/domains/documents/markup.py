"""Texts with marks: Markdown, reStructuredText, HTML, source code, tables of values.

Scanners of lines rather than parsers of whole languages: they take linear time and constant memory beside the text,
know the line of everything, and lose nothing that they do not understand, which stays a paragraph. The library for
reStructuredText, docutils, includes other files and runs roles when asked by the text; ours only looks for structure.
HTML goes through the standard library's event parser, which builds no tree, so that nesting costs nothing.

Sources: CommonMark 0.31, https://spec.commonmark.org/0.31.2; reStructuredText,
https://docutils.sourceforge.io/docs/ref/rst/restructuredtext.html.

Not here: headings inside of lists and quotes, indented code in Markdown, what a directive would insert, what a script
would write, which part of a web page is navigation.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Final

from sw2.domains.documents.blocks import Block, Kind, Unreadable, lines_block

__all__ = ["code", "html", "json_lines", "markdown", "restructured", "table"]

_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
_ITEM: Final = re.compile(r"\s*(?:[-*+]|\d{1,9}[.)])\s")
_SETEXT: Final = re.compile(r" {0,3}(?:=+|-+)[ \t]*\Z")
_ADORNMENT: Final = re.compile(r"([!-/:-@\[-`{-~])\1{2,}\s*\Z")
_CODE_DIRECTIVE: Final = re.compile(r"\s*\.\. (?:code|code-block|sourcecode|doctest|testcode|parsed-literal)::")
_FRONT_MATTER_LINES: Final = 200
_HEADING_LINES: Final = 3
_LONGEST_ADORNMENT: Final = 1000


def markdown(text: str) -> Iterator[Block]:
    """Headings of both forms, fenced code, items, rows of tables, paragraphs; front matter counts as code."""
    lines = text.split("\n")
    at = begin = 0
    if lines[0].rstrip() == "---":
        close = next((n for n in range(1, min(len(lines), _FRONT_MATTER_LINES)) if lines[n].rstrip() == "---"), 0)
        if close:
            yield from lines_block(lines, 0, close + 1, "code")
            at = begin = close + 1
    while at < len(lines):
        line = lines[at]
        if fence := _FENCE.match(line):
            yield from lines_block(lines, begin, at, "paragraph")
            close = _closing(lines, at + 1, fence[1])
            yield from lines_block(lines, at, close, "code")
            at = begin = close
        elif level := _atx_level(line):
            yield from lines_block(lines, begin, at, "paragraph")
            title = line.strip()[level:].strip()
            bare = title.rstrip("#")
            title = bare.rstrip() if not bare or bare[-1] in " \t" else title
            if title:
                yield Block(title, "heading", at + 1, at + 1, level)
            at = begin = at + 1
        elif _SETEXT.match(line) and 0 < at - begin <= _HEADING_LINES and not _ITEM.match(lines[begin]):
            title = " ".join(" ".join(lines[begin:at]).split())
            yield Block(title, "heading", begin + 1, at + 1, 1 if "=" in line else 2)
            at = begin = at + 1
        elif line.lstrip().startswith("|"):
            yield from lines_block(lines, begin, at, "paragraph")
            yield from lines_block(lines, at, at + 1, "row")
            at = begin = at + 1
        elif not line.strip():
            yield from lines_block(lines, begin, at, "paragraph")
            at = begin = at + 1
        else:
            if _ITEM.match(line):
                yield from lines_block(lines, begin, at, "paragraph")
                begin = at
            at += 1
    yield from lines_block(lines, begin, at, "paragraph")


def _closing(lines: list[str], at: int, fence: str) -> int:
    """The line after the fence that closes `fence`, from `at` on; the end where nothing closes it."""
    for number in range(at, len(lines)):
        mark = lines[number].strip()
        if mark.startswith(fence) and not mark.strip(fence[0]):
            return number + 1
    return len(lines)


def _atx_level(line: str) -> int:
    """How many number signs open a heading in this line; 0 when it is none."""
    stripped = line.lstrip(" ")
    rest = stripped.lstrip("#")
    level = len(stripped) - len(rest)
    return level if level <= 6 and len(line) - len(stripped) <= 3 and (not rest or rest[0] in " \t") else 0


def restructured(text: str) -> Iterator[Block]:
    """Headings by their underlines (levels in the order in which their styles appear), literal blocks, paragraphs."""
    lines = text.split("\n")
    styles: list[tuple[str, bool]] = []
    at = begin = 0
    literal = False
    while at < len(lines):
        line = lines[at]
        if (length := _title_lines(lines, at)) and begin == at:
            mark = lines[at + length - 1][0]
            style = (mark, length == 3)
            if style not in styles:
                styles.append(style)
            title = " ".join(lines[at + length - 2].split())
            yield Block(title, "heading", at + 1, at + length, styles.index(style) + 1)
            at = begin = at + length
            literal = False
        elif literal and line.strip() and begin == at:
            at = _indented_end(lines, at) if line[0].isspace() else at
            yield from lines_block(lines, begin, at, "code")
            begin, literal = at, False
        elif not line.strip():
            kind: Kind = "code" if begin < at and lines[begin].lstrip().startswith(">>> ") else "paragraph"
            yield from lines_block(lines, begin, at, kind)
            if begin < at:
                announced = lines[at - 1].rstrip().endswith("::") and not lines[at - 1].lstrip().startswith(".. ")
                literal = announced or bool(_CODE_DIRECTIVE.match(lines[begin]))
            at = begin = at + 1
        else:
            at += 1
    yield from lines_block(lines, begin, at, "paragraph")


def _title_lines(lines: list[str], at: int) -> int:
    """How many lines from `at` on are a title with its adornments: 3, 2 or 0."""
    if _adorns(lines, at, at + 1) and _adorns(lines, at + 2, at + 1) and lines[at][0] == lines[at + 2][0]:
        return 3
    return 2 if _adorns(lines, at + 1, at) and not lines[at][0].isspace() else 0


def _adorns(lines: list[str], line: int, title: int) -> bool:
    """Whether the line is an adornment at least as long as the title (a few characters less are forgiven)."""
    if max(line, title) >= len(lines) or not lines[title].strip() or len(lines[line]) > _LONGEST_ADORNMENT:
        return False
    return bool(_ADORNMENT.match(lines[line])) and len(lines[line].rstrip()) >= 0.8 * len(lines[title].strip())


def _indented_end(lines: list[str], at: int) -> int:
    """The first line after `at` that has text and does not begin with white space."""
    while at < len(lines) and (not lines[at].strip() or lines[at][0].isspace()):
        at += 1
    return at


def code(text: str) -> Iterator[Block]:
    """Source code, or JSON: a new block where a line without indentation follows a blank one."""
    lines = text.split("\n")
    begin = 0
    for number in range(1, len(lines)):
        if not lines[number - 1].strip() and lines[number][:1].strip():
            yield from lines_block(lines, begin, number, "code")
            begin = number
    yield from lines_block(lines, begin, len(lines), "code")


def json_lines(text: str) -> Iterator[Block]:
    """A row for each line."""
    lines = text.split("\n")
    for number in range(len(lines)):
        yield from lines_block(lines, number, number + 1, "row")


def table(text: str) -> Iterator[Block]:
    """Values between commas or tabs: the first line, which names the columns, as a heading; the others as rows."""
    rows = json_lines(text)
    for first in rows:
        yield Block(first.text, "heading", first.first, first.last, 1)
        yield from rows


# --------------------------------------------------------------------------------------------------------------- HTML

_LEFT_OUT: Final = frozenset({"script", "style", "template", "svg"})
_HEADINGS: Final = {"title": 0, "h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_BLOCK_TAGS: Final = """
    address article aside blockquote body caption center dd details dialog div dl dt fieldset figcaption figure footer
    form head header hr html legend li main menu nav ol optgroup option p pre search section select summary table tbody
    textarea tfoot thead tr ul
"""
_ENDS_BLOCK: Final = frozenset(_BLOCK_TAGS.split()).union(_HEADINGS)
_PIECE: Final = 2**16


def html(text: str, seconds: float) -> Iterator[Block]:
    """The text that a browser without style sheets would show, block by block; a row of a table is one block.

    Raises:
        Unreadable: when it takes longer than `seconds`, as malformed pages can.
    """
    parser = _Page(seconds)
    for start in range(0, len(text), _PIECE):
        parser.feed(text[start : start + _PIECE])
        yield from parser.taken()
    parser.close()
    parser.flush()
    yield from parser.taken()


class _Page(HTMLParser):
    """Gathers blocks from the events of a page."""

    def __init__(self, seconds: float) -> None:
        super().__init__(convert_charrefs=True)
        self._seconds, self._until = seconds, time.monotonic() + seconds
        self._done: list[Block] = []
        self._pieces: list[str] = []
        self._first = self._last = 0
        self._kind: Kind = "paragraph"
        self._level = 0
        self._left_out: tuple[str, int] = ("", 0)

    def taken(self) -> list[Block]:
        """The blocks that were finished since the last call."""
        done, self._done = self._done, []
        return done

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        name, depth = self._left_out
        if depth:
            self._left_out = (name, depth + (tag == name))
        elif tag in _LEFT_OUT:
            self._left_out = (tag, 1)
        elif tag in ("td", "th"):
            if self._kind == "row" and self._pieces:
                self._pieces.append(" | ")
        elif tag == "br":
            self._pieces.append("\n" if self._kind == "code" else " ")
        elif tag in _ENDS_BLOCK and not (self._kind == "row" and tag in ("p", "div")):
            self.flush()
            if tag in _HEADINGS:
                self._kind, self._level = "heading", _HEADINGS[tag]
            elif tag in ("pre", "textarea"):
                self._kind = "code"
            elif tag == "tr":
                self._kind = "row"
        elif tag in ("p", "div"):
            self._pieces.append(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # `<svg/>` is closed at once; for all others in HTML the slash means nothing.
        if tag not in _LEFT_OUT:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        name, depth = self._left_out
        if depth:
            self._left_out = (name, depth - (tag == name))
        elif tag in _ENDS_BLOCK and not (self._kind == "row" and tag in ("p", "div")):
            self.flush()

    def updatepos(self, i: int, j: int) -> int:
        # Called at every step. Tags and comments that never close are looked for again and again, up to the end.
        if time.monotonic() > self._until:
            raise Unreadable(f"reading it takes longer than {self._seconds:g} seconds")
        return super().updatepos(i, j)

    def parse_html_declaration(self, i: int) -> int:
        # The standard library takes `<![` for a part of SGML and stumbles; for browsers it begins a comment.
        return self.parse_bogus_comment(i) if self.rawdata.startswith("<![", i) else super().parse_html_declaration(i)

    def handle_data(self, data: str) -> None:
        if self._left_out[1] or not data:
            return
        if data.strip():
            line = self.getpos()[0]
            if not self._first:
                self._first = line + data[: len(data) - len(data.lstrip())].count("\n")
            self._last = line + data.rstrip().count("\n")
        self._pieces.append(data)

    def flush(self) -> None:
        """End the block."""
        whole = "".join(self._pieces)
        if self._kind == "code":
            text = "\n".join(line.rstrip() for line in whole.strip("\n").split("\n")).rstrip()
        else:
            text = " ".join(whole.split()).removesuffix(" |")
        if text and self._first:
            self._done.append(Block(text, self._kind, self._first, self._last, self._level))
        self._pieces, self._first, self._last, self._kind, self._level = [], 0, 0, "paragraph", 0
