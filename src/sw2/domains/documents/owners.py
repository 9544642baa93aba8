"""Owners: who may read which documents, as a file in their folder says.

    # .sw2-owners.toml
    [owners]
    "hr/*" = ["anna", "board"]
    "*salary*" = ["board"]

A document that no pattern matches may be read by everybody. One that several match may be read only by who is named by
each of them, so that a further line never opens what another one closed, in whatever order they stand. `*` matches any
characters, slashes included, `?` one, `[ab]` one of these; capitals matter, and how Unicode composes a letter does not.

The rules stand in the folder and not in an argument, because a caller that forgot the argument once would open
everything. An index that has had rules refuses a folder without the file for the same reason.

Not here: who a caller is, which the face that asks has to know.
"""

from __future__ import annotations

import fnmatch
import json
import tomllib
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sw2.base.errors import UsageError

__all__ = ["FILE", "Rules", "may_read", "read_rules"]

FILE: Final = ".sw2-owners.toml"

OPEN: Final = "[]"
"""The access of a document that everybody may read."""


@dataclass(frozen=True)
class Rules:
    """The names of the owners by pattern of paths."""

    owners: Mapping[str, Sequence[str]]

    def access(self, path: str) -> str:
        """Who may read the document at `path` (relative, with slashes), as JSON: a list of lists of names."""
        groups = {tuple(sorted(set(names))) for pattern, names in self.owners.items() if _matches(path, pattern)}
        return json.dumps(sorted(groups))

    def idle(self, paths: Collection[str]) -> tuple[str, ...]:
        """The patterns that match none of the paths."""
        return tuple(pattern for pattern in self.owners if not any(_matches(path, pattern) for path in paths))


def _matches(path: str, pattern: str) -> bool:
    # An accented letter is one character or two, as whoever named the file happened to write it.
    return fnmatch.fnmatchcase(unicodedata.normalize("NFC", path), unicodedata.normalize("NFC", pattern))


def may_read(access: str, names: Collection[str]) -> bool:
    """Whether somebody who goes by these names may read what has this access."""
    return all(set(group) & set(names) for group in json.loads(access))


def read_rules(folder: Path) -> Rules | None:
    """The rules of a folder of documents; None where it has none.

    Raises:
        UsageError: the file is there and does not say rules.
    """
    path = folder / FILE
    try:
        said = tomllib.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise _wrong(path, error) from error
    owners = said.get("owners")
    if set(said) != {"owners"} or not isinstance(owners, dict):
        raise _wrong(path, f"the sections {', '.join(said) or '(none)'}")
    for pattern, names in owners.items():
        if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
            raise _wrong(path, f'"{pattern}" = {names!r}')
    return Rules(owners)


def _wrong(path: Path, got: object) -> UsageError:
    return UsageError(
        "The owners of the documents cannot be read, so nothing was changed.",
        where=path,
        wanted='a section [owners] with lines like "hr/*" = ["anna", "board"], each with at least one name',
        got=got,
        do="Correct the file.",
    )
