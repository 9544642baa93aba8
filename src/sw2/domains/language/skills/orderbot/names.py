"""Names that nobody has seen, put together from the parts in `parts.toml`: dishes, drinks, restaurants, addresses.

    made("dish", chance, noun="pizza")     "smoky fennel pizza", "larippo pizza", "Ravi's pizza"
    made("address", chance)                "Flat 3, 17 Mirrorgasse"

They are for the train split alone: a model that meets each name once can learn nothing but to copy it.

What it does not do: keep names apart; who draws several must see to it that they can be told apart (`menus.py`).
"""

from __future__ import annotations

import functools
import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["made", "sizes"]


def made(kind: str, chance: random.Random, **given: str) -> str:
    """A name of a kind that stands in `parts.toml`; words that are `given` are not drawn."""

    def word(match: re.Match[str]) -> str:
        return given.get(match[1]) or _word(match[1], chance)

    return re.sub(r"\{(\w+)\}", word, chance.choice(_parts()["patterns"][kind]))


def sizes(of: str, chance: random.Random) -> Sequence[str]:
    """The sizes of chief dishes ("main") or of drinks ("drink"), from small to large."""
    found: Sequence[str] = chance.choice(_parts()["sizes"][of])
    return found


def _word(name: str, chance: random.Random) -> str:
    """A word from the list of a name; a name that begins with a capital and has no list begins the word with one."""
    parts = _parts()
    if name in parts["words"]:
        return str(chance.choice(parts["words"][name]))
    if name in parts["patterns"]:
        return made(name, chance)
    if name in parts["numbers"]:
        return str(chance.randint(*parts["numbers"][name]))
    if name == "letter":
        return chance.choice("abcd")
    if name == "coined":
        syllables = parts["syllables"]
        middle = chance.choice(syllables["middle"]) if chance.random() < 0.4 else ""
        return chance.choice(syllables["first"]) + middle + chance.choice(syllables["last"])
    drawn = _word(name.lower(), chance)
    return drawn[0].upper() + drawn[1:]


@functools.cache
def _parts() -> Mapping[str, Any]:
    with open(Path(__file__).with_name("parts.toml"), "rb") as file:
        return tomllib.load(file)
