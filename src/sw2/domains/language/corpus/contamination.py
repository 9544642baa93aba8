"""How much of the held-out text stands in the training text too.

Two documents share a passage when they share a run of 13 words. A run that more than ten training documents hold is a
common phrase (a licence, an idiom) and does not count.

Source: Brown et al. 2020, https://arxiv.org/abs/2005.14165, appendix C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sw2.domains.language.corpus.documents import Document
from sw2.parts.data.minhash import distinct, whole_runs

__all__ = ["RUN", "Overlap", "overlap"]

RUN: Final = 13
_COMMON: Final = 10
_ALL_RUNS_KEPT: Final = 2**27
"""Of more held-out bytes than this only every second, third … run is looked for, chosen by its hash."""

_LAST_BITS: Final = np.uint64(2**24 - 1)

InBlocks = Callable[[Sequence[Document], Callable[[list[bytes]], Any]], Iterator[tuple[Sequence[Document], Any]]]


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What both sides share.

    Args:
        share: of the held-out runs, how many stand in the training text.
        pairs: held-out document, share of its runs, and a training document that holds most of these; worst first.
        holders: the training documents that hold such a run.
    """

    share: float
    pairs: Sequence[tuple[Document, float, Document]]
    holders: Sequence[Document]


def overlap(train: Sequence[Document], held_out: Sequence[Document], in_blocks: InBlocks) -> Overlap:
    """Compare both sides.

    Args:
        train: the training documents.
        held_out: the documents to judge on.
        in_blocks: computes a function of the texts of some documents at a time.
    """
    every = np.uint64(1 + sum(document.size for document in held_out) // _ALL_RUNS_KEPT)

    def hashes(texts: list[bytes]) -> list[NDArray[np.uint64]]:
        return [found[found % every == 0] if every > 1 else found for found in whole_runs(texts, RUN)]

    held = [distinct(runs) for _, found in in_blocks(held_out, hashes) for runs in found]
    wanted = distinct(np.concatenate(held)) if held else np.zeros(0, np.uint64)
    if not len(wanted):
        return Overlap(share=0.0, pairs=(), holders=())

    # Most runs stand nowhere else: a table of the last 24 bits says so without a search.
    perhaps = np.zeros(2**24, dtype=bool)
    perhaps[wanted & _LAST_BITS] = True

    def places(texts: list[bytes]) -> list[NDArray[np.int64]]:
        found = []
        for runs in hashes(texts):
            runs = distinct(runs[perhaps[runs & _LAST_BITS]])
            place = np.minimum(np.searchsorted(wanted, runs), len(wanted) - 1)
            found.append(place[wanted[place] == runs])
        return found

    holders: list[tuple[Document, NDArray[np.int64]]] = []
    counts = np.zeros(len(wanted), dtype=np.int64)
    for documents, found in in_blocks(train, places):
        for document, place in zip(documents, found, strict=True):
            if len(place):
                counts[place] += 1
                holders.append((document, place))
    shared = (counts > 0) & (counts <= _COMMON)
    holders = [(document, place[shared[place]]) for document, place in holders]
    holders = [(document, place) for document, place in holders if len(place)]
    holder_of: dict[int, list[int]] = {}
    for number, (_, place) in enumerate(holders):
        for run in place.tolist():
            holder_of.setdefault(run, []).append(number)
    pairs = []
    both = total = 0
    for document, runs in zip(held_out, held, strict=True):
        place = np.searchsorted(wanted, runs)
        common = place[shared[place]]
        both, total = both + len(common), total + len(place)
        if len(common):
            most = np.bincount([number for run in common.tolist() for number in holder_of[run]]).argmax()
            pairs.append((document, len(common) / len(place), holders[int(most)][0]))
    pairs.sort(key=lambda pair: (-pair[1], pair[0].where))
    return Overlap(share=both / total, pairs=pairs, holders=[document for document, _ in holders])
