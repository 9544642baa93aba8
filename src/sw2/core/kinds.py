"""Kinds: the types of what goes into a program and what comes out of it.

A Kind is what a form in a web page, an argument on the command line and a seam between two programs have in common. It
describes raw values (a picture, a text), not tensors.

    kind           raw value                                    from the command line
    image          path, bytes or uint8 array [H, W, C]         a path
    text           str                                          the text itself, or @path, or - for standard input
    label          str                                          the text itself
    distribution   mapping from label to probability            JSON
    number         int or float                                 the number
    vector         numbers in a fixed order                     JSON
    record         any JSON value                               JSON
    conversation   messages, or {"messages", "tools"}           JSON, or the text of one message of the user
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sw2.base.errors import DataError, UsageError
from sw2.base.names import pick

__all__ = ["Kind", "parse_argument"]


@dataclass(frozen=True)
class Kind:
    """The type of one named input or output.

    Args:
        name: one of the names in the table above.
        dtype: the element type of its tensor form, e.g. "uint8"; "" where it has none.
        shape: the shape of its tensor form, named where it varies, e.g. ("height", "width", 3).
    """

    name: str
    dtype: str = ""
    shape: tuple[int | str, ...] = ()


def _existing_path(text: str) -> str:
    if not Path(text).exists():
        raise DataError(
            "There is no such file.", where=text, wanted="the path of an existing file", got="nothing there"
        )
    return text


def _text(text: str) -> str:
    if text == "-":
        return sys.stdin.read()
    if text.startswith("@"):
        return Path(_existing_path(text[1:])).read_text(encoding="utf-8")
    return text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError("This input is not a number.", wanted="a number", got=repr(text)) from error


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError("This input is not JSON.", where=str(error), wanted="JSON", got=repr(text)) from error


def _conversation(text: str) -> Any:
    text = _text(text)
    return _json(text) if text.lstrip()[:1] in ("[", "{") else [{"role": "user", "content": text}]


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "image": _existing_path,
    "text": _text,
    "label": str,
    "distribution": _json,
    "number": _number,
    "vector": _json,
    "record": _json,
    "conversation": _conversation,
}


def parse_argument(kind: Kind, text: str) -> Any:
    """The raw value that a command-line argument stands for.

    Raises:
        UsageError, DataError: when the argument is no such value.
    """
    return pick("kind", kind.name, dict(_PARSERS))(text)
