"""Two languages as data: tables of vectors, a dictionary where there is one, and a named pair that sw2 makes itself.

`turned-words` are two made-up languages of 600 words: points in clusters, and the same points turned, in another order
and with noise, under other names. A part of its dictionary is for judging, none of it is learned from.

What it does not do: read vector files (`parts.formats.vectors`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np

from sw2.parts.formats.vectors import VectorTable

__all__ = ["NAMED", "Languages", "Lookup", "first_words", "turned_words"]

NAMED: Final = "turned-words"


@final
class Lookup:
    """The row of a word, as it is written or else in small letters."""

    def __init__(self, words: Sequence[str]) -> None:
        self._rows = {word: row for row, word in enumerate(words)}

    def __call__(self, word: str) -> int | None:
        found = self._rows.get(word)
        return self._rows.get(word.lower()) if found is None else found


@final
@dataclass(frozen=True)
class Languages(Sequence[Mapping[str, Any]]):
    """Two vocabularies; as examples, the words of the source.

    Args:
        source, target: their tables, with as many dimensions, the most frequent words first.
        dictionary: translations by word, to learn from; empty without one.
    """

    source: VectorTable
    target: VectorTable
    dictionary: Mapping[str, Sequence[str]]

    def __len__(self) -> int:
        return len(self.source.words)

    def __getitem__(self, index: Any) -> Any:
        return {"word": self.source.words[index]}


def first_words(table: VectorTable, most: int) -> VectorTable:
    """The table with its first words only, which are the most frequent ones."""
    counts = None if table.counts is None else table.counts[:most]
    return VectorTable(words=list(table.words[:most]), matrix=table.matrix[:most], counts=counts)


def turned_words() -> tuple[Languages, dict[str, list[str]]]:
    """Two made-up languages, and the dictionary between them."""
    words, dimensions, clusters = 600, 24, 40
    random = np.random.Generator(np.random.PCG64(7))
    spread = np.arange(1, dimensions + 1) ** -0.5
    middles = random.normal(size=(clusters, dimensions)) * spread
    points = middles[random.integers(0, clusters, words)] + 0.7 * random.normal(size=(words, dimensions)) * spread
    turn = np.linalg.qr(random.normal(size=(dimensions, dimensions)))[0]
    order = np.argsort(np.arange(words) + random.normal(size=words) * 30)
    others = (points + 0.2 * random.normal(size=points.shape) * spread)[order] @ turn
    source, target = ([f"{letter}{number}" for number in range(words)] for letter in "qw")
    dictionary = {source[row]: [target[place]] for place, row in enumerate(order)}
    languages = Languages(
        VectorTable(words=source, matrix=points.astype(np.float32)),
        VectorTable(words=target, matrix=others.astype(np.float32)),
        {},
    )
    return languages, dictionary
