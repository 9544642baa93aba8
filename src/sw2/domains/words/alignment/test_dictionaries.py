"""Dictionaries of every kind, what is wrong with some, and FreeDict's by a package client that fetches nothing."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.base.errors import DataError, UsageError
from sw2.base.packages import DebianFiles
from sw2.base.store import sha256_of_bytes
from sw2.domains.words.alignment import dictionaries
from sw2.domains.words.alignment.dictionaries import FREEDICT, freedict, is_for_judging, read_dictionary

ENTRIES = (
    ("00databaseinfo", "A dictionary\n"),
    ("bath", "bath /bˈaθ/\n1. vasca da bagno\n2. bagno\n"),
    ("bathing suit", "bathing suit /x/\ncostume\n"),
    ("beast", "beast /bˈiːst/\nanimale, bestia (brute); belva\n"),
    ("bear", "bear\n1. produrre\n2. orso\n"),
    ("bear", "bear /bˈeə/\norso, portare\n"),
)
WANTED = {"bath": ["bagno"], "beast": ["animale", "bestia", "belva"], "bear": ["produrre", "orso", "portare"]}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def spelled(number: int) -> str:
    return (spelled(number // 64) if number >= 64 else "") + LETTERS[number % 64]


def dictd() -> tuple[bytes, bytes]:
    """A dictionary of dictd and its index."""
    content, lines = b"", []
    for headword, entry in ENTRIES:
        lines.append(f"{headword}\t{spelled(len(content))}\t{spelled(len(entry.encode()))}")
        content += entry.encode()
    return content, ("\n".join(lines) + "\n").encode()


@pytest.mark.parametrize("packed", [False, True])
def test_a_dictionary_of_dictd(packed: bool, tmp_path: Path) -> None:
    content, index = dictd()
    path = tmp_path / ("eng-ita.dict.dz" if packed else "eng-ita.dict")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match="index of this dictionary is missing"):
        read_dictionary(path)
    (tmp_path / "eng-ita.index").write_bytes(index)
    assert read_dictionary(path).entries == WANTED


@pytest.mark.parametrize(
    "text",
    [
        "dog cane\ncat gatto\ncat micio\n",
        "dog\tcane\r\ncat\tgatto\n\ncat\tmicio\nhot dog\tpanino",
        "\ufeffdog cane\ncat  gatto\ncat gatto\ncat micio",
    ],
)
def test_a_text_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_bytes(text.encode())
    assert read_dictionary(path).entries == {"dog": ["cane"], "cat": ["gatto", "micio"]}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no pair of single words"),
        (b"hot dog\tpanino con salsiccia\n", "no pair of single words"),
        (b"dog cane perro\n", "Too many rows cannot be used"),
        (b"dog\tcane\tn.\ncat\tgatto\tn.\n", "Too many rows cannot be used"),
        (b"dog cane\ncat \xff\n", "line 2"),
        (gzip.compress(b"dog cane\n" * 99, mtime=0)[:-9], "cut off or damaged"),
    ],
)
def test_what_is_no_dictionary(content: bytes, told: str, tmp_path: Path) -> None:
    (path := tmp_path / "pairs.txt").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_dictionary(path)
    assert told in str(caught.value)
    with pytest.raises(DataError, match="no such dictionary"):
        read_dictionary(tmp_path / "nothing.txt")


def test_a_few_bad_lines_are_named(tmp_path: Path) -> None:
    (path := tmp_path / "pairs.txt").write_text("dog cane\n" + "".join(f"w{n} x{n}\n" for n in range(30)) + "one\n")
    found = read_dictionary(path)
    assert [row.where.rpartition(", ")[2] for row in found.rejected] == ["line 32"]


def test_the_share_for_judging_belongs_to_the_word() -> None:
    words = [f"word{number}" for number in range(2000)]
    assert np.mean([is_for_judging(word, 0.25) for word in words]) == pytest.approx(0.25, abs=0.04)
    assert all(is_for_judging(word, 0.6) for word in words if is_for_judging(word, 0.5))
    assert is_for_judging("Dog", 0.5) == is_for_judging("dog", 0.5)


@given(st.integers(0, 10**9))
def test_numbers_to_the_base_of_64(number: int) -> None:
    assert dictionaries._number(spelled(number)) == number


def test_freedict_is_asked_for_once_fetched_checked_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    content, index = dictd()
    files = {"usr/nowhere/x.dict.dz": gzip.compress(content), "usr/nowhere/x.index": index}
    monkeypatch.setitem(
        FREEDICT,  # type: ignore[arg-type]
        "freedict-eng-ita",
        DebianFiles(
            title="A dictionary",
            package="dict-x",
            files={name: sha256_of_bytes(each) for name, each in files.items()},
            size="1 kB",
            licence="GPL",
        ),
    )

    def run(command: list[str], cwd: Path, **_: Any) -> None:
        if command[0] == "apt-get":
            (cwd / "dict-x_1_all.deb").touch()
        else:
            for name, each in files.items():
                (cwd / "unpacked" / name).parent.mkdir(parents=True, exist_ok=True)
                (cwd / "unpacked" / name).write_bytes(each)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    asked: list[str] = []
    with pytest.raises(UsageError, match="was not fetched"):
        freedict("freedict-eng-ita", lambda _: False)
    assert freedict("freedict-eng-ita", lambda question: bool(asked.append(question) or True)).entries == WANTED
    assert "1 kB" in asked[0]
    assert "GPL" in asked[0]
    assert freedict("freedict-eng-ita", lambda _: False).entries == WANTED
