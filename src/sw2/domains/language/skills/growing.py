"""Texts and names put together of parts: the one grammar of what only train has.

    parts = {"dish": ["<how> soup", "<how> pie"], "how": ["onion", "leek"]}
    grow("a <dish> for <2-9>", parts, chance)         "an onion pie for 4"
    grow("<Dish>!", parts, chance)                    "Leek soup!"
    filled("I want a {item}.", {"item": "onion"})     "I want an onion."

`<dish>` becomes one of the words of that part, which may hold parts again; `<Dish>` the same, beginning with a capital;
`<2-9>` a number. A model that meets each name once can learn nothing but to copy it.

What it does not do: keep apart what is drawn, or see to sense; who draws must.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

__all__ = ["Parts", "careless", "filled", "grow", "listed", "mistyped", "with_an"]

Parts = Mapping[str, Sequence[str]]

_PART: Final = re.compile(r"(?P<a>\b[Aa] )?<(?:(?P<part>[A-Za-z][a-z]*(?:_[a-z]+)*)|(?P<least>-?\d+)-(?P<most>\d+))>")
# "a unit", "a used book"; of words with a capital U more are like "Utrecht" than like "Ulm".
_VOWEL: Final = r"(?!eu|uni|use)[aeiouAEIO]"


def grow(text: str, parts: Parts, chance: random.Random, avoid: Collection[str] = ()) -> str:
    """`text` with words for its parts and numbers for its ranges, none of `avoid` among them.

    A text without parts draws nothing from `chance`.
    """

    def one(found: re.Match[str]) -> str:
        part = found["part"]
        if part is None:
            return f"{found['a'] or ''}{chance.randint(int(found['least']), int(found['most']))}"
        while (word := grow(chance.choice(parts[part.lower()]), parts, chance, avoid)) in avoid:
            pass
        return _before(word, found["a"]) + (word if part[0].islower() else word[:1].upper() + word[1:])

    return _PART.sub(one, text)


def filled(text: str, words: Mapping[str, object]) -> str:
    """`text.format(**words)`, with "an" for "a" before a word that asks for it, quoted or not."""

    def article(found: re.Match[str]) -> str:
        return _before(str(words[found[2]]).lstrip("`'\""), found[1])

    return re.sub(r"\b([Aa] )(?=`?{(\w+)})", article, text).format(**words)


def with_an(text: str) -> str:
    """`text` with "an" for "a" wherever the next word asks for it."""
    return re.sub(rf"\b([Aa]) (?={_VOWEL})", r"\1n ", text)


def mistyped(text: str, chance: random.Random) -> str:
    """Two letters inside a word exchanged; what stands in braces is left alone."""
    words = list(re.finditer(r"(?<![{\w'])[A-Za-z]{5,}(?![}\w'])", text))
    if not words:
        return text
    at = chance.randrange((word := chance.choice(words)).start() + 1, word.end() - 2)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def careless(text: str, chance: random.Random, lower: float, unmarked: float) -> str:
    """`text` at times without capitals (in the share `lower`) or without its last mark (`unmarked`)."""
    drawn = chance.random()
    if drawn < lower:
        return text.lower()
    return text.rstrip("?.") if drawn < lower + unmarked else text


def listed(text: str) -> Sequence[str]:
    """The words of a part: separated by commas, over as many lines as it takes."""
    return " ".join(text.split()).split(", ")


def _before(word: str, article: str | None) -> str:
    """The article "a " as it has to stand before a word; "" where there is none."""
    if article is None:
        return ""
    return f"{article.strip()}n " if re.match(_VOWEL, word) else article
