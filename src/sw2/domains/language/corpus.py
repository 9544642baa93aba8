"""Text to learn from: a folder of text or source files, JSON lines, or the running Python's own library.

    notes/**/*            every file that is UTF-8 text, one document each
    corpus.jsonl          one object a line, the text under "text" (or --set data.text=NAME)
    corpus.txt            one document
    python-stdlib         the standard library of the Python that runs sw2, tests left out

An example is {"text": str, "where": str}. Equal documents are dropped *before* the documents are divided, so that no
copy stands on both sides; the division goes by the hash of the content, so it depends neither on names nor on order.

Not here: near-duplicates, mixtures, filters by language or quality.
"""

from __future__ import annotations

import json
import platform
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sw2.base.config import check_shares
from sw2.base.errors import DataError
from sw2.base.names import unknown
from sw2.base.store import sha256_of_bytes
from sw2.core.data import Data, Example, Rejected, refuse_if_too_many

__all__ = ["CorpusOptions", "read"]

NAMED = ("python-stdlib",)
# The library's tests are data for testers, not programs; lib2to3's and idlelib's lie in folders of other names.
_LEFT_OUT = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})
_MOST_BYTES_A_FILE = 20_000_000


@dataclass(frozen=True, kw_only=True)
class CorpusOptions:
    """How the text is read.

    Args:
        text: the key of the text in JSON lines.
        test_share: share of the documents held out for judging.
        validation_share: share held out to watch while learning.
        split_seed: another number, another division.
    """

    text: str = "text"
    test_share: float = 0.05
    validation_share: float = 0.02
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_shares("data", self, "test_share", "validation_share")


def read(source: str, options: CorpusOptions) -> Data:
    """The documents at `source`.

    Raises:
        DataError: when there is no text, or too much of it cannot be read.
        UnknownName: when there is neither such a path nor such a named corpus.
    """
    path = Path(source)
    licence, origin = "unknown", source
    if path.is_dir():
        rows = _files(path, lambda file: not file.name.startswith("."))
    elif path.suffix == ".jsonl" and path.is_file():
        rows = _json_lines(path, options.text)
    elif path.is_file():
        rows = iter([_file(path, path.name)])
    elif source == "python-stdlib":
        root = Path(sysconfig.get_paths()["stdlib"])
        rows = _files(root, lambda file: file.suffix == ".py")
        licence, origin = "PSF-2.0", f"the standard library of Python {platform.python_version()}"
    else:
        raise unknown("text or folder", source, NAMED)
    return _divided(list(rows), Path(source).name or source, origin, licence, options)


Row = Example | Rejected


def _files(root: Path, wanted) -> Iterator[Row]:  # type: ignore[no-untyped-def]
    """The files below `root` in a fixed order; hidden folders and links to folders are left alone."""
    for entry in sorted(root.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir() and not entry.is_symlink():
            if entry.name not in _LEFT_OUT and not entry.name.startswith("."):
                for row in _files(entry, wanted):
                    yield _below(entry.name, row)
        elif entry.is_file() and wanted(entry):
            yield _file(entry, entry.name)


def _below(folder: str, row: Row) -> Row:
    if isinstance(row, Rejected):
        return Rejected(f"{folder}/{row.where}", row.why)
    return {**row, "where": f"{folder}/{row['where']}"}


def _file(path: Path, where: str) -> Row:
    try:
        if path.stat().st_size > _MOST_BYTES_A_FILE:
            return Rejected(where, f"larger than {_MOST_BYTES_A_FILE // 10**6} MB; split it, or use JSON lines")
        content = path.read_bytes()
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        return Rejected(where, f"not UTF-8 at byte {error.start}")
    except OSError as error:
        return Rejected(where, error.strerror or str(error))
    if "\x00" in text:
        return Rejected(where, "holds zero bytes, so it is no text")
    return {"text": text, "where": where} if text.strip() else Rejected(where, "empty")


def _json_lines(path: Path, key: str) -> Iterator[Row]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"line {number}"
            if not line.strip():
                continue
            try:
                value = json.loads(line.decode("utf-8"))
            except ValueError as error:
                yield Rejected(where, f"not JSON in UTF-8 ({error})")
                continue
            if not isinstance(value, Mapping) or not isinstance(value.get(key), str):
                keys = ", ".join(value) if isinstance(value, Mapping) else type(value).__name__
                yield Rejected(where, f"no text under '{key}', only {keys}")
            elif value[key].strip():
                yield {"text": value[key], "where": where}
            else:
                yield Rejected(where, "empty")


def _divided(rows: list[Row], name: str, source: str, licence: str, options: CorpusOptions) -> Data:
    rejected = [row for row in rows if isinstance(row, Rejected)]
    # Empty files (package markers) are not worth a word, and no reason to refuse a folder.
    rejected = [row for row in rejected if row.why != "empty"]
    unique: dict[str, Example] = {}
    for row in rows:
        if not isinstance(row, Rejected):
            unique.setdefault(sha256_of_bytes(row["text"].encode()), row)
    copies = sum(not isinstance(row, Rejected) for row in rows) - len(unique)
    if not unique:
        shown = "; ".join(f"{row.where}: {row.why}" for row in rejected[:3])
        raise DataError(
            "There is no text here.",
            where=source,
            wanted="at least one document of UTF-8 text",
            got=shown or "no files with text",
        )
    refuse_if_too_many(rejected, len(rows), where=source, share=0.5)
    ordered = sorted(unique, key=lambda digest: sha256_of_bytes(f"{options.split_seed}:{digest}".encode()))
    if len(ordered) == 1:
        splits = _halved(unique[ordered[0]], options)
    else:
        test = max(1, round(options.test_share * len(ordered))) if options.test_share else 0
        validation = max(1, round(options.validation_share * len(ordered))) if options.validation_share else 0
        if test + validation >= len(ordered):
            test, validation = 1, 0
        splits = {
            "test": [unique[digest] for digest in ordered[:test]],
            "validation": [unique[digest] for digest in ordered[test : test + validation]],
            "train": [unique[digest] for digest in ordered[test + validation :]],
        }
    splits = {split: splits[split] for split in ("train", "validation", "test") if splits.get(split)}
    return Data(
        name=name,
        splits=splits,
        fingerprint=sha256_of_bytes("".join(f"{s}{sorted(_hashes(rows))}" for s, rows in splits.items()).encode()),
        licence=licence,
        source=source,
        rejected=tuple(rejected),
        facts={
            "equal documents dropped": copies,
            **{f"{split} bytes": sum(len(row["text"].encode()) for row in rows) for split, rows in splits.items()},
        },
    )


def _hashes(rows: list[Example]) -> list[str]:
    return [sha256_of_bytes(row["text"].encode()) for row in rows]


def _halved(only: Example, options: CorpusOptions) -> dict[str, list[Example]]:
    """One document divided by position: its end is held out."""
    text = only["text"]
    test = int(len(text) * (1 - options.test_share))
    validation = int(test * (1 - options.validation_share))
    parts = {"train": text[:validation], "validation": text[validation:test], "test": text[test:]}
    return {split: [{**only, "text": part}] for split, part in parts.items() if part.strip()}
