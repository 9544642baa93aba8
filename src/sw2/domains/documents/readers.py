"""Readers: from a file to blocks, whatever it holds; a file that cannot be read says why.

    content = load(path, limits)                    the bytes, read once: what is hashed is what is read
    unit, blocks = read("guide.md", content, limits)

The format goes by the ending of the name. Files without a known ending are read as plain text when they have no ending
at all (README, Makefile) and left alone otherwise. Text is UTF-8, or UTF-16 or UTF-32 with a byte order mark, else
what an HTML page says of itself, else Windows-1252, else Latin-1, in which every byte means something.

Whatever a format's reader stumbles on is mapped to `Unreadable` here, at one border: files come from anybody.

Not here: pictures, spreadsheets and slides, archives, old Word files.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sw2.base.config import check_ranges
from sw2.domains.documents.blocks import Block, Unit, Unreadable, paragraphs
from sw2.domains.documents.mail import mailbox, message
from sw2.domains.documents.markup import code, html, json_lines, markdown, restructured, table
from sw2.domains.documents.pdf import pages
from sw2.domains.documents.word import word

__all__ = ["VERSION", "ReadConfig", "is_known", "load", "read"]

VERSION: Final = 1
"""Raised whenever a reader makes other blocks of the same file, so that indexes read everything again."""

_CODE: Final = """
    .bash .c .cc .cfg .clj .cmake .conf .cpp .cs .css .cxx .dart .el .erl .ex .exs .f90 .fs .go .gradle .graphql
    .groovy .h .hh .hpp .hs .ini .java .jl .js .json .jsx .kt .lisp .lua .m .mjs .ml .mm .nim .pas .php .pl .pm .proto
    .ps1 .py .pyi .pyx .r .rb .rs .scala .scss .sh .sql .swift .tcl .toml .ts .tsx .vb .vim .vue .xml .yaml .yml .zig
    .zsh
"""
_TEXTS: Final[dict[str, Callable[[str], Iterator[Block]]]] = {
    "": paragraphs,
    ".csv": table,
    ".jsonl": json_lines,
    ".log": json_lines,
    ".markdown": markdown,
    ".md": markdown,
    ".rst": restructured,
    ".text": paragraphs,
    ".tsv": table,
    ".txt": paragraphs,
    **dict.fromkeys(_CODE.split(), code),
}
_PAGES: Final = (".htm", ".html", ".xhtml")
_OTHERS: Final = (*_PAGES, ".docx", ".eml", ".mbox", ".pdf")
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins as UTF-16's does, so it is asked for first
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CHARSET: Final = re.compile(rb"<meta[^>]{0,200}charset=[\"']?([\w.:-]{1,40})", re.IGNORECASE)
_CONTROLS: Final = bytes(set(range(32)) - set(b"\b\t\n\v\f\r\x1b"))
_MOST_CONTROLS: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class ReadConfig:
    """Limits on what is read.

    Args:
        most_bytes: of a file; larger ones are skipped.
        seconds: for one PDF, or one page of HTML.
        unpacked_bytes: that a Word file may unpack to.
        unpacked_ratio: how many times as large as its packed form a part of one may become once it is over 10 MB.
    """

    most_bytes: int = 64_000_000
    seconds: float = 60.0
    unpacked_bytes: int = 256_000_000
    unpacked_ratio: float = 200.0

    def __post_init__(self) -> None:
        for name in ("most_bytes", "seconds", "unpacked_bytes", "unpacked_ratio"):
            check_ranges("read", self, {name: (getattr(self, name) > 0, "a number above 0")})


def is_known(name: str) -> bool:
    """Whether files called `name` are read."""
    ending = Path(name).suffix.lower()
    return ending in _TEXTS or ending in _OTHERS


def load(path: Path, config: ReadConfig) -> tuple[bytes, os.stat_result]:
    """The bytes of a file, and its state when they were read.

    Raises:
        Unreadable: it vanished, is a link, no regular file or too large, or may not be read.
    """
    try:
        # Opening a pipe would wait for its other end, and a link may have been put here since the folder was walked.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
        with open(handle, "rb") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise Unreadable("no regular file", lasting=False)
            if state.st_size > config.most_bytes:
                raise Unreadable(f"larger than {config.most_bytes / 1e6:g} MB", lasting=False)
            content = file.read(config.most_bytes + 1)
    except FileNotFoundError:
        raise Unreadable("vanished while the folder was read", lasting=False) from None
    except OSError as error:
        raise Unreadable(error.strerror or str(error), lasting=False) from error
    if len(content) > config.most_bytes:
        raise Unreadable(f"larger than {config.most_bytes / 1e6:g} MB", lasting=False)
    return content, state


def read(name: str, content: bytes, config: ReadConfig) -> tuple[Unit, list[Block]]:
    """The blocks of a file, in order, and what their positions count.

    Args:
        name: of the file; its ending says the format.
        content: of the file.
        config: the limits.

    Raises:
        Unreadable: it is damaged, encrypted, no text, or over a limit.
    """
    ending = Path(name).suffix.lower()
    try:
        unit, blocks = _opened(ending, content, config)
        return unit, [_storable(block) for block in blocks]
    except Unreadable:
        raise
    except RecursionError as error:
        raise Unreadable("its parts stand in each other too deep") from error
    except OSError as error:  # no process for a PDF, for instance
        raise Unreadable(error.strerror or str(error), lasting=False) from error
    except Exception as error:  # parsers of other people's files fail in every way
        raise Unreadable(f"damaged: {type(error).__name__}: {error}"[:200]) from error


def _opened(ending: str, content: bytes, config: ReadConfig) -> tuple[Unit, Iterator[Block]]:
    if ending == ".docx":
        return "paragraph", word(content, config.unpacked_bytes, config.unpacked_ratio)
    if ending == ".pdf":
        found = pages(content, config.seconds, config.most_bytes)
        return "page", (Block(block.text, block.kind, page, page) for page, text in found for block in paragraphs(text))
    if ending == ".mbox":
        return "message", mailbox(content, config.seconds)
    if ending == ".eml":
        return "message", message(content, config.seconds)
    text = _decoded(content, page=ending in _PAGES)
    return "line", html(text, config.seconds) if ending in _PAGES else _TEXTS[ending](text)


def _decoded(content: bytes, *, page: bool) -> str:
    """The text of a file, its lines ended by line feeds.

    Raises:
        Unreadable: it holds what no text does.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return _one_line_end(content[len(mark) :].decode(encoding))
    controls = len(content) - len(content.translate(None, _CONTROLS))
    if b"\0" in content or controls > _MOST_CONTROLS * len(content):
        raise Unreadable("binary, in spite of its name")
    said = _CHARSET.search(content[:2048]) if page else None
    for encoding in ("utf-8", *([said[1].decode("ascii")] if said else []), "cp1252"):
        try:
            return _one_line_end(content.decode(encoding))
        except (UnicodeDecodeError, LookupError):
            continue
    return _one_line_end(content.decode("latin-1"))


def _one_line_end(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _storable(block: Block) -> Block:
    """The block with half surrogates and zero characters, which no file of ours can hold, replaced."""
    text = block.text
    if text.isascii() and "\0" not in text:
        return block
    clean = text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
    return block if clean == text else Block(clean, block.kind, block.first, block.last, block.level)
