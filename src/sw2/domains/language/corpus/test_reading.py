"""Reading text: what is a document, what is refused, and that nothing stands on both sides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sw2.base.errors import DataError, UnknownName, UsageError
from sw2.domains.language.corpus import CorpusOptions, read


def _folder(path: Path, texts: dict[str, bytes]) -> str:
    for name, content in texts.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return str(path)


def test_a_folder_is_read_in_a_fixed_order_and_divided_by_content(tmp_path: Path) -> None:
    texts = {f"{'ab'[i % 2]}/{i}.txt": f"document number {i}".encode() for i in range(40)}
    first = read(_folder(tmp_path / "one", texts), CorpusOptions(test_share=0.2))
    renamed = {f"other/{99 - i}.md": content for i, content in enumerate(texts.values())}
    second = read(_folder(tmp_path / "two", renamed), CorpusOptions(test_share=0.2))
    assert first.fingerprint == second.fingerprint
    sides = [{row["text"] for row in split} for split in first.splits.values()]
    assert sum(map(len, sides)) == 40
    assert len(set.union(*sides)) == 40
    assert len(first.split("test")) == 8


def test_copies_are_dropped_before_the_division(tmp_path: Path) -> None:
    texts = {f"{i}.txt": f"text {i % 10}".encode() for i in range(50)}
    data = read(_folder(tmp_path, texts), CorpusOptions(test_share=0.3))
    assert data.facts["equal documents dropped"] == 40
    assert sum(len(split) for split in data.splits.values()) == 10


def test_files_that_are_no_text_are_named_and_skipped(tmp_path: Path) -> None:
    texts = {f"{i}.txt": f"good text {i}".encode() for i in range(8)}
    texts |= {"latin.txt": "naïve".encode("latin-1"), "binary.bin": b"ab\x00cd", "empty.txt": b"", ".hidden": b"secret"}
    data = read(_folder(tmp_path, texts), CorpusOptions())
    assert {row.where: row.why for row in data.rejected} == {
        "latin.txt": "not UTF-8 at byte 2",
        "binary.bin": "holds zero bytes, so it is no text",
    }
    assert not any("secret" in row["text"] for split in data.splits.values() for row in split)


def test_mostly_unreadable_folders_are_refused(tmp_path: Path) -> None:
    source = _folder(tmp_path, {"a.txt": b"\xff\xfe", "b.txt": b"\xff\xff", "c.txt": b"fine"})
    with pytest.raises(DataError, match="Too many rows cannot be used: 2 of 3") as caught:
        read(source, CorpusOptions())
    assert "not UTF-8" in str(caught.value)


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [json.dumps({"body": f"row {i}"}) for i in range(20)] + ["{broken", json.dumps({"title": "x"})]
    path.write_text("\n".join(rows))
    data = read(str(path), CorpusOptions(text="body"))
    assert sum(len(split) for split in data.splits.values()) == 20
    assert [row.where for row in data.rejected] == ["line 21", "line 22"]
    with pytest.raises(DataError, match="no text here") as caught:
        read(str(path), CorpusOptions())
    assert "no text under 'text', only body" in str(caught.value)


def test_one_file_is_divided_by_position(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("".join(f"line {i}\n" for i in range(1000)))
    data = read(str(tmp_path / "book.txt"), CorpusOptions())
    parts = [data.split(name)[0]["text"] for name in ("train", "validation", "test")]
    assert "".join(parts) == (tmp_path / "book.txt").read_text()


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no text or folder called"):
        read(str(tmp_path / "missing"), CorpusOptions())
    with pytest.raises(UnknownName) as caught:
        read("python-stdlb", CorpusOptions())
    assert "python-stdlib" in str(caught.value.do)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no text here"):
        read(str(tmp_path / "empty"), CorpusOptions())


def test_shares_are_shares() -> None:
    with pytest.raises(UsageError, match="test_share is out of range"):
        CorpusOptions(test_share=-1.0)
