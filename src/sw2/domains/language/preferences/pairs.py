"""Pairs of answers as tokens, and batches of them.

Shapes: T tokens of a row · R rows · N pairs of a row at most · Q tokens of a row's answers at most

Both answers of a pair are rendered after the same prompt by the program's own chat template; only the tokens of the
*last* answer count, its end included. What both begin with is read once (`language.branches`), and a row holds as many
whole pairs as fit, which do not see each other: pairs are of very unlike lengths, and each in a row of its own would be
padded to the longest. A pair whose longer side does not fit into the context loses its prompt's beginning: what
decides between two answers stands near them, and cutting the answers themselves would compare halves. A pair whose
answers alone do not fit is left out, counted and named.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch

from sw2.core.data import Example, Split
from sw2.core.gradient import Source
from sw2.core.model import Batch, Model
from sw2.domains.language.branches import Group, Text, learned, packed
from sw2.domains.language.chat.template import ChatTemplate
from sw2.parts.data.order import ShuffledOrder
from sw2.parts.data.packing import shared_rows

__all__ = ["Answer", "Pair", "Pairs", "as_batch", "encode", "last_answer", "only_pairs"]

_ROW: Final = 1024
"""Rows are at least this long, in tokens, so that short pairs share them."""
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

    @property
    def size(self) -> int:
        """How many tokens the answer itself has."""
        return len(self.tokens) - self.begins

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


def as_batch(rows: Sequence[Sequence[Pair]], length: int, most: tuple[int, int] | None = None, *, share: bool) -> Batch:
    """Rows of whole pairs.

    Args:
        rows: the pairs of each.
        length: T, at least what each row needs.
        most: N and Q, where batches shall be alike; as many as these rows need if None.
        share: whether what two answers have in common is read once. Without, each is a document of its own.

    Returns:
        What `branches.read` takes out, [R, T]; "last" int64 [R, N, 2], where in its row the text with the chosen answer
        ends and the one with the rejected; "known" bool [R, N], false where there are no more pairs; and of all tokens
        of answers "places" and "targets" int64 [R, Q], where each is predicted and what it is, -1 where there are no
        more, with "answers" int64 [R, Q]: 2 n for the chosen answer of pair n, 2 n + 1 for the rejected.
    """
    groups = [[each for pair in row for each in _groups(pair, share)] for row in rows]
    arrays, where = packed(groups, length)
    N, Q = most or (max(map(len, rows)), None)
    last_RN2, known_RN = np.zeros((len(rows), N, 2), np.int64), np.zeros((len(rows), N), bool)
    for row, (pairs, found) in enumerate(zip(rows, where, strict=True)):
        known_RN[row, : len(pairs)] = True
        last_RN2[row, : len(pairs)] = np.reshape([there[-1] for there in itertools.chain(*found)], (-1, 2))
    if not share:
        del arrays["branches"], arrays["positions"]
    of_answers = learned(groups, where, Q)
    arrays |= {"last": last_RN2, "known": known_RN, "answers": of_answers.pop("texts"), **of_answers}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _groups(pair: Pair, share: bool) -> list[Group]:
    sides = pair.chosen.text(), pair.rejected.text()
    return [Group.of(sides)] if share else [Group([text]) for text in sides]


@final
class Pairs(Source):
    """Rows of pairs, shuffled.

    Args:
        pairs: what is packed, the longest first and each into the row with the least room that still takes it.
        batch: rows of a step.
        seed: of their order.
        share: as of `as_batch`.
        one_shape: whether all batches are alike, as a compiler wants it.
    """

    def __init__(self, pairs: Sequence[Pair], batch: int, seed: int, *, share: bool, one_shape: bool = False) -> None:
        self.share = share
        sizes = np.array([sum(group.size for group in _groups(pair, share)) for pair in pairs], np.int64)
        self.length = -(-max(int(sizes.max()), min(_ROW, int(sizes.sum()))) // _STEP) * _STEP
        self.rows = [[pairs[number] for number in row] for row in shared_rows(sizes, self.length)]
        self.most = None
        if one_shape:
            answers = [sum(pair.chosen.size + pair.rejected.size for pair in row) for row in self.rows]
            self.most = max(map(len, self.rows)), max(answers)
        self.order = ShuffledOrder(len(self.rows), batch, seed)
        self.pairs, self.read = len(pairs), int(sizes.sum())

    def batch(self, nets: Mapping[str, Model], step: int, rank: int, size: int) -> Batch:
        del nets
        return self.of_rows(self.order.share(step, rank, size))

    def of_rows(self, numbers: Sequence[int] | np.ndarray) -> Batch:
        """These rows, as `as_batch` has them."""
        return as_batch([self.rows[int(number)] for number in numbers], self.length, self.most, share=self.share)

    def steps_per_epoch(self) -> float:
        return self.order.steps_per_epoch()

    def note(self) -> str:
        """What a user should know of how the pairs were packed."""
        return (
            f"{self.pairs} pairs in {len(self.rows)} rows of {self.length} tokens; a pair takes "
            f"{self.read / self.pairs:.0f} on average, both sides together and what they have in common once"
        )
