"""Sets of keys, numbers or texts, as the kernels take them; and how keys and questions become such a set.

    of_texts(["a", "b"]) · of_numbers(array) -> KeySet        .hashes()   .scores(weights)   .learn(…)

A number is the 64 bits that keep its order (`indexes.reference.ordered`), so that whole and broken numbers and times
are one thing here. A text is its UTF-8 bytes, as they are: no two texts become one.

What it does not do: files (`data`), NaN.

Shapes: N keys · B bytes of all texts · W = 2^power weights
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from ctypes import CDLL
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from sw2.base.errors import UsageError
from sw2.base.native import compiled, failure, switched_off
from sw2.domains.indexes import reference as numbers_in_order
from sw2.domains.indexes.filters import reference
from sw2.domains.indexes.keys import TEXT, KeyKind, asked
from sw2.domains.indexes.native import invoke
from sw2.domains.indexes.texts import packed

__all__ = ["KeySet", "library", "of_numbers", "of_questions", "of_texts", "why_not"]

_AT_ONCE: Final = 1 << 14


@functools.cache
def library() -> CDLL:
    """The compiled kernels."""
    return compiled(Path(__file__).with_name("kernels.cpp"), "portable", ("-ffp-contract=off",))


def why_not() -> str | None:
    """Why the kernels do not run here, in one sentence; None when they do."""
    return "SW2_NATIVE is off." if switched_off() else failure(library)


@final
@dataclass(frozen=True, eq=False)
class KeySet:
    """Keys of one type.

    Args:
        values: numbers in their ordered bits, uint64 [N]; or the bytes of all texts, uint8 [B].
        starts: where each text begins and the last one ends, int64 [N + 1]; None for numbers.
    """

    values: np.ndarray
    starts: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.values) if self.starts is None else len(self.starts) - 1

    def take(self, which: np.ndarray | slice) -> KeySet:
        """The keys of these places, or under this mask, in a set of their own."""
        if self.starts is None:
            return KeySet(np.ascontiguousarray(self.values[which]))
        places = np.arange(len(self))[which]
        lengths = np.diff(self.starts)[places]
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        bytes_ = np.arange(starts[-1]) + np.repeat(self.starts[places] - starts[:-1], lengths)
        return KeySet(self.values[bytes_], starts)

    def followed_by(self, other: KeySet) -> KeySet:
        """These keys and then those of `other`, which are of the same type."""
        values = np.concatenate([self.values, other.values])
        if self.starts is None or other.starts is None:
            assert self.starts is other.starts, "numbers with numbers, texts with texts"
            return KeySet(values)
        return KeySet(values, np.concatenate([self.starts, other.starts[1:] + len(self.values)]))

    def text(self, place: int) -> str:
        """The text at a place."""
        assert self.starts is not None
        return bytes(self.values[self.starts[place] : self.starts[place + 1]]).decode()

    def hashes(self) -> NDArray[np.uint64]:
        """64 bits for each key, uint64 [N]."""
        if why_not() is None:
            found = np.empty(len(self), np.uint64)
            invoke(getattr(library(), f"hash_{self._kind}"), *self._arrays, len(self), found)
            return found
        if self.starts is None:
            return reference.hashes_of_numbers(self.values)
        return reference.hashes_of_texts(self.values, self.starts)

    def scores(self, weights: NDArray[np.int8]) -> NDArray[np.int32]:
        """The sum of each key's weights, int32 [N].

        Args:
            weights: [W].
        """
        power = len(weights).bit_length() - 1
        found = np.empty(len(self), np.int32)
        if why_not() is None:
            invoke(getattr(library(), f"score_{self._kind}"), *self._arrays, len(self), weights, power, found)
            return found
        for part, keys in self._parts():
            found[part] = reference.scores(keys._features(power), weights)
        return found

    def learn(
        self,
        order: NDArray[np.int64],
        member: NDArray[np.uint8],
        batch: int,
        rate: float,
        weights: NDArray[np.float32],
        squares: NDArray[np.float32],
    ) -> None:
        """One pass of logistic regression by AdaGrad, which changes the last two in their place.

        Args:
            order: the places of examples, [E].
            member: 1 for a key, 0 for another, [N].
            batch: examples whose scores are taken before their changes are made.
            rate: the length of a step.
            weights, squares: of each feature, and the sum of its squared slopes, above 0; [W].
        """
        power = len(weights).bit_length() - 1
        if why_not() is None:
            numbers = (len(order), member, power, batch, np.array([rate], np.float32))
            invoke(getattr(library(), f"learn_{self._kind}"), *self._arrays, order, *numbers, weights, squares)
        else:
            reference.learn(self._features(power), order, member, batch, np.float32(rate), weights, squares)

    @property
    def _kind(self) -> str:
        return "numbers" if self.starts is None else "texts"

    @property
    def _arrays(self) -> list[np.ndarray]:
        return [self.values] if self.starts is None else [self.values, self.starts]

    def _features(self, power: int) -> reference.Features:
        if self.starts is None:
            return reference.features_of_numbers(self.values, power)
        return reference.features_of_texts(self.values, self.starts, power)

    def _parts(self) -> Iterator[tuple[slice, KeySet]]:
        for start in range(0, len(self), _AT_ONCE):
            part = slice(start, min(start + _AT_ONCE, len(self)))
            yield part, self.take(part)


def of_texts(texts: Sequence[str | bytes]) -> KeySet:
    """A set of texts, as they are."""
    found = packed(texts)
    return KeySet(found.values, found.starts)


def of_numbers(keys: np.ndarray) -> KeySet:
    """A set of numbers: int64, uint64 or float64 without NaN, [N]."""
    return KeySet(np.ascontiguousarray(numbers_in_order.ordered(np.ascontiguousarray(keys))))


def of_questions(values: Any, kind: KeyKind) -> tuple[KeySet, NDArray[np.bool_]]:
    """What was asked as keys of a type, and which of them can be one: 2.5 is no key among whole numbers.

    Args:
        values: of the type, or what `indexes.keys.asked` compares with it; alone or in an array, flattened.

    Raises:
        UsageError: one of them cannot be compared with such keys.
    """
    if kind != TEXT:
        question = asked(values, kind)
        possible = question.exact & ~question.beyond & (question.keys == question.keys)
        return of_numbers(question.keys), possible
    texts = [values] if isinstance(values, str) else list(values)
    for text in texts:
        if not isinstance(text, str):
            raise UsageError("This is no key of that set.", wanted="a text", got=repr(text))
    try:
        return of_texts(texts), np.ones(len(texts), bool)
    except UnicodeEncodeError as error:
        raise UsageError("This text has no UTF-8.", wanted="Unicode without halves of characters", got=error) from None
