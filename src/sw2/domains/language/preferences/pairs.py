"""Pairs of answers as tokens, and batches of them.

Shapes: B pairs, T tokens, P places of an answer.

Both answers of a pair are rendered after the same prompt by the program's own chat template; only the tokens of the
*last* answer count, its end included. Both sides of all pairs of a batch are padded to one length, a multiple of 64, so
that shapes are few. A pair whose longer side does not fit into the context loses its prompt's beginning: what decides
between two answers stands near them, and cutting the answers themselves would compare halves. A pair whose answers
alone do not fit is left out, counted and named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch

from sw2.core.data import Example, Split
from sw2.core.gradient import Source
from sw2.core.model import Batch, Model
from sw2.domains.language.chat.template import ChatTemplate
from sw2.parts.data.order import ShuffledOrder

__all__ = ["Answer", "Pair", "Pairs", "as_batch", "encode", "last_answer", "only_pairs"]

_STEP: Final = 64


@final
@dataclass(frozen=True)
class Answer:
    """A conversation whose last answer is looked at.

    Args:
        tokens: all of it, int64 [T].
        begins: the place of the answer's first token.
    """

    tokens: np.ndarray
    begins: int

    def within(self, context: int) -> Answer | None:
        """The answer with as much before it as fits; None when it fits with nothing before it."""
        over = len(self.tokens) - context
        if over <= 0:
            return self
        return None if over >= self.begins else Answer(self.tokens[over:], self.begins - over)


@final
@dataclass(frozen=True)
class Pair:
    """Two answers to the same, the better one first."""

    chosen: Answer
    rejected: Answer


def last_answer(template: ChatTemplate, example: Example) -> Answer:
    """The last answer of an example ("messages", perhaps "tools").

    Raises:
        UsageError: as `ChatTemplate.marked`.
    """
    row = template.marked(example["messages"], example.get("tools") or ())[-1]
    # What the template writes behind the end of the answer (a line break, say) is not the answer's.
    end = max(number for number, written in enumerate(row.written) if written) + 1
    return Answer(np.asarray(row.tokens[:end], np.int64), row.begins[-1])


def only_pairs(examples: Split) -> list[Example]:
    """Those examples that have a rejected answer."""
    return [example for example in examples if example.get("rejected")]


def encode(template: ChatTemplate, examples: Split, context: int) -> tuple[list[Pair], list[str]]:
    """The pairs among `examples`, each side of at most `context` tokens; and the places of those that do not fit."""
    pairs: list[Pair] = []
    left_out: list[str] = []
    for example in only_pairs(examples):
        worse = {**example, "messages": [*example["messages"][:-1], example["rejected"]]}
        chosen, rejected = (last_answer(template, each).within(context) for each in (example, worse))
        if chosen is None or rejected is None:
            left_out.append(str(example.get("where", "")))
        else:
            pairs.append(Pair(chosen, rejected))
    return pairs, left_out


def as_batch(pairs: Sequence[Pair]) -> Batch:
    """Pairs, chosen before rejected: "tokens" int64 [B, 2, T], "last" int64 [B, 2] (the place of the last token);
    "places" and "targets" int64 [B, 2, P]: what the answers' tokens are predicted from, and the tokens, -1 where none.
    """
    sides = [side for pair in pairs for side in (pair.chosen, pair.rejected)]
    length = -(-max(len(side.tokens) for side in sides) // _STEP) * _STEP
    most = max(len(side.tokens) - side.begins for side in sides)
    tokens_NT, last_N = np.zeros((len(sides), length), np.int64), np.zeros(len(sides), np.int64)
    places_NP, targets_NP = np.zeros((len(sides), most), np.int64), np.full((len(sides), most), -1)
    for row, side in enumerate(sides):
        tokens_NT[row, : len(side.tokens)] = side.tokens
        last_N[row] = len(side.tokens) - 1
        answer = np.arange(side.begins, len(side.tokens))
        places_NP[row, : len(answer)], targets_NP[row, : len(answer)] = answer - 1, side.tokens[answer]
    arrays = {"tokens": tokens_NT, "last": last_N, "places": places_NP, "targets": targets_NP}
    return {name: torch.from_numpy(array).unflatten(0, (-1, 2)) for name, array in arrays.items()}


@final
class Pairs(Source):
    """Batches of pairs, shuffled."""

    def __init__(self, pairs: Sequence[Pair], batch: int, seed: int) -> None:
        self.pairs, self.order = pairs, ShuffledOrder(len(pairs), batch, seed)

    def batch(self, nets: Mapping[str, Model], step: int, rank: int, size: int) -> Batch:
        del nets
        return as_batch([self.pairs[int(number)] for number in self.order.share(step, rank, size)])

    def steps_per_epoch(self) -> float:
        return self.order.steps_per_epoch()

    @property
    def tokens(self) -> float:
        """Of a pair on average, both sides together."""
        return float(np.mean([len(pair.chosen.tokens) + len(pair.rejected.tokens) for pair in self.pairs]))
