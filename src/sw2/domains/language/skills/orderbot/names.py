"""Names that nobody has seen, grown from `parts.toml`: dishes, drinks, restaurants, addresses. For train alone.

    made("dish", chance, noun="pizza")     "smoky fennel pizza", "larippo pizza", "Ravi's pizza"
    made("address", chance)                "Flat 3, 17 Mirrorgasse"

What it does not do: keep names apart; who draws several must see to it that they can be told apart (`menus.py`).
"""

from __future__ import annotations

import functools
import random
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sw2.domains.language.skills.growing import grow

__all__ = ["made", "sizes"]


def made(kind: str, chance: random.Random, noun: str | None = None) -> str:
    """A name of a kind that stands in `parts.toml`; `noun` is the word that ends the names of dishes, None for any."""
    parts = _words()["parts"]
    return grow(f"<{kind}>", parts if noun is None else {**parts, "noun": [noun]}, chance)


def sizes(of: str, chance: random.Random) -> Sequence[str]:
    """The sizes of chief dishes ("main") or of drinks ("drink"), from small to large."""
    found: Sequence[str] = chance.choice(_words()["sizes"][of])
    return found


@functools.cache
def _words() -> Mapping[str, Any]:
    with open(Path(__file__).with_name("parts.toml"), "rb") as file:
        return tomllib.load(file)
