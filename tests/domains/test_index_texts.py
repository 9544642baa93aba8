"""From a file with a column of text to an index and back: every kind of file, what is asked, and what goes wrong."""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from indexed import index, saved

from sw2.base.errors import DataError, Sw2Error, UsageError
from sw2.catalog import catalog
from sw2.core.capabilities import Amend, Locate
from sw2.core.program import Program
from sw2.core.task import Context
from sw2.domains.indexes import native
from sw2.domains.indexes import texts as module
from sw2.domains.indexes.columns import Place, open_column
from sw2.domains.indexes.filters.task import Membership
from sw2.domains.indexes.keys import TEXT
from sw2.verbs.train import Order, train


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels where there is a compiler; compiled once, when the tests are collected."""
    if COMPILED:
        monkeypatch.setenv("SW2_NATIVE", "on")


COMPILED = native.why_not() is None and module.why_not() is None
NAMES = ["", "../x", "a..b", "ab", "ab", "abcdefghij", "abcdefghik", "b", "straße", "\U0001f600"]


def test_a_text_and_a_range(tmp_path: Path) -> None:
    program = index(saved(tmp_path, NAMES), tmp_path / "run")
    assert program.path is not None
    for each in (program, Program.load(program.path, catalog())):
        assert each("ab") == {"position": 3, "count": 2}
        assert each("aa") == {"position": 3, "count": 0}
        assert each("") == {"position": 0, "count": 1}
        assert each("zebra") == {"position": 9, "count": 0}
        assert each("abcdefghij..b") == {"position": 5, "count": 2}
        assert each("b..") == {"position": 7, "count": 3}
        assert each("..ab") == {"position": 0, "count": 3}
        assert each("b..a") == {"position": 7, "count": 0}
        assert each(r"\../x") == {"position": 1, "count": 1}
        assert each(r"a\..b") == {"position": 2, "count": 1}
        assert each(r"\../x..a\..b") == {"position": 1, "count": 1}
    locate = program.capability(Locate)
    assert locate.position("ab").shape == ()
    assert locate.position([["ab", "b"], ["c", ""]]).tolist() == [[3, 7], [8, 0]]
    assert locate.position(np.array(NAMES)).tolist() == [0, 1, 2, 3, 3, 5, 6, 7, 8, 9]
    assert locate.range("a..b", "b") == (2, 7)
    assert locate.range(None, None) == (0, 10)
    assert locate.rows(3, 5).tolist() == [3, 4]
    for asked in (17, None, "\ud800"):
        with pytest.raises(UsageError, match=r"cannot be compared|no UTF-8"):
            program(asked)
    with pytest.raises(UsageError, match="do not come and go"):
        program.capability(Amend).amended(tmp_path / "keys.session")


def test_a_trial_counts_heads(tmp_path: Path) -> None:
    names = sorted(f"usr/share/{i % 7}/{i}" for i in range(800))
    program = index(saved(tmp_path, names), tmp_path / "run", "learn.trial=1000", model=None)
    assert "ns a key" in program.card.made["why model"]
    scores = {(score["of"], score["name"]): score["value"] for score in program.card.scores}
    assert scores["program", "wrong answers"] == 0
    assert scores["program", "bytes beyond the keys"] >= 8 * 800
    assert ("bisect of Python", "nanoseconds a key") in scores
    assert ("halving all texts", "nanoseconds a key") in scores
    assert program.card.facts["bytes of their heads"] == 8 * 800
    with pytest.raises(UsageError, match="No model fulfils"):
        index(tmp_path / "keys.npy", tmp_path / "other", "learn.trial=1000", "learn.most_bytes=6000", model=None)


def test_the_same_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SW2_NATIVE", "off")
    program = index(saved(tmp_path, NAMES), tmp_path / "run")
    assert program("ab") == {"position": 3, "count": 2}
    assert {score["name"]: score["value"] for score in program.card.scores}["wrong answers"] == 0


# --------------------------------------------------------------------------------------------------------------- files


def database(path: Path, *keys: Any) -> Path:
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE names (key)")
        base.executemany("INSERT INTO names VALUES (?)", [(key,) for key in keys])
    base.close()
    return path


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def parquet(path: Path, column: Any) -> Path:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"key": column}), path)
    return path


def arrow(path: Path, column: Any) -> Path:
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"key": column})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return path


def texts_of_arrow(values: list[Any]) -> Any:
    """An array of type string, whatever bytes it holds."""
    pa = pytest.importorskip("pyarrow")
    kept = pa.array(values, pa.binary() if values and isinstance(values[0], bytes) else pa.string())
    return pa.Array.from_buffers(pa.string(), len(kept), kept.buffers(), offset=kept.offset)


def test_columns_of_every_kind_of_file(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    words = [name for name in NAMES if name]  # an empty cell is a missing key
    cells = "".join(f'1,"{name}"\n' for name in words)
    paths = [
        saved(tmp_path, NAMES),
        saved(tmp_path, np.array([name.encode() for name in NAMES]), "bytes.npy"),
        saved(tmp_path, np.array([(1, name) for name in NAMES], [("x", "i4"), ("key", "U20")]), "structured.npy"),
        database(tmp_path / "keys.sqlite", *NAMES),
        write(tmp_path / "keys.csv", f"x,key\n{cells}"),
        *(parquet(tmp_path / f"{kind}.parquet", pa.array(NAMES, kind)) for kind in (pa.string(), pa.large_string())),
        parquet(tmp_path / "dictionary.parquet", pa.array(NAMES).dictionary_encode()),
        *(
            arrow(tmp_path / f"{kind}.arrow", pa.array(NAMES, kind))
            for kind in (pa.string(), pa.large_string(), pa.string_view())
        ),
    ]
    for path in paths:
        column = open_column(Place(path=str(path), key="" if path == paths[0] or path == paths[1] else "key"))
        assert column.kind == TEXT, path.name
        assert column.texts is not None
        wanted = words if path.suffix == ".csv" else NAMES
        assert [text.decode() for text in column.texts.texts] == wanted, path.name


def test_zeros_and_empty_texts_are_keys(tmp_path: Path) -> None:
    names = ["", "", "\0", "a", "a\0", "a\0\0", "a\0b"]
    pa = pytest.importorskip("pyarrow")
    program = index(arrow(tmp_path / "keys.arrow", pa.array(names)), tmp_path / "run")
    for name in names:
        assert program(name) == {"position": names.index(name), "count": names.count(name)}
    assert program.capability(Locate).table(1, 3).to_pydict() == {"key": ["", "\0"]}


def test_cells_that_look_like_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "words.csv", "word\nabout\nnan\n")
    assert open_column(Place(path=str(path))).spoken(1) == "nan"
    path = write(tmp_path / "words.csv", "word\n1984\n9 lives\nabout\n")
    with pytest.raises(DataError, match="several types") as told:
        open_column(Place(path=str(path)))
    assert "data.type=text" in str(told.value)
    program = index(path, tmp_path / "run", "data.type=text")
    assert program.path is not None
    assert Program.load(program.path, catalog())("9 lives") == {"position": 1, "count": 1}
    with pytest.raises(DataError, match="holds no text"):
        open_column(Place(path=str(saved(tmp_path, [1, 2])), type="text"))


def test_a_sort_by_the_rules_of_a_language_is_told(tmp_path: Path) -> None:
    path = saved(tmp_path, ["apple", "Ärger", "Zebra"])
    with pytest.raises(DataError, match="not in order") as told:
        index(path, tmp_path / "run")
    for part in ("rows 1 and 2", "Ärger, then Zebra", "by its bytes in UTF-8", "LC_ALL=C sort", "data.order=sort"):
        assert part in str(told.value)
    locate = index(path, tmp_path / "run", "data.order=sort").capability(Locate)
    assert locate.position(["Zebra", "apple", "Ärger"]).tolist() == [0, 1, 2]
    assert locate.rows(0, 3).tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda folder: saved(folder, ["a", "a\ud800"]), "no UTF-8"),
        (lambda folder: saved(folder, [b"a", b"\xff"]), "no UTF-8"),
        (lambda folder: write(folder / "a.csv", b"key\na\n\xff\n"), "cannot be read"),
        (lambda folder: write(folder / "a.csv", 'key\na\n""\n'), "missing"),
        (lambda folder: write(folder / "a.csv", "key\n"), "no keys"),
        (lambda folder: database(folder / "a.db", "a", None), "missing"),
        (lambda folder: database(folder / "a.db", "a", 1), "several types"),
        (lambda folder: database(folder / "a.db", 1, "a"), "several types"),
        (lambda folder: database(folder / "a.db", b"a"), "this type"),
        (lambda folder: database(folder / "a.db", "a", b"b"), "several types"),
        (lambda folder: parquet(folder / "a.parquet", ["a", None]), "missing"),
        (lambda folder: parquet(folder / "a.parquet", [b"a"]), "this type"),
        (lambda folder: parquet(folder / "a.parquet", texts_of_arrow([])), "no keys"),
        (lambda folder: arrow(folder / "a.arrow", texts_of_arrow([])), "no keys"),
        (lambda folder: arrow(folder / "a.arrow", texts_of_arrow(["a", None]).dictionary_encode("encode")), "missing"),
        (lambda folder: arrow(folder / "a.arrow", texts_of_arrow([b"a", b"\xff"])), "no UTF-8"),
    ],
)
def test_a_column_that_cannot_be_indexed_is_told(made: Callable[[Path], Path], told: str, tmp_path: Path) -> None:
    with pytest.raises(Sw2Error, match=told) as error:
        open_column(Place(path=str(made(tmp_path))))
    assert error.value.wanted


def test_rows_between_two_texts_of_a_table(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    keys = sorted(f"pool/main/{'abc'[i % 3]}/{i}" for i in range(60))
    table = pa.table({"key": keys, "x": range(60)})
    parquet.write_table(table, tmp_path / "t.parquet", row_group_size=7)
    locate = index(tmp_path / "t.parquet", tmp_path / "run", "data.key=key").capability(Locate)
    start, stop = locate.range("pool/main/b", "pool/main/c")
    assert (start, stop) == (bisect_left(keys, "pool/main/b"), bisect_left(keys, "pool/main/c"))
    assert locate.table(start, stop) == table.slice(start, stop - start)


def test_a_filter_takes_a_column_of_text(tmp_path: Path) -> None:
    path = parquet(tmp_path / "names.parquet", sorted(f"name {i}" for i in range(500))[::-1])
    program = train(catalog(), Order(task="membership-filter", data=str(path)), tmp_path / "run", Context())
    assert program.capability(Membership).holds(["name 7", "name 499"]).all()
