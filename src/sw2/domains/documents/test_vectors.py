"""Vectors: always those of the passages that are there, whatever was killed, removed or closed to the caller."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.base.errors import ProgramError, SessionError, UsageError
from sw2.core.capabilities import Embed
from sw2.core.program import Answer, Program, Runtime
from sw2.domains.documents import vectors as module
from sw2.domains.documents.fusion import WEIGHT, by_rank, fused, most_bm25
from sw2.domains.documents.index import Index
from sw2.domains.documents.owners import FILE
from sw2.testing.toys import NoPrep

pytest.importorskip("usearch")

TOPICS = {"cat": 0, "feline": 0, "kitten": 0, "invoice": 1, "bill": 1, "payment": 1, "tree": 2, "oak": 2, "forest": 2}


class Topics(Runtime, Embed):
    """Vectors of topics: words of one meaning point the same way, whatever their letters."""

    name = "topics"
    Prep = NoPrep
    calls = 0

    def __init__(self, nets: Mapping[str, Any], prep: Any, uses: Mapping[str, Program]) -> None:
        del nets, prep, uses

    def answer(self, inputs: Sequence[Any]) -> list[Answer]:
        return [{"vector": vector.tolist()} for vector in self.embed(inputs)]

    def embed(self, inputs: Sequence[object]) -> np.ndarray:
        self.calls += len(inputs)
        vectors = np.full((len(inputs), 8), 0.01, np.float32)
        for vector, text in zip(vectors, inputs, strict=True):
            for word in str(text).lower().split():
                if (stem := word.strip(".,?")) in TOPICS:
                    vector[TOPICS[stem]] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _embedder(name: str = "topics") -> Program:
    runtime = type("Named", (Topics,), {"name": name})
    task = type("Toy", (), {"name": "feature-extraction"})()
    return Program.assemble(task=task, runtime=runtime, nets={}, prep=NoPrep(), provider={})


def _write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


FILES = {"a.txt": "The cat sleeps.", "b.txt": "Pay the bill.", "c.txt": "An oak grows."}


def _holds(home: Path, embedder: Program) -> None:
    """Every vector in the file is that of its passage, and every line of the table has a passage."""
    connection = sqlite3.connect(home / "index.sqlite")
    try:
        rows = connection.execute("SELECT row, headings, text FROM vectors JOIN passages ON id = passage").fetchall()
        assert len(rows) == connection.execute("SELECT count(*) FROM vectors").fetchone()[0]
        state = module._state(connection)
    finally:
        connection.close()
    assert state is not None
    if not rows:
        return
    stored = np.fromfile(home / state.file, np.float16)[: state.rows * state.width].reshape(-1, state.width)
    wanted = embedder.capability(Embed).embed([module._shown(headings, text) for _, headings, text in rows])  # type: ignore[type-abstract]
    np.testing.assert_allclose(stored[[row for row, _, _ in rows]].astype(np.float32), wanted, atol=1e-3)


# --------------------------------------------------------------------------------------------------------------- search


def test_passages_are_found_by_meaning_and_both_ways_are_fused(tmp_path: Path) -> None:
    with Index(tmp_path / "index", embedder=_embedder()) as index:
        index.refresh(_write(tmp_path / "docs", FILES))
        assert index.search("feline") == []
        assert index.fill().embedded == 3
        first = index.search("feline")[0]
        assert (first.path, first.words) == ("a.txt", 0.0)
        assert first.cosine == pytest.approx(1, abs=0.01)
        assert first.score == pytest.approx(1 / (WEIGHT + 1), abs=0.01)
        both = index.search("payment for an oak tree")
        assert {found.path for found in both[:2]} == {"b.txt", "c.txt"}
        assert [found.path for found in index.search("bill", by="words")] == ["b.txt"]
        assert len(index.search("bill", by="meaning")) == 3
        assert index.search("bill", 1, by="meaning")[0].path == "b.txt"
        assert index.search("") == []


def test_while_vectors_are_filled_in_words_find_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    with Index(tmp_path / "index", embedder=_embedder()) as index:
        index.refresh(_write(tmp_path / "docs", FILES))
        seen = []
        filled = index.fill(lambda far: not seen.append((far.added, far.passages)) and far.added < 2)  # type: ignore[func-returns-value]
        assert seen == [(0, 3), (1, 3), (2, 3)]
        assert (filled.added, filled.embedded, filled.passages) == (2, 2, 3)
        found = index.search("oak")
        assert found[0].path == "c.txt"
        assert found[0].cosine is None
        assert index.fill().added == 1
        assert index.filled().embedded == 3


def test_what_has_no_vector_yet_is_not_behind_everything_that_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    files = {f"{n:02}.txt": f"an oak {n}" for n in range(30)} | {"z.txt": "The forest invoice of Marlow."}
    with Index(tmp_path / "index", embedder=_embedder()) as index:
        index.refresh(_write(tmp_path / "docs", files))
        index.fill(lambda far: far.added < 30)
        found = index.search("forest invoice Marlow")[0]
        assert (found.path, found.cosine) == ("z.txt", None)


def test_without_an_embedder_meaning_is_refused(tmp_path: Path) -> None:
    with Index(tmp_path / "index") as index:
        for asked in (index.fill, index.filled, lambda: index.search("x", by="meaning")):
            with pytest.raises(UsageError, match="no embedder"):
                asked()
    plain = Program.assemble(
        task=type("Toy", (), {"name": "toy"})(), runtime=_Mute, nets={}, prep=NoPrep(), provider={}
    )
    with pytest.raises(ProgramError, match="cannot 'Embed'"):
        Index(tmp_path / "index", embedder=plain)


class _Mute(Topics):
    pass


_Mute.__bases__ = (Runtime,)


def test_a_caller_gets_only_what_they_may_read_however_near_the_rest_is(tmp_path: Path) -> None:
    files = {f"hr/{n}.txt": f"A cat, number {n}." for n in range(60)} | {"open.txt": "The oak has a kitten."}
    files |= {FILE: '[owners]\n"hr/*" = ["anna"]\n'}
    with Index(tmp_path / "index", embedder=_embedder()) as index:
        index.refresh(_write(tmp_path / "docs", files))
        index.fill()
        for by in ("meaning", "both", None):
            assert {found.path for found in index.search("cat", 5, by=by)} == {"open.txt"}
            assert all(found.path.startswith("hr/") for found in index.search("cat", 5, owners=["anna"], by=by))
            assert len(index.search("cat", 5, owners=["anna"], by=by)) == 5


# ----------------------------------------------------------------------------------------------------------------- fill


def test_only_what_changed_is_embedded_again(tmp_path: Path) -> None:
    docs, embedder = _write(tmp_path / "docs", FILES), _embedder()
    runtime = embedder.runtime
    assert isinstance(runtime, Topics)
    with Index(tmp_path / "index", embedder=embedder) as index:
        index.refresh(docs)
        index.fill()
        assert runtime.calls == 3
        (docs / "a.txt").rename(docs / "moved.txt")
        _write(docs, {"b.txt": "Pay the invoice."})
        index.refresh(docs)
        assert index.filled().embedded == 2
        assert index.fill().added == 1
        assert runtime.calls == 4
        assert index.search("kitten", 1, by="meaning")[0].path == "moved.txt"
    _holds(tmp_path / "index", embedder)


def test_another_program_begins_anew(tmp_path: Path) -> None:
    docs = _write(tmp_path / "docs", FILES)
    with Index(tmp_path / "index", embedder=_embedder()) as index:
        index.refresh(docs)
        index.fill()
    other = _embedder("other")
    with Index(tmp_path / "index", embedder=other) as index:
        assert index.search("feline") == []
        assert index.filled().embedded == 0
        assert index.fill().added == 3
        assert index.search("feline")[0].path == "a.txt"
    _holds(tmp_path / "index", other)


def test_dead_rows_go_when_they_are_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAST_DEAD", 4)
    docs, embedder = tmp_path / "docs", _embedder()
    _write(docs, {f"{n}.txt": f"tree {n}" for n in range(20)} | FILES)
    with Index(tmp_path / "index", embedder=embedder) as index, Index(tmp_path / "index", embedder=embedder) as reader:
        index.refresh(docs)
        index.fill()
        assert len(reader.search("tree", 30, by="meaning")) == 23
        for n in range(20):
            (docs / f"{n}.txt").unlink()
        index.refresh(docs)
        index.fill()
        assert (tmp_path / "index" / "vectors-2.f16").stat().st_size == 3 * 8 * 2
        assert len(reader.search("tree", 30, by="meaning")) == 3
        assert reader.search("feline", 1)[0].path == "a.txt"
    _holds(tmp_path / "index", embedder)


def test_an_index_of_version_1_is_brought_forward(tmp_path: Path) -> None:
    docs = _write(tmp_path / "docs", FILES)
    with Index(tmp_path / "index") as index:
        index.refresh(docs)
    connection = sqlite3.connect(tmp_path / "index" / "index.sqlite")
    connection.executescript("DROP TABLE vectors; DROP TRIGGER passages_forget; PRAGMA user_version = 1;")
    connection.close()
    with Index(tmp_path / "index", embedder=_embedder()) as index:
        assert index.fill().added == 3
        assert index.search("feline")[0].path == "a.txt"


def test_vectors_that_are_not_there_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with Index(tmp_path / "index", embedder=_embedder()) as index:
        index.refresh(_write(tmp_path / "docs", FILES))
        index.fill()
    os.truncate(tmp_path / "index" / "vectors-1.f16", 10)
    with Index(tmp_path / "index", embedder=_embedder()) as index, pytest.raises(SessionError, match="damaged"):
        index.search("cat")


def test_searching_goes_on_while_another_thread_fills_and_refreshes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    docs, embedder = tmp_path / "docs", _embedder()
    _write(docs, {f"{n:02}.txt": f"cat {n}" for n in range(30)})
    failed: list[BaseException] = []
    with Index(tmp_path / "index", embedder=embedder) as index:
        index.refresh(docs)

        def fill() -> None:
            try:
                index.fill()
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=fill)
        thread.start()
        for n in range(10):
            _write(docs, {f"{n:02}.txt": f"the oak {n}"})
            index.refresh(docs)
            assert all("cat" in found.text or "oak" in found.text for found in index.search("feline", 50))
        thread.join()
        index.fill()
        assert not failed
        assert index.filled().embedded == 30
        assert len([found for found in index.search("tree", 50, by="meaning") if (found.cosine or 0) > 0.5]) == 10
    _holds(tmp_path / "index", embedder)


def test_an_index_that_breaks_while_it_is_filled_is_told(tmp_path: Path) -> None:
    home = tmp_path / "index"

    def damage() -> None:
        (home / "index.sqlite").write_bytes(b"x" * 20_000)
        os.truncate(home / "index.sqlite-wal", 0)

    for broken in (lambda: shutil.rmtree(home), damage):
        with Index(home, embedder=_embedder()) as index:
            index.refresh(_write(tmp_path / "docs", FILES))
            with pytest.raises(SessionError):
                index.fill(lambda _, broken=broken: broken() or True)  # type: ignore[misc]
            with pytest.raises(SessionError):
                index.fill()
        shutil.rmtree(home, ignore_errors=True)


_FILLING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_vectors import _embedder, module
from sw2.domains.documents.index import Index
module._AT_ONCE = 1
with Index(Path(sys.argv[1]), embedder=_embedder()) as index:
    index.fill(lambda far: not print(far.added, flush=True))
"""


def test_kills_at_any_moment_leave_an_index_that_goes_on(tmp_path: Path) -> None:
    docs, home, embedder = tmp_path / "docs", tmp_path / "index", _embedder()
    _write(docs, {f"{n:03}.txt": f"{'cat' if n % 3 else 'oak'} {n}" for n in range(120)})
    with Index(home, embedder=embedder) as index:
        index.refresh(docs)
    for after in (1, 7, 20):
        command = [sys.executable, "-c", _FILLING, str(home), str(docs), str(Path(__file__).parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(after):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        _holds(home, embedder)
    with Index(home, embedder=embedder) as index:
        assert 0 < index.filled().embedded < 120
        index.fill()
        assert index.filled().embedded == 120
        assert len([found for found in index.search("tree", 200, by="meaning") if (found.cosine or 0) > 0.5]) == 40
    _holds(home, embedder)


# --------------------------------------------------------------------------------------------------------------- fusion


@given(
    st.dictionaries(st.integers(0, 9), st.floats(0.01, 1)),
    st.dictionaries(st.integers(0, 9), st.floats(-1, 1)),
    st.floats(0, 5),
    st.floats(0.5, 3),
)
def test_fused_scores_lie_between_0_and_1_and_the_best_of_both_is_best(
    words: dict[int, float], cosines: dict[int, float], weight: float, power: float
) -> None:
    for scores in (fused(words, cosines, weight, power), by_rank(words, cosines)):
        assert scores.keys() == words.keys() | cosines.keys()
        assert all(-1e-9 <= score <= 1 + 1e-9 for score in scores.values())
        firsts = {max(each, key=lambda id: (each[id], -id)) for each in (words, cosines) if each}
        if len(firsts) == 1:
            assert scores[firsts.pop()] == max(scores.values())


def test_words_decide_where_they_account_for_the_question_and_meaning_where_they_do_not() -> None:
    near = {1: 0.3, 2: 0.6}
    for shares, first in (({1: 0.9, 2: 0.3}, 1), ({1: 0.2, 2: 0.1}, 2)):
        both = fused(shares, near)
        assert max(both, key=lambda id: both[id]) == first


@pytest.mark.parametrize("passages", [1, 3, 40])
def test_no_passage_has_more_than_the_most_bm25(tmp_path: Path, passages: int) -> None:
    words = ["cat", "oak", "bill", "invoice", "forest"]
    with Index(tmp_path / "index") as index:
        index.refresh(_write(tmp_path / "docs", {f"{n}.md": f"# {words[n % 5]}\n\ncat {n}" for n in range(passages)}))
        for query in ("cat", "invoice bill cat nowhere", "oak oak oak"):
            found = index.search(query, 50)
            assert all(0 < each.words == each.score <= 1 for each in found)
            assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
        assert index.search("nowhere") == []
    assert most_bm25([], 3) == 0.0
