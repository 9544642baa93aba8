"""Copies and near-copies among documents, found before anything is divided, so that none stands on both sides.

Equal documents are told by their SHA-256. Near-copies share most of their runs of five words: MinHash signatures say
which pairs to compare, and those are read again and compared exactly, so nothing is dropped on an estimate. What
neither can see: a short text inside a long one.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sw2.domains.language.corpus.documents import Document
from sw2.parts.data.minhash import band_keys, distinct, groups, jaccard, runs, signatures

__all__ = ["Signed", "likeness", "near_copies", "signed"]

_ESTIMATE_OFF: Final = 0.15
"""Four standard errors of an estimate from 120 minima at 0.8; a pair further below is not read again."""


@dataclass(frozen=True)
class Signed:
    """What is kept of each document for the search: keys uint64 [R, B], sketches uint8 [R, K] (minima mod 256)."""

    keys: NDArray[np.uint64]
    sketches: NDArray[np.uint8]


def signed(texts: Sequence[bytes]) -> Signed:
    """The keys and sketches of some texts."""
    found = signatures(runs(texts))
    return Signed(band_keys(found), found.astype(np.uint8))


def _runs(document: Document) -> NDArray[np.uint64]:
    return runs([document.text().encode()])[0]


def likeness(one: Document, other: Document) -> float:
    """The Jaccard similarity of their runs of five words."""
    return jaccard(_runs(one), _runs(other))


def near_copies(documents: Sequence[Document], known: Signed, similarity: float) -> list[list[int]]:
    """The numbers of the documents in groups of near-copies, most of them groups of one.

    Documents that a chain of near-copies connects are one group. The groups depend on the contents alone, not on names
    or order.

    Args:
        documents: different ones.
        known: of the same documents.
        similarity: from which Jaccard similarity on two are near-copies.
    """
    order = sorted(range(len(documents)), key=lambda number: documents[number].digest)
    keys, sketches = known.keys[order], known.sketches[order]
    without_words = (sketches == 255).all(axis=1)
    keys[without_words] = np.flatnonzero(without_words)[:, None].astype(np.uint64)

    @functools.lru_cache(maxsize=64)
    def runs_of(number: int) -> NDArray[np.uint64]:
        return distinct(_runs(documents[order[number]]))

    def alike(one: int, other: int) -> bool:
        if (sketches[one] == sketches[other]).mean() < similarity - _ESTIMATE_OFF:
            return False
        return jaccard(runs_of(one), runs_of(other)) >= similarity

    found: dict[int, list[int]] = {}
    for number, first in enumerate(groups(keys, alike).tolist()):
        found.setdefault(first, []).append(order[number])
    return list(found.values())
