"""Where sentences of a passage begin and end, however their lines are wrapped."""

from __future__ import annotations

import textwrap
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.verbs.grounding import sentences

LONG = "The access code of the Marlow vault is kept by Ines Dolfen, who changes it on every first day of a month."


def passage(text: str, headings: tuple[str, ...] = ()) -> Any:
    last = 10 + text.count("\n")
    return SimpleNamespace(text=text, path="a.md", unit="line", first=10, last=last, headings=headings)


def found(text: str) -> list[tuple[str, int]]:
    return [(each.text, each.position) for each in sentences(passage(text))]


def test_a_sentence_that_is_wrapped_is_one_and_stands_where_it_begins():
    text = "Tea is served.\n" + textwrap.fill(LONG, 60) + "\nVisitors wipe their shoes."
    assert found(text) == [("Tea is served.", 10), (LONG, 11), ("Visitors wipe their shoes.", 13)]


@given(st.integers(62, 110))
def test_prose_is_the_same_however_it_is_wrapped(width: int):
    said = [LONG, "Nobody else has ever known it, and the guard, old as he is, has never asked for it either.", "Why?"]
    assert [text for text, _ in found(textwrap.fill(" ".join(said), width))] == said


@pytest.mark.parametrize(
    "lines",
    [
        ("name: Marlow", "code: BK-4711", "floor: 2"),
        ("- the vault of Marlow, which nobody has opened for years", "- the ferry of Tarnow"),
        ("1) the vault of Marlow, which nobody has opened for years", "2) the ferry of Tarnow"),
        ("| vault | the Marlow one, which nobody has opened for years |", "| ferry | Tarnow |"),
        ("What visitors have to bring when they come for the first time:", "shoes that are clean"),
        ("A heading of a few words", "The text below it, which begins with a capital."),
    ],
)
def test_lines_that_were_not_wrapped_end_where_they_end(lines: tuple[str, ...]):
    assert found("\n".join(lines)) == [(line, number) for number, line in enumerate(lines, 10)]


def test_a_paragraph_ends_a_sentence():
    assert [text for text, _ in found(f"{LONG.removesuffix('.')}\n\nand more of it")] == [
        LONG.removesuffix("."),
        "and more of it",
    ]
