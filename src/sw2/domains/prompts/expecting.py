r"""Is an answer what a test expects?

    expect = "lamp"                                equal, case, white space and marks at its ends aside
    expect = { mood = "bad", item = "lamp" }       of an object, each field that is named
    expect = { any = ["lamp", "desk lamp"] }       equal to one of these
    expect = { contains = ["lamp", ["3", "three"]] }   says each; of a list in it, one
    expect = { lacks = ["sofa"] }                  says none
    expect = { matches = "^\\d+ lamps?$" }       a regular expression finds something
    expect = { most_words = 20, least_words = 3 }  so long

Rules may stand together, for a whole answer or for one field. A list equals a list with the same entries in any order.
What is expected is never shown to the program.

What it does not do: ask another model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from sw2.base.errors import UsageError
from sw2.base.names import unknown
from sw2.domains.prompts.outputs import Output

__all__ = ["by_field", "check_expectation", "met", "named", "same"]

_RULES: Final = ("any", "contains", "lacks", "least_words", "matches", "most_words")


def met(expect: Any, answer: Any, output: Output) -> dict[str, bool]:
    """Whether an answer is what is expected: of each field that is named, or of the whole answer, under "".

    Args:
        expect: what `check_expectation` has passed.
        answer: the answer's value; None for one that is none.
        output: what answers are.
    """
    if by_field(expect, output):
        held = answer if isinstance(answer, Mapping) else {}
        return {name: name in held and _fits(each, held[name]) for name, each in expect.items()}
    return {"": answer is not None and _fits(expect, answer)}


def check_expectation(expect: Any, output: Output) -> None:
    """Refuse an expectation that nothing could meet by its form.

    Raises:
        UsageError: a field that answers do not have, a rule with a wrong value, an expression that is none.
    """
    if by_field(expect, output):
        for name, each in expect.items():
            if output.fields is not None and name not in output.fields:
                raise unknown("field", name, output.fields)
            _check(each)
    else:
        _check(expect)


def same(one: Any, other: Any) -> bool:
    """Whether two answers say the same.

    >>> same("A  Lamp.", "a lamp"), same(["a", "b"], ["B", "a"]), same(True, 1)
    (True, True, False)
    """
    if isinstance(one, str) and isinstance(other, str):
        return _plain(one) == _plain(other)
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return sorted(map(_key, one)) == sorted(map(_key, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def by_field(expect: Any, output: Output) -> bool:
    """Whether an expectation speaks of the fields of an object."""
    return output.kind == "record" and isinstance(expect, Mapping) and not _is_rule(expect)


def named(expect: Any) -> list[Any]:
    """Answers that an expectation names, for baselines that always say the same.

    >>> named("lamp"), named({"any": [1, 2]}), named({"contains": ["a", ["b", "c"]]}), named({"lacks": "d"})
    (['lamp'], [1, 2], ['a b'], [])
    """
    if not _is_rule(expect):
        return [expect]
    parts = expect.get("contains", [])
    parts = [parts] if isinstance(parts, str) else [each[0] if isinstance(each, list) else each for each in parts]
    return [*expect.get("any", []), *([" ".join(parts)] if parts else [])]


def _is_rule(expect: Any) -> bool:
    return isinstance(expect, Mapping) and bool(expect) and set(expect) <= set(_RULES)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold().strip(" .,;:!?\"'`“”„«»()[]")


def _key(value: Any) -> str:
    return _plain(value) if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _check(expect: Any) -> None:
    if not _is_rule(expect):
        return
    for rule, value in expect.items():
        lists = isinstance(value, list) and bool(value)
        texts = isinstance(value, str) or (
            lists and all(isinstance(each, str) or (rule == "contains" and isinstance(each, list)) for each in value)
        )
        fits, wanted = {
            "any": (lists, "a list of answers"),
            "contains": (texts, "a text or a list of texts"),
            "lacks": (texts, "a text or a list of texts"),
            "matches": (isinstance(value, str), "a regular expression"),
        }.get(rule, (type(value) is int and value > 0, "a whole number above 0"))
        if not fits:
            raise UsageError(f"The rule '{rule}' has a value that does not fit.", wanted=wanted, got=repr(value)[:200])
        if rule == "matches":
            try:
                re.compile(value)
            except re.error as error:
                raise UsageError("The rule 'matches' is no regular expression.", wanted=value, got=error) from error


def _fits(expect: Any, answer: Any) -> bool:
    if not _is_rule(expect):
        return same(expect, answer)
    text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    words, low = len(text.split()), text.casefold()

    def says(part: Any) -> bool:
        return any(says(each) for each in part) if isinstance(part, list) else str(part).casefold() in low

    holds = {
        "any": lambda value: any(same(each, answer) for each in value),
        "contains": lambda value: all(says(each) for each in ([value] if isinstance(value, str) else value)),
        "lacks": lambda value: not any(says(each) for each in ([value] if isinstance(value, str) else value)),
        "matches": lambda value: re.search(value, text) is not None,
        "most_words": lambda value: words <= value,
        "least_words": lambda value: words >= value,
    }
    return all(holds[rule](value) for rule, value in expect.items())
