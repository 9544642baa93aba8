"""What an embedder is judged on: texts, each with the passage that should be nearest to it.

    {"text": "My program has to copy a tree. Is there anything for that?", "positive": "shutil.copytree(…) …"}

A path is a .jsonl file of such lines, or a folder with test.jsonl and perhaps train.jsonl and validation.jsonl in it; a
single file is all to judge on. The named data set "documentation-search" has questions about documented things of
Python's modules which describe the thing and do not name it (`skills.documentation_questions`), one for each thing that
gives one, held out by module and by wording.

What it does not do: several right passages for a text, or passages that nobody asks for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sw2.base.errors import DataError
from sw2.base.store import canonical_json, sha256_of_bytes
from sw2.core.data import Data, Example, Rejected, refuse_if_too_many
from sw2.domains.language.skills.basis import SPLITS, Split, draw
from sw2.domains.language.skills.documentation_passages import PYTHON, entries
from sw2.domains.language.skills.documentation_questions import Chosen, held_out, question, to_learn

__all__ = ["DOCUMENTATION", "PairOptions", "documentation", "read"]

DOCUMENTATION: Final = "documentation-search"


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """How pairs are read.

    Args:
        text: the key of the text that is asked with.
        positive: the key of the passage that should be nearest.
        seed: of the wordings of the named data set.
    """

    text: str = "text"
    positive: str = "positive"
    seed: int = 0


def read(source: str, options: PairOptions) -> Data:
    """The pairs at a path, or of the named data set.

    Raises:
        DataError: there are none, or too many cannot be used.
    """
    if source == DOCUMENTATION and not Path(source).exists():
        made = {split: list(documentation(split, options.seed)) for split in SPLITS}
        return _data(source, made, [], "made by sw2 from the running Python", "PSF-2.0")
    path = Path(source)
    files = {split: path / f"{split}.jsonl" for split in SPLITS} if path.is_dir() else {"test": path}
    splits: dict[str, list[Example]] = {}
    rejected: list[Rejected] = []
    for split, file in files.items():
        if file.is_file():
            splits[split] = []
            for row in _rows(file, options):
                (rejected if isinstance(row, Rejected) else splits[split]).append(row)  # type: ignore[arg-type]
    total = sum(map(len, splits.values())) + len(rejected)
    if not total:
        raise DataError(
            "There are no pairs here.",
            where=path,
            wanted=f'a .jsonl file of objects with "{options.text}" and "{options.positive}", or a folder of them',
            got="nothing" if path.exists() else "no such path",
        )
    refuse_if_too_many(rejected, total, where=path)
    return _data(path.name, splits, rejected, source, "unknown")


def documentation(split: Split, seed: int) -> Iterator[Example]:
    """The pairs of a split, with the name of the thing ("name") and its module."""
    manner = replace(to_learn() if split == "train" else held_out(split), kinds={"unnamed": 1})
    known = set[str]()
    for module in entries(PYTHON)[split]:
        for entry in module:
            made = question(Chosen(entry, [entry], False), manner, draw(seed, DOCUMENTATION, split, entry.name))
            if made is not None and made[1] not in known:
                known.add(made[1])
                yield {"text": made[1], "positive": entry.passage, "name": entry.name, "module": entry.module}


def _data(name: str, splits: dict[Any, list[Example]], rejected: list[Rejected], source: str, licence: str) -> Data:
    return Data(
        name=name,
        splits={split: examples for split, examples in splits.items() if examples},
        fingerprint=sha256_of_bytes(canonical_json(splits).encode()),
        licence=licence,
        source=source,
        rejected=rejected,
    )


def _rows(file: Path, options: PairOptions) -> Iterator[Example | Rejected]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("This file cannot be read.", where=file, wanted="lines of JSON in UTF-8", got=error) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{file.name}, line {number}"
        try:
            row = json.loads(line)
            yield {"text": _text(row[options.text]), "positive": _text(row[options.positive])}
        except (ValueError, KeyError, TypeError) as error:
            yield Rejected(where, f"{type(error).__name__}: {error}")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("no text")
    return value
