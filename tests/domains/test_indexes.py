"""From a file to an index and back: every kind of file, every kind of question, and what goes wrong."""

from __future__ import annotations

import datetime
import importlib
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from indexed import index, saved
from typer.testing import CliRunner

from sw2.base.errors import DataError, ProgramError, Sw2Error, UsageError
from sw2.catalog import catalog
from sw2.core.capabilities import Locate
from sw2.core.program import Program
from sw2.core.task import Context
from sw2.domains.indexes import native
from sw2.domains.indexes.columns import Column, Place, open_column
from sw2.domains.indexes.keys import KeyKind, asked
from sw2.domains.indexes.objective import CANDIDATES, LearnConfig, Tried, chosen, trial
from sw2.domains.indexes.roots import ROOTS
from sw2.faces.cli import app
from sw2.verbs.train import resume


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels where there is a compiler; compiled once, when the tests are collected."""
    if COMPILED:
        monkeypatch.setenv("SW2_NATIVE", "on")


COMPILED = native.why_not() is None
NUMBERS = np.array([3, 5, 5, 8, 1 << 60], np.int64)


# --------------------------------------------------------------------------------------------------------- the program


def test_a_key_and_a_range(tmp_path: Path) -> None:
    program = index(saved(tmp_path, NUMBERS), tmp_path / "run")
    assert program("5") == {"position": 1, "count": 2}
    assert program(4) == {"position": 1, "count": 0}
    assert program("4.5..8") == {"position": 1, "count": 2}
    assert program("..5") == {"position": 0, "count": 1}
    assert program("8..") == {"position": 3, "count": 2}
    assert program("8..3") == {"position": 3, "count": 0}
    assert program(1 << 70) == {"position": 5, "count": 0}
    assert program(-(1 << 70)) == {"position": 0, "count": 0}
    assert program(1 << 60) == {"position": 4, "count": 1}
    locate = program.capability(Locate)
    assert locate.position(5).shape == ()
    assert locate.position([[3, 9], [5, 2]]).tolist() == [[0, 4], [1, 0]]
    assert locate.range(5, 8) == (1, 3)
    assert locate.range(None, None) == (0, 5)
    assert locate.rows(1, 3).tolist() == [1, 2]
    with pytest.raises(UsageError, match="no such places"):
        locate.rows(3, 9)
    with pytest.raises(UsageError, match="cannot be compared"):
        program("five")


def test_the_program_holds_the_model_and_not_the_keys(tmp_path: Path) -> None:
    path = saved(tmp_path, np.arange(3_000) * 3)
    program = index(path, tmp_path / "run")
    assert program.path is not None
    assert (program.path / "weights.safetensors").stat().st_size < 2000 < path.stat().st_size
    loaded = Program.load(program.path, catalog())
    assert loaded.binds["keys"]["bytes"] == path.stat().st_size
    assert loaded("300")["position"] == 100
    # Without its file a program can still be looked at, and says what it lacks when it is asked.
    path.rename(tmp_path / "elsewhere.npy")
    moved = Program.load(program.path, catalog())
    assert moved.card.facts["keys"] == 3_000
    with pytest.raises(DataError, match="is not there"):
        moved("300")


@pytest.mark.parametrize("keeps_size", [True, False])
def test_a_changed_file_is_told(tmp_path: Path, keeps_size: bool) -> None:
    path = saved(tmp_path, NUMBERS)
    program = index(path, tmp_path / "run")
    assert program("3")["position"] == 0
    saved(tmp_path, [1, 2, 3, 4, 5] if keeps_size else [1, 2, 3])
    assert program.path is not None
    for each in (program, Program.load(program.path, catalog())):  # one that is open, one that is not
        with pytest.raises(DataError, match="has changed since the index was built"):
            each("3")


@pytest.mark.parametrize("spoil", [lambda file: file.write_bytes(file.read_bytes()[:-9]), Path.unlink])
def test_a_truncated_index_is_told(tmp_path: Path, spoil: Callable[[Path], Any]) -> None:
    program = index(saved(tmp_path, NUMBERS), tmp_path / "run")
    assert program.path is not None
    spoil(program.path / "weights.safetensors")
    with pytest.raises(ProgramError, match="damaged"):
        Program.load(program.path, catalog())


def test_an_rmi_of_before_says_what_to_do(tmp_path: Path) -> None:
    program = index(saved(tmp_path, NUMBERS), tmp_path / "run", model="rmi")
    assert program.path is not None
    file = program.path / "program.json"
    document = json.loads(file.read_text())
    config = document["nets"]["index"]["config"]
    document["nets"]["index"]["config"] = {name: config[name] for name in ("leaves", "keys", "fitted")}
    file.write_text(json.dumps(document))
    with pytest.raises(ProgramError, match="saved by an older sw2") as told:
        Program.load(program.path, catalog())
    assert "rmi" in str(told.value.where)
    assert "sw2 train learned-index FILE --model rmi" in str(told.value.do)


def test_every_nan_stands_behind_all_numbers(tmp_path: Path) -> None:
    program = index(saved(tmp_path, [-np.inf, -1.0, -0.0, 0.0, 2.5, np.inf, np.nan, np.nan]), tmp_path / "run")
    assert program(0.0) == program(-0.0) == {"position": 2, "count": 2}
    assert program(float("nan")) == {"position": 6, "count": 2}
    assert program(float("inf")) == {"position": 5, "count": 1}
    assert program(float("-inf")) == {"position": 0, "count": 1}
    assert program("2..") == {"position": 4, "count": 4}


@pytest.mark.parametrize("keys", [[7], [7] * 50, list(range(5))])
def test_few_and_equal_keys(tmp_path: Path, keys: list[int]) -> None:
    program = index(saved(tmp_path, keys), tmp_path / "run", model=None)
    assert program(7)["position"] == (0 if keys[0] == 7 else 5)
    assert program(7)["count"] == keys.count(7)
    assert program(8)["position"] == len(keys)


def test_a_trial_chooses_and_a_resume_keeps_the_choice(tmp_path: Path) -> None:
    path = saved(tmp_path, np.sort(np.random.default_rng(0).integers(0, 1 << 40, 2_000)))
    program = index(path, tmp_path / "run", "learn.trial=1000", "learn.most_bytes=1000", model=None)
    assert "ns a key" in program.card.made["why model"]
    scores = {(score["of"], score["name"]): score["value"] for score in program.card.scores}
    assert scores["program", "wrong answers"] == 0
    assert scores["program", "bytes beyond the keys"] <= 1000
    assert resume(catalog(), tmp_path / "run", Context()).id == program.id
    with pytest.raises(UsageError, match="No model fulfils"):
        index(path, tmp_path / "other", "learn.trial=1000", "learn.most_nanoseconds=0.001", model=None)
    with pytest.raises(UsageError, match="no effect while the model is chosen"):
        index(path, tmp_path / "third", "model.epsilon=9", model=None)
    with pytest.raises(UsageError, match="found while fitting"):
        index(path, tmp_path / "fourth", "model.knots=9", model="radix-spline")


@pytest.mark.skipif(not COMPILED, reason="without kernels a look-up costs more than a call")
@pytest.mark.parametrize("keys", [np.arange(20), np.array([f"{number:02}" for number in range(20)])])
def test_few_keys_are_judged_as_they_were_tried(tmp_path: Path, keys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: dict[str, list[int]] = {"objective": [], "task": []}
    for module, sizes in batches.items():

        def timed(locate: Any, questions: Any, sizes: list[int] = sizes) -> float:
            assert len(locate(questions)) == len(questions)
            sizes.append(len(questions))
            return 1.0

        monkeypatch.setattr(f"sw2.domains.indexes.{module}.nanoseconds", timed)
    program = index(saved(tmp_path, keys), tmp_path / "run", "learn.trial=100000", model=None)
    assert set(batches["objective"]) == {100_000}
    is_text = keys.dtype.kind == "U"
    # Texts are also asked of Python's bisect, which takes them one by one whatever the batch.
    assert sorted(batches["task"])[is_text:] == [100_000] * 4, "the program, numpy or halving, two searches"
    assert {score["examples"] for score in program.card.scores} == {80}, "what is told is what was held out"


def test_a_root_is_named_or_measured(tmp_path: Path) -> None:
    path = saved(tmp_path, np.sort((np.random.default_rng(0).lognormal(0, 2, 20_000) * 1e9).astype(np.int64)))
    named = index(path, tmp_path / "named", "model.stages=3", "model.leaves=200", "model.root=log-neural", model="rmi")
    assert named.nets["index"].module.config.root == "log-neural"
    assert named.nets["index"].module.config.middle == 3
    assert Program.load(named.path, catalog())("..1000000000") == {
        "position": 0,
        "count": named("1000000000")["position"],
    }
    measured = index(path, tmp_path / "measured", "model.leaves=200", model="rmi")
    assert measured.nets["index"].module.config.root not in ("measured", "linear", "radix")
    for wrong in ("model.root=log-cubik", "model.middle=5", "model.stages=1"):
        with pytest.raises(UsageError, match=wrong.partition("=")[0]):
            index(path, tmp_path / "wrong", wrong, model="rmi")
    with pytest.raises(UsageError, match="found while fitting"):
        index(path, tmp_path / "found", "model.units=3", model="rmi")


def test_a_trial_keeps_the_root_and_copies_no_large_column(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = np.sort(np.random.default_rng(0).integers(0, 1 << 40, 2_000))
    column = Column(place=Place(path=""), kind=KeyKind("int64"), keys=keys, numbers=len(keys), sha256="", size=0)
    tried = trial(column, 1000, seed=0)
    assert [each.settings["root"] in ROOTS for each in tried if each.model == "rmi"] == [True] * 7
    assert sum(each.model == "eytzinger" for each in tried) == 1
    monkeypatch.setattr("sw2.domains.indexes.objective._MOST_COPIED", keys.nbytes - 1)
    assert not any(each.model == "eytzinger" for each in trial(column, 1000, seed=0))


def test_a_column_that_was_not_copied_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sw2.domains.indexes.objective._MOST_COPIED", 1000)
    index(saved(tmp_path, np.arange(2000)), tmp_path / "run", "learn.trial=1000", model=None)
    said = "".join(path.read_text() for path in (tmp_path / "run").rglob("*.jsonl"))
    assert "eytzinger was left out: it is a copy of the keys" in said


def test_a_trial_is_told_in_lines(tmp_path: Path) -> None:
    importlib.import_module("sw2.faces.cli.info_command")
    index(saved(tmp_path, np.arange(2000)), tmp_path / "run", "learn.trial=1000", model=None)
    told = CliRunner().invoke(app, ["info", str(tmp_path / "run")]).stdout.splitlines()
    start = next(at for at, line in enumerate(told) if line.endswith("chosen trial:"))
    for line in told[start + 1 : start + 1 + len(CANDIDATES)]:
        assert re.search(r"^ {16} +[0-9.]+ ns +[0-9.]+ [kM]?B  [a-z-]+", line)
    assert max(map(len, told)) < 150


def test_what_is_chosen_by_the_wishes() -> None:
    tried = [
        Tried("binary-search", {}, 0, 90.0),
        Tried("pgm", {}, 100, 41.0),
        Tried("rmi", {}, 200, 60.0),
        Tried("eytzinger", {}, 300, 40.0),
    ]
    curve = ["binary-search", "pgm", "eytzinger"]
    for config, wanted in (
        (LearnConfig(), "pgm"),  # within a twentieth of the fastest, and smaller
        (LearnConfig(most_bytes=50), "binary-search"),
        (LearnConfig(most_nanoseconds=100), "binary-search"),
        (LearnConfig(most_nanoseconds=40.5), "eytzinger"),
        (LearnConfig(most_bytes=150, most_nanoseconds=50), "pgm"),
    ):
        taken, kept = chosen(tried, config)
        assert taken.model == wanted
        assert [each.model for each in kept] == curve


# ----------------------------------------------------------------------------------------------------------- questions


@pytest.mark.parametrize(
    ("value", "kind", "key", "exact", "beyond"),
    [
        (2.5, KeyKind("int64"), 3, False, False),
        (-2.5, KeyKind("int64"), -2, False, False),
        (-1, KeyKind("uint64"), 0, False, False),
        (1 << 64, KeyKind("uint64"), 0, False, True),
        ((1 << 64) - 1, KeyKind("uint64"), (1 << 64) - 1, True, False),
        (float("nan"), KeyKind("int64"), 0, False, True),
        (np.float32(0.5), KeyKind("float64"), 0.5, True, False),
        ((1 << 53) + 1, KeyKind("float64"), float((1 << 53) + 2), False, False),
        (10**400, KeyKind("float64"), np.inf, False, False),
        ("1e3", KeyKind("int64"), 1000, True, False),
        ("2024-05-01", KeyKind("int64", "s"), 1714521600, True, False),
        ("2024-05-01T02:00+02:00", KeyKind("int64", "s"), 1714521600, True, False),
        ("2024-05-01T00:00:00.5", KeyKind("int64", "s"), 1714521601, False, False),
        ("2024-05-01T00:00:01", KeyKind("int64", "D"), 19845, False, False),
        (datetime.date(2024, 5, 1), KeyKind("int64", "D"), 19844, True, False),
        (np.datetime64("2024-05-01T12"), KeyKind("int64", "D"), 19845, False, False),
        (np.datetime64("2024-05-01", "D"), KeyKind("int64", "ns"), 1714521600 * 10**9, True, False),
        (np.datetime64("NaT", "s"), KeyKind("int64", "s"), 0, False, True),
    ],
)
def test_what_is_asked_becomes_the_smallest_key_that_is_not_below(
    value: Any, kind: KeyKind, key: Any, exact: bool, beyond: bool
) -> None:
    found = asked(value, kind)
    assert (bool(found.exact[0]), bool(found.beyond[0])) == (exact, beyond)
    if not beyond:
        assert found.keys[0] == key
        assert found.keys.dtype == kind.dtype


@pytest.mark.parametrize("value", ["x", None, True, b"1", "2024-05-01"])
def test_what_cannot_be_compared_is_told(value: Any) -> None:
    with pytest.raises(UsageError, match="cannot be compared"):
        asked(value, KeyKind("int64"))


# --------------------------------------------------------------------------------------------------------------- files


def parquet(path: Path, **columns: Any) -> Path:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table(columns), path)
    return path


def database(path: Path, *keys: Any) -> Path:
    with sqlite3.connect(path) as base:
        base.execute('CREATE TABLE "odd ""name" (key, other TEXT)')
        base.executemany('INSERT INTO "odd ""name" VALUES (?, ?)', [(key, "x") for key in keys])
    base.close()
    return path


def test_columns_of_every_kind_of_file(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    times = [datetime.datetime(2024, 5, day, tzinfo=datetime.UTC) for day in (1, 2, 2, 9)]
    whole = [-4, 1, 1, 70]
    structured = np.array([(1, 2.0), (5, 1.0)], dtype=[("time", "<i4"), ("value", "<f8")])
    (tmp_path / "keys.csv").write_text("name,key\na,-4\nb,1\n\nc,1\nd,70\n")
    (tmp_path / "times.tsv").write_text("when\n2024-05-01\n2024-05-02\n2024-05-02T00:00Z\n2024-05-09\n")
    (tmp_path / "big.csv").write_text("key\n1\n18446744073709551615\n")
    with pa.OSFile(str(tmp_path / "keys.arrow"), "wb") as sink:
        table = pa.table({"key": pa.array([1, 2], pa.uint64()), "x": ["a", "b"]})
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    cases = [
        (saved(tmp_path, np.array([1, 5], ">i2"), "big.npy"), "", [1, 5], KeyKind("int64")),
        (saved(tmp_path, structured, "structured.npy"), "time", [1, 5], KeyKind("int64")),
        (saved(tmp_path, np.array([0.5, 2], "f4"), "floats.npy"), "", [0.5, 2], KeyKind("float64")),
        (saved(tmp_path, np.array(["2024-05-01"], "M8[ms]"), "t.npy"), "", [1714521600000], KeyKind("int64", "ms")),
        (parquet(tmp_path / "keys.parquet", key=whole, x=whole), "key", whole, KeyKind("int64")),
        (
            parquet(tmp_path / "times.parquet", when=times),
            "",
            [int(each.timestamp() * 1e6) for each in times],
            KeyKind("int64", "us"),
        ),
        (tmp_path / "keys.arrow", "key", [1, 2], KeyKind("uint64")),
        (database(tmp_path / "keys.sqlite", *whole), "key", whole, KeyKind("int64")),
        (database(tmp_path / "keys.db", 1, 2.5), "key", [1.0, 2.5], KeyKind("float64")),
        (tmp_path / "keys.csv", "key", whole, KeyKind("int64")),
        (tmp_path / "times.tsv", "", [int(each.timestamp() * 1e6) for each in times], KeyKind("int64", "us")),
        (tmp_path / "big.csv", "", [1, (1 << 64) - 1], KeyKind("uint64")),
    ]
    for path, key, keys, kind in cases:
        column = open_column(Place(path=str(path), key=key))
        assert (column.keys.tolist(), column.kind) == (keys, kind), path.name
    assert open_column(Place(path=str(tmp_path / "keys.csv"), key="key")).place.key == "key"


def test_dates_from_a_table_answer_a_range(tmp_path: Path) -> None:
    start = datetime.datetime(2024, 4, 30)
    path = parquet(
        tmp_path / "events.parquet", time=[start + datetime.timedelta(hours=h) for h in range(72)], x=[0] * 72
    )
    program = index(path, tmp_path / "run", "data.key=time")
    assert program("2024-05-01..2024-05-02") == {"position": 24, "count": 24}
    assert program("2024-05-01T03:00") == {"position": 27, "count": 1}
    with pytest.raises(UsageError, match="cannot be compared"):
        program("17.5")


def test_unsorted_keys_are_told_and_can_be_sorted(tmp_path: Path) -> None:
    path = saved(tmp_path, [5, 9, 2, 7])
    with pytest.raises(DataError, match="not in order") as told:
        index(path, tmp_path / "run")
    assert "rows 1 and 2" in str(told.value)
    assert "9, then 2" in str(told.value)
    assert "data.order=sort" in str(told.value)
    program = index(path, tmp_path / "run", "data.order=sort")
    locate = program.capability(Locate)
    assert locate.position([2, 7]).tolist() == [0, 2]
    assert locate.rows(*locate.range(5, 8)).tolist() == [0, 3]


def arrow(path: Path, table: Any, kind: str, rows: int = 7) -> Path:
    """A file or stream of Arrow in batches of so many rows."""
    import pyarrow as pa

    options = pa.ipc.IpcWriteOptions(compression="lz4" if kind == "compressed" else None)
    make = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as sink, make(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


@pytest.mark.parametrize("kind", ["parquet", "file", "compressed", "stream"])
@pytest.mark.parametrize("order", ["sorted", "not sorted"])
def test_rows_of_a_table(kind: str, order: str, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    keys = np.arange(40) * 3
    if order == "not sorted":
        keys = np.random.default_rng(5).permutation(keys)
    table = pa.table({"name": [f"row {i}" for i in range(40)], "key": keys, "odd": [None, 1.5] * 20})
    if kind == "parquet":
        parquet.write_table(table, path := tmp_path / "t.parquet", row_group_size=7)
    else:
        path = arrow(tmp_path / "t.arrow", table, kind)
    locate = index(path, tmp_path / "run", "data.key=key", "data.order=sort").capability(Locate)
    wanted = table.sort_by("key")
    for low, high in ((None, None), (0, 1), (20, 22), (30, 100), (17, 18), (500, None)):
        start, stop = locate.range(low, high)
        assert locate.table(start, stop).to_pylist() == wanted.slice(start, stop - start).to_pylist()
        assert locate.table(start, stop).schema == table.schema
    with pytest.raises(UsageError, match="no such places"):
        locate.table(3, 41)


def test_rows_of_an_arrow_file_are_not_copied(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"key": np.arange(100_000), "x": np.zeros(100_000)})
    path = arrow(tmp_path / "t.arrow", table, "file", rows=20_000)
    locate = index(path, tmp_path / "run", "data.key=key").capability(Locate)
    places = locate.range(10, 90_000)  # reads the keys
    before = pa.total_allocated_bytes()
    found = locate.table(*places)
    assert found.num_rows == 89_990
    assert pa.total_allocated_bytes() - before < 100_000 < found.nbytes


def test_only_the_row_groups_that_are_needed_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"key": np.arange(1000), "x": np.zeros(1000)}), path := tmp_path / "t.parquet", 100)
    locate = index(path, tmp_path / "run", "data.key=key").capability(Locate)
    read, whole = [], parquet.ParquetFile.read_row_groups
    monkeypatch.setattr(
        parquet.ParquetFile, "read_row_groups", lambda file, groups: read.extend(groups) or whole(file, groups)
    )
    assert locate.table(250, 420)["key"].to_pylist() == list(range(250, 420))
    assert read == [2, 3, 4]


def test_rows_of_other_files_are_only_numbered(tmp_path: Path) -> None:
    locate = index(saved(tmp_path, NUMBERS), tmp_path / "run").capability(Locate)
    with pytest.raises(UsageError, match="not read from such files"):
        locate.table(0, 1)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda folder: folder / "none.npy", "no such file"),
        (lambda folder: folder, "no such file"),
        (lambda folder: write(folder / "keys.txt", "1"), "Files of this kind"),
        (lambda folder: write(folder / "keys.npy", "1"), "no array of numpy"),
        (lambda folder: saved(folder, np.empty(0)), "no keys"),
        (lambda folder: saved(folder, [np.nan, np.nan]), "no keys"),
        (lambda folder: saved(folder, np.zeros((2, 2))), "one row"),
        (lambda folder: saved(folder, [True, False]), "this type"),
        (lambda folder: saved(folder, [np.nan, 1.0]), "not in order"),
        (lambda folder: saved(folder, np.array(["NaT", "2024-01-01"], "M8[s]")), "missing"),
        (lambda folder: write(folder / "a.csv", "key\n1\n\nx\n"), "several types"),
        (lambda folder: write(folder / "a.csv", "key,b\n1,2\n"), "not clear"),
        (lambda folder: write(folder / "a.csv", 'key\n1\n""\n'), "missing"),
        (lambda folder: write(folder / "a.csv", "key\n1\n2024-01-01\n"), "several types"),
        (lambda folder: write(folder / "a.csv", "1\n2\n"), "holds numbers"),
        (lambda folder: write(folder / "a.csv", ""), "not clear"),
        (lambda folder: write(folder / "a.csv", "key\n"), "no keys"),
        (lambda folder: write(folder / "a.csv", f"key\n{1 << 64}\n"), "64 bits"),
        (lambda folder: write(folder / "a.csv", f"key\n0.5\n{(1 << 53) + 1}\n"), "several types"),
        (
            lambda folder: write(folder / "a.sqlite", "no database at all, but text that is long enough"),
            "cannot be read",
        ),
        (lambda folder: database(folder / "a.db", 1, None), "not clear"),
        (lambda folder: write(folder / "a.parquet", "PAR1"), "cannot be read"),
        (lambda folder: parquet(folder / "a.parquet", key=[1, None]), "missing"),
    ],
)
def test_a_file_that_cannot_be_indexed_is_told(made: Callable[[Path], Path], told: str, tmp_path: Path) -> None:
    with pytest.raises(Sw2Error, match=told) as error:
        open_column(Place(path=str(made(tmp_path))))
    assert error.value.wanted


def test_a_column_of_a_database_is_looked_at_value_by_value(tmp_path: Path) -> None:
    for keys, told in (((1, None), "missing"), ((1, "x"), "several types"), ((b"x",), "this type")):
        path = tmp_path / "a.db"
        path.unlink(missing_ok=True)
        with pytest.raises(DataError, match=told):
            open_column(Place(path=str(database(path, *keys)), key="key"))
    (tmp_path / "a.db-wal").write_bytes(b"changes")
    with pytest.raises(DataError, match="not in its file yet"):
        open_column(Place(path=str(tmp_path / "a.db"), key="key"))
