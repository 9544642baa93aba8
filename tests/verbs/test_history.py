"""A data set's history: differences that lead from one state to the other, kills at any moment, two writers, damage."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.base.errors import DataError, ResourceError, UsageError
from sw2.catalog import catalog
from sw2.core import history as module
from sw2.core.history import KINDS, Change, Entry, History, commit_trained_from, difference
from sw2.core.task import Context
from sw2.domains.vision.data import read_folder
from sw2.verbs import history as verbs
from sw2.verbs.history import Made, commit, diff

Image = pytest.importorskip("PIL.Image")

entries = st.lists(
    st.builds(Entry, st.text("abcé\ud800", min_size=1, max_size=2), st.sampled_from(["train", "test"]),
              st.sampled_from("xy"), st.text("01", min_size=1, max_size=2)),
    unique_by=lambda entry: entry.name, max_size=8,
)  # fmt: skip


@given(entries, entries)
def test_a_difference_leads_from_one_state_to_the_other(old: list[Entry], new: list[Entry]) -> None:
    changes = difference(old, new)
    gone = [change.was for change in changes if change.was]
    come = [change.now for change in changes if change.now]
    assert len(gone) == len(set(gone))
    assert len(come) == len(set(come))
    assert set(gone) <= set(old)
    assert (set(old) - set(gone)) | set(come) == set(new)
    assert not (set(old) - set(gone)) & set(come)
    assert {change.kind for change in changes} <= set(KINDS)
    assert [KINDS.index(change.kind) for change in changes] == sorted(KINDS.index(change.kind) for change in changes)
    # Nothing is called removed and added that has the same content under another name.
    removed = {change.was.content for change in changes if change.kind == "removed" and change.was}
    assert not removed & {change.now.content for change in changes if change.kind == "added" and change.now}


@given(entries)
def test_nothing_changes_between_equal_states(rows: list[Entry]) -> None:
    assert difference(rows, list(reversed(rows))) == []


def only(old: Entry, new: Entry) -> Change:
    (change,) = difference([old], [new])
    return change


def test_what_is_called_what() -> None:
    was = Entry("a/1", "train", "a", "0")
    assert only(was, Entry("b/1", "train", "b", "0")).kind == "relabelled"
    assert only(was, Entry("a/1", "train", "b", "1")).kind == "relabelled"
    assert only(was, Entry("a/1", "train", "a", "1")).kind == "changed"
    assert only(was, Entry("a/1", "test", "a", "0")).kind == "moved"
    assert only(was, Entry("a/2", "train", "a", "0")).kind == "renamed"
    assert [each.kind for each in difference([was], [Entry("a/2", "train", "a", "1")])] == ["added", "removed"]


@given(st.lists(st.tuples(entries, st.text("mé\ud800 \n", min_size=1).filter(str.strip)), min_size=1, max_size=4))
def test_the_store_gives_back_what_it_was_given(tmp_path_factory: pytest.TempPathFactory, states: list) -> None:
    history = History(tmp_path_factory.mktemp("data"))
    assert history.head() is None
    made = []
    for rows, message in states:
        with history.writing():
            made.append(
                history.add(rows, message=message, task="t", settings=["data.a=b"], fingerprint="f", date="2030-01-01")
            )
    assert list(history.log()) == made[::-1]
    for (rows, message), each in zip(states, made, strict=True):
        assert history.entries(each) == rows
        assert (each.message, each.examples, sum(each.labels.values())) == (message, len(rows), len(rows))
        assert history.find(each.id) == each
    assert history.find("HEAD") == made[-1]


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    root = tmp_path / "pets"
    for number, label in enumerate(["cat", "cat", "dog", "dog"]):
        draw(root / label / f"{number}.png", number)
    return root


def draw(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (4, 4), np.uint8)).save(path)


def test_commits_and_what_changed_between_them(pets: Path) -> None:
    first = commit(catalog(), str(pets), "all that there is\n", Context())
    assert (first.new, first.commit.parent, first.commit.message) == (True, "", "all that there is")
    assert first.commit.labels == {"cat": 2, "dog": 2}
    assert [each.kind for each in first.changes] == ["added"] * 4
    assert commit(catalog(), str(pets), "again", Context()) == Made(commit=first.commit, new=False)

    (pets / "cat/0.png").rename(pets / "dog/0.png")
    (pets / "cat/1.png").rename(pets / "cat/one.png")
    (pets / "dog/2.png").unlink()
    draw(pets / "dog/3.png", 33)
    draw(pets / "cat/4.png", 4)
    now = diff(catalog(), str(pets), "HEAD", None, Context())
    assert [(each.kind, (each.now or each.was).name) for each in now] == [
        ("relabelled", "dog/0.png"),
        ("changed", "dog/3.png"),
        ("renamed", "cat/one.png"),
        ("added", "cat/4.png"),
        ("removed", "dog/2.png"),
    ]
    second = commit(catalog(), str(pets), "a cat that is a dog", Context())
    assert second.commit.parent == first.commit.id
    assert list(second.changes) == now
    assert diff(catalog(), str(pets), first.commit.id[:8], "HEAD", Context()) == now
    assert diff(catalog(), str(pets), "HEAD", None, Context()) == []
    # The history travels with the folder, is no picture, and is no part of the data.
    assert second.commit.fingerprint == read_folder(pets).fingerprint
    assert [each.message for each in History(pets).log()] == ["a cat that is a dog", "all that there is"]


def test_a_card_names_the_commit_only_of_what_was_read(pets: Path) -> None:
    assert commit_trained_from("digits", "f") == ("", "")
    fingerprint = read_folder(pets).fingerprint
    assert commit_trained_from(str(pets), fingerprint) == ("", "")
    made = commit(catalog(), str(pets), "first", Context()).commit
    assert commit_trained_from(str(pets), fingerprint) == (made.id, f"commit {made.id[:12]}")
    (pets / "cat/0.png").unlink()
    name, remark = commit_trained_from(str(pets), read_folder(pets).fingerprint)
    assert (name, "changed since commit" in remark) == ("", True)


def test_a_table_keeps_its_history_beside_it_and_how_it_is_read(pets: Path) -> None:
    table = pets.parent / "pets.csv"
    table.write_text("file,kind\npets/cat/0.png,cat\npets/dog/2.png,dog\n")
    settings = ["data.image=file", "data.label=kind"]
    made = commit(catalog(), str(table), "a table", Context(), settings=settings).commit
    assert (made.settings, (table.parent / ".sw2/pets.csv/history/HEAD").exists()) == (settings, True)
    table.write_text("file,kind\npets/cat/0.png,dog\npets/dog/2.png,dog\npets/cat/1.png,cat\n")
    changes = diff(catalog(), str(table), "HEAD", None, Context())  # read as in the commit
    assert [(each.kind, (each.now or each.was).name) for each in changes] == [
        ("relabelled", "pets/cat/0.png"),
        ("added", "pets/cat/1.png"),
    ]


def test_wrong_names_are_told(pets: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="A history stands beside data"):
        History(tmp_path / "nothing")
    with pytest.raises(UsageError, match="has a message"):
        commit(catalog(), str(pets), "  ", Context())
    with pytest.raises(UsageError, match="No commit is called that") as caught:
        diff(catalog(), str(pets), "HEAD", None, Context())
    assert "no commit yet" in str(caught.value.wanted)
    made = commit(catalog(), str(pets), "first", Context()).commit
    for name in ("", made.id[:3], "zzzz"):
        with pytest.raises(UsageError, match="No commit is called that"):
            History(pets).find(name)


@pytest.mark.parametrize("name", ["HEAD", "commits", "rows"])
def test_damage_is_told_and_nothing_is_written_over(pets: Path, name: str) -> None:
    made = commit(catalog(), str(pets), "first", Context()).commit
    home = pets / ".sw2/history"
    file = home / name if name == "HEAD" else next((home / name).iterdir())
    file.write_bytes(b"\xff{}")
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match="damaged") as caught:
        History(pets).entries(made) if name == "rows" else list(History(pets).log())
    assert caught.value.where == file
    draw(pets / "cat/9.png", 9)
    with pytest.raises(DataError, match="damaged"):
        commit(catalog(), str(pets), "second", Context())
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


def test_a_commit_that_was_changed_by_hand_is_no_commit(pets: Path) -> None:
    made = commit(catalog(), str(pets), "first", Context()).commit
    file = pets / f".sw2/history/commits/{made.id}.json"
    file.write_text(file.read_text().replace("first", "worst"))
    with pytest.raises(DataError, match="damaged"):
        History(pets).head()


def test_a_second_writer_waits_and_then_is_told(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(catalog(), str(pets), "first", Context())
    draw(pets / "cat/9.png", 9)
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0.2)
    with open(pets / ".sw2/history/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ResourceError, match="Another process is writing"):
            commit(catalog(), str(pets), "second", Context())
        assert [each.message for each in History(pets).log()] == ["first"]
        monkeypatch.setattr(module, "_WAIT_SECONDS", 30.0)
        monkeypatch.setattr("sw2.base.store.time.sleep", lambda seconds: fcntl.flock(lock, fcntl.LOCK_UN))
        assert commit(catalog(), str(pets), "second", Context()).new


def test_a_commit_made_while_the_data_is_read_is_not_passed_over(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(catalog(), str(pets), "first", Context())
    gather = verbs.gather

    def slow(*args: Any, **kwargs: Any) -> Any:
        found = gather(*args, **kwargs)
        monkeypatch.setattr(verbs, "gather", gather)
        draw(pets / "cat/9.png", 9)
        commit(catalog(), str(pets), "in between", Context())
        return found

    monkeypatch.setattr(verbs, "gather", slow)
    draw(pets / "cat/8.png", 8)
    with pytest.raises(ResourceError, match="while the data was read"):
        commit(catalog(), str(pets), "second", Context())
    assert [each.message for each in History(pets).log()] == ["in between", "first"]


WRITER = """
import sys
from pathlib import Path
from sw2.core.history import Entry, History
history = History(sys.argv[1])
print("ready", flush=True)
for number in range(int(sys.argv[3]), 10**6):
    rows = [Entry(f"{sys.argv[2]}{number}/{i}", "train", "x", "0" * 64) for i in range(200)]
    with history.writing():
        history.add(rows, message=f"{sys.argv[2]}{number}", task="t", settings=[], fingerprint="f", date="2030-01-01")
    print(number, flush=True)
    if number + 1 == int(sys.argv[4]):
        break
"""


def write(root: Path, who: str, first: int, end: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(root), who, str(first), str(end)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_kill_at_any_moment_leaves_whole_commits(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    done = 0
    for _ in range(6):
        with write(tmp_path, "n", done, done + 500) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(float(random.uniform(0, 0.15)))
            os.kill(process.pid, signal.SIGKILL)
            said = process.stdout.read().split()
        commits = list(History(tmp_path).log())
        assert [each.message for each in commits] == [f"n{number}" for number in reversed(range(len(commits)))]
        # What was said to be done is there; at most one more came through before it could be said.
        finished = int(said[-1]) + 1 if said else done
        assert finished <= len(commits) <= finished + 1
        for each in commits[:3]:
            assert len(History(tmp_path).entries(each)) == 200
        done = len(commits)
    with History(tmp_path).writing():
        pass
    assert not list((tmp_path / ".sw2").rglob("*.partial"))


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    both = [write(tmp_path, who, 0, 12) for who in ("a", "b")]
    for process in both:
        output, _ = process.communicate(timeout=100)
        assert (process.returncode, output.split()[-1]) == (0, "11")
    messages = [each.message for each in History(tmp_path).log()]
    assert sorted(messages) == sorted(f"{who}{number}" for who in "ab" for number in range(12))
    for who in "ab":
        assert [m for m in messages if m.startswith(who)] == [f"{who}{number}" for number in reversed(range(12))]


def test_ids_are_the_hashes_of_files(pets: Path) -> None:
    made = commit(catalog(), str(pets), "first", Context()).commit
    said = json.loads((pets / f".sw2/history/commits/{made.id}.json").read_text())
    assert set(said) == {"parent", "date", "message", "task", "settings", "fingerprint", "rows", "labels"}
