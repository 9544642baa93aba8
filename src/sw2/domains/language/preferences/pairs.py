"""Pairs of answers as tokens, and batches of them.

Shapes: T tokens.

Both answers of a pair are rendered after the same prompt by the program's own chat template; only the tokens of the
*last* answer count, its end included. A batch (`branches.as_batch`) has groups of two, the chosen one first. A pair
whose longer side does not fit into the context loses its prompt's beginning: what decides between two answers stands
near them, and cutting the answers themselves would compare halves. A pair whose answers alone do not fit is left out,
counted and named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from sw2.core.data import Example, Split
from sw2.core.gradient import Source
from sw2.core.model import Batch, Model
from sw2.domains.language.branches import Text
from sw2.domains.language.branches import as_batch as branching
from sw2.domains.language.chat.template import ChatTemplate
from sw2.parts.data.order import ShuffledOrder

__all__ = ["Answer", "Pair", "Pairs", "as_batch", "encode", "last_answer", "only_pairs"]


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

    def without(self, first: int) -> Answer | None:
        """The answer with the prompt's first tokens left out; None when not so many stand before it."""
        return Answer(self.tokens[first:], self.begins - first) if first < self.begins else None

    def within(self, context: int) -> Answer | None:
        """The answer with as much before it as fits; None when it fits with nothing before it."""
        return self.without(max(0, len(self.tokens) - context))

    def text(self) -> Text:
        """The answer's tokens as targets."""
        targets = np.append(self.tokens[1:], -1)
        targets[: self.begins - 1] = -1
        return Text(self.tokens, targets)


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
        sides = [last_answer(template, each) for each in (example, worse)]
        # Both lose as much, so that they still have their prompt in common.
        over = max(0, *(len(side.tokens) - context for side in sides))
        chosen, rejected = (side.without(over) for side in sides)
        if chosen is None or rejected is None:
            left_out.append(str(example.get("where", "")))
        else:
            pairs.append(Pair(chosen, rejected))
    return pairs, left_out


def as_batch(pairs: Sequence[Pair], *, share: bool) -> Batch:
    """Pairs as groups of two, chosen before rejected; see `branches.as_batch`."""
    return branching([(pair.chosen.text(), pair.rejected.text()) for pair in pairs], share=share)


@final
class Pairs(Source):
    """Batches of pairs, shuffled; `share` is that of `branches.as_batch`."""

    def __init__(self, pairs: Sequence[Pair], batch: int, seed: int, *, share: bool) -> None:
        self.pairs, self.share, self.order = pairs, share, ShuffledOrder(len(pairs), batch, seed)

    def batch(self, nets: Mapping[str, Model], step: int, rank: int, size: int) -> Batch:
        del nets
        chosen = [self.pairs[int(number)] for number in self.order.share(step, rank, size)]
        return as_batch(chosen, share=self.share)

    def steps_per_epoch(self) -> float:
        return self.order.steps_per_epoch()

    @property
    def tokens(self) -> float:
        """Of a pair on average, both sides together."""
        return float(np.mean([len(pair.chosen.tokens) + len(pair.rejected.tokens) for pair in self.pairs]))
