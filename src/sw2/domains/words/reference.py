"""A step of learning in numpy, for tests and for machines without a compiler; a few thousand words a second.

It draws and computes what `kernels.cpp` does on one thread, window by window; values differ by rounding alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sw2.domains.words.lesson import Lesson, Told

__all__ = ["mixed", "step"]

_LONGEST: Final = 1000
_TOLD_EVERY: Final = 16
_SHARE: Final = np.float32(1 / (1 << 24))

Draws = NDArray[np.uint64]


def mixed(x: Draws) -> Draws:
    """SplitMix64 (Steele et al. 2014): 64 bits that follow from 64 bits as if they were drawn."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _share(drawn: Draws) -> NDArray[np.float32]:
    return (drawn & np.uint64(0xFFFFFF)).astype(np.float32) * _SHARE


def _below(drawn: Draws, bound: int) -> NDArray[np.int64]:
    return (((drawn >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32)).astype(np.int64)


def _lines(lesson: Lesson, begin: int, end: int, seed: int) -> Iterator[tuple[NDArray[np.int64], Draws]]:
    """Of each line the places of the words that stay, and what their draws begin from."""
    tokens = lesson.tokens[begin:end]
    places: Draws = np.arange(begin, end).astype(np.uint64)
    places += np.uint64(seed)
    base = mixed(places)
    stays = (tokens >= 0) & (_share(mixed(base)) < lesson.keep[tokens])
    for line in np.split(np.arange(len(tokens)), np.flatnonzero(tokens < 0)):
        kept = line[stays[line]]
        for first in range(0, len(kept), _LONGEST):
            some = kept[first : first + _LONGEST]
            yield some + begin, base[some]


def step(lesson: Lesson, begin: int, end: int, seed: int, rates: tuple[float, float]) -> Told:
    """Learn from tokens[begin:end]; the matrices of `lesson` change.

    Args:
        lesson: what is learned, see there; its `threads` say nothing here.
        begin, end: the piece of the corpus.
        seed: of this pass over the corpus, in [0, 2^63).
        rates: the learning rate at the begin and at the end of the piece.
    """
    loss, pairs, stayed = 0.0, 0, 0
    drawn = lesson.negatives * (2 * lesson.window if lesson.way == "subwords" else 1)
    ahead: Draws = np.arange(2, 2 + drawn).astype(np.uint64)
    for places, base in _lines(lesson, begin, end, seed):
        stayed += len(places)
        if len(places) < 2:
            continue
        words = lesson.tokens[places]
        widths = 1 + _below(mixed(base + np.uint64(1)), lesson.window)
        draws = mixed(base[:, None] + ahead)
        found = _below(draws, len(lesson.keep))
        negatives = np.where(_share(draws) < lesson.threshold[found], found, lesson.alias[found])
        for t, place in enumerate(places.tolist()):
            width = int(widths[t])
            beside = np.concatenate([words[max(0, t - width) : t], words[t + 1 : t + width + 1]])
            rate = np.float32(rates[0]) + np.float32(rates[1] - rates[0]) * np.float32((place - begin) / (end - begin))
            told = _window(lesson, int(words[t]), beside, negatives[t], np.float32(rate))
            if place % _TOLD_EVERY == 0:
                loss, pairs = loss + told[0], pairs + told[1]
    return Told(loss, pairs, stayed)


def _window(
    lesson: Lesson, middle: int, beside: NDArray[np.int32], negatives: NDArray[np.int64], rate: np.float32
) -> tuple[float, int]:
    """Learn from one window: (its loss, its pairs)."""
    if lesson.way == "skip-gram" and lesson.tree is not None:
        total = 0.0
        for word in beside.tolist():
            change, loss = _learned(lesson, lesson.input[[word]], middle, negatives, rate)
            lesson.input[word] += change[0]
            total += loss
        return total, len(beside)
    if lesson.way != "subwords":
        rows = lesson.input[beside]
        inputs = rows if lesson.way == "skip-gram" else rows.mean(0, dtype=np.float32)[None]
        change, loss = _learned(lesson, inputs, middle, negatives, rate)
        np.add.at(lesson.input, beside, change if lesson.way == "skip-gram" else np.broadcast_to(change, rows.shape))
        return loss, len(inputs)
    assert lesson.borders is not None
    assert lesson.parts is not None
    parts = lesson.parts[lesson.borders[middle] : lesson.borders[middle + 1]]
    mean = lesson.input[parts].mean(0, dtype=np.float32)[None]
    changed, total = np.zeros_like(mean), 0.0
    for place, right in enumerate(beside.tolist()):
        drawn = negatives[place * lesson.negatives : (place + 1) * lesson.negatives]
        change, loss = _learned(lesson, mean, right, drawn, rate)
        mean, changed, total = mean + change, changed + change, total + loss
    np.add.at(lesson.input, parts, np.broadcast_to(changed, (len(parts), changed.shape[1])))
    return total, len(beside)


def _learned(
    lesson: Lesson, inputs: NDArray[np.float32], right: int, negatives: NDArray[np.int64], rate: np.float32
) -> tuple[NDArray[np.float32], float]:
    """Vectors [N, S] beside the right word and those drawn, or the way to it: (their change, the loss)."""
    if lesson.tree is None:
        samples = np.concatenate([[right], negatives])
        used = np.concatenate([[1], negatives != right]).astype(np.float32)
        wanted = np.zeros(len(samples), np.float32)
        wanted[0] = 1
    else:
        way = slice(*lesson.tree.borders[right : right + 2])
        samples, wanted = lesson.tree.nodes[way], lesson.tree.turns[way]
        used = np.ones(len(samples), np.float32)
    out = lesson.output[samples]
    said = 1 / (1 + np.exp(-np.clip(inputs @ out.T, -30, 30)))
    error = (wanted - said) * used * rate
    np.add.at(lesson.output, samples, error.T @ inputs)
    surprise = -np.log(np.maximum(np.where(wanted > 0, said, 1 - said), 1e-30))
    return error @ out, float((surprise * used).sum())
