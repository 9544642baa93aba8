"""Files are whole or absent: whatever is raised, and when the process is killed while it writes."""

from __future__ import annotations

import errno
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sw2.base.errors import DiskFull, ResourceError
from sw2.base.store import (
    Held,
    _exchange,
    finite,
    folder,
    full_disk_told,
    held,
    is_file,
    parse_json,
    remove_partials,
    replacing,
    write_bytes,
    write_text,
)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_text(path, "one")
    write_bytes(path, b"two")
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file"
    write_text(path, "one")
    with pytest.raises(error), replacing(path) as partial:  # noqa: PT012
        partial.write_text("half")
        raise error
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_folder_that_fails_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "folder"
    with folder(path) as partial:
        (partial / "old").write_text("old")
    with pytest.raises(error), folder(path) as partial:  # noqa: PT012
        (partial / "new").write_text("new")
        raise error
    assert [file.name for file in path.iterdir()] == ["old"]
    with folder(path) as partial:
        (partial / "new").write_text("new")
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), OSError(errno.EDQUOT, "quota"), RuntimeError("I/O error: os error 28")]
)
def test_a_full_disk_is_told(tmp_path: Path, error: Exception) -> None:
    """The last is how a native writer says it; real full disks are in tests/system/test_disk.py."""
    path = tmp_path / "not" / "there" / "file"
    with pytest.raises(ResourceError, match="The disk is full") as caught, full_disk_told(path):
        raise error
    assert caught.value.where == path
    assert "MB free" in str(caught.value.got)


@pytest.mark.parametrize("error", [OSError(errno.EFBIG, "large"), RuntimeError("I/O error: (os error 27)")])
def test_a_file_beyond_the_limit_is_told(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(DiskFull, match="may not be so large") as caught, full_disk_told(tmp_path / "file"):
        raise error
    assert "ulimit" in str(caught.value)


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), full_disk_told(tmp_path):
        raise PermissionError(errno.EACCES, "no")


WRITER = """
import sys
from pathlib import Path
from sw2.base.store import folder, write_bytes
root, kind = Path(sys.argv[1]), sys.argv[2]
number = 0
while True:
    number += 1
    content = str(number).encode() * 100_000
    if kind == "file":
        write_bytes(root / "thing", content)
    else:
        with folder(root / "thing") as partial:
            for name in ("a", "b"):
                (partial / name).write_bytes(content)
    if number == 1:
        print("ready", flush=True)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_kill_leaves_a_whole_one(tmp_path: Path, kind: str) -> None:
    """Ten kills at random moments, each while a process writes one after the other."""
    draw = random.Random(kind)
    absent = 0
    for round_ in range(10):
        root = tmp_path / str(round_)
        root.mkdir()
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(root), kind], stdout=subprocess.PIPE, start_new_session=True
        )
        assert writer.stdout is not None
        with writer.stdout:
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(draw.uniform(0.02, 0.1))
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait()
        if kind == "folder" and not (root / "thing").exists():
            # Between two renames; the one that was there before stands beside it, whole.
            absent += 1
            (thing,) = root.glob(".thing.*.old")
        else:
            thing = root / "thing"
        contents = [thing.read_bytes()] if kind == "file" else [(thing / name).read_bytes() for name in ("a", "b")]
        for content in contents:
            number = content[: len(content) // 100_000]
            assert content == number * 100_000
        assert len(set(contents)) == 1
        remove_partials(root)
        assert not list(root.glob(".*.partial"))
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    assert absent < (1 if _exchange(tmp_path / "one", tmp_path / "other") else 5)  # the moment between them is short


def test_two_folders_change_places(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(name)
    if not _exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this system cannot exchange two paths in one step")
    assert (tmp_path / "one" / "name").read_text() == "other"
    assert (tmp_path / "other" / "name").read_text() == "one"
    assert not _exchange(tmp_path / "one", tmp_path / "nowhere")


@pytest.mark.parametrize("can", [True, False])
def test_a_folder_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can: bool) -> None:
    """With the exchange and without it: only the new files, and nothing beside them."""
    if not can:
        monkeypatch.setattr("sw2.base.store._exchange", lambda one, other: False)
    for number in (1, 2, 3):
        with folder(tmp_path / "thing") as partial:
            (partial / str(number)).write_text("x")
        assert [path.name for path in (tmp_path / "thing").iterdir()] == [str(number)]
        assert [path.name for path in tmp_path.iterdir()] == ["thing"]


def test_numbers_that_json_does_not_have() -> None:
    value = {"a": math.nan, "b": [1.5, math.inf], "c": ("x", -math.inf), "d": {"e": 0.0, "f": None, "g": True}}
    assert finite(value) == {"a": None, "b": [1.5, None], "c": ["x", None], "d": {"e": 0.0, "f": None, "g": True}}


def test_many_writers_of_one_folder_at_once(tmp_path: Path) -> None:
    """Each brings a whole folder; whoever is last wins, and nobody stumbles over another."""
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from sw2.base.store import folder\n"
        "start = float(sys.argv[3])\n"
        "for number in range(150):\n"
        "    with folder(Path(sys.argv[1]) / str(number)) as partial:\n"
        "        (partial / 'a').write_text(sys.argv[2])\n"
        "        while time.time() < start + number / 100: pass\n"
    )
    start = str(time.time() + 0.5)
    writers = [subprocess.Popen([sys.executable, "-c", code, tmp_path, str(each), start]) for each in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(map(str, range(150)))


def test_json_from_anybody_is_a_value_or_a_value_error() -> None:
    assert parse_json('{"a": [1, 2.5, null, "é"]}') == parse_json('{"a": [1, 2.5, null, "é"]}'.encode())
    for text in ("", "{", b"\xff", "[" * 100_000, "NaN", "[Infinity]", "[-Infinity]", "9" * 5000):
        with pytest.raises(ValueError):  # noqa: PT011 (what it says is the parser's business)
            parse_json(text)


def test_names_that_no_file_can_have_are_no_files(tmp_path: Path) -> None:
    assert is_file(Path(__file__))
    for name in ("none", "x" * 5000, "a\0b"):
        assert not is_file(tmp_path / name)
    assert not is_file(tmp_path)


def test_a_lock_holds_one_process_and_ends_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    hold = f"""
import pathlib, time
from sw2.base.store import held
with held(pathlib.Path({str(lock)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(Held, match=f"process {child.pid} on "), held(lock, wait_seconds=0.1):
            pass
        child.kill()
    with held(lock), pytest.raises(Held, match=f"process {os.getpid()} on "), held(lock):
        pass
    with held(lock):  # given free at the end
        pass
