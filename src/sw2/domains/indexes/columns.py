"""The column of keys in a file that people have: .npy, Parquet, Arrow, SQLite, CSV.

    open_column(Place(path, key, …)) -> Column      the keys as they lie there, checked, and the file's hash

A file of numpy is mapped and never copied; Parquet, Arrow, SQLite and CSV are read into memory each time the column is
opened, 8 bytes a key. What stands in other columns is not read, except of CSV.

Text is in order by its bytes (`texts`). A cell of a CSV file says by how it looks what it is, and the first cell says
it for all: where that is no number and no time, the column is text, cell by cell as it stands; `type="text"` says so
where the first text looks like a number. An empty cell is a missing key there; elsewhere an empty text is one.

Refused, with the place: keys that are not in order (`order="sort"` sorts them in memory), missing ones, columns of
several types, empty ones. A number is taken as it is or not at all: no integer becomes a double that is another one.

What it does not do: bytes that are no text, decimals, compressed or encrypted files, NumPy's .npz, tables behind a
server.
"""

from __future__ import annotations

import csv
import datetime
import importlib.util
import itertools
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from sw2.base.errors import DataError, MissingExtra, UsageError
from sw2.base.store import is_file, sha256_of_file
from sw2.domains.indexes.keys import TEXT, TICKS, KeyKind
from sw2.domains.indexes.texts import SortedTexts, Texts, packed

__all__ = ["SUFFIXES", "Column", "Place", "open_column"]

_AT_ONCE: Final = 1 << 20

_Read = tuple["Place", np.ndarray | Texts, KeyKind]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where keys are.

    Args:
        path: of the file.
        key: the column, or the field of a structured array; "" for the only one.
        table: of a database; "" for the only one.
        order: what to do with keys that are not in order: "refuse" them, or "sort" them in memory.
        type: "found" takes keys as what they are, or look like in a CSV file; "text" takes them as text there, and
            refuses another type elsewhere.
    """

    path: str
    key: str = ""
    table: str = ""
    order: Literal["refuse", "sort"] = "refuse"
    type: Literal["found", "text"] = "found"


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """Keys in order.

    Args:
        place: where they are; `key` and `table` are filled in.
        kind: their type.
        keys: [N], sorted, NaN last; of texts their heads, which are in order too.
        numbers: how many of them are not NaN.
        order: [N], the row of each key, where they were sorted here; None where the file has them in order.
        sha256, size: of the file.
        texts: where keys are texts.
    """

    place: Place
    kind: KeyKind
    keys: np.ndarray
    numbers: int
    sha256: str
    size: int
    order: NDArray[np.int64] | None = None
    signature: tuple[int, ...] = field(default=())
    texts: SortedTexts | None = None

    @property
    def searched(self) -> np.ndarray:
        """The keys that are numbers, or all heads of texts, [numbers]: what models are fitted to."""
        return self.keys[: self.numbers]

    @property
    def nbytes(self) -> int:
        """Bytes of the keys."""
        return int(self.searched.nbytes) if self.texts is None else self.texts.texts.nbytes

    @property
    def beside(self) -> int:
        """Bytes that are kept beside the keys whatever the model is: those of heads."""
        return 0 if self.texts is None else int(self.texts.heads.nbytes)

    def spoken(self, place: int) -> int | float | str:
        """The key at a place for people and JSON."""
        return self.kind.spoken(self.keys[place] if self.texts is None else self.texts.texts[place])

    def unchanged(self) -> bool:
        """Whether the file has not been touched since it was opened, by its size, time and number."""
        return self.signature == _signature(Path(self.place.path))


def open_column(place: Place) -> Column:
    """The column of keys.

    Raises:
        DataError: there is no such file or column, or it holds no keys that can be indexed; with the place.
        UsageError: which column or table is meant is not clear.
        MissingExtra: pyarrow is not installed, and the file is one of Parquet or Arrow.
    """
    path = Path(place.path)
    if not is_file(path):
        got = "a folder" if path.is_dir() else "nothing there"
        raise DataError("There is no such file.", where=path, wanted="a file with a column of keys", got=got)
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise DataError(
            "Files of this kind hold no keys that are known here.",
            where=path,
            wanted=", ".join(SUFFIXES),
            got=suffix or "no ending",
        )
    before = _signature(path)
    place, values, kind = _READERS[suffix](path, place)
    where = f"{path}, column '{place.key}'" if place.key else str(path)
    if not len(values):
        raise DataError("There are no keys.", where=where, wanted="at least one", got="an empty column")
    if place.type == "text" and kind != TEXT:
        raise DataError("The column holds no text.", where=where, wanted="data.type=found, or texts", got=str(kind))
    order = None
    if (wrong := _out_of_order(values)) is not None:
        if place.order == "refuse":
            raise DataError(
                "The keys are not in order.",
                where=f"{where}, rows {wrong} and {wrong + 1}, counted from 0",
                wanted=_BY_BYTES if kind == TEXT else "each key at least as large as the one before, NaN last",
                got=f"{kind.spoken(values[wrong])}, then {kind.spoken(values[wrong + 1])}",
                do="Sort the file by this column, or --set data.order=sort: places are those in the sorted order then.",
            )
        if isinstance(values, Texts):
            order = np.array(sorted(range(len(values)), key=values.__getitem__), np.int64)
            values = values.take(order)
        else:
            order = np.argsort(values, kind="stable")
            values = values[order]
    if isinstance(values, Texts):
        texts = SortedTexts(values)
        keys = texts.heads
    else:
        texts, keys = None, values
    numbers = len(keys)
    if kind.dtype == "float64":
        numbers = int(np.searchsorted(keys, np.nan))
        if not numbers:
            raise DataError(
                "There are no keys.", where=where, wanted="at least one number", got=f"{len(keys)} times NaN"
            )
    digest = sha256_of_file(path)
    if _signature(path) != before:
        raise DataError(
            "The file changed while it was read.", where=path, wanted="a file that is at rest", got="a write"
        )
    return Column(
        place=place,
        kind=kind,
        keys=keys,
        numbers=numbers,
        order=order,
        sha256=digest,
        size=before[0],
        signature=before,
        texts=texts,
    )


def _signature(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_size, found.st_mtime_ns, found.st_ino


_BY_BYTES: Final = "each text at or behind the one before by its bytes in UTF-8, as `LC_ALL=C sort` has them"


def _out_of_order(keys: np.ndarray | Texts) -> int | None:
    """The first row whose key is above the next one's, NaN being above all."""
    if isinstance(keys, Texts):
        return keys.unordered()
    for start in range(0, len(keys) - 1, _AT_ONCE):
        part = keys[start : start + _AT_ONCE + 1]
        wrong = part[1:] < part[:-1]
        if keys.dtype == np.float64:
            wrong |= np.isnan(part[:-1]) & ~np.isnan(part[1:])
        if wrong.any():
            return start + int(wrong.argmax())
    return None


def _chosen(names: Sequence[str], asked: str, what: str, setting: str, path: Path) -> str:
    """The one of `names` that is meant."""
    if asked in names or (not asked and len(names) == 1):
        return asked or names[0]
    listed = ", ".join(names[:20]) + (" …" if len(names) > 20 else "") or "none"
    if asked:
        raise DataError(f"There is no {what} of this name.", where=path, wanted=listed, got=asked)
    raise UsageError(
        f"Which {what} holds the keys is not clear.",
        where=path,
        wanted=f"--set {setting}=NAME",
        got=listed,
        do=f"--set {setting}={names[0]}" if names else None,
    )


def _missing(count: int, first: int, where: str) -> DataError:
    return DataError(
        "Keys are missing.",
        where=f"{where}, row {first}, counted from 0",
        wanted="a key in every row",
        got=f"{count} without one",
        do="Leave these rows out, or give them a key.",
    )


def _unknown_type(got: str, where: str) -> DataError:
    return DataError(
        "Keys of this type are not indexed.",
        where=where,
        wanted="whole numbers, floating-point numbers, timestamps or text",
        got=got,
    )


def _from_array(values: np.ndarray, where: str) -> tuple[np.ndarray | Texts, KeyKind]:
    """An array of any type as keys; as it is where it can be."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind in "US":
        return _as_texts(values.tolist(), where, str if kind == "U" else bytes)
    if kind == "M":
        unit, multiple = np.datetime_data(values.dtype)
        if unit not in TICKS or multiple != 1:
            raise _unknown_type(str(values.dtype), where)
        numbers = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")).view(np.int64)
        if (nat := np.isnat(values)).any():
            raise _missing(int(nat.sum()), int(nat.argmax()), where)
        return numbers, KeyKind("int64", unit)
    if kind not in "iuf" or size > 8:
        raise _unknown_type(str(values.dtype), where)
    wide = {"i": "int64", "u": "uint64" if size == 8 else "int64", "f": "float64"}[kind]
    return np.ascontiguousarray(values, dtype=wide), KeyKind(wide)


def _as_texts(values: Iterable[Any], where: str, type_: type[str | bytes] = str) -> tuple[Texts, KeyKind]:
    """Values that are all texts, or all bytes of UTF-8 where that is the type; None is a missing one."""
    parts: list[bytes] = []
    for row, value in enumerate(values):
        if value is None:
            raise _missing(1, row, where)
        if not isinstance(value, type_):
            raise _mixed(row, where, value)
        try:
            parts.append(value.encode() if isinstance(value, str) else value)
            parts[-1].decode()
        except UnicodeError:
            raise DataError(
                "A text has no UTF-8.",
                where=f"{where}, row {row}, counted from 0",
                wanted="Unicode without halves of characters, or bytes of UTF-8",
                got=repr(value),
            ) from None
    return packed(parts), TEXT


# ------------------------------------------------------------------------------------------------------------- readers


def _npy(path: Path, place: Place) -> _Read:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            "This is no array of numpy, or a part of it is missing.",
            where=path,
            wanted="what numpy.save writes",
            got=str(error),
        ) from error
    key = place.key
    if values.dtype.names:
        key = _chosen(values.dtype.names, key, "field", "data.key", path)
        values = values[key]
    elif key:
        raise DataError("There is no field of this name.", where=path, wanted="no data.key for a plain array", got=key)
    if values.ndim != 1:
        raise DataError(
            "Keys stand in one row.", where=path, wanted="an array of one axis", got=f"shape {values.shape}"
        )
    keys, kind = _from_array(np.asarray(values), str(path))
    return _named(place, key), keys, kind


def _named(place: Place, key: str, table: str = "") -> Place:
    return replace(place, key=key, table=table)


def _arrow(path: Path, place: Place) -> _Read:
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtra(
            "Reading such files needs the package pyarrow.",
            where=path,
            wanted="the extra 'tables'",
            got="not installed",
            do="pip install 'sw2[tables]'",
        )
    import pyarrow as pa

    try:
        if path.suffix.lower() == ".parquet":
            from pyarrow import parquet

            names = parquet.read_schema(path).names
            key = _chosen(names, place.key, "column", "data.key", path)
            column = parquet.read_table(path, columns=[key]).column(0)
        else:
            with pa.memory_map(str(path)) as source:
                try:
                    reader = pa.ipc.open_file(source)
                except pa.ArrowInvalid:
                    reader = pa.ipc.open_stream(source)
                key = _chosen(reader.schema.names, place.key, "column", "data.key", path)
                column = reader.read_all().column(key).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        what = "Parquet" if path.suffix.lower() == ".parquet" else "Arrow"
        raise DataError(
            "This file cannot be read.", where=path, wanted=f"a whole file of {what}", got=str(error)
        ) from error
    where = f"{path}, column '{key}'"
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        first = next(i for i, missing in enumerate(column.is_null().to_pylist()) if missing)
        raise _missing(column.null_count, first, where)
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _named(place, key), _arrow_texts(column, where), TEXT
    if pa.types.is_date32(kind):
        column = column.cast(pa.int32())
        values, _ = _from_array(column.to_numpy(), where)
        return _named(place, key), values, KeyKind("int64", "D")
    if pa.types.is_timestamp(kind) or pa.types.is_date64(kind):
        unit = "ms" if pa.types.is_date64(kind) else kind.unit
        return _named(place, key), column.cast(pa.int64()).to_numpy(), KeyKind("int64", unit)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise _unknown_type(str(kind), where)
    values, found = _from_array(column.to_numpy(), where)
    return _named(place, key), values, found


def _arrow_texts(column: Any, where: str) -> Texts:
    """The texts of a column without missing ones; bytes that are mapped stay where they are."""
    import pyarrow as pa

    try:
        column.validate(full=True)
        whole = column.cast(pa.large_string())
    except pa.ArrowInvalid as error:
        raise DataError("A text has no UTF-8.", where=where, wanted="bytes of UTF-8", got=str(error)) from error
    except pa.ArrowNotImplementedError:  # views of texts, in versions of pyarrow that only carry them
        raise _unknown_type(str(column.type), where) from None
    whole = whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole
    _, starts, values = whole.buffers()
    first = whole.offset
    held = np.frombuffer(values, np.uint8) if values is not None and values.size else np.empty(0, np.uint8)
    if starts is None or not starts.size:
        return packed(())
    return Texts(held, np.frombuffer(starts, np.int64)[first : first + len(whole) + 1])


def _sqlite(path: Path, place: Place) -> _Read:
    log = path.with_name(path.name + "-wal")
    if is_file(log) and log.stat().st_size:
        raise DataError(
            "The database has changes that are not in its file yet.",
            where=log,
            wanted="a database at rest, since an index knows its file by its content",
            got=f"{log.stat().st_size} bytes of changes",
            do="Close the programs that have it open, or: PRAGMA wal_checkpoint(TRUNCATE)",
        )
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            tables = [
                name
                for (name,) in database.execute(
                    "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')"
                    " AND name NOT LIKE 'sqlite_%' ORDER BY 1"
                )
            ]
            table = _chosen(tables, place.table, "table", "data.table", path)
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({_quoted(table)})")]
            key = _chosen(columns, place.key, "column", "data.key", path)
            rows = database.execute(f"SELECT {_quoted(key)} FROM {_quoted(table)}")
            values, kind = _from_rows((value for (value,) in rows), f"{path}, column '{key}' of '{table}'")
    except sqlite3.Error as error:
        raise DataError(
            "This database cannot be read.", where=path, wanted="a file of SQLite", got=str(error)
        ) from error
    return _named(place, key, table), values, kind


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _csv(path: Path, place: Place) -> _Read:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            names = next(rows, [])
            if names and all(_is_number(name) for name in names):
                raise DataError(
                    "The first line holds numbers.",
                    where=path,
                    wanted="a first line with the names of the columns",
                    got=",".join(names),
                    do="Put a line with names on top.",
                )
            key = _chosen(names, place.key, "column", "data.key", path)
            at = names.index(key)
            cells = (row[at] or None if at < len(row) else None for row in rows if row)
            where, some = f"{path}, column '{key}'", list(itertools.islice(cells, 1))
            found = itertools.chain(some, cells)
            if place.type == "text" or any(isinstance(_read_cell(first), str) for first in some):
                return (_named(place, key), *_as_texts(found, where))
            values, kind = _from_values(map(_read_cell, found), where)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError("This file cannot be read.", where=path, wanted="CSV in UTF-8", got=str(error)) from error
    return _named(place, key), values, kind


def _is_number(text: str) -> bool:
    return isinstance(_read_cell(text), int | float)


def _read_cell(text: str | None) -> Any:
    """A cell as a number or a time; None where it is empty, and itself where it is neither."""
    text = (text or "").strip()
    if not text:
        return None
    for read in (int, float, datetime.datetime.fromisoformat):
        try:
            found: Any = read(text)
        except ValueError:
            continue
        if isinstance(found, datetime.datetime) and found.tzinfo is None:
            return found.replace(tzinfo=datetime.UTC)
        return found
    return text


def _from_rows(values: Iterator[Any], where: str) -> tuple[np.ndarray | Texts, KeyKind]:
    """Values with types of their own: all texts where the first is one, else as `_from_values`."""
    some = list(itertools.islice(values, 1))
    read = _as_texts if some and isinstance(some[0], str) else _from_values
    return read(itertools.chain(some, values), where)


def _from_values(values: Iterator[Any], where: str) -> tuple[np.ndarray, KeyKind]:
    """Values that come one by one: all whole numbers, all numbers, or all times."""
    parts: list[np.ndarray] = []
    row, seen = 0, ""
    while some := list(itertools.islice(values, _AT_ONCE)):
        for value in some:
            kind = _kind_of(value)
            if kind == "missing":
                raise _missing(1, row, where)
            if kind not in ("whole", "broken", "time"):
                if seen:
                    raise _mixed(row, where, value)
                raise _unknown_type(f"{value!r} in row {row}, counted from 0", where)
            if seen and (kind == "time") != (seen == "time"):
                raise _mixed(row, where, value)
            seen = "broken" if "broken" in (kind, seen) else kind
            row += 1
        parts.append(np.array(some, dtype=object))
    if not parts:
        return np.empty(0, np.int64), KeyKind("int64")
    everything = np.concatenate(parts)
    if seen == "time":
        epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        micro = datetime.timedelta(microseconds=1)
        return np.array([(each - epoch) // micro for each in everything], np.int64), KeyKind("int64", "us")
    dtype = "float64" if seen == "broken" else "int64"
    if seen == "whole":
        least, most = min(everything), max(everything)
        if most > np.iinfo(np.int64).max and least >= 0:
            dtype = "uint64"
        if least < np.iinfo(np.int64).min or most > np.iinfo(dtype).max:
            at = int(np.argmax(everything)) if most > np.iinfo(dtype).max else int(np.argmin(everything))
            raise DataError(
                "A key has more than 64 bits.",
                where=f"{where}, row {at}, counted from 0",
                wanted="64 bits",
                got=everything[at],
            )
    for row, each in enumerate(everything if seen == "broken" else ()):
        if isinstance(each, int) and (abs(each) > 1 << 1000 or int(float(each)) != each):
            raise _mixed(row, where, each)
    return everything.astype(dtype), KeyKind(dtype)


def _kind_of(value: Any) -> str:
    if value is None:
        return "missing"
    if isinstance(value, datetime.datetime):
        return "time"
    if isinstance(value, float):
        return "broken"
    return "whole" if isinstance(value, int) else type(value).__name__


def _mixed(row: int, where: str, value: Any) -> DataError:
    return DataError(
        "The column has keys of several types.",
        where=f"{where}, row {row}, counted from 0",
        wanted="all whole numbers, all numbers that a double holds, all times, or all texts",
        got=repr(value) if not isinstance(value, datetime.datetime) else value.isoformat(),
        do="Of a CSV file whose keys are all meant as text: --set data.type=text" if isinstance(value, str) else None,
    )


_READERS: Final[Mapping[str, Callable[[Path, Place], _Read]]] = {
    ".npy": _npy,
    ".parquet": _arrow,
    ".arrow": _arrow,
    ".feather": _arrow,
    ".sqlite": _sqlite,
    ".sqlite3": _sqlite,
    ".db": _sqlite,
    ".csv": _csv,
    ".tsv": _csv,
}
SUFFIXES: Final = tuple(_READERS)
"""How names of files end that are read."""
