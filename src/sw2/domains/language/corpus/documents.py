"""Documents: where each one stands, and its text whenever it is asked for.

`found` walks files in a fixed order. `Documents` is a split of the data: a sequence of examples that holds no text, and
reads one from its file each time. What has changed since it was first read is an error, never another text.

Not here: formats other than UTF-8 text and JSON lines; compressed files.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final, overload

from sw2.base.errors import DataError
from sw2.base.store import sha256_of_bytes
from sw2.core.data import Example, Rejected, Split

__all__ = ["Document", "Documents", "Found", "by_source", "found_in_file", "found_in_folder"]

# The library's tests are data for testers, not programs; lib2to3's and idlelib's lie in folders of other names.
_LEFT_OUT = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})
_MOST_BYTES_A_FILE = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Where a text stands.

    Args:
        where: how it is called in messages.
        path: its file.
        digest: SHA-256 of the text in UTF-8, in hexadecimal; "" before anyone computed it.
        size: bytes of the text in UTF-8.
        source: the name of its source in a mixture, else "".
        line: where its line begins in a file of JSON lines and how long it is, in bytes; None for a whole file.
        key: what the text is called in its line.
        part: the characters from and to which it is this document; None for all.
    """

    where: str
    path: Path
    digest: str = ""
    size: int = 0
    source: str = ""
    line: tuple[int, int] | None = None
    key: str = ""
    part: tuple[int, int] | None = None

    def text(self) -> str:
        """The text, read now.

        Raises:
            DataError: when it is no longer what it was.
        """
        try:
            with open(self.path, "rb") as file:
                if self.line is None:
                    text = file.read().decode("utf-8")
                else:
                    file.seek(self.line[0])
                    text = json.loads(file.read(self.line[1]).decode("utf-8"))[self.key]
            text = text if self.part is None else text[slice(*self.part)]
            changed = sha256_of_bytes(text.encode()) != self.digest
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            changed = True
        if changed:
            raise DataError(
                "A text changed while it was in use.",
                where=f"{self.path}" + (f", {self.where}" if self.line else ""),
                wanted="the text that was there when the data was read",
                got="another one, or none",
                do="Bring it back, or start again with the texts as they are now.",
            )
        return text

    def halves(self, text: str, borders: Mapping[str, tuple[int, int]]) -> dict[str, Document]:
        """The parts of the document by name, given its text; those of white space are left out."""
        parts = {}
        for name, (start, end) in borders.items():
            if text[start:end].strip():
                content = text[start:end].encode()
                parts[name] = dataclasses.replace(
                    self, part=(start, end), digest=sha256_of_bytes(content), size=len(content)
                )
        return parts


@final
class Documents(Sequence[Example]):
    """A split: examples that are read when they are asked for.

    Args:
        documents: where they are, those of one source beside each other.
    """

    def __init__(self, documents: Sequence[Document]) -> None:
        self.documents = list(documents)

    def __len__(self) -> int:
        return len(self.documents)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> Documents: ...

    def __getitem__(self, index: int | slice) -> Example | Documents:
        if isinstance(index, slice):
            return Documents(self.documents[index])
        document = self.documents[index]
        example = {"text": document.text(), "where": document.where}
        return {**example, "source": document.source} if document.source else example

    @property
    def size(self) -> int:
        """Bytes of all texts in UTF-8."""
        return sum(document.size for document in self.documents)


def by_source(split: Split) -> dict[str, Split]:
    """The examples of each source of a mixture, in its order; of other data all of them under ""."""
    if not isinstance(split, Documents):
        return {"": split}
    found: dict[str, list[Document]] = {}
    for document in split.documents:
        found.setdefault(document.source, []).append(document)
    return {name: Documents(documents) for name, documents in found.items()}


Found = tuple[Document, str] | Rejected
"""A document and its text, or what could not be read."""


def found_in_folder(root: Path, key: str, ending: str = "") -> Iterator[Found]:
    """The documents in the files below `root` in a fixed order; hidden files and links to folders are left alone.

    Args:
        root: the folder.
        key: what the text is called in JSON lines; they are read as such when every file is one.
        ending: only files with this ending.
    """
    files = [(path, where) for path, where in _files(root) if path.suffix == ending or not ending]
    lines = all(path.suffix == ".jsonl" for path, _ in files)
    for path, where in files:
        if lines:
            yield from _json_lines(path, key, f"{where}, ")
        else:
            yield _whole(path, where)


def found_in_file(path: Path, key: str) -> Iterator[Found]:
    """The documents in one file: its lines if it is called .jsonl, else the whole of it."""
    if path.suffix == ".jsonl":
        yield from _json_lines(path, key, "")
    else:
        yield _whole(path, path.name)


def _files(root: Path) -> Iterator[tuple[Path, str]]:
    for entry in sorted(root.iterdir(), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():
            if entry.name not in _LEFT_OUT:
                for path, where in _files(entry):
                    yield path, f"{entry.name}/{where}"
        elif entry.is_file():
            yield entry, entry.name


def _whole(path: Path, where: str) -> Found:
    try:
        if path.stat().st_size > _MOST_BYTES_A_FILE:
            return Rejected(where, f"larger than {_MOST_BYTES_A_FILE // 10**6} MB; split it, or use JSON lines")
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        return Rejected(where, f"not UTF-8 at byte {error.start}")
    except OSError as error:
        return Rejected(where, error.strerror or str(error))
    if "\x00" in text:
        return Rejected(where, "holds zero bytes, so it is no text")
    return (Document(where=where, path=path), text) if text.strip() else Rejected(where, "empty")


def _json_lines(path: Path, key: str, before: str) -> Iterator[Found]:
    try:
        with open(path, "rb") as file:
            offset = 0
            for number, line in enumerate(file, start=1):
                where, place = f"{before}line {number}", (offset, len(line))
                offset += len(line)
                if line.strip():
                    yield _json_line(path, key, where, line, place)
    except OSError as error:
        yield Rejected(before.removesuffix(", ") or path.name, error.strerror or str(error))


def _json_line(path: Path, key: str, where: str, line: bytes, place: tuple[int, int]) -> Found:
    try:
        value: Any = json.loads(line.decode("utf-8"))
    except ValueError as error:
        return Rejected(where, f"not JSON in UTF-8 ({error})")
    except RecursionError:
        return Rejected(where, "JSON that is nested too deeply")
    if not isinstance(value, Mapping) or not isinstance(value.get(key), str):
        keys = ", ".join(value) if isinstance(value, Mapping) else type(value).__name__
        return Rejected(where, f"no text under '{key}', only {keys}")
    text = value[key]
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return Rejected(where, f"half a surrogate pair at character {error.start}")
    return (Document(where=where, path=path, line=place, key=key), text) if text.strip() else Rejected(where, "empty")
