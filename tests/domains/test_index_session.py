"""Keys that come and go: against a sorted list, cut short at every byte, killed, damaged, and held by somebody else.

Each test twice: in compiled code, and in numpy.
"""

from __future__ import annotations

import bisect
import errno
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from indexed import index, saved
from typer.testing import CliRunner

from sw2.base.errors import DataError, DiskFull, SessionError, UsageError
from sw2.base.store import home
from sw2.catalog import catalog
from sw2.core.capabilities import Amend
from sw2.core.program import Program
from sw2.domains.indexes import native, sides
from sw2.domains.indexes.session import KeySession
from sw2.faces.cli import app

KEYS = [3, 5, 5, 8, 1 << 60, (1 << 63) - 1]


COMPILED = home()
needs_compiler = pytest.mark.skipif(native.why_not() is not None, reason=str(native.why_not()))


@pytest.fixture(autouse=True, params=[pytest.param("compiled", marks=needs_compiler), "numpy"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How it runs, here and in processes that a test starts; those take what was compiled when this file was read."""
    monkeypatch.setenv("SW2_NATIVE", "on" if request.param == "compiled" else "off")
    monkeypatch.setenv("SW2_HOME", str(COMPILED))
    return str(request.param)


def program_of(folder: Path, keys: Any, dtype: str = "int64", model: str = "quantised-spline") -> Program:
    return index(saved(folder, np.asarray(keys, dtype)), folder / "run", model=model)


def kept(program: Program, path: Path, **ways: Any) -> KeySession:
    session = program.capability(Amend).amended(path, **ways)  # type: ignore[type-abstract]
    assert isinstance(session, KeySession)
    return session


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return program_of(tmp_path_factory.mktemp("index"), KEYS)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return program_of(tmp_path_factory.mktemp("index"), [-np.inf, -0.0, 2.5, np.inf, np.nan], "float64")


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


def test_ranges_about_as_long_as_the_room(tmp_path: Path) -> None:
    there = np.arange(0, 12_000, 4)
    with kept(program_of(tmp_path, there), tmp_path / "keys.session", sync="never") as session:
        for came, went in (([], []), (range(5, 12_000, 40), []), ([], range(0, 12_000, 60)), ([7, 8, 8], [8, 5])):
            session.insert(np.array(came, np.int64))
            session.delete(np.array(went, np.int64))
            there = np.sort(np.append(there, np.array(came, np.int64)))
            there = np.delete(there, np.searchsorted(there, np.array(went, np.int64)))
            for length in (0, 1, 1023, 1024, 1025, 1026, 1100, len(there) - 1):
                for start in (0, 2, len(there) - 1 - length):
                    low, high = there[[start, min(start + length, len(there) - 1)]]
                    wanted = there[np.searchsorted(there, low) : np.searchsorted(there, high)]
                    assert np.array_equal(session.between(low, high), wanted), (length, start)
            assert np.array_equal(session.between(None, None), there)


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
    program = program_of(tmp_path, ["2024-05-01", "2024-05-03"], "M8[D]", "binary-search")
    with kept(program, tmp_path / "log") as session:
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
    "place", ["/proc/new.npy", "/proc/none/new.npy", "file/new.npy", "folder.npy", f"{'a' * 300}.npy"]
)
def test_a_place_that_takes_no_file_is_told(program: Program, log: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.npy").mkdir()
    path = tmp_path / place  # an absolute one stays what it is
    with kept(program, log) as session:
        session.insert(7)
        with pytest.raises(UsageError, match="No file can be made here") as told:
            session.fold(path)
        assert len(session) == len(KEYS) + 1
    assert (told.value.where, bool(told.value.got), bool(told.value.do)) == (path, True, True)
    with pytest.raises(UsageError, match="No file can be made here"):
        kept(program, path)
    assert not [each.name for each in tmp_path.iterdir() if "partial" in each.name]


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


class Changing(RuleBasedStateMachine):
    """A session beside a sorted list."""

    program: Program
    folder: Path
    runs = 0

    @initialize()
    def begin(self) -> None:
        type(self).runs += 1
        self.log = self.folder / f"{self.runs}.session"
        self.expected = list(KEYS)
        self.session = kept(self.program, self.log, sync="never")

    @rule(keys=st.lists(st.integers(0, 12), max_size=5), times=st.sampled_from([1, 40]))
    def insert(self, keys: list[int], times: int) -> None:
        self.session.insert(keys * times)
        self.expected = sorted(self.expected + keys * times)

    @rule(keys=st.lists(st.integers(0, 12), max_size=5))
    def delete(self, keys: list[int]) -> None:
        after = list(self.expected)
        try:
            for key in keys:
                after.remove(key)
        except ValueError:
            with pytest.raises(UsageError, match="cannot be deleted"):
                self.session.delete(keys)
        else:
            self.session.delete(keys)
            self.expected = after

    @rule(low=st.integers(-1, 13), high=st.integers(-1, 13))
    def between(self, low: int, high: int) -> None:
        there = [key for key in self.expected if low <= key < high]
        assert self.session.between(low, high).tolist() == there

    @rule()
    def fold(self) -> None:
        assert np.load(self.session.fold(self.log.with_suffix(".npy"))).tolist() == self.expected

    @rule()
    def open_again(self) -> None:
        self.session.close()
        self.session = kept(self.program, self.log, sync="never")
        assert self.session.taken_away == 0

    @invariant()
    def as_the_list(self) -> None:
        asked = [*range(14), *KEYS]
        assert self.session.position(asked).tolist() == [bisect.bisect_left(self.expected, key) for key in asked]
        assert len(self.session) == len(self.expected)

    def teardown(self) -> None:
        assert self.session.keys().tolist() == self.expected
        self.session.close()


def test_as_a_sorted_list(program: Program, tmp_path: Path) -> None:
    machine = type("Here", (Changing,), {"program": program, "folder": tmp_path})
    run_state_machine_as_test(machine, settings=settings(max_examples=15, stateful_step_count=20, deadline=None))


@pytest.mark.parametrize("dtype", ["int64", "uint64", "float64"])
def test_many_keys_of_each_type(tmp_path: Path, dtype: str) -> None:
    random = np.random.default_rng(7)
    lowest = -1000 if dtype != "uint64" else 0

    def drawn(count: int) -> np.ndarray:  # many equal ones, and the ends of the type
        keys = random.integers(lowest, 30_000, count).astype(dtype)
        ends = (-np.inf, np.inf) if dtype == "float64" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        keys[:4] = [*ends, 5, 5]
        return keys / 4 if dtype == "float64" else keys

    expected = np.sort(drawn(5000))
    with kept(program_of(tmp_path, expected, dtype), tmp_path / "log", sync="never") as session:
        for count in (1, 70, 3000, 20_000, 1, 40_000):  # through two levels of nodes
            added = drawn(max(count, 4))
            session.insert(added)
            expected = np.sort(np.concatenate([expected, added]))
            removed = random.choice(len(expected), len(expected) // 3, replace=False)
            session.delete(expected[removed])
            expected = np.delete(expected, removed)
        asked = np.concatenate([drawn(2000), expected[:100], expected[-100:]])
        assert np.array_equal(session.position(asked), np.searchsorted(expected, asked))
        for low, high in (*asked[4:40].reshape(-1, 2), (asked[0], asked[1]), (None, asked[9]), (asked[9], None)):
            start = 0 if low is None else np.searchsorted(expected, low)
            stop = len(expected) if high is None else np.searchsorted(expected, high)
            assert np.array_equal(session.between(low, high), expected[start:stop])
        assert np.array_equal(session.keys(), expected)
    with kept(session_of(tmp_path), tmp_path / "log") as session:
        assert np.array_equal(session.keys(), expected)


def session_of(folder: Path) -> Program:
    return Program.load(folder / "run", catalog())


@pytest.mark.parametrize("model", ["pgm", "radix-spline", "rmi", "b-plus-tree", "eytzinger", "interpolation-search"])
def test_beside_each_model(tmp_path: Path, model: str) -> None:
    keys = np.arange(0, 3000, 3)
    with kept(program_of(tmp_path, keys, model=model), tmp_path / "log", sync="never") as session:
        session.insert([1, 1, 1600])
        session.delete([0, 300])
        expected = np.sort([1, 1, 1600, *np.delete(keys, [0, 100])])
        asked = np.arange(-5, 3005)
        assert np.array_equal(session.position(asked), np.searchsorted(expected, asked))
        assert np.array_equal(session.between(1, 1601), expected[:535])


def test_a_file_that_changes_under_a_session_is_told(tmp_path: Path) -> None:
    with kept(program_of(tmp_path, KEYS), tmp_path / "log") as session:
        session.insert(4)
        assert session.position(5) == 2
        os.utime(tmp_path / "keys.npy")
        assert session.position(5) == 2, "touched, and the same still"
        np.save(tmp_path / "keys.npy", np.arange(6))
        time.sleep(0.005)  # it is not looked at more often than once a millisecond
        for ask in (lambda: session.position(5), lambda: session.delete(5), lambda: session.between(1, 2)):
            with pytest.raises(DataError, match="has changed since the index was built"):
                ask()


@pytest.mark.parametrize("room", [0, 300])
def test_a_log_that_is_cut_short_anywhere_keeps_what_was_whole(program: Program, log: Path, room: int) -> None:
    ends = []
    with kept(program, log, sync="never") as session:
        for key in range(3):
            ends.append(log.stat().st_size)
            session.insert([100 + key] * (key + 1))
    whole = log.read_bytes()
    ends.append(len(whole))
    for length in range(ends[0], len(whole) + 1):
        cut = whole[:length] + bytes(room)  # of which a record whose last bytes are zeros may take some
        log.write_bytes(cut)
        with kept(program, log, sync="never") as session:
            records = sum(cut.startswith(whole[:end]) for end in ends) - 1
            assert len(session) == len(KEYS) + sum(range(records + 1)), length
            assert session.taken_away == len(cut[ends[records] :].rstrip(b"\0"))
            assert log.read_bytes() == whole[: ends[records]]
            session.insert(7)  # what comes next is not joined to the torn record
        with kept(program, log, sync="never") as session:
            assert session.range(7, 8)[1] - session.range(7, 8)[0] == 1


def test_room_is_taken_and_given_back(program: Program, log: Path, way: str) -> None:
    with kept(program, log) as session:
        start = log.stat().st_size
        session.insert([1, 2])
        content = log.read_bytes()
        if way == "compiled" and sys.platform == "linux":
            assert len(content) == start + 28 + (1 << 18)
        assert not content[start + 28 :].strip(b"\0")
        session.insert(np.arange(40_000))  # more than there is room for
    assert log.stat().st_size == start + 28 + 12 + 320_000
    with kept(program, log) as session:
        assert (len(session), session.taken_away) == (len(KEYS) + 40_002, 0)


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
    log.write_bytes(whole[:-1])  # the last one is cut short, so that no whole one follows
    _changed(log, start + 15)
    with pytest.raises(SessionError, match="damaged"):
        kept(program, log)
    log.write_bytes(whole)
    with pytest.raises(SessionError, match="another column") as told:
        kept(broken, log)
    assert f"dtype {broken.prep.state().config['dtype']}" in str(told.value.wanted)
    log.write_bytes(b"something else")
    with pytest.raises(SessionError, match="no log of keys") as told:
        kept(program, log)
    assert "sha256" in str(told.value.wanted)
    for absent in ("key", "table", "unit"):  # an array has none
        assert f"{absent} " not in str(told.value.wanted)
    assert log.read_bytes() == b"something else"


def test_one_at_a_time(program: Program, log: Path) -> None:
    with kept(program, log), pytest.raises(SessionError, match="has these keys open"):
        kept(program, log)
    kept(program, log).close()
    with pytest.raises(UsageError, match="no such way to sync"):
        kept(program, log, sync="sometimes")  # type: ignore[arg-type]


@pytest.mark.parametrize("sync", ["each", "never"])
def test_a_log_that_may_not_grow_is_as_it_was(program: Program, log: Path, sync: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with kept(program, log) as session:
        session.insert(4)
    with kept(program, log, sync=sync) as session:
        before = log.read_bytes()
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))  # half a record, and no room
            with pytest.raises(DiskFull, match="what was there before is unchanged"):
                session.insert([6, 6, 6])
            with pytest.raises(DiskFull, match="what was there before is unchanged"):
                session.delete([3, 5])
            assert log.read_bytes() == before
            session.insert(8)  # for which there is room
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert session.keys().tolist() == sorted([*KEYS, 4, 8])
        session.insert(7)
    with kept(program, log) as session:
        assert session.keys().tolist() == sorted([*KEYS, 4, 7, 8])


def test_what_is_closed_says_so(program: Program, log: Path) -> None:
    session = kept(program, log)
    session.insert(4)
    session.close()
    session.close()
    for ask in (lambda: session.position(5), lambda: session.insert(5), session.keys, lambda: len(session)):
        with pytest.raises(SessionError, match="closed"):
            ask()


def test_a_full_disk_is_told_and_what_cannot_be_taken_away_ends_it(program: Program) -> None:
    prep: Any = program.prep
    model: Any = program.nets["index"].module
    with open("/dev/full", "r+b", buffering=0) as full:  # it takes no byte, and cannot be shortened
        side = sides.side_of(model, prep, Path("keys.session"), full, sync=False)
        with pytest.raises(DiskFull):
            side.insert(np.array([7]))
        with pytest.raises(SessionError, match="cannot be written"):
            side.insert(np.array([7]))
        assert side.counts() == (0, 0)
        side.close()


def test_reading_while_another_thread_writes(program: Program, log: Path) -> None:
    with kept(program, log, sync="never") as session:

        def write() -> None:
            for number in range(400):
                session.insert(np.full(30, 100 + number))  # through splits of nodes
                if number % 3 == 0:
                    session.delete(np.full(30, 100 + number))

        thread = threading.Thread(target=write)
        thread.start()
        places, ends = [], np.array([1 << 40])
        while thread.is_alive():
            places.append(int(session.position(ends)[0]) - 4)
            assert len(session.between(100, 1 << 40)) % 30 == 0
        thread.join()
        assert all(place % 30 == 0 for place in places), "a record is there whole or not at all"
        assert session.position(1 << 40) == 4 + 30 * (400 - 134)


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


@pytest.mark.parametrize(
    ("way", "sync"),
    [
        pytest.param("compiled", "each", marks=needs_compiler),
        pytest.param("compiled", "never", marks=needs_compiler),
        ("numpy", "each"),
    ],
    indirect=["way"],
)
def test_a_killed_process_loses_nothing_acknowledged(program: Program, log: Path, sync: str) -> None:
    sure = acknowledged(program, log, sync, 100)
    with kept(program, log) as session:
        assert session.taken_away in range(36), "at most what was not yet acknowledged"
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
    done = amend(*where, "--insert", "7", "--fold", "/proc/new.npy")
    assert (done.exit_code, "No file can be made here" in done.stderr) == (2, True)
    assert amend(*where, "7").stdout == "7: 4, 1\n"


def test_answers_are_those_of_the_program_where_nothing_has_changed(
    program: Program, broken: Program, tmp_path: Path
) -> None:
    for each, asked in (
        (program, ["5", "4", "5..8", "..", "8..3", str(1 << 70), 1 << 60]),
        (broken, [0.0, float("nan"), float("inf"), "2..", float("-inf")]),
    ):
        with kept(each, tmp_path / f"{each.id[:9]}.session") as session:
            assert session.answer(asked) == each.map(asked)
