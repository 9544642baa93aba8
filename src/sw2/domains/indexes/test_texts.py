"""Texts as keys against bisect over bytes: texts there and beside, by every model, on the kernels and in Python."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.errors import UsageError
from sw2.domains.indexes import native
from sw2.domains.indexes import texts as module
from sw2.domains.indexes.key_model import KeyModel
from sw2.domains.indexes.models import MODELS
from sw2.domains.indexes.texts import SortedTexts, Texts, asked_texts, ends_of_texts, packed


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels, unless a test says otherwise; compiled once, in this session's home."""
    monkeypatch.setenv("SW2_NATIVE", "on")


REASON = native.why_not() or module.why_not()
needs_kernels = pytest.mark.skipif(REASON is not None, reason=str(REASON))
WAYS = [pytest.param("on", marks=needs_kernels), "off"]

SETS: dict[str, list[str]] = {
    "one": ["anna"],
    "empty": [""],
    "empties": ["", "", "a"],
    "equal": ["the same text"] * 40,
    "zeros": ["", "\0", "\0\0", "a", "a\0", "a\0\0", "a\0b", "abcdefgh", "abcdefgh\0", "abcdefgh\0\0\0", "abcdefgh\1"],
    "short": [f"{i:03}" for i in range(300)],
    "prefix": [f"https://example.org/{i:06}" for i in range(0, 3000, 7)],
    "runs": [f"usr/share/{'doc' * (i % 3)}/{i:05}" for i in range(200)] + ["usr/share"] * 20,
    "long": ["x" * i for i in range(40)] * 2,
    "languages": [
        "Ärger",
        "Zebra",
        "apfel",
        "apfel",
        "straße",
        "\u00e9",
        "e\u0301",
        "名前",
        "名",
        "\U0001f600",
        "\uffff",
        "~",
    ],
}


def beside(texts: Sequence[bytes]) -> list[bytes]:
    """The texts, what is just below and behind each, and the ends."""
    found = [b"", b"\0", b"\xff" * 20, b"usr/share/", b"https:"]
    for text in texts:
        found += [text, text + b"\0", text + b"~", text[:-1], text[:-1] + b"\xff", text[:9], text[1:]]
        if text and text[-1]:
            found.append(text[:-1] + bytes([text[-1] - 1]))
    return found


def made(texts: Sequence[str]) -> tuple[list[bytes], SortedTexts]:
    keys = sorted(text.encode() for text in texts)
    return keys, SortedTexts(packed(keys))


def fitted(name: str, heads: np.ndarray) -> KeyModel:
    return MODELS[name].fit(heads, MODELS[name].Config())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("called", sorted(SETS))
def test_no_answer_is_wrong(called: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SW2_NATIVE", way)
    keys, found = made(SETS[called])
    asked = beside(keys)
    wanted = [bisect_left(keys, each) for each in asked]
    for name in MODELS if way == "on" else ("pgm", "quantised-spline", "binary-search"):
        assert found.places(fitted(name, found.heads).locate, packed(asked)).tolist() == wanted, name
    assert found.halved(packed(asked)).tolist() == wanted


@pytest.mark.parametrize("way", WAYS)
def test_heads_are_the_bytes_behind_the_prefix(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SW2_NATIVE", way)
    _, found = made(["ab", "ab12345678", "ab123456789", "ab2"])
    assert found.prefix == b"ab"
    assert found.heads.tolist() == [0, 0x3132333435363738, 0x3132333435363738, 0x32 << 56]
    assert found.longest_run() == 2
    assert made(SETS["equal"])[1].longest_run() == 40


@pytest.mark.parametrize("way", WAYS)
def test_the_first_pair_out_of_order(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SW2_NATIVE", way)
    for texts, wrong in (
        (["a", "a", "a\0"], None),
        (["a", "b", "ab"], 1),
        (["ä", "z"], 0),
        (["a\0", "a"], 0),
        ([], None),
    ):
        assert packed(texts).unordered() == wrong


def test_where_the_first_text_begins_does_not_matter() -> None:
    """As in an Arrow array that is a slice of another."""
    whole = packed(["zz", "a", "bb", "bc"])
    part = Texts(whole.values, whole.starts[1:])
    assert list(part) == [b"a", b"bb", b"bc"]
    assert list(part[1:]) == list(part.take([1, 2])) == [b"bb", b"bc"]
    assert part.nbytes == 5 + 4 * 8
    found = SortedTexts(part)
    assert found.places(fitted("pgm", found.heads).locate, packed(["bb", "bbb"])).tolist() == [1, 2]


_TEXT = st.one_of(
    st.text(max_size=12), st.text("ab\0", max_size=20), st.text("ab", max_size=3).map("same prefix/".__add__)
)


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(_TEXT, min_size=1, max_size=60), asked=st.lists(_TEXT, max_size=20))
def test_any_texts_any_questions(texts: list[str], asked: list[str]) -> None:
    keys, found = made(texts)
    questions = beside(keys) + [text.encode() for text in asked]
    wanted = [bisect_left(keys, each) for each in questions]
    for name in ("pgm", "quantised-spline", "b-plus-tree"):
        assert found.places(fitted(name, found.heads).locate, packed(questions)).tolist() == wanted
    assert sorted(texts) == [key.decode() for key in keys]  # bytes are in the order of code points


@needs_kernels
def test_every_one_of_a_hundred_thousand_words() -> None:
    random = np.random.default_rng(0)
    letters = np.array(list("aaabcdeeeefghiiklmnoooprsttuvzäß'-/"))
    stems = ["".join(random.choice(letters, random.integers(1, 9))) for _ in range(3000)]
    words = {stems[i] + stems[j][: random.integers(9)] for i, j in random.integers(0, 3000, (120_000, 2))}
    keys, found = made(sorted(words)[:100_000])
    assert len(keys) > 80_000
    asked = keys + [key + b"s" for key in keys] + [key[:-1] for key in keys]
    wanted = [bisect_left(keys, each) for each in asked]
    order = random.permutation(len(asked))
    questions = packed(asked[i] for i in order)
    for name in MODELS:
        answers = found.places(fitted(name, found.heads).locate, questions)
        assert np.array_equal(answers, np.array(wanted)[order]), name


@needs_kernels
def test_a_model_of_other_heads_answers_right() -> None:
    keys, found = made(SETS["runs"])
    other = fitted("pgm", np.sort(np.random.default_rng(2).integers(0, 1 << 63, 3000).astype(np.uint64)))
    asked = beside(keys)
    assert found.places(other.locate, packed(asked)).tolist() == [bisect_left(keys, each) for each in asked]


def test_what_is_asked_keeps_its_shape() -> None:
    for values, flat, shape in (
        ("ab", [b"ab"], ()),
        (b"\xff", [b"\xff"], ()),
        (["a", "a\0"], [b"a", b"a\0"], (2,)),
        (np.array([["a", "ß"]]), [b"a", "ß".encode()], (1, 2)),
        (np.array([b"x", b""]), [b"x", b""], (2,)),
        ([], [], (0,)),
    ):
        texts, found = asked_texts(values)
        assert (list(texts), found) == (flat, shape)


@pytest.mark.parametrize("value", [17, None, ["a", 1.5], np.array([1]), [["a"], ["a", "b"]]])
def test_what_is_no_text_is_told(value: object) -> None:
    with pytest.raises(UsageError, match="cannot be compared"):
        asked_texts(value)


def test_half_of_a_character_is_told() -> None:
    with pytest.raises(UsageError, match="no UTF-8"):
        asked_texts("a\ud800")


@pytest.mark.parametrize(
    ("written", "low", "high", "ranged"),
    [
        ("a", "a", None, False),
        ("", "", None, False),
        ("a..b", "a", "b", True),
        ("..", None, None, True),
        (" a .. b", " a ", " b", True),
        (r"\..", "..", None, False),
        (r"\../x..\../y", "../x", "../y", True),
        (r"a\....b", "a..", "b", True),
        ("a...b", "a", ".b", True),
        (r"a\.b", r"a\.b", None, False),
        ("a\0\\..\0b", "a\0..\0b", None, False),
        ("a\nb..c\n", "a\nb", "c\n", True),
    ],
)
def test_two_dots_part_a_range_unless_they_are_written_otherwise(
    written: str, low: str | None, high: str | None, ranged: bool
) -> None:
    assert ends_of_texts(written) == (low, high, ranged)
