"""Tables of word vectors: what is written is read back bit for bit, and what is damaged is told with its line."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sw2.base.errors import DataError, UsageError
from sw2.parts.formats.vectors import FORMATS, Format, VectorTable, read, write

_WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=" \n"), min_size=1, max_size=9)
_NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@st.composite
def _tables(draw: st.DrawFn) -> VectorTable:
    words = draw(st.lists(_WORDS, unique=True, min_size=1, max_size=6))
    shape = (len(words), draw(st.integers(1, 5)))
    return VectorTable(words, draw(arrays.arrays(np.float32, shape, elements=_NUMBERS)))


def _same(one: VectorTable, other: VectorTable) -> None:
    assert list(one.words) == list(other.words)
    assert one.matrix.shape == other.matrix.shape
    assert np.array_equal(one.matrix.view(np.int32), other.matrix.view(np.int32))


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("format", FORMATS)
@given(table=_tables())
def test_what_is_written_is_read_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, format: Format, ending: str, table: VectorTable
) -> None:
    path = tmp_path_factory.mktemp("table") / f"table{ending}"
    write(table, path, format)
    _same(read(path, format), table)


def _table(count: int = 50, dimensions: int = 8) -> VectorTable:
    matrix = np.random.default_rng(0).normal(size=(count, dimensions)).astype(np.float32)
    return VectorTable([f"wört{each}" for each in range(count)], matrix)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("format", FORMATS)
def test_the_format_is_found_by_content(tmp_path: Path, format: Format, ending: str) -> None:
    write(_table(), tmp_path / "first", format)
    (tmp_path / f"renamed{ending}").write_bytes(
        gzip.compress((tmp_path / "first").read_bytes()) if ending else (tmp_path / "first").read_bytes()
    )
    _same(read(tmp_path / f"renamed{ending}"), _table())


def test_pieces_are_joined_where_a_file_has_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for format in FORMATS:
        write(_table(), tmp_path / format, format)
    monkeypatch.setattr("sw2.parts.formats.vectors._BLOCK", 50)
    for format in FORMATS:
        _same(read(tmp_path / format), _table())


@pytest.mark.parametrize("format", FORMATS)
def test_reading_takes_the_memory_of_the_table_and_little_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: Format
) -> None:
    write(_table(2000, 200), tmp_path / "table", format)
    monkeypatch.setattr("sw2.parts.formats.vectors._BLOCK", 10_000)
    tracemalloc.start()
    found = read(tmp_path / "table")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.matrix.nbytes < most < 1.5 * found.matrix.nbytes


def test_the_same_table_gives_the_same_compressed_bytes(tmp_path: Path) -> None:
    for name in ("one.gz", "other.gz"):
        write(_table(), tmp_path / name, "glove")
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "other.gz").read_bytes()


@pytest.mark.parametrize(
    ("content", "words", "matrix"),
    [
        (b"2 3\nthe 1 2 3 \nof -4e0 .5 +6 \n", ["the", "of"], [[1, 2, 3], [-4, 0.5, 6]]),  # word2vec ends with a space
        (b"2 1\r\nthe 1\r\nof 2\r\n", ["the", "of"], [[1], [2]]),
        (b"the 1 2\n. . . 3 4\n12 5 6", ["the", ". . .", "12"], [[1, 2], [3, 4], [5, 6]]),  # GloVe 840B has such words
        (b"\xc2\xa0 1 2\n\xc2\x85 3 4\n\n\n", ["\xa0", "\x85"], [[1, 2], [3, 4]]),
        (b"1 2\na \x00\x00\x80\x3f\x00\x00\x00\x40", ["a"], [[1, 2]]),  # gensim ends no row
        (b"2 1\na\x80 \x00\x00\x80\x3f\nb \x00\x00\x00\x40\n", None, None),
    ],
)
def test_files_of_others(tmp_path: Path, content: bytes, words: list[str] | None, matrix: Any) -> None:
    (tmp_path / "table").write_bytes(content)
    if words is None:
        with pytest.raises(DataError, match="no UTF-8"):
            read(tmp_path / "table")
        return
    found = read(tmp_path / "table")
    assert list(found.words) == words
    assert found.matrix.tolist() == matrix
    assert found.counts is None


@pytest.mark.parametrize(
    ("content", "told", "line"),
    [
        (b"", "There are no vectors", ""),
        (b" \n\n", "There are no vectors", ""),
        (b"word\n", "neither a header", "line 1"),
        (b"0 5\n", "promises nothing", "line 1"),
        (b"5 0\nword\n", "promises nothing", "line 1"),
        (b"999999999999999999 300\nthe 1 2\n", "promises more", "line 1"),
        (b"3 2\nthe 1 2\nof 3 4\n", "fewer rows", "line 4"),
        (b"1 2\nthe 1 2\nof 3 4\n", "more rows", "line 3"),
        (b"2 3\nthe 1 2 3\nof 4 5\n", "lacks numbers", "line 3"),
        (b"2 2\nthe 1 2\nof 3 4 5\n", "more numbers", "line 3"),
        (b"the 1 2\nof 3\n", "lacks numbers", "line 2"),
        (b"the 1 2\nof 3 4 5\n", "more numbers", "line 2"),
        (b"the 1 2\n\nof 3 4\n", "blank", "line 2"),
        (b"the 1 2\n 3 4\n", "no word", "line 2"),
        (b"the 1 2\n  3 4\n", "no word", "line 2"),
        (b"the 1 2\nof  3 4\n", "two spaces", "line 2"),
        (b"the\t1\t2\nof\t3\t4\n", "neither a header", "line 1"),
        (b"the 1 2\nof nan 4\n", "not finite", "line 2, dimension 1"),
        (b"the 1 2\nof 4 1e39\n", "not finite", "line 2, dimension 2"),
        (b"the 1 2\nof 3 4x\n", "no number", "line 2"),
        (b"2 2\nthe 1 2\nof 3 1_0\n", "no number", "line 3"),
        (b"the 1 2\nof 3 4\nthe 5 6\n", "twice", "line 3"),
        ("the 1 2\nnaïve 3 4\n".encode("latin-1"), "no UTF-8", "line 2"),
        (b"3 2\na \x00\x00\x80\x3f\x00\x00\x00\x40\nb \x00\x00\x80", "promises more", "line 1"),
        (b"2 2\nalong \x00\x00\x80\x3f\x00\x00\x00\x40\nb \x00\x00\x80", "file ends", "word 2 of 2"),
        (b"1 1\na \x00\x00\x80\x3f\nb \x00\x00\x80\x3f", "more than the header", "after word 1"),
        (b"1 1\na \x00\x00\x80\x7f\n", "not finite", "word 1 of 1, dimension 1"),
        (b"2 1\na \x00\x00\x80\x3f\n \x00\x00\x00\x40\n", "no word", "word 2 of 2"),
        (b"2 1\na \x00\x00\x80\x3f\na \x00\x00\x00\x40\n", "twice", "word 2 of 2"),
        (b"\xba\x16\x4f\x2f\x0c\x00\x00\x00", "no table", ""),
        (b"PK\x03\x04", "no table", ""),
    ],
)
def test_damage_is_told_with_its_place(tmp_path: Path, content: bytes, told: str, line: str) -> None:
    path = tmp_path / "table"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path)
    assert told in caught.value.message
    assert str(path) in str(caught.value.where)
    assert str(caught.value.where).endswith(line)
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError) as packed:
        read(path)
    assert packed.value.message == caught.value.message or "promises more" in told  # packed, its size is not known


def test_a_cut_gzip_file_is_told(tmp_path: Path) -> None:
    write(_table(), tmp_path / "table.gz", "glove")
    (tmp_path / "table.gz").write_bytes((tmp_path / "table.gz").read_bytes()[:-40])
    with pytest.raises(DataError, match="damaged"):
        read(tmp_path / "table.gz")


def test_a_line_without_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sw2.parts.formats.vectors._LONGEST_LINE", 1000)
    (tmp_path / "table").write_bytes(b"the 1 2\n" + b"x" * 5000)
    with pytest.raises(DataError, match="no end"):
        read(tmp_path / "table")


@given(st.binary(max_size=200))
def test_no_bytes_give_anything_but_a_table_or_an_error(tmp_path_factory: pytest.TempPathFactory, some: bytes) -> None:
    path = tmp_path_factory.mktemp("table") / "table"
    for content in (some, b"2 2\n" + some, b"the 1 2\n" + some):
        path.write_bytes(content)
        try:
            found = read(path)
        except DataError:
            continue
        assert np.isfinite(found.matrix).all()
        assert len(set(found.words)) == len(found.words) == len(found.matrix)


@pytest.mark.parametrize("word", ["", "New York", "two\nlines", "\ud800"])
def test_words_that_no_format_holds_are_refused_and_nothing_is_written(tmp_path: Path, word: str) -> None:
    (tmp_path / "table").write_text("before")
    table = VectorTable(["fine", word], np.zeros((2, 2), np.float32))
    with pytest.raises(DataError, match="cannot be written") as caught:
        write(table, tmp_path / "table", "word2vec")
    assert caught.value.where == "word 2 of 2"
    assert (tmp_path / "table").read_text() == "before"


def test_a_format_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such format"):
        write(_table(), tmp_path / "table", "fasttext")  # type: ignore[arg-type]


def test_paths_that_hold_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(DataError, match="no such file"):
            read(path)
