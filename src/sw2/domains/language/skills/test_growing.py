"""The grammar of parts: words, numbers, capitals, articles, and what is avoided."""

import random

import pytest

from sw2.domains.language.skills.growing import filled, grow, with_an

PARTS = {"dish": ["<how> soup"], "how": ["onion"], "big_place": ["Utrecht", "Oslo"], "title": ["A is in <big_place>"]}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a <dish>", "an onion soup"),
        ("A <how>, the <how>", "An onion, the onion"),
        ("<Dish> for <3-3>", "Onion soup for 3"),
        ("<TEXT> a < b > <3>", "<TEXT> a < b > <3>"),
        ("Hall <title>", "Hall A is in Oslo"),
    ],
)
def test_parts_become_words(text, wanted):
    assert grow(text, PARTS, random.Random(0), avoid=("Utrecht",)) == wanted


def test_numbers_are_of_their_range_and_a_text_without_parts_draws_nothing():
    chance = random.Random(0)
    assert {grow("<-1-1>", {}, chance) for _ in range(50)} == {"-1", "0", "1"}
    state = chance.getstate()
    assert grow("a onion", {}, chance) == "a onion"
    assert chance.getstate() == state


def test_articles():
    assert (
        filled(
            "A {item} by {brand}; in {hall} is a {thing}, a `{error}`.",
            {"item": "umbrella", "brand": "Ada", "hall": "Hall A", "thing": "unit", "error": "OSError"},
        )
        == "An umbrella by Ada; in Hall A is a unit, an `OSError`."
    )
    assert with_an("a Oslo roll, a used book, a Utrecht tart") == "an Oslo roll, a used book, a Utrecht tart"
