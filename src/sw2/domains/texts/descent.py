"""What the descent is told, and the descent in numpy: the reference of `kernels.cpp`, and the way without a compiler.

It computes what the kernels do on one thread, text by text; values differ by rounding alone.

Shapes: N texts, R rows, D dimensions, K labels (with hierarchical softmax: nodes of their tree), M rows of a text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sw2.domains.texts.bags import Bags
from sw2.parts.formats import fasttext

__all__ = ["Lesson", "Ways", "learn", "ways_of"]


@dataclass(frozen=True, kw_only=True)
class Ways:
    """The way from the root of a tree to each label.

    Args:
        starts: int64 [K + 1]; the way to label k is nodes[starts[k] : starts[k + 1]].
        nodes: int64, the inner nodes above it.
        turns: float32, 1 where the way goes to the right, 0 where to the left.
    """

    starts: NDArray[np.int64]
    nodes: NDArray[np.int64]
    turns: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is learned, and from what.

    Args:
        bags: the texts.
        targets: int64 [N], the right labels.
        input: float32 [R, D]; changed where it lies.
        output: float32 [K, D]; changed where it lies.
        ways: for hierarchical softmax; None for softmax.
        threads: how many work at once, from 1; here always one.
    """

    bags: Bags
    targets: NDArray[np.int64]
    input: NDArray[np.float32]
    output: NDArray[np.float32]
    ways: Ways | None = None
    threads: int = 1


def learn(lesson: Lesson, chosen: NDArray[np.int64], rates: tuple[float, float]) -> float:
    """Learn some texts one after the other.

    Args:
        lesson: its matrices change.
        chosen: int64, the numbers of the texts.
        rates: at the first of them, and behind the last; a straight line between.

    Returns:
        The sum of their losses, each before the text was learned. Not a number where one is not finite: that text has
        changed nothing, and none behind it was learned.
    """
    loss = 0.0
    with np.errstate(all="ignore"):  # looked at for each text
        for number, text in enumerate(chosen.tolist()):
            rate = rates[0] + (rates[1] - rates[0]) * number / len(chosen)
            loss += _learn(lesson, text, np.float32(rate))
            if not math.isfinite(loss):
                return math.nan
    return loss


def _learn(lesson: Lesson, text: int, rate: np.float32) -> float:
    rows, counts = np.unique(lesson.bags[text], return_counts=True)
    if not len(rows):
        return 0.0
    shares = (counts / counts.sum()).astype(np.float32)
    hidden = shares @ lesson.input[rows]
    target = int(lesson.targets[text])
    nodes: NDArray[np.int64] | slice
    if lesson.ways is not None:
        way = slice(*lesson.ways.starts[target : target + 2].tolist())
        nodes = lesson.ways.nodes[way]
        some = lesson.output[nodes]
        missing = lesson.ways.turns[way] - 1 / (1 + np.exp(-(some @ hidden)))
        loss = -float(np.log(np.maximum(1 - np.abs(missing), np.float32(1e-12))).sum())
    else:
        nodes, some = slice(None), lesson.output
        scores = some @ hidden
        raised = np.exp(scores - scores.max())
        guessed = raised / raised.sum()
        missing = -guessed
        missing[target] += 1
        loss = -math.log(max(float(guessed[target]), 1e-12)) if np.isfinite(guessed[target]) else math.nan
    if not math.isfinite(loss + float(hidden @ hidden)):
        return math.nan
    step = rate * missing
    change = step @ some
    lesson.output[nodes] += np.outer(step, hidden)
    lesson.input[rows] += np.outer(shares, change)
    return loss


def ways_of(tree: Sequence[tuple[int, int]]) -> Ways:
    """The ways of Huffman's tree over the labels; see `formats.fasttext.huffman`."""
    starts, nodes, turns = fasttext.ways(tree)
    return Ways(starts=starts, nodes=nodes.astype(np.int64), turns=turns)
