"""Kinds: the types of what goes into a program and what comes out of it.

A Kind is what a form in a web page, an argument on the command line and a seam between two programs have in common. It
describes raw values (a picture, a text), not tensors.

    kind           raw value                                    from the command line
    image          path, bytes or uint8 array [H, W, C]         a path
    text           str                                          the text itself, or @path, or - for standard input
    document       str                                          the path of a file, or as text where there is none
    label          str                                          the text itself
    distribution   mapping from label to probability            JSON
    number         int or float                                 the number
    vector         numbers in a fixed order                     JSON
    boolean        bool                                         true or false
    record         any JSON value                               JSON
    conversation   messages, or {"messages", "tools"}           JSON, or the text of one message of the user

A program of several inputs takes a mapping from their names to raw values; those that have a default may be left out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sw2.base.errors import DataError, UsageError
from sw2.base.names import pick
from sw2.base.store import is_file

__all__ = ["Kind", "parse_argument", "parse_arguments"]


@dataclass(frozen=True)
class Kind:
    """The type of one named input or output.

    Args:
        name: one of the names in the table above.
        dtype: the element type of its tensor form, e.g. "uint8"; "" where it has none.
        shape: the shape of its tensor form, named where it varies, e.g. ("height", "width", 3).
        options: of a label, all that it may be; empty where that is not known.
        default: the raw value that stands for one that is left out; None where it has to be said.
        about: one line for people.
    """

    name: str
    dtype: str = ""
    shape: tuple[int | str, ...] = ()
    options: tuple[str, ...] = ()
    default: str | float | bool | None = None
    about: str = ""


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
        path = _existing_path(text[1:])
        try:
            return Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise DataError("The file is not text.", where=path, wanted="UTF-8", got=error.reason) from error
    return text


def _document(text: str) -> str:
    if text == "-" or text.startswith("@") or not is_file(Path(text)):
        return _text(text)
    return _text(f"@{text}")


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise UsageError("This input is neither true nor false.", wanted="true or false", got=repr(text))
    return text == "true"


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
    "document": _document,
    "label": str,
    "distribution": _json,
    "number": _number,
    "vector": _json,
    "boolean": _boolean,
    "record": _json,
    "conversation": _conversation,
}


def parse_argument(kind: Kind, text: str) -> Any:
    """The raw value that a command-line argument stands for.

    Raises:
        UsageError, DataError: when the argument is no such value.
    """
    value = pick("kind", kind.name, dict(_PARSERS))(text)
    if kind.options:
        pick("option", value, {option: option for option in kind.options})
    return value


def parse_arguments(inputs: Mapping[str, Kind], texts: Sequence[str]) -> list[Any]:
    """The raw inputs that the arguments of a command line stand for.

    Of a program with one input each text is one. Of one with several, NAME=VALUE says an input for all of them, and
    every other text is the first input of a question of its own; without such a text there is one question.

    Raises:
        UsageError, DataError: an argument is no such value, or an input is said twice or not at all.

    >>> kinds = {"text": Kind("text"), "tone": Kind("label", options=("formal", "friendly"), default="formal")}
    >>> parse_arguments(kinds, ["Hi!", "Hey", "tone=friendly"])
    [{'text': 'Hi!', 'tone': 'friendly'}, {'text': 'Hey', 'tone': 'friendly'}]
    """
    first = next(iter(inputs))
    if len(inputs) == 1:
        return [parse_argument(inputs[first], text) for text in texts]
    said: dict[str, Any] = {}
    questions = []
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or name not in inputs:
            questions.append({first: parse_argument(inputs[first], text)})
            continue
        if name in said:
            raise UsageError("An input is said twice.", where=text, wanted=f"one {name}=…", got="two")
        said[name] = parse_argument(inputs[name], value)
    if first in said and questions:
        raise UsageError("An input is said twice.", where=f"{first}=…", wanted=f"{first}=… or texts", got="both")
    return [{**question, **said} for question in questions or [{}]]
