"""Numbered steps that bring the `program.json` of an older sw2 forward to today's format.

`FORMAT` is today's number. A change of the schema adds one function here, `N -> N + 1`, and a test that keeps an old
document; readers elsewhere know only today's schema and never guess a missing entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sw2.base.errors import ProgramError

__all__ = ["FORMAT", "migrate"]

Document = dict[str, Any]


def _from_0(document: Document) -> Document:
    """Format 0 (before the first release) had one network without a role, uses or binds, and another id."""
    moved = {key: value for key, value in document.items() if key not in ("model", "config", "id")}
    return {
        **moved,
        "nets": {"main": {key: document[key] for key in ("model", "config") if key in document}},
        "uses": {},
        "binds": {},
    }


_STEPS: Mapping[int, Callable[[Document], Document]] = {0: _from_0}

FORMAT = max(_STEPS) + 1


def migrate(document: Document, where: Path) -> Document:
    """`document` in today's format.

    Raises:
        ProgramError: when it was made by a newer sw2.
    """
    number = document["format"]
    if number > FORMAT or number < min(_STEPS):
        raise ProgramError(
            "This program was made by a newer sw2.",
            where=where,
            wanted=f"format {FORMAT} or older",
            got=f"format {number}",
            do="Install a newer sw2: pip install --upgrade sw2",
        )
    for step in range(number, FORMAT):
        document = {**_STEPS[step](document), "format": step + 1}
    return document
