"""Texts as keys: bytes one behind the other, heads that models are fitted to, and an exact end to every look-up.

    SortedTexts(packed(["anna", "bert"])).places(model.locate, packed(["b"]))      how many texts are below each

A head is a text's first 8 bytes behind the prefix that all texts of the column share, as an unsigned number: of texts
in order the heads are in order, and any model of `models` says where a head stands. Texts of one head are a run, and
the run is searched text by text (`texts.cpp`; here the same in Python where there is no compiler). So an answer is
right whatever the heads say; where they say little (long runs, as of paths) it comes later, at worst by halving all
texts.

Order is by the bytes of UTF-8, which is that of code points: Arrow, SQLite's BINARY and `LC_ALL=C sort` agree, a sort
by the rules of a language does not. Nothing is folded or normalised. The empty text is a key, and so is one with zeros.

Heads are no part of a program: they are made when the column is opened, 8 bytes a text in memory, and are counted as
bytes beyond the keys.

What it does not do: further levels of heads inside long runs; files (`columns`).

Shapes: N texts · M questions · B bytes of all texts
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from ctypes import CDLL
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final, overload

import numpy as np
from numpy.typing import NDArray

from sw2.base.errors import UsageError
from sw2.base.native import compiled, failure, switched_off
from sw2.domains.indexes.keys import TEXT
from sw2.domains.indexes.native import invoke

__all__ = ["HEAD", "SortedTexts", "Texts", "asked_texts", "ends_of_texts", "packed", "why_not"]

HEAD: Final = 8
"""Bytes of a head; the same as in `texts.cpp`."""

# What lies before the first two dots without a backslash, and what lies behind them.
_PARTED: Final = re.compile(r"((?:\\\.\.|(?!\\?\.\.).)*)\.\.(.*)", re.DOTALL)


@functools.cache
def _library() -> CDLL:
    return compiled(Path(__file__).with_name("texts.cpp"), "portable", ())


def why_not() -> str | None:
    """Why the kernels do not run here, in one sentence; None when they do."""
    return "SW2_NATIVE is off." if switched_off() else failure(_library)


@final
@dataclass(frozen=True, eq=False)
class Texts(Sequence[bytes]):
    """Texts in any order, in Arrow's layout.

    Args:
        values: the bytes of all of them, uint8 [B].
        starts: where in `values` each begins and the last one ends, int64 [N + 1]; the first need not be 0.
    """

    values: NDArray[np.uint8]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Texts: ...
    def __getitem__(self, index: int | slice) -> bytes | Texts:
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        at = range(len(self))[index]
        return self.values[self.starts[at] : self.starts[at + 1]].tobytes()

    @property
    def nbytes(self) -> int:
        """Bytes of the texts, and of where they begin."""
        return int(self.starts[-1] - self.starts[0]) + self.starts.nbytes

    def take(self, places: Iterable[int]) -> Texts:
        """The texts of these places, in a set of their own."""
        return packed(self[place] for place in places)

    def unordered(self) -> int | None:
        """The first place whose text is above the next one."""
        if why_not() is None:
            found = invoke(_library().unordered, self.values, self.starts, len(self))
            return None if found < 0 else found
        return next((place for place in range(len(self) - 1) if self[place] > self[place + 1]), None)


def packed(texts: Iterable[str | bytes]) -> Texts:
    """These texts, as they are.

    Raises:
        UnicodeEncodeError: a text holds half of a character.
    """
    parts = [text.encode() if isinstance(text, str) else text for text in texts]
    starts = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=starts[1:])
    return Texts(np.frombuffer(b"".join(parts), np.uint8), starts)


@final
class SortedTexts:
    """Texts in order, with their heads.

    Args:
        texts: [N], N >= 1, in the order of their bytes.

    Attributes:
        prefix: what all of them begin with.
        heads: the 8 bytes behind it, uint64 [N].
    """

    def __init__(self, texts: Texts) -> None:
        self.texts = texts
        first, last = texts[0], texts[-1]
        shared = next(
            (at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last))
        )
        self.prefix = first[:shared]
        self.heads, _ = self._heads(texts)

    def longest_run(self) -> int:
        """How many texts have the same head, at most."""
        changes = np.flatnonzero(self.heads[1:] != self.heads[:-1]) + 1
        return int(np.diff(changes, prepend=0, append=len(self.heads)).max())

    def places(
        self, locate: Callable[[np.ndarray, np.ndarray], NDArray[np.int64]], questions: Texts
    ) -> NDArray[np.int64]:
        """How many texts are below each question: the place of the first that is not below it.

        Args:
            locate: from sorted heads and heads that are asked for to lower bounds, as `KeyModel.locate`.
            questions: [M], any bytes.

        Returns:
            [M], 0 … N.
        """
        heads, sides = self._heads(questions)
        found = locate(self.heads, heads)
        if why_not() is None:
            own = (self.texts.values, self.texts.starts, len(self.texts), self.heads)
            theirs = (questions.values, questions.starts, heads, len(questions))
            invoke(_library().search, *own, *theirs, len(self.prefix), found)
        else:
            ends = np.searchsorted(self.heads, heads, side="right")
            for i, (low, high) in enumerate(zip(found.tolist(), ends.tolist(), strict=True)):
                found[i] = bisect_left(self.texts, questions[i], low, high)
        found[sides < 0] = 0
        found[sides > 0] = len(self.texts)
        return found

    def halved(self, questions: Texts) -> NDArray[np.int64]:
        """The same without heads or a model, by halving all texts: a peer."""
        if why_not() is not None:
            return np.array([bisect_left(self.texts, question) for question in questions], np.int64)
        found = np.empty(len(questions), np.int64)
        own, theirs = ((each.values, each.starts, len(each)) for each in (self.texts, questions))
        invoke(_library().halve, *own, *theirs, found)
        return found

    def _heads(self, texts: Texts) -> tuple[NDArray[np.uint64], NDArray[np.int8]]:
        """Heads [N]; and sides [N]: 0 where a text begins with the prefix, else -1 or 1 as it is below or above."""
        heads, sides = np.zeros(len(texts), np.uint64), np.zeros(len(texts), np.int8)
        skip = len(self.prefix)
        if why_not() is None:
            prefix = np.frombuffer(self.prefix, np.uint8)
            invoke(_library().heads, texts.values, texts.starts, len(texts), prefix, skip, heads, sides)
            return heads, sides
        for place, text in enumerate(texts):
            if text.startswith(self.prefix):
                heads[place] = int.from_bytes(text[skip : skip + HEAD].ljust(HEAD, b"\0"), "big")
            else:
                sides[place] = 1 if text > self.prefix else -1
        return heads, sides


def asked_texts(values: Any) -> tuple[Texts, tuple[int, ...]]:
    """What was asked as texts, flattened, and its shape.

    Args:
        values: texts, alone or in an array or list of any shape; bytes are taken as they are. NumPy's own arrays of
            text cannot hold zeros at the end of one; lists can.

    Raises:
        UsageError: one of them is no text, or holds half of a character.
    """
    array = np.asarray(values, dtype=object)
    flat = array.ravel().tolist()
    for value in flat:
        if not isinstance(value, (str, bytes)):
            raise UsageError(
                "This cannot be compared with the keys.",
                where=f"keys that are {TEXT}",
                wanted="a text",
                got=repr(value),
            )
    try:
        return packed(flat), array.shape
    except UnicodeEncodeError as error:
        raise UsageError(
            "This text has no UTF-8.", wanted="Unicode without halves of characters", got=repr(error.object)
        ) from None


def ends_of_texts(asked_for: Any) -> tuple[Any, Any, bool]:
    r"""The ends of a range and True, or a key, None and False; as `prep.ends_of`, but for texts.

    The first `..` parts the ends, and nothing is stripped. `\..` stands for two dots that belong to a text.

    >>> ends_of_texts("a..b"), ends_of_texts(r"a\..b"), ends_of_texts("a..")
    (('a', 'b', True), ('a..b', None, False), ('a', None, True))
    """
    if not isinstance(asked_for, str):
        return asked_for, None, False
    parted = _PARTED.fullmatch(asked_for)
    low, high = parted.groups() if parted else (asked_for, "")
    low, high = (end.replace(r"\..", "..") for end in (low, high))
    return (low or None, high or None, True) if parted else (low, None, False)
