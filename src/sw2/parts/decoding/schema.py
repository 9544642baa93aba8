"""What can be said of a JSON Schema before a grammar is made of it: that nothing finite meets it, or that the grammar
would allow what it forbids.

Notable
- A schema that refers to itself describes finite documents when some way through it ends. Which definitions have one is
  a least fixed point: a reference ends when what it refers to ends, by what is known to end already. Whatever is not
  understood here counts as ending, so no schema is refused that a document might meet.
- A grammar cannot know which keys were written before. Keys beyond those that a schema names may therefore come twice,
  and two of a kind are one when the text is parsed; so it cannot be promised that there are at least two of them.

Source: JSON Schema, draft 2020-12, https://json-schema.org/draft/2020-12/json-schema-core.

What it does not do: check that a schema is well-formed, or documents against it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Set
from typing import Any

__all__ = ["endless", "place", "unkept"]

_VALUES = frozenset({"const", "default", "enum", "examples"})
"""Keywords under which documents stand, and no schemas."""


def endless(schema: Any) -> bool:
    """Whether no finite document meets `schema`, because every way through it leads into itself again.

    >>> endless({"type": "array", "items": {"$ref": "#"}})
    False
    >>> endless({"type": "array", "items": {"$ref": "#"}, "minItems": 1})
    True
    """
    targets = {where: _target(schema, where) for where in _references(schema)}
    open_ = {where for where, target in targets.items() if target is not None}
    users: dict[str, list[str]] = {}
    for where in open_:
        for used in _references(targets[where]):
            users.setdefault(used, []).append(where)
    # A reference is looked at again only when one that its target holds has been found to end.
    waiting = list(open_)
    while waiting:
        where = waiting.pop()
        if where in open_ and _ends(targets[where], open_):
            open_.discard(where)
            waiting += users.get(where, ())
    return not _ends(schema, open_)


def unkept(schema: Any) -> tuple[str, str, str] | None:
    """What a grammar of `schema` would not keep: where, as a JSON Pointer, what is wanted instead, and what is there.

    Two or more keys that are not named, and limits in the form of draft 4, which the library takes for no limits.
    """
    for pointer, node in _nodes(schema):
        least, required = node.get("minProperties"), node.get("required")
        named = len({str(each) for each in required}) if isinstance(required, list) else 0
        if isinstance(least, int) and least - named >= 2:
            return f"{pointer}/minProperties", f"at most {named + 1}, one more than are required by name", str(least)
        for limit in ("exclusiveMinimum", "exclusiveMaximum"):
            if isinstance(node.get(limit), bool):
                return f"{pointer}/{limit}", "a number, as in draft 6 and later", str(node[limit]).lower()
    return None


def place(schema: Any, word: str) -> str | None:
    """Where `word` stands first in `schema`, as a keyword or as the value of one, as a JSON Pointer."""
    for pointer, node in _nodes(schema):
        for key, value in node.items():
            if word in (key, value) or (isinstance(value, list) and word in value):
                return f"{pointer}/{key}"
    return None


def _references(schema: Any) -> set[str]:
    return {where for _, node in _nodes(schema) if isinstance(where := node.get("$ref"), str)}


def _nodes(node: Any, pointer: str = "#") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All objects in a schema with where they stand, those of documents left out."""
    waiting = deque([(pointer, node)])
    while waiting:
        pointer, node = waiting.popleft()
        if isinstance(node, dict):
            yield pointer, node
            waiting += [(f"{pointer}/{_escaped(key)}", each) for key, each in node.items() if key not in _VALUES]
        elif isinstance(node, list):
            waiting += [(f"{pointer}/{index}", each) for index, each in enumerate(node)]


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _target(schema: Any, where: str) -> Any:
    """What a reference inside the schema refers to; None for others, which the library reports."""
    if not where.startswith("#") or (where != "#" and where[1] != "/"):
        return None
    node = schema
    for part in where.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
        else:
            return None
    return node


def _ends(node: Any, open_: Set[str]) -> bool:
    """Whether a finite document may meet `node`, when the references in `open_` are not known to have one."""
    if not isinstance(node, dict):
        return node is not False
    if isinstance(where := node.get("$ref"), str) and where in open_:
        return False
    every = [each for each in _listed(node, "allOf") if not _ends(each, open_)]
    ways = [each for name in ("anyOf", "oneOf") for each in [_listed(node, name)] if each]
    if every or any(not any(_ends(each, open_) for each in some) for some in ways):
        return False
    # With several types, or none said, some other value may do.
    if node.get("type") == "object" and isinstance(node.get("properties"), dict):
        needed = [node["properties"].get(name, True) for name in _listed(node, "required") if isinstance(name, str)]
        return all(_ends(each, open_) for each in needed)
    least = node.get("minItems")
    if node.get("type") == "array" and isinstance(least, int) and least > 0:
        first = _listed(node, "prefixItems")[:least]
        needed = [*first, node.get("items", True)] if least > len(first) else first
        return all(_ends(each, open_) for each in needed)
    return True


def _listed(node: Mapping[str, Any], name: str) -> list[Any]:
    found = node.get(name)
    return found if isinstance(found, list) else []
