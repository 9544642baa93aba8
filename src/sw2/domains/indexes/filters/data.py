"""Sets of keys as data: those of a file, others that are asked for and are not there, and a set that sw2 makes.

    keys.txt                 a text in each line; any UTF-8 but the end of the line counts, blanks too
    keys.npy, .parquet, …    a column of numbers, times or text, in any order (`indexes.columns`)
    data.absent=FILE         others, of the same kind: such keys as will be asked for and are not in the set

Others that are in the set after all, or come twice, are left out and counted. Half of the rest are learned from, a
quarter says how large the filter must be, and a quarter is kept for judging. Without others there is nothing to learn
from, and what is asked while judging is drawn at random: a Bloom filter answers that as it does anything else.

`called-numbers` is made by code: 20,000 numbers in 20 ranges, and 20,000 others anywhere.

What it does not do: files whose sets do not fit in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, final

import numpy as np

from sw2.base.errors import DataError, UsageError
from sw2.base.seed import numpy_generator
from sw2.base.store import is_file
from sw2.core.data import Data
from sw2.domains.indexes.columns import SUFFIXES, Place, open_column
from sw2.domains.indexes.filters.keysets import KeySet, of_numbers
from sw2.domains.indexes.keys import TEXT, KeyKind

__all__ = ["NAMED", "Asked", "FilterOptions", "Learned", "read"]

NAMED: Final = "called-numbers"
_DRAWN: Final = 100_000
_BEYOND: Final = 1 << 16
_UNSIGNED: Final = (0, (1 << 64) - 1)
_HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8)


@dataclass(frozen=True, kw_only=True)
class FilterOptions:
    """Where the keys are.

    Args:
        key: the column; may be left out where there is one only.
        table: of a database; may be left out where there is one only.
        absent: a file of others, such as will be asked for; "" for none.
        type: "found" takes keys as what they are; "text" takes the cells of a CSV file as text, whatever they look
            like.
    """

    key: str = ""
    table: str = ""
    absent: str = ""
    type: Literal["found", "text"] = "found"


class _Examples(Sequence[Mapping[str, Any]]):
    """Keys and others as examples."""

    def __init__(self, kind: KeyKind, parts: Sequence[tuple[KeySet, str]]) -> None:
        self.kind, self._parts = kind, parts

    def __len__(self) -> int:
        return sum(len(keys) for keys, _ in self._parts)

    def __getitem__(self, index: Any) -> Any:
        place = range(len(self))[index]
        for keys, member in self._parts:
            if place < len(keys):
                return {"key": _spoken(keys, place, self.kind), "member": member}
            place -= len(keys)
        raise AssertionError("the place is one of the parts'")


@final
class Learned(_Examples):
    """What a filter is made from.

    Args:
        kind: the type of the keys.
        keys: those of the set.
        different: how many of them there are, equal ones counted once.
        others: to learn from.
        sizing: others that say how large the filter must be.
    """

    def __init__(self, kind: KeyKind, keys: KeySet, different: int, others: KeySet, sizing: KeySet) -> None:
        super().__init__(kind, [(keys, "yes"), (others, "no"), (sizing, "no")])
        self.keys, self.different, self.others, self.sizing = keys, different, others, sizing


@final
class Asked(_Examples):
    """What a filter is judged on.

    Args:
        kind: the type of the keys.
        others: that had no part in making it, and are not in the set.
        keys: those of the set.
    """

    def __init__(self, kind: KeyKind, others: KeySet, keys: KeySet) -> None:
        super().__init__(kind, [(others, "no"), (keys, "yes")])
        self.others, self.keys = others, keys


def _spoken(keys: KeySet, place: int, kind: KeyKind) -> Any:
    if keys.starts is not None:
        return keys.text(place)
    bits, top = int(keys.values[place]), 1 << 63
    if kind.dtype == "uint64":
        return bits
    if kind.dtype == "int64":
        return kind.spoken(bits - top)
    unordered = bits ^ top if bits & top else bits ^ (1 << 64) - 1
    return float(np.uint64(unordered).view(np.float64))


def read(source: str, options: FilterOptions, seed: int) -> Data:
    """The keys at `source`, a path or `NAMED`, and the others.

    Args:
        source: as on the command line.
        options: see FilterOptions.
        seed: of the order in which others are dealt, and of those that are drawn.

    Raises:
        DataError: there are no keys, or the others are of another type, or all of them are keys.
    """
    named = source == NAMED and not Path(source).exists()
    if named:
        kind, keys, given = _made()
    else:
        kind, keys = _keys(source, options)
        given = None
        if options.absent:
            other_kind, given = _keys(options.absent, options)
            if other_kind != kind:
                raise DataError(
                    "The others are of another type than the keys.",
                    where=options.absent,
                    wanted=str(kind),
                    got=str(other_kind),
                )
    hashes = np.unique(keys.hashes())
    facts: dict[str, Any] = {"keys": len(keys), "different keys": len(hashes), "type of the keys": str(kind)}
    if given is None:
        learned = sizing = keys.take(slice(0))
        asked = _absent(_drawn(kind, keys, seed), hashes)
    else:
        others = _absent(given, hashes)
        facts["others"] = len(others)
        if len(others) < len(given):
            facts["others left out"] = f"{len(given) - len(others)}, which are keys or came twice"
        if len(others) < 4:
            raise DataError(
                "There are too few others that are not keys.",
                where=options.absent,
                wanted="at least 4",
                got=len(others),
            )
        dealt = numpy_generator(seed, "others").permutation(len(others))
        ends = [len(others) // 2, 3 * len(others) // 4]
        learned, sizing, asked = (others.take(part) for part in np.split(dealt, ends))
    return Data(
        name=source if named else Path(source).name,
        splits={
            "train": Learned(kind, keys, len(hashes), learned, sizing),
            "test": Asked(kind, asked, keys),
        },
        fingerprint=_fingerprint(kind, [keys] if given is None else [keys, given]),
        licence="Apache-2.0" if named else "unknown",
        source=source if named else str(Path(source).absolute()),
        facts=facts,
    )


def _fingerprint(kind: KeyKind, parts: Sequence[KeySet]) -> str:
    content = hashlib.sha256(repr(kind).encode())
    for part in parts:
        content.update(part.values.data)
        content.update(b"" if part.starts is None else part.starts.data)
    return content.hexdigest()


def _keys(source: str, options: FilterOptions) -> tuple[KeyKind, KeySet]:
    path = Path(source)
    if path.suffix.lower() == ".txt" and is_file(path):
        if options.key or options.table:
            raise UsageError(
                "A file of lines has no columns.",
                where=source,
                wanted="neither data.key nor data.table",
                got=options.key or options.table,
            )
        return TEXT, _lines(path)
    if is_file(path) and path.suffix.lower() not in SUFFIXES:
        raise DataError(
            "Files of this kind hold no keys that are known here.",
            where=path,
            wanted=", ".join((".txt", *SUFFIXES)),
            got=path.suffix or "no ending",
        )
    column = open_column(Place(path=source, key=options.key, table=options.table, order="sort", type=options.type))
    if nan := len(column.keys) - column.numbers:
        raise DataError("A set has no use for NaN.", where=path, wanted="numbers", got=f"{nan} that are NaN")
    if column.texts is not None:
        texts = column.texts.texts
        first, last = texts.starts[[0, -1]]
        return TEXT, KeySet(texts.values[first:last], texts.starts - first)
    return column.kind, of_numbers(column.keys)


def _lines(path: Path) -> KeySet:
    content = np.fromfile(path, np.uint8)
    try:
        bytes(content).decode()
    except UnicodeDecodeError as error:
        raise DataError(
            "This file is not text.", where=path, wanted="UTF-8", got=f"{error.reason}, byte {error.start}"
        ) from None
    if not len(content):
        raise DataError("There are no keys.", where=path, wanted="a key in each line", got="an empty file")
    ends = np.flatnonzero(content == ord("\n"))
    if content[-1] != ord("\n"):
        ends = np.append(ends, len(content))
    begins = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    returns = (ends > begins) & (ends < len(content)) & (content[ends - 1] == ord("\r"))
    kept = np.ones(len(content) + 1, bool)
    kept[ends] = kept[ends[returns] - 1] = False
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(ends - begins - returns)])
    return KeySet(content[kept[: len(content)]], starts)


def _absent(others: KeySet, keys: np.ndarray) -> KeySet:
    """Those that are no keys, each once. `keys` are the hashes of the set, sorted."""
    hashes, first = np.unique(others.hashes(), return_index=True)
    places = np.minimum(np.searchsorted(keys, hashes), len(keys) - 1)
    return others.take(np.sort(first[keys[places] != hashes]))


def _drawn(kind: KeyKind, keys: KeySet, seed: int) -> KeySet:
    random = numpy_generator(seed, "drawn")
    if kind == TEXT:
        return KeySet(random.choice(_HEX, 16 * _DRAWN), np.arange(_DRAWN + 1) * 16)
    least, most = int(keys.values.min()), int(keys.values.max())
    beyond = max(most - least, _BEYOND)
    lowest, highest = of_numbers(np.array([-np.inf, np.inf])).values.tolist() if kind.dtype == "float64" else _UNSIGNED
    ends = max(least - beyond, lowest), min(most + beyond, highest)
    return KeySet(random.integers(*ends, _DRAWN, np.uint64, endpoint=True))


def _made() -> tuple[KeyKind, KeySet, KeySet]:
    random = np.random.Generator(np.random.PCG64(23))
    called = np.repeat(random.integers(0, 1 << 40, 20), 1000) + random.integers(0, 1 << 20, 20_000)
    return KeyKind("int64"), of_numbers(called), of_numbers(random.integers(0, 1 << 40, 20_000))
