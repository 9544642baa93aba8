"""The index: always what the folder says, whatever happened to either of them in between."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.errors import DataError, DiskFull, SessionError, UsageError
from sw2.domains.documents import index as index_module
from sw2.domains.documents import refresh as module
from sw2.domains.documents.chunks import ChunkConfig
from sw2.domains.documents.database import Database
from sw2.domains.documents.index import Index
from sw2.domains.documents.owners import FILE
from sw2.domains.documents.readers import ReadConfig
from sw2.domains.documents.refresh import IndexConfig, Report

Files = dict[str, str]


def _write(folder: Path, files: Files) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def _refreshed(home: Path, folder: Path, **settings: Any) -> Report:
    with Index(home, IndexConfig(**settings)) as index:
        return index.refresh(folder)


def _content(home: Path) -> list[tuple]:
    """Every passage with its place; FTS5 is asked whether its words are those of the passages."""
    connection = sqlite3.connect(home / "index.sqlite")
    try:
        connection.execute("INSERT INTO words(words, rank) VALUES ('integrity-check', 1)")
        connection.rollback()
        return connection.execute(
            "SELECT path, unit, number, first, last, headings, text FROM passages JOIN files ON files.id = file"
            " ORDER BY path, number"
        ).fetchall()
    finally:
        connection.close()


def _ids(home: Path) -> dict[str, list[int]]:
    with Index(home) as index:
        found: dict[str, list[int]] = {}
        for each in index.search("word", 1000):
            found.setdefault(each.path, []).append(each.id)
        return {path: sorted(ids) for path, ids in found.items()}


def _paths(index: Index, query: str, **owners: Any) -> set[str]:
    return {found.path for found in index.search(query, 1000, **owners)}


# --------------------------------------------------------------------------------------------------------------- search


def test_search_gives_text_and_place(tmp_path: Path) -> None:
    _write(tmp_path / "docs", {"a/guide.md": "# Guide\n## Install\nRun the café setup.\n", "b.txt": "nothing"})
    with Index(tmp_path / "index") as index:
        index.refresh(tmp_path / "docs")
        (found,) = index.search("How do I run setups in a CAFE?")
        assert (found.path, found.unit, found.first, found.last) == ("a/guide.md", "line", 1, 3)
        assert found.place == "a/guide.md, lines 1-3"
        assert found.headings == ("Guide", "Install")
        assert found.text == "Guide\nInstall\nRun the café setup."
        assert found.score > 0
        assert index.search("?!") == []
        with pytest.raises(UsageError, match="one passage or more"):
            index.search("x", 0)


def test_identifiers_are_found_whole_and_by_parts(tmp_path: Path) -> None:
    files = {
        "whole.txt": "call shutil.copytree here",
        "apart.txt": "copytree is in the module called shutil",
        "snake.txt": "set max_length first",
        "camel.txt": "an ImageClassifier learns",
        **{f"other{n}.txt": f"a text about something else {n}" for n in range(20)},
    }
    with Index(tmp_path / "index") as index:
        index.refresh(_write(tmp_path / "docs", files))
        assert [found.path for found in index.search("shutil.copytree")] == ["whole.txt", "apart.txt"]
        assert _paths(index, "copytree") == {"whole.txt", "apart.txt"}
        assert _paths(index, "max_length") == _paths(index, "lengths") == {"snake.txt"}
        assert (
            _paths(index, "ImageClassifier") == _paths(index, "image") == _paths(index, "classifiers") == {"camel.txt"}
        )


def test_words_in_headings_count_more(tmp_path: Path) -> None:
    files = {"a.md": "# Other\nbackup of things\n", "b.md": "# Backup\nsome of things\n"}
    with Index(tmp_path / "index") as index:
        index.refresh(_write(tmp_path / "docs", files | {f"{n}.txt": "filler" for n in range(9)}))
        assert [found.path for found in index.search("backup")] == ["b.md", "a.md"]


def test_terms_that_are_too_common_to_choose_passages_still_score_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{n:02}.txt": f"common filler {n}" for n in range(20)}
    files |= {"one.txt": "rare common", "other.txt": "rare thing", "third.txt": "unusual common"}
    with Index(tmp_path / "index") as index:
        index.refresh(_write(tmp_path / "docs", files))
        query = "common rare unusual absent"
        exact = index.search(query, 3)
        monkeypatch.setattr(index_module, "_CHOOSING", 5)
        counts = {"common": 6, "rare": 2, "unusual": 1, "absent": 0}
        assert index_module._divided(counts) == (["unusual", "rare"], ["common"])
        assert index.search(query, 3) == exact
        assert _paths(index, query) == {"one.txt", "other.txt", "third.txt"}
        assert len(_paths(index, "common")) == 22


def test_stop_words_count_only_when_there_is_nothing_else(tmp_path: Path) -> None:
    with Index(tmp_path / "index") as index:
        index.refresh(_write(tmp_path / "docs", {"a.txt": "to be or not to be", "b.txt": "bees buzz"}))
        assert _paths(index, "to be") == {"a.txt"}
        assert _paths(index, "what are the bees") == {"b.txt"}


# -------------------------------------------------------------------------------------------------------------- refresh


def test_a_refresh_reports_what_happened(tmp_path: Path) -> None:
    docs, home = tmp_path / "docs", tmp_path / "index"
    _write(docs, {"same.txt": "word", "new.txt": "word old", "move.txt": "word moved", "gone.txt": "word", "p.png": ""})
    report = _refreshed(home, docs)
    assert report.added == ("gone.txt", "move.txt", "new.txt", "same.txt")
    assert (report.files, report.passages, report.others) == (4, 4, {".png": 1})
    before = _ids(home)
    _write(docs, {"new.txt": "word new", "added.txt": "word added"})
    (docs / "sub").mkdir()
    (docs / "move.txt").rename(docs / "sub" / "moved.txt")
    (docs / "gone.txt").unlink()
    report = _refreshed(home, docs)
    assert report.added == ("added.txt",)
    assert report.changed == ("new.txt",)
    assert report.moved == (("move.txt", "sub/moved.txt"),)
    assert report.gone == ("gone.txt",)
    after = _ids(home)
    assert after["sub/moved.txt"] == before["move.txt"]
    assert after["same.txt"] == before["same.txt"]
    assert after["new.txt"] != before["new.txt"]
    report = _refreshed(home, docs)
    assert (report.added, report.changed, report.moved, report.gone, report.skipped) == ((), (), (), (), ())


def test_unchanged_files_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = _write(tmp_path / "docs", {"old.txt": "one", "fresh.txt": "two"})
    os.utime(docs / "old.txt", (1000, 1000))
    _refreshed(tmp_path / "index", docs)
    opened = []
    load = module.readers.load
    monkeypatch.setattr(module.readers, "load", lambda path, config: (opened.append(path.name), load(path, config))[1])
    _refreshed(tmp_path / "index", docs)
    # Written within the grain of the clock before it was read, it may have changed since without a trace.
    assert opened == ["fresh.txt"]


def test_a_change_that_keeps_size_and_time_is_seen_when_it_is_quick(tmp_path: Path) -> None:
    docs = _write(tmp_path / "docs", {"a.txt": "before"})
    _refreshed(tmp_path / "index", docs)
    state = (docs / "a.txt").stat()
    (docs / "a.txt").write_text("beyond")
    os.utime(docs / "a.txt", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert _refreshed(tmp_path / "index", docs).changed == ("a.txt",)


def test_a_file_moved_over_another_one_keeps_its_passages(tmp_path: Path) -> None:
    docs = _write(tmp_path / "docs", {"a.txt": "word a", "b.txt": "word b"})
    _refreshed(tmp_path / "index", docs)
    before = _ids(tmp_path / "index")
    (docs / "a.txt").replace(docs / "b.txt")
    report = _refreshed(tmp_path / "index", docs)
    assert report.moved == (("a.txt", "b.txt"),)
    assert _ids(tmp_path / "index") == {"b.txt": before["a.txt"]}


def test_a_file_with_another_ending_is_read_by_another_reader(tmp_path: Path) -> None:
    docs = _write(tmp_path / "docs", {"a.txt": "# word"})
    _refreshed(tmp_path / "index", docs)
    (docs / "a.txt").rename(docs / "a.md")
    report = _refreshed(tmp_path / "index", docs)
    assert (report.moved, report.added, report.gone) == ((), ("a.md",), ("a.txt",))
    assert [row[-1] for row in _content(tmp_path / "index")] == ["word"]


def test_other_settings_read_everything_again(tmp_path: Path) -> None:
    docs = _write(tmp_path / "docs", {"a.txt": "word. " * 50})
    assert _refreshed(tmp_path / "index", docs).passages == 1
    report = _refreshed(tmp_path / "index", docs, chunk=ChunkConfig(most_characters=100))
    assert (report.changed, report.passages) == (("a.txt",), 4)


_NAMES = st.sampled_from(["a.txt", "b.md", "c/d.txt", "c/e.md", "f.py"])
_TEXTS = st.sampled_from(
    ["# one\ntwo", "one two. " * 30, "", "x\0y", "\ntwo\n\none", "# one\n## two\n" + "three\n" * 40]
)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), _NAMES, _TEXTS),
        st.tuples(st.just("remove"), _NAMES, st.none()),
        st.tuples(st.just("move"), _NAMES, _NAMES),
        st.tuples(st.just("refresh"), st.none(), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=15)
@given(_STEPS)
def test_whatever_happens_to_the_folder_a_refresh_equals_a_new_index(steps: list[tuple]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        docs = _write(root / "docs", {"c/keep.txt": "keep"})
        config = {"chunk": ChunkConfig(most_characters=60)}
        for what, name, other in steps:
            if what == "write":
                (docs / name).write_text(other)
            elif what == "remove":
                (docs / name).unlink(missing_ok=True)
            elif what == "move" and (docs / name).exists():
                (docs / name).replace(docs / other)
            elif what == "refresh":
                _refreshed(root / "index", docs, **config)
        skipped = _refreshed(root / "index", docs, **config).skipped
        assert skipped == _refreshed(root / "fresh", docs, **config).skipped
        assert _content(root / "index") == _content(root / "fresh")


# ------------------------------------------------------------------------------------------------------------ bad input


def test_bad_files_are_named_and_skipped(tmp_path: Path) -> None:
    docs = _write(
        tmp_path / "docs", {"good.txt": "good", "binary.txt": "a\0b", "bad.docx": "x", ".hidden.txt": "secret"}
    )
    (docs / "loop").symlink_to(docs)
    (docs / "link.txt").symlink_to("good.txt")
    os.mkfifo(docs / "pipe.txt")
    Path(os.fsdecode(os.fsencode(docs) + b"/caf\xe9.txt")).write_text("name")
    with open(docs / "big.txt", "wb") as file:
        file.truncate(65_000_000)
    (docs / "__pycache__").mkdir()
    (docs / "__pycache__" / "x.txt").write_text("left out")
    report = _refreshed(tmp_path / "index", docs)
    assert {each.path: each.why for each in report.skipped} == {
        "bad.docx": "damaged: File is not a zip file",
        "big.txt": "larger than 64 MB",
        "binary.txt": "binary, in spite of its name",
        "caf\\xe9.txt": "its name is not UTF-8",
        "link.txt": "a link; what it points to is read where it stands",
        "loop": "a link; what it points to is read where it stands",
        "pipe.txt": "no regular file",
    }
    assert report.added == ("good.txt",)
    again = _refreshed(tmp_path / "index", docs)
    assert again.skipped == report.skipped
    assert not again.added
    (docs / "binary.txt").write_text("text now")
    assert _refreshed(tmp_path / "index", docs).added == ("binary.txt",)


def test_a_bad_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = _write(tmp_path / "docs", {"bad.docx": "x"})
    os.utime(docs / "bad.docx", (1000, 1000))
    first = _refreshed(tmp_path / "index", docs)
    monkeypatch.delattr(module.readers, "read")
    assert _refreshed(tmp_path / "index", docs).skipped == first.skipped


def test_a_file_that_goes_bad_is_no_longer_quoted(tmp_path: Path) -> None:
    docs = _write(tmp_path / "docs", {"a.txt": "word"})
    _refreshed(tmp_path / "index", docs)
    (docs / "a.txt").write_bytes(b"word\0")
    report = _refreshed(tmp_path / "index", docs)
    assert [each.path for each in report.skipped] == ["a.txt"]
    assert report.passages == 0
    (docs / "a.txt").write_text("word")
    _refreshed(tmp_path / "index", docs)
    _refreshed(tmp_path / "index", docs, read=ReadConfig(most_bytes=3))
    assert _content(tmp_path / "index") == []


def test_files_that_vanish_while_the_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = _write(tmp_path / "docs", {"a.txt": "word", "b.txt": "word"})
    _refreshed(tmp_path / "index", docs)
    _write(docs, {"a.txt": "word changed", "c.txt": "word"})
    load = module.readers.load

    def load_late(path: Path, config: ReadConfig) -> Any:
        if path.name != "b.txt":
            path.unlink()
        return load(path, config)

    monkeypatch.setattr(module.readers, "load", load_late)
    report = _refreshed(tmp_path / "index", docs)
    assert [(each.path, each.why) for each in report.skipped] == [
        ("a.txt", "vanished while the folder was read"),
        ("c.txt", "vanished while the folder was read"),
    ]
    assert report.gone == ("a.txt",)
    assert [row[0] for row in _content(tmp_path / "index")] == ["b.txt"]


def test_a_folder_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    docs = _write(tmp_path / "docs", {"a.txt": "word"})
    _refreshed(tmp_path / "index", docs)
    shutil.rmtree(docs)
    with pytest.raises(DataError, match="no folder of documents"):
        _refreshed(tmp_path / "index", docs)
    assert len(_content(tmp_path / "index")) == 1


def test_an_index_belongs_to_one_folder_which_may_move(tmp_path: Path) -> None:
    docs = _write(tmp_path / "docs", {"a.txt": "word"})
    other = _write(tmp_path / "other", {"b.txt": "word"})
    _refreshed(tmp_path / "index", docs)
    before = _ids(tmp_path / "index")
    with pytest.raises(UsageError, match="belongs to another folder") as caught:
        _refreshed(tmp_path / "index", other)
    assert caught.value.wanted == str(docs)
    docs.rename(tmp_path / "renamed")
    assert not _refreshed(tmp_path / "index", tmp_path / "renamed").added
    assert _ids(tmp_path / "index") == before


# -------------------------------------------------------------------------------------------------- kills, many at once

_KILLED = """
import os, signal, sys
from pathlib import Path
from sw2.domains.documents import index, refresh

inner_words, left = refresh.inner_words, int(sys.argv[3])

def dying(text):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return inner_words(text)

refresh.inner_words, refresh._BATCH = dying, 20
index.Index(Path(sys.argv[1])).refresh(Path(sys.argv[2]))
"""


def _kill_after(home: Path, docs: Path, passages: int) -> None:
    """A refresh in a process of its own that is killed while it writes its passages, inside of a transaction."""
    command = [sys.executable, "-c", _KILLED, str(home), str(docs), str(passages)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_killed_refresh_goes_on_where_it_stopped(tmp_path: Path) -> None:
    files = {f"{n % 7}/{n}.md": f"# Title {n}\nword {n}\n\n## Part\n" + f"text {n}. " * n for n in range(60)}
    docs, home = _write(tmp_path / "docs", files), tmp_path / "index"
    for path in docs.rglob("*.md"):
        os.utime(path, (1000, 1000))
    total = _refreshed(tmp_path / "whole", docs).passages
    _kill_after(home, docs, 0)
    assert _content(home) == []
    _kill_after(home, docs, 55)
    kept = _content(home)
    assert 20 <= len(kept) <= 55
    with Index(home) as index:
        assert len(_paths(index, "word")) > 5
    _kill_after(home, docs, 30)
    report = _refreshed(home, docs)
    assert report.passages == total
    assert len(report.added) <= 60 - len({row[0] for row in kept})
    assert _content(home) == _content(tmp_path / "whole")
    # The same with changes, moves and removals.
    _write(docs, {name: f"changed {name}" for name in list(files)[:30]})
    (docs / "6").rename(docs / "moved")
    _kill_after(home, docs, 25)
    _refreshed(home, docs)
    _refreshed(tmp_path / "fresh", docs)
    assert _content(home) == _content(tmp_path / "fresh")


def test_a_killed_creation_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "index.sqlite").touch()
    docs = _write(tmp_path / "docs", {"a.txt": "word"})
    assert _refreshed(tmp_path / "index", docs).passages == 1


def test_readers_see_the_last_committed_state_while_a_refresh_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = _write(tmp_path / "docs", {f"{n:02}.txt": f"word {n}" for n in range(30)})
    monkeypatch.setattr(module, "_BATCH", 10)
    seen = []
    inner_words = module.inner_words

    def looking(text: str) -> str:
        seen.append(len(reader.search("word", 100)))
        return inner_words(text)

    monkeypatch.setattr(module, "inner_words", looking)
    with Index(tmp_path / "index") as index, Index(tmp_path / "index") as reader:
        index.refresh(docs)
        assert len(reader.search("word", 100)) == 30
    assert sorted(set(seen)) == [0, 5, 10, 15, 20, 25]


def test_threads_share_an_index(tmp_path: Path) -> None:
    docs = _write(tmp_path / "docs", {f"{n}.txt": f"word {n}" for n in range(20)})
    counts: list[int] = []
    with Index(tmp_path / "index") as index:
        index.refresh(docs)
        threads = [
            threading.Thread(target=lambda: counts.extend(len(index.search("word", 50)) for _ in range(20)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        _write(docs, {f"{n}.txt": f"word again {n}" for n in range(20)})
        index.refresh(docs)
        for thread in threads:
            thread.join()
    assert counts == [20] * 80


def test_a_second_writer_waits_and_then_says_who_holds_the_index(tmp_path: Path) -> None:
    docs = _write(tmp_path / "docs", {"a.txt": "word"})
    _refreshed(tmp_path / "index", docs)
    with Index(tmp_path / "index") as first, Index(tmp_path / "index", IndexConfig(wait_seconds=0.2)) as second:
        with first._database.writing():
            with pytest.raises(SessionError, match="Another refresh of this index goes on") as caught:
                second.refresh(docs)
            assert len(second.search("word")) == 1
        second.refresh(docs)
    assert str(caught.value.got).startswith(f"process {os.getpid()} on ")
    assert str(caught.value.wanted) == "to be the only one that writes, within 0.2 seconds"


def test_a_second_writer_goes_on_when_the_first_one_ends(tmp_path: Path) -> None:
    docs = _write(tmp_path / "docs", {"a.txt": "word"})
    with Index(tmp_path / "index") as first, Index(tmp_path / "index") as second:
        begun = threading.Event()

        def hold() -> None:
            with first._database.writing():
                begun.set()
                done.wait(0.2)

        done = threading.Event()
        thread = threading.Thread(target=hold)
        thread.start()
        begun.wait()
        assert second.refresh(docs).added == ("a.txt",)
        thread.join()


def test_a_full_disk_leaves_the_index_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = _write(tmp_path / "docs", {f"{n:03}.txt": f"word {n} " + os.urandom(400).hex() for n in range(200)})
    connect = Database.connect

    def connect_small(self: Database) -> sqlite3.Connection:
        connection = connect(self)
        connection.execute("PRAGMA max_page_count = 60")
        return connection

    monkeypatch.setattr(module, "_BATCH", 20)
    with Index(tmp_path / "index") as index:
        monkeypatch.setattr(Database, "connect", connect_small)
        with pytest.raises(DiskFull, match="The disk is full") as caught:
            index.refresh(docs)
        assert caught.value.where == tmp_path / "index" / "index.sqlite"
        assert 5 < len(index.search("word", 1000)) < 150
        monkeypatch.setattr(Database, "connect", connect)
        assert index.refresh(docs).passages == len(_content(tmp_path / "index"))
    _refreshed(tmp_path / "fresh", docs)
    assert _content(tmp_path / "index") == _content(tmp_path / "fresh")


# ---------------------------------------------------------------------------------------------------------- other files


def test_another_version_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    Index(tmp_path / "index").close()
    connection = sqlite3.connect(tmp_path / "index" / "index.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SessionError, match="another version") as caught:
        Index(tmp_path / "index")
    assert (caught.value.wanted, caught.value.got) == ("version 2", "version 99")
    assert "Remove the folder of the index and refresh" in str(caught.value.do)


def test_a_damaged_index_says_so(tmp_path: Path) -> None:
    docs = _write(tmp_path / "docs", {f"{n}.txt": f"word {n} " * 50 for n in range(300)})
    _refreshed(tmp_path / "index", docs)
    path = tmp_path / "index" / "index.sqlite"
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes(len(content) - 4096))
    with pytest.raises(SessionError, match="The index is damaged"), Index(tmp_path / "index") as index:
        index.search("word")


def test_a_path_that_cannot_hold_an_index_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SessionError, match="The index cannot be read or written"):
        Index(tmp_path / "file")


def test_what_is_no_index_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    path.write_text("a text that is longer than the header of a database, so that it cannot be taken for one" * 20)
    with pytest.raises(SessionError, match="The index is damaged"):
        Index(tmp_path)
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE somebody (else_)")
    connection.close()
    with pytest.raises(SessionError, match="There is something else where the index should be"):
        Index(tmp_path)


# --------------------------------------------------------------------------------------------------------------- owners


def test_nobody_gets_a_passage_that_is_not_theirs(tmp_path: Path) -> None:
    docs = _write(tmp_path / "docs", {"open.txt": "word", "hr/a.txt": "word", "hr/salary.txt": "word"})
    _write(docs, {FILE: '[owners]\n"hr/*" = ["anna", "bo"]\n"*salary*" = ["bo"]\n"x/*" = ["bo"]'})
    with Index(tmp_path / "index") as index:
        assert index.refresh(docs).idle_owners == ("x/*",)
        assert _paths(index, "word") == {"open.txt"}
        assert _paths(index, "word", owners=["anna"]) == {"open.txt", "hr/a.txt"}
        assert _paths(index, "word", owners=["bo"]) == {"open.txt", "hr/a.txt", "hr/salary.txt"}
        assert len(index.search("word", 1, owners=["eve"])) == 1
        # A new rule holds for files that did not change; a moved file has the owners of its new place.
        _write(docs, {FILE: '[owners]\n"hr/*" = ["bo"]\n'})
        (docs / "open.txt").rename(docs / "hr" / "moved.txt")
        (docs / "hr" / "salary.txt").rename(docs / "salary.txt")
        index.refresh(docs)
        assert _paths(index, "word", owners=["anna"]) == {"salary.txt"}
        assert _paths(index, "word", owners=["bo"]) == {"salary.txt", "hr/a.txt", "hr/moved.txt"}


def test_rules_that_are_gone_or_broken_open_nothing(tmp_path: Path) -> None:
    docs = _write(tmp_path / "docs", {"a.txt": "word", FILE: '[owners]\n"a*" = ["bo"]'})
    with Index(tmp_path / "index") as index:
        index.refresh(docs)
        (docs / FILE).unlink()
        with pytest.raises(UsageError, match="the file that says so is gone"):
            index.refresh(docs)
        (docs / FILE).write_text("[owners")
        with pytest.raises(UsageError, match="cannot be read, so nothing was changed"):
            index.refresh(docs)
        assert _paths(index, "word") == set()
        (docs / FILE).write_text("[owners]\n")
        index.refresh(docs)
        assert _paths(index, "word") == {"a.txt"}


def test_what_stands_around_a_passage(tmp_path: Path) -> None:
    """Its neighbours in its own file, for those who may read it."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in ("a", "b"):
        text = "\n\n".join(f"# {name}{n}\n\nThe {name} {n} apples are red." for n in range(5))
        (folder / f"{name}.md").write_text(text)
    (folder / ".sw2-owners.toml").write_text('[owners]\n"b.md" = ["anna"]\n')
    with Index(tmp_path / "home") as index:
        index.refresh(folder)

        def around(query: str, count: int, *owners: str) -> list[str]:
            (found, *_) = index.search(query, 1, owners=["anna"])
            return [each.text.split("The ")[1][:3] for each in index.around(found.id, count, owners=owners)]

        assert around("a 2 apples", 1) == ["a 1", "a 2", "a 3"]
        assert around("a 0 apples", 2) == ["a 0", "a 1", "a 2"]
        assert around("a 4 apples", 0) == ["a 4"]
        assert around("b 2 apples", 1) == []
        assert around("b 2 apples", 1, "anna") == ["b 1", "b 2", "b 3"]
        assert index.around(10_000, 1) == []
