"""Keys that come and go: against a sorted list, cut short at every byte, killed, damaged, and held by somebody else."""

from __future__ import annotations

import bisect
import errno
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sw2.base.errors import DiskFull, SessionError, UsageError
from sw2.catalog import catalog
from sw2.core.capabilities import Amend
from sw2.core.program import Program
from sw2.core.task import Context
from sw2.domains.indexes.session import KeySession
from sw2.faces.cli import app
from sw2.verbs.train import Order, train

KEYS = [3, 5, 5, 8, 1 << 60, (1 << 63) - 1]


def index(folder: Path, keys: Any, dtype: str = "int64") -> Program:
    np.save(folder / "keys.npy", np.asarray(keys, dtype))
    order = Order(task="learned-index", data=str(folder / "keys.npy"), model="quantised-spline", settings=())
    return train(catalog(), order, folder / "run", Context())


def kept(program: Program, path: Path, **ways: Any) -> KeySession:
    session = program.capability(Amend).amended(path, **ways)  # type: ignore[type-abstract]
    assert isinstance(session, KeySession)
    return session


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return index(tmp_path_factory.mktemp("index"), KEYS)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return index(tmp_path_factory.mktemp("index"), [-np.inf, -0.0, 2.5, np.inf, np.nan], "float64")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "keys.session"


def test_a_key_comes_and_goes(program: Program, log: Path) -> None:
    with kept(program, log) as session:
        session.insert([7, 5])
        session.insert(9)
        assert session.keys().tolist() == [3, 5, 5, 5, 7, 8, 9, *KEYS[-2:]]
        assert session.position([5, 6, 10]).tolist() == [1, 4, 7]
        assert session.position("7.5").shape == ()
        assert session.range(5, 9) == (1, 6)
        session.delete([5, 5, KEYS[-1]])
        assert (len(session), session.range(None, None)) == (6, (0, 6))
        assert session.range(1 << 70, None) == (6, 6)
    with kept(program, log) as session:
        assert session.keys().tolist() == [3, 5, 7, 8, 9, 1 << 60]


def test_numbers_beside_nan(broken: Program, log: Path) -> None:
    with kept(broken, log, sync="never") as session:
        session.insert([0.0, np.inf, 1])
        assert session.position([-0.0, 1.0, np.inf, np.nan]).tolist() == [1, 3, 5, 7]
        session.delete([np.inf, -np.inf, 0])
        assert np.array_equal(session.keys(), [0.0, 1, 2.5, np.inf, np.nan], equal_nan=True)
        for wrong in (np.nan, (1 << 53) + 1):
            with pytest.raises(UsageError, match="no key of the column's type"):
                session.insert(wrong)


def test_ranges_of_keys(program: Program, broken: Program, tmp_path: Path) -> None:
    with kept(program, tmp_path / "keys.session", sync="never") as session:
        session.insert([7, 5, 4, 9])
        session.delete([5, 5, 8])
        assert session.between(4, 9).tolist() == [4, 5, 7]
        assert session.between("4.5", None).tolist() == [5, 7, 9, *KEYS[-2:]]
        assert session.between(9, 4).tolist() == []
        assert session.between(1 << 70, None).tolist() == []
        assert session.between(None, 1 << 70).tolist() == session.keys().tolist()
    with kept(broken, tmp_path / "broken.session", sync="never") as session:
        session.insert([1.0, np.inf])
        session.delete(2.5)
        assert session.between(0.5, None).tolist()[:3] == [1.0, np.inf, np.inf]
        assert session.between(0.5, np.nan).tolist() == [1.0, np.inf, np.inf]
        assert np.isnan(session.keys()[-1])


def test_a_log_is_folded_into_another_file(program: Program, log: Path, tmp_path: Path) -> None:
    with kept(program, log) as session:
        session.insert([7, 5])
        session.delete(3)
        target = session.fold(tmp_path / "new.npy")
        assert np.load(target).tolist() == [5, 5, 5, 7, *KEYS[3:]]
        session.insert(6)
        assert np.load(session.fold(target)).tolist() == [5, 5, 5, 6, 7, *KEYS[3:]], "it is replaced"
        own = program.prep.state().config["path"]
        for wrong in (tmp_path / "new.csv", own):
            with pytest.raises(UsageError, match="not folded into this file"):
                session.fold(wrong)
    assert [each.name for each in tmp_path.iterdir() if "partial" in each.name] == []
    with kept(program, log) as session:
        assert len(session) == 8, "the log is as it was"


def test_times_stay_times_when_they_are_folded(tmp_path: Path) -> None:
    np.save(tmp_path / "keys.npy", np.array(["2024-05-01", "2024-05-03"], "M8[D]"))
    order = Order(task="learned-index", data=str(tmp_path / "keys.npy"), model="binary-search", settings=())
    with kept(train(catalog(), order, tmp_path / "run", Context()), tmp_path / "log") as session:
        session.insert("2024-05-02")
        folded = np.load(session.fold(tmp_path / "new.npy"))
    assert folded.tolist() == np.array(["2024-05-01", "2024-05-02", "2024-05-03"], "M8[D]").tolist()


def test_a_disk_that_fills_while_folding_leaves_the_file_as_it_was(
    program: Program, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with kept(program, log) as session:
        target = session.fold(tmp_path / "new.npy")
        before = target.read_bytes()
        session.insert(11)
        monkeypatch.setattr(np, "save", full)
        with pytest.raises(DiskFull):
            session.fold(target)
    assert target.read_bytes() == before


@pytest.mark.parametrize(
    ("action", "keys", "told"),
    [
        ("insert", [1, 2.5], "no key of the column's type"),
        ("insert", 1 << 63, "no key of the column's type"),
        ("insert", "five", "cannot be compared"),
        ("delete", [3, 4], "cannot be deleted"),
        ("delete", [5, 5, 5], "cannot be deleted"),
    ],
)
def test_all_or_nothing(program: Program, log: Path, action: str, keys: Any, told: str) -> None:
    with kept(program, log) as session:
        before = log.read_bytes()
        with pytest.raises(UsageError, match=told):
            getattr(session, action)(keys)
        assert session.keys().tolist() == KEYS
        assert log.read_bytes() == before


small = st.lists(st.integers(0, 12), max_size=5)


@settings(max_examples=60, deadline=None)
@given(actions=st.lists(st.tuples(st.booleans(), small), max_size=12))
def test_as_a_sorted_list(program: Program, tmp_path_factory: pytest.TempPathFactory, actions: list[Any]) -> None:
    log, expected = tmp_path_factory.mktemp("log") / "keys", list(KEYS)
    with kept(program, log, sync="never") as session:
        for came, keys in actions:
            after = list(expected)
            try:
                for key in keys:
                    bisect.insort(after, key) if came else after.remove(key)
            except ValueError:
                with pytest.raises(UsageError):
                    session.delete(keys)
                continue
            session.insert(keys) if came else session.delete(keys)
            expected = after
            asked = [*range(14), *KEYS]
            assert session.position(asked).tolist() == [bisect.bisect_left(expected, key) for key in asked]
            assert len(session) == len(expected)
    with kept(program, log) as session:
        assert session.keys().tolist() == expected


def test_a_log_that_is_cut_short_anywhere_keeps_what_was_whole(program: Program, log: Path) -> None:
    ends = []
    with kept(program, log, sync="never") as session:
        for key in range(3):
            ends.append(log.stat().st_size)
            session.insert([100 + key] * (key + 1))
    whole = log.read_bytes()
    ends.append(len(whole))
    for length in range(ends[0], len(whole) + 1):
        log.write_bytes(whole[:length])
        with kept(program, log, sync="never") as session:
            records = sum(end <= length for end in ends) - 1
            assert len(session) == len(KEYS) + sum(range(records + 1)), length
            assert session.taken_away == length - ends[records]
            session.insert(7)  # what comes next is not joined to the torn record
        with kept(program, log, sync="never") as session:
            assert session.range(7, 8)[1] - session.range(7, 8)[0] == 1


def _changed(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_damage_is_told(program: Program, broken: Program, log: Path) -> None:
    with kept(program, log) as session:
        start = log.stat().st_size
        session.insert([1, 2])
        session.insert([3])
    whole = log.read_bytes()
    for at in (start, start + 9, start + 15):  # the kind, the checksum, a key
        log.write_bytes(whole)
        _changed(log, at)
        with pytest.raises(SessionError, match="damaged") as told:
            kept(program, log)
        assert f"byte {start}" in str(told.value)
    log.write_bytes(whole)
    with pytest.raises(SessionError, match="another column"):
        kept(broken, log)
    log.write_bytes(b"something else")
    with pytest.raises(SessionError, match="no log of keys"):
        kept(program, log)
    assert log.read_bytes() == b"something else"


def test_one_at_a_time(program: Program, log: Path) -> None:
    with kept(program, log), pytest.raises(SessionError, match="has these keys open"):
        kept(program, log)
    kept(program, log).close()
    with pytest.raises(UsageError, match="no such way to sync"):
        kept(program, log, sync="sometimes")  # type: ignore[arg-type]


def test_a_full_disk_leaves_nothing_behind(program: Program, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kept(program, log) as session:
        before = log.read_bytes()

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(DiskFull):
            session.insert(4)
        assert log.read_bytes() == before
        assert session.keys().tolist() == KEYS


WRITER = """
import sys
from sw2.catalog import catalog
from sw2.core.capabilities import Amend
from sw2.core.program import Program

session = Program.load(sys.argv[1], catalog()).capability(Amend).amended(sys.argv[2], sync=sys.argv[3])
for number in range(10**9):
    session.insert([1000 + number] * 3)
    print(number, flush=True)
"""


def acknowledged(program: Program, log: Path, sync: str, at_least: int) -> int:
    """How many inserts of a process had returned when it was killed."""
    command = [sys.executable, "-c", WRITER, str(program.path), str(log), sync]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines: Iterator[str] = iter(process.stdout)
        for _ in range(at_least):
            next(lines)
        os.kill(process.pid, signal.SIGKILL)
        return at_least + sum(1 for _ in lines)


@pytest.mark.parametrize("sync", ["each", "never"])
def test_a_killed_process_loses_nothing_acknowledged(program: Program, log: Path, sync: str) -> None:
    sure = acknowledged(program, log, sync, 200)
    with kept(program, log) as session:
        came = session.keys()[np.searchsorted(session.keys(), 1000) :][: -len(KEYS[-2:])]
        # Whole records, the first so many of them; one may have been written and not yet told.
        assert sure <= len(came) // 3 <= sure + 1
        assert came.tolist() == [1000 + number for number in range(len(came) // 3) for _ in range(3)]


# ---------------------------------------------------------------------------------------------------- the command line


def amend(*arguments: str) -> Any:
    importlib.import_module("sw2.faces.cli.amend_command")
    return CliRunner().invoke(app, ["amend", *arguments])


def test_the_command_line_changes_asks_and_folds(program: Program, log: Path, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("7\n-9\n")
    where = (str(program.path), str(log))
    done = amend(*where, "5", "5..8", "--insert", "5", "--insert", f"@{tmp_path / 'more.txt'}", "--delete", "3")
    assert done.stdout == "5: 1, 3\n5..8: 1, 4\ninserted 3, deleted 1; there are 8 now\n"
    done = amend(*where, "--fold", str(tmp_path / "new.npy"), "--json")
    assert json.loads(done.stdout)["count"] == 8
    assert np.load(tmp_path / "new.npy").tolist() == [-9, 5, 5, 5, 7, *KEYS[3:]]


def test_the_command_line_refuses_and_keeps_what_was_done(program: Program, log: Path) -> None:
    where = (str(program.path), str(log))
    done = amend(*where, "--insert", "6", "--delete", "4")
    assert done.exit_code == 2
    assert "A key that is not there cannot be deleted" in done.stderr
    assert amend(*where, "6").stdout == "6: 3, 1\n"
    assert "no key of the column" in amend(*where, "--insert", "2.5").stderr
    assert amend(*where, "--insert", "x").exit_code == 2


def test_answers_are_those_of_the_program_where_nothing_has_changed(
    program: Program, broken: Program, tmp_path: Path
) -> None:
    for each, asked in (
        (program, ["5", "4", "5..8", "..", "8..3", str(1 << 70), 1 << 60]),
        (broken, [0.0, float("nan"), float("inf"), "2..", float("-inf")]),
    ):
        with kept(each, tmp_path / f"{each.id[:9]}.session") as session:
            assert session.answer(asked) == each.map(asked)
