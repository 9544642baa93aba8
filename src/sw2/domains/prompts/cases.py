"""Where tests come from: the prompt's own file, or rows of somebody's data.

    cases.jsonl   {"review": "…", "expect": {"mood": "bad"}}     an object a line, as under [[tests]]
    cases.json    a list of those
    cases.csv     columns of the inputs' names, and expect, or expect.FIELD for each field

With `data.orders = N` each case is asked N times, with the prompt's examples in N different orders: that of the file,
then others.

What it does not do: learn from them, so there is no split but "test".
"""

from __future__ import annotations

import csv
import io
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sw2.base.config import check_ranges
from sw2.base.errors import DataError, Sw2Error
from sw2.base.names import nearest
from sw2.base.seed import derive
from sw2.base.store import canonical_json, is_file, parse_json, sha256_of_bytes
from sw2.core.data import Data, Example, Rejected, refuse_if_too_many
from sw2.domains.prompts.file import EXPECT, Case, Prompt, Shot, case_of

__all__ = ["CaseOptions", "in_orders", "own_cases", "read_cases"]

_SUFFIXES: Final = (".jsonl", ".json", ".csv")


@dataclass(frozen=True, kw_only=True)
class CaseOptions:
    """How a prompt is tested.

    Args:
        orders: in how many orders its examples are shown, from 1 to 100 and no more than there are; each case is asked
            in each.
    """

    orders: int = 1

    def __post_init__(self) -> None:
        check_ranges("data", self, {"orders": (1 <= self.orders <= 100, "a whole number from 1 to 100")})


def own_cases(prompt: Prompt, options: CaseOptions) -> Data:
    """The tests in the prompt's file.

    Raises:
        DataError: it has none.
    """
    if not prompt.tests:
        raise DataError("This prompt has no tests of its own.", wanted="[[tests]] in its file, or data", got="neither")
    return _data("its own tests", prompt, prompt.tests, options, ())


def read_cases(source: str, prompt: Prompt, options: CaseOptions) -> Data:
    """The tests in the file `source`.

    Raises:
        DataError: there is no such file, or too many of its rows are no tests of this prompt.
    """
    path = Path(source)
    if not is_file(path) or path.suffix not in _SUFFIXES:
        raise DataError(
            "There are no tests here.",
            where=source,
            wanted=f"a file {' or '.join(_SUFFIXES)} whose rows hold {', '.join(prompt.inputs)} and {EXPECT}",
            got="another file" if is_file(path) else "no such file",
        )
    cases: list[Case] = []
    rejected: list[Rejected] = []
    rows = _rows(path, prompt)
    for where, row in rows:
        try:
            if not isinstance(row, Mapping):
                raise DataError("no value for each name", got=repr(row)[:80])
            cases.append(case_of(row, prompt.inputs, prompt.output, where))
        except Sw2Error as error:
            rejected.append(Rejected(where, f"{error.message} got: {error.got}"))
    refuse_if_too_many(rejected, len(rows), where=source)
    if not cases:
        raise DataError("There are no tests here.", where=source, wanted="one row at least", got="none")
    return _data(source, prompt, cases, options, rejected)


def in_orders(examples: Sequence[Shot], count: int, seed: int) -> list[list[Shot]]:
    """A prompt's examples in `count` different orders, that of the file first.

    Raises:
        DataError: there are fewer.
    """
    if count > (possible := math.factorial(len(examples))):
        raise DataError(
            "So many orders of the examples there are not.",
            where="data.orders",
            wanted=f"at most {possible}, as the prompt shows {len(examples)} examples",
            got=count,
        )
    orders = [tuple(range(len(examples)))]
    draw = random.Random(derive(seed, "orders of examples"))
    while len(orders) < count:
        mixed = tuple(draw.sample(orders[0], len(examples)))
        if mixed not in orders:
            orders.append(mixed)
    return [[examples[place] for place in order] for order in orders]


def _data(name: str, prompt: Prompt, cases: Sequence[Case], options: CaseOptions, rejected: Sequence[Rejected]) -> Data:
    in_orders(prompt.examples, options.orders, seed=0)  # refused here, before anything is asked
    rows: list[Example] = [
        {"values": case.values, EXPECT: case.expect, "where": case.where, "order": order, "case": number}
        for order in range(options.orders)
        for number, case in enumerate(cases)
    ]
    plain = [{"values": dict(case.values), EXPECT: case.expect} for case in cases]
    fingerprint = sha256_of_bytes(canonical_json([plain, options.orders]).encode())
    return Data(name=name, splits={"test": rows}, fingerprint=fingerprint, source=name, rejected=rejected)


def _rows(path: Path, prompt: Prompt) -> list[tuple[str, Any]]:
    """The rows of a file, each with where it stands."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("The tests are no text.", where=path, wanted="UTF-8", got=error.reason) from error
    if path.suffix == ".jsonl":
        lines = [(f"{path}:{number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        return [(where, _value(line)) for where, line in lines]
    if path.suffix == ".json":
        whole = _value(text)
        if not isinstance(whole, list):
            raise DataError("The tests are no list.", where=path, wanted="a list of objects in JSON", got=text[:80])
        return [(f"{path}, row {number}", row) for number, row in enumerate(whole)]
    return _of_csv(path, text, prompt)


def _value(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return text


def _of_csv(path: Path, text: str, prompt: Prompt) -> list[tuple[str, Any]]:
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[str, Any]] = []
    try:
        columns = next(lines, [])
        _check_columns(path, columns, prompt)
        for line in lines:
            rows.append(
                (f"{path}:{lines.line_num}", _row(columns, line, prompt) if len(line) == len(columns) else line)
            )
    except csv.Error as error:
        raise DataError("The tests are no table.", where=f"{path}:{lines.line_num}", wanted="CSV", got=error) from error
    return [(where, row) for where, row in rows if row]


def _check_columns(path: Path, columns: Sequence[str], prompt: Prompt) -> None:
    for name in columns:
        if name not in prompt.inputs and name.partition(".")[0] != EXPECT:
            close = nearest(name, [*prompt.inputs, EXPECT])
            raise DataError(
                f"The column '{name}' is nobody's.",
                where=f"{path}:1",
                wanted=f"{', '.join(prompt.inputs)}, {EXPECT} or {EXPECT}.FIELD",
                got=name,
                do=f"Did you mean '{close}'?" if close else "Leave it out.",
            )
    if len(set(columns)) < len(columns):
        raise DataError(
            "Two columns have one name.", where=f"{path}:1", wanted="a name for each", got=",".join(columns)
        )


def _row(columns: Sequence[str], values: Sequence[str], prompt: Prompt) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in zip(columns, values, strict=True):
        head, _, field = name.partition(".")
        if head != EXPECT:
            made[name] = _typed(value, prompt.inputs[head].name in ("number", "boolean", "record"))
        elif field:
            kind = (prompt.output.fields or {}).get(field, "text")
            made.setdefault(EXPECT, {})[field] = _typed(value, kind != "text" and not isinstance(kind, list))
        else:
            made[EXPECT] = _typed(value, prompt.output.kind == "record")
    return made


def _typed(text: Any, as_json: bool) -> Any:
    if not as_json or not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
