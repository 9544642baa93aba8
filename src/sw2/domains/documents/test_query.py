"""Queries: what people type is never syntax, and identifiers are found whole and by their parts."""

from __future__ import annotations

import sqlite3

from hypothesis import example, given
from hypothesis import strategies as st

from sw2.domains.documents.query import any_of, terms


def _words() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE words USING fts5(a, tokenize='porter unicode61 remove_diacritics 2')")
    connection.execute("INSERT INTO words VALUES ('some text')")
    return connection


@given(st.text(max_size=200))
@example('a" OR "b')
@example("NEAR(a b, 2) AND NOT c")
@example("a\0b")
@example("{a}: ^b* + -c")
@example("\ud800")
@example("a." * 20_000)
@example(" ".join(f"w{n}" for n in range(20_000)))
def test_any_string_is_a_valid_query(query: str) -> None:
    asked = terms(query)
    if asked:
        connection = _words()
        connection.execute("SELECT * FROM words WHERE words MATCH ?", (any_of(asked),)).fetchall()
        connection.close()


@given(st.text(alphabet=st.characters(categories=["L", "N", "M"]), min_size=1))
def test_every_letter_and_number_counts(word: str) -> None:
    """Whatever has a letter or a number in it makes a query."""
    assert bool(terms(word)) == any(character.isalnum() for character in word)


def test_terms() -> None:
    assert terms("ImageClassifier parseHTML") == [
        "imageclassifier",
        "image",
        "classifier",
        "parsehtml",
        "parse",
        "html",
    ]
    assert terms("max_length") == ["max_length", "max", "length"]
    assert terms("the THE same Word word") == ["word"]
    assert terms("   ?!") == []
    assert len(terms(" ".join(f"w{n}" for n in range(100)))) == 64
