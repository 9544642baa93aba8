"""Labelled texts: folders, tables, fastText's files, and `python-topics`.

    a folder             a folder for each label, in each a file for every text; inside `train` and `test`, or not
    .csv .tsv .jsonl     a text and a label in each row
    .txt                 fastText's: a line for each text, with `__label__x` before it
    python-topics        docstrings of the Python that runs this, by what their module is about

An example is {"text": …, "label": …, "name": where it stands}. Where the source has no test split, the hash of the text
alone says on which side it stands: copies stand together, and no text changes sides when others are added.

What it does not do: several labels for one text (fastText's files may have them; such lines are skipped and named).
"""

from __future__ import annotations

import ast
import csv
import inspect
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sw2.base.config import check_shares
from sw2.base.errors import DataError
from sw2.base.names import unknown
from sw2.base.store import canonical_json, is_file, parse_json, sha256_of_bytes
from sw2.core.data import Data, Example, Rejected, refuse_if_too_many
from sw2.parts.formats.fasttext import LABEL

__all__ = ["NAMED", "TextOptions", "read"]

NAMED: Final = "python-topics"
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


def read(source: str, options: TextOptions) -> Data:
    """The texts at `source`, as "train" and "test".

    Raises:
        DataError, UnknownName: when they cannot be read or learned from.
    """
    data = _gather(source, options)
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


def _gather(source: str, options: TextOptions) -> Data:
    """Every labelled text at `source`, as "train", and as "test" where the source has that.

    Raises:
        DataError, UnknownName: when they cannot be read.
    """
    path = Path(source)
    named = source == NAMED and not path.exists()
    if named:
        rows = _topics()
    elif path.is_dir():
        rows = _folder(path)
    elif is_file(path):
        rows = _file(path, options)
    else:
        raise unknown("data set, folder or file", source, [NAMED])
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
        licence="PSF-2.0" if named else "unknown",
        source="Python's standard library" if named else source,
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
