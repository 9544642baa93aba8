"""What an answer has to be: a text, one of a few, an object of fields, or whatever a JSON Schema says.

    output = "text"                      a text, as the model writes it; the default
    output = ["yes", "no"]               one of these
    [output]                             an object with these fields, in this order
    item = "text"                        text, number, integer, boolean
    mood = ["good", "bad"]               one of these
    note = { kind = "text", most = 80 }  at most so many characters; 200 when nobody says
    age = { kind = "integer", least = 0, most = 150 }    within these bounds; twelve digits when nobody says
    tags = { list = "text", most = 5 }   a list of at most so many; 8 when nobody says
    [schema]                             a JSON Schema, in TOML

All but a text are held to by a `Constraint`, so that an answer that came to its end parses. Fields have an end of their
own (texts, lists and whole numbers are bounded), because small models do not always find one.

What it does not do: optional fields; a JSON Schema says those.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from sw2.base.names import pick
from sw2.base.store import parse_json
from sw2.core.kinds import Kind
from sw2.parts.decoding.constraint import Constraint

__all__ = ["Output", "output_of"]

_SIMPLE: Final = ("text", "number", "integer", "boolean")
_LONGEST_TEXT: Final = 200
_LONGEST_LIST: Final = 8
_LARGEST: Final = 10**12 - 1


@final
@dataclass(frozen=True)
class Output:
    """What an answer is.

    Args:
        kind: as programs name it: "text", "label" or "record".
        constraint: what holds the model to it; None for a text.
        fields: the names of an object's fields with what each is; empty for other forms.
        schema: the JSON Schema as text; "" where there is none.
        options: all that a label may be.
    """

    kind: str = "text"
    constraint: Constraint | None = None
    fields: Mapping[str, Any] | None = None
    schema: str = ""
    options: tuple[str, ...] = ()

    @property
    def as_kind(self) -> Kind:
        """In the words of a Task."""
        return Kind(self.kind, options=self.options)

    def value_of(self, text: str) -> Any:
        """The answer that a complete text stands for; None where it stands for none."""
        if self.kind != "record":
            return text.strip()
        try:
            return parse_json(text)
        except ValueError:
            return None

    def text_of(self, value: Any) -> str:
        """How a model is shown an answer."""
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def output_of(said: Any, schema: Any) -> Output:
    """What the entries `output` and `schema` of a file say; None for one that is not there.

    Raises:
        ValueError: what is wrong, in two lines: what is wanted, and what is there.
        UsageError: the constraint cannot be followed.
    """
    if schema is not None:
        if said is not None:
            raise ValueError("output or schema\nboth")
        if not isinstance(schema, dict):
            raise ValueError(f"a JSON Schema, as a table\n{schema!r}")
        return _held(schema, None)
    if said is None or said == "text":
        return Output()
    if isinstance(said, list):
        options = _options(said, "output")
        return Output("label", Constraint.choice(options), options=options)
    if not isinstance(said, dict) or not said:
        raise ValueError(f'"text", a list of texts, or a table of fields\n{said!r}')
    properties = {}
    for name, spec in said.items():
        if not name.isidentifier():  # a word of any script, its vowel signs too
            raise ValueError(f"a field that is called by a word\n{name!r}")
        properties[name] = _schema(spec, f"output.{name}")
    whole = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return _held(whole, said)


def _held(schema: dict[str, Any], fields: Mapping[str, Any] | None) -> Output:
    constraint = Constraint.json_schema(schema)
    return Output("record", constraint, fields=fields, schema=constraint.source)


def _options(said: list[Any], where: str) -> tuple[str, ...]:
    if not said or not all(isinstance(option, str) and option for option in said) or len(set(said)) < len(said):
        raise ValueError(f"{where}: different texts, none of them empty\n{said!r}")
    return tuple(said)


def _schema(spec: Any, where: str) -> dict[str, Any]:
    """The JSON Schema of what a field is said to be."""
    if isinstance(spec, list):
        return {"type": "string", "enum": list(_options(spec, where))}
    if isinstance(spec, str):
        spec = {"kind": spec}
    if not isinstance(spec, dict) or ("kind" in spec) == ("list" in spec):
        raise ValueError(f"{where}: {', '.join(_SIMPLE)}, a list of texts, or {{ list = … }}\n{spec!r}")
    number = spec.get("kind") in ("number", "integer")
    known = ["kind", "list", "most", "about", *(["least"] if number else [])]
    if extra := set(spec) - set(known):
        raise ValueError(f"{where}: {', '.join(known)}\n{', '.join(sorted(extra))}")
    about = {"description": str(spec["about"])} if "about" in spec else {}
    if number:
        return {"type": spec["kind"], **_bounds(spec, where), **about}
    most = spec.get("most", _LONGEST_LIST if "list" in spec else _LONGEST_TEXT)
    if type(most) is not int or most < 1:
        raise ValueError(f"{where}.most: a whole number of at least 1\n{most!r}")
    if "list" in spec:
        return {"type": "array", "items": _schema(spec["list"], where), "maxItems": most, **about}
    kind = pick("kind of field", str(spec["kind"]), {name: name for name in _SIMPLE})
    if kind == "text":
        return {"type": "string", "maxLength": most, **about}
    if "most" in spec:
        raise ValueError(f"{where}: most for texts, numbers and lists\n{kind}")
    return {"type": kind, **about}


def _bounds(spec: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The range of a number; of a whole one there is always one."""
    whole = spec["kind"] == "integer"
    bounds: dict[str, Any] = {"minimum": -_LARGEST, "maximum": _LARGEST} if whole else {}
    for word, keyword in (("least", "minimum"), ("most", "maximum")):
        if word in spec:
            if type(spec[word]) is not int and (whole or type(spec[word]) is not float):
                raise ValueError(f"{where}.{word}: {'a whole number' if whole else 'a number'}\n{spec[word]!r}")
            bounds[keyword] = spec[word]
    return bounds
