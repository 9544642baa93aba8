"""Bilingual dictionaries: FreeDict's by name, and a user's own files.

    a text file       a word and one translation in each line, with a tab between them or a space; several lines for
                      several translations
    .dict, .dict.dz   a dictionary of dictd, with its .index beside it: a headword, perhaps with its sound between
                      strokes, then senses, each with translations between commas

Only single words are taken: vectors of words say nothing of "bathing suit". Which words are for learning and which for
judging is decided by a hash of the word, so that it is the same in every dictionary: a program that learned from one
may be judged by another.

FreeDict's dictionaries (freedict.org, GPL) come from the packages of Debian and Ubuntu.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sw2.base.errors import DataError
from sw2.base.packages import DebianFiles
from sw2.base.store import home
from sw2.core.data import Rejected, refuse_if_too_many

__all__ = ["FREEDICT", "Dictionary", "freedict", "is_for_judging", "read_dictionary"]


def _freedict(language: str, code: str, size: str, dictionary: str, index: str) -> DebianFiles:
    return DebianFiles(
        title=f"FreeDict's dictionary from English to {language}",
        package=f"dict-freedict-eng-{code}",
        files={
            f"usr/share/dictd/freedict-eng-{code}.dict.dz": dictionary,
            f"usr/share/dictd/freedict-eng-{code}.index": index,
        },
        size=size,
        licence="GPL 2 or newer",
    )


FREEDICT: Final[Mapping[str, DebianFiles]] = {
    "freedict-eng-ita": _freedict(
        "Italian",
        "ita",
        "0.1 MB",
        "a8d1b2a48d41e8cd9c2f8bf8d6b915fef8cf552f1534f65ec34c2a4f2d62e9a4",
        "51607eebc261c957ab9dc3c35b7b099d2993a05579414953ff32a23f6091d1c6",
    ),
    "freedict-eng-fra": _freedict(
        "French",
        "fra",
        "0.2 MB",
        "aaa6ecd1fd5713e8a21cabdef34695f618f12bea8e06a0e9225613d324484402",
        "8786765e01f1bcb82efd818bafa6970e2c7f73cb6fb58c94a6f13eb291eeaad7",
    ),
}
"""The dictionaries that can be named."""

_DIGITS: Final = {
    letter: value for value, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
}


@dataclass(frozen=True)
class Dictionary:
    """Words and their translations, in the order of the file.

    Args:
        entries: translations by word.
        rejected: lines that could not be read.
        sha256: of what was read.
    """

    entries: Mapping[str, Sequence[str]]
    rejected: Sequence[Rejected]
    sha256: str


def is_for_judging(word: str, share: float) -> bool:
    """Whether a word belongs to the share that is judged on; the same word always, in every dictionary."""
    return int.from_bytes(hashlib.sha256(word.lower().encode()).digest()[:8], "big") < share * 2**64


def freedict(name: str, confirm: Callable[[str], bool]) -> Dictionary:
    """One of `FREEDICT`, from where it is installed, or fetched once.

    Raises:
        UsageError, ResourceError, DataError: see `DebianFiles.found`.
    """
    paths = FREEDICT[name].found(home() / "data" / name, confirm)
    return read_dictionary(next(path for path in paths if path.name.endswith(".dict.dz")))


def read_dictionary(path: Path) -> Dictionary:
    """The dictionary in a file.

    Raises:
        DataError: it cannot be read, or holds no pair of words.
    """
    if not path.is_file():
        raise DataError("There is no such dictionary.", where=path, wanted="a file", got="nothing there")
    content = _content(path)
    listed = path.name.endswith((".dict", ".dict.dz"))
    entries, rejected = _of_dictd(path, content) if listed else _of_lines(path, content)
    if not entries:
        raise DataError(
            "This dictionary has no pair of single words.",
            where=path,
            wanted="a word and one translation in each line, with a tab between them",
            got=f"{rejected[0].where}: {rejected[0].why}" if rejected else "an empty file",
        )
    return Dictionary(entries, rejected, hashlib.sha256(content).hexdigest())


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)  # .dz is gzip with a table for random access, which is ignored
    except (EOFError, OSError, zlib.error) as error:
        raise DataError("This file is cut off or damaged.", where=path, wanted="gzip", got=str(error)) from error


def _text(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            "The file is not text.", where=f"{path}, line {line}", wanted="UTF-8", got=str(error)
        ) from error


def _of_lines(path: Path, content: bytes) -> tuple[dict[str, list[str]], list[Rejected]]:
    entries: dict[str, list[str]] = {}
    rejected: list[Rejected] = []
    lines = 0
    for number, line in enumerate(_text(path, content).split("\n"), 1):
        if not (line := line.strip()):
            continue
        lines += 1
        parts = [part.strip() for part in (line.split("\t") if "\t" in line else line.split())]
        if len(parts) != 2 or not all(parts):
            rejected.append(Rejected(f"{path}, line {number}", f"{len(parts)} columns instead of 2"))
        elif not any(" " in part for part in parts):
            _add(entries, *parts)
    refuse_if_too_many(rejected, lines, where=path)
    return entries, rejected


def _of_dictd(path: Path, content: bytes) -> tuple[dict[str, list[str]], list[Rejected]]:
    """Where entries stand is told by the index: a headword, an offset and a length to the base of 64 in each line."""
    index = path.with_name(path.name.removesuffix(".dz").removesuffix(".dict") + ".index")
    if not index.is_file():
        raise DataError("The index of this dictionary is missing.", where=index, wanted="a file", got="nothing there")
    entries: dict[str, list[str]] = {}
    rejected: list[Rejected] = []
    lines = _text(index, index.read_bytes()).splitlines()
    for number, line in enumerate(lines, 1):
        try:
            headword, offset, length = line.split("\t")
            start, size = _number(offset), _number(length)
            entry = content[start : start + size].decode()
        except (ValueError, KeyError):
            rejected.append(Rejected(f"{index}, line {number}", "no headword, offset and length"))
            continue
        if not headword.startswith("00database"):
            _add_senses(entries, entry)
    refuse_if_too_many(rejected, len(lines), where=index)
    return entries, rejected


def _add_senses(entries: dict[str, list[str]], entry: str) -> None:
    """`bath /bˈaθ/`, then `1. vasca da bagno` and `2. bagno`: the word in the first line, the single words below."""
    first, *senses = entry.splitlines() or [""]
    word = re.sub(r"\s*/.*/\s*$", "", first).strip()
    if not word or " " in word:
        return
    for sense in senses:
        plain = re.sub(r"\([^)]*\)|\[[^\]]*\]|<[^>]*>", "", re.sub(r"^\s*\d+\.\s*", "", sense))
        for translation in re.split(r"[,;]", plain):
            if (translation := translation.strip()) and not re.search(r"[\s.]", translation):
                _add(entries, word, translation)


def _add(entries: dict[str, list[str]], word: str, translation: str) -> None:
    known = entries.setdefault(word, [])
    if translation not in known:
        known.append(translation)


def _number(letters: str) -> int:
    value = 0
    for letter in letters:
        value = 64 * value + _DIGITS[letter]
    return value
