"""The kernels of `kernels.cpp`, compiled on first use (`base.native` says how) and called with numpy arrays.

    counted(texts, …)      how often each word occurs
    Dictionary(…).rows     texts as rows
    learn(lesson, …)       some texts learned, as `descent.learn`

`SW2_NATIVE=off`, or a machine without a compiler, leaves Python and numpy instead: the same rows, and the same weights
up to rounding, slower by far.

What it does not do: copies of matrices; they are changed where they lie.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from sw2.base.native import NEEDS, PATHS, compiled, failure, first_fitting, switched_off
from sw2.domains.texts.bags import Bags
from sw2.domains.texts.descent import Lesson
from sw2.parts.formats.fasttext import Arguments

__all__ = ["Counts", "Dictionary", "Plain", "counted", "fitting_paths", "learn", "why_not"]

_SOURCE: Final = Path(__file__).with_name("kernels.cpp")
_AT_ONCE: Final = 1 << 24  # bytes of text that are copied together


class _Texts(ctypes.Structure):
    """The structs of the kernels, field by field."""

    _fields_ = (
        ("bytes", ctypes.c_char_p),
        ("begins", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("raw", ctypes.c_char_p),
        ("lowered", ctypes.c_char_p),
        ("alone", ctypes.c_char_p),
    )


class _Told(ctypes.Structure):
    _fields_ = (
        ("bytes", ctypes.c_char_p),
        ("begins", ctypes.c_void_p),
        ("words", ctypes.c_int64),
        ("kept", ctypes.c_void_p),
        ("kept_count", ctypes.c_int64),
        ("buckets", ctypes.c_int64),
        ("shortest", ctypes.c_int64),
        ("longest", ctypes.c_int64),
        ("word_ngrams", ctypes.c_int64),
    )


class _Lesson(ctypes.Structure):
    _fields_ = (
        ("rows", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("targets", ctypes.c_void_p),
        ("chosen", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("input", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("dimensions", ctypes.c_int64),
        ("labels", ctypes.c_int64),
        ("way_starts", ctypes.c_void_p),
        ("nodes", ctypes.c_void_p),
        ("turns", ctypes.c_void_p),
        ("rate_begin", ctypes.c_double),
        ("rate_end", ctypes.c_double),
        ("threads", ctypes.c_int64),
        ("losses", ctypes.c_void_p),
    )


def fitting_paths() -> list[str]:
    """Those of `PATHS` whose instructions this processor has, best first."""
    best = list(PATHS).index(first_fitting(NEEDS))
    return list(PATHS)[best:]


@functools.cache
def _library(path: str) -> ctypes.CDLL:
    native = compiled(_SOURCE, path, PATHS[path])
    pointer, number, nothing = ctypes.c_void_p, ctypes.c_int64, None
    texts = ctypes.POINTER(_Texts)
    shapes: Mapping[str, tuple[Any, Sequence[Any]]] = {
        "counter": (pointer, []),
        "count": (nothing, [pointer, texts]),
        "order": (nothing, [pointer, number, pointer]),
        "counted": (nothing, [pointer, ctypes.c_char_p, pointer]),
        "open": (pointer, [ctypes.POINTER(_Told)]),
        "close": (nothing, [pointer]),
        "rows": (pointer, [pointer, texts, pointer]),
        "seen": (nothing, [pointer, texts, pointer]),
        "take": (nothing, [pointer, pointer]),
        "learn": (nothing, [ctypes.POINTER(_Lesson)]),
    }
    for name, (gives, takes) in shapes.items():
        function = getattr(native, f"sw2_texts_{name}")
        function.restype, function.argtypes = gives, takes
    return native


def _best() -> ctypes.CDLL:
    return _library(fitting_paths()[0])


def why_not() -> str | None:
    """Why the kernels do not run here, in one sentence; None when they do."""
    return "SW2_NATIVE is off." if switched_off() else failure(_best)


def _at(array: np.ndarray, dtype: str) -> int:
    """The address of a contiguous array of that type."""
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    return array.ctypes.data


# ---------------------------------------------------------------------------------------------------------- cutting


@dataclass(frozen=True)
class Plain:
    """How ASCII is made plain: each character in lower case, and which are tokens by themselves, [128] bytes."""

    lowered: bytes
    alone: bytes


Texts = Iterable[tuple[bytes, bool]]
"""Texts in UTF-8; and whether each is ASCII that is still to be made plain."""


def _groups(texts: Texts, plain: Plain) -> Iterator[_Texts]:
    """The structs for some megabytes of texts each; valid until the next one."""
    texts = iter(texts)
    while True:
        some, raw, size = list[bytes](), bytearray(), 0
        for text, is_raw in texts:
            some.append(text)
            raw.append(is_raw)
            size += len(text)
            if size >= _AT_ONCE:
                break
        if not some:
            return
        begins = np.cumsum([0, *map(len, some)], dtype=np.int64)  # held here as long as the struct is used
        yield _Texts(b"".join(some), _at(begins, "int64"), len(some), bytes(raw), plain.lowered, plain.alone)


@dataclass(frozen=True)
class Counts:
    """Words, most frequent first, equals in the order of their characters; how often each occurs, int64 [words].

    Args:
        seen: how many distinct ones there were, rare ones too.
        most: how often the most frequent occurs.
        tokens: all of them.
    """

    words: Sequence[str]
    counts: NDArray[np.int64]
    seen: int
    most: int
    tokens: int


def counted(texts: Texts, least: int, plain: Plain) -> Counts:
    """The words that occur `least` times, with the end of each line and without labels."""
    library = _best()
    counter = library.sw2_texts_counter()
    for group in _groups(texts, plain):
        library.sw2_texts_count(counter, ctypes.byref(group))
    told = np.zeros(5, np.int64)
    library.sw2_texts_order(counter, least, _at(told, "int64"))
    size, length, seen, most, tokens = told.tolist()
    written, counts = ctypes.create_string_buffer(max(length, 1)), np.empty(size, np.int64)
    library.sw2_texts_counted(counter, written, _at(counts, "int64"))
    words = written.raw[: length - 1].decode().split("\n") if size else []
    return Counts(words, counts, seen, most, tokens)


@final
class Dictionary:
    """Which rows there are.

    Args:
        words: in UTF-8, in the order of their rows.
        kept: the bucket of each row behind them, int64; None where every bucket has its row.
        arguments: how n-grams are made.
        plain: how raw texts are made plain.
    """

    def __init__(
        self, words: Sequence[bytes], kept: NDArray[np.int64] | None, arguments: Arguments, plain: Plain
    ) -> None:
        begins = np.cumsum([0, *map(len, words)], dtype=np.int64)
        buckets = np.zeros(0, np.int64) if kept is None else kept
        self._library, self._plain, self._buckets = _best(), plain, arguments.buckets
        self._handle = self._library.sw2_texts_open(
            _Told(
                b"".join(words),
                _at(begins, "int64"),
                len(words),
                _at(buckets, "int64"),
                -1 if kept is None else len(kept),
                arguments.buckets,
                arguments.min_n,
                arguments.max_n,
                arguments.word_ngrams,
            )
        )
        weakref.finalize(self, self._library.sw2_texts_close, self._handle)

    def rows(self, texts: Texts) -> Bags:
        """The rows of each text, as `FastTextModel.text_rows` tells them."""
        rows, starts = [np.zeros(0, np.uint32)], [np.zeros(1, np.int64)]
        for group in _groups(texts, self._plain):
            ends = np.empty(group.count + 1, np.int64)
            found = self._library.sw2_texts_rows(self._handle, ctypes.byref(group), _at(ends, "int64"))
            rows.append(np.empty(ends[-1], np.uint32))
            self._library.sw2_texts_take(found, _at(rows[-1], "uint32"))
            starts.append(ends[1:] + starts[-1][-1])
        return Bags(np.concatenate(rows), np.concatenate(starts))

    def seen(self, texts: Texts) -> NDArray[np.int64]:
        """The buckets whose n-grams occur in these texts, in order, where every bucket still has its row."""
        marks = np.zeros((self._buckets + 7) // 8, np.uint8)
        for group in _groups(texts, self._plain):
            self._library.sw2_texts_seen(self._handle, ctypes.byref(group), _at(marks, "uint8"))
        some = np.flatnonzero(marks)
        place, bit = np.nonzero(np.unpackbits(marks[some, None], axis=1, bitorder="little"))
        return 8 * some[place] + bit


# ---------------------------------------------------------------------------------------------------------- descent


def learn(lesson: Lesson, chosen: NDArray[np.int64], rates: tuple[float, float], path: str | None = None) -> float:
    """Learn some texts, as `descent.learn`; on one thread the same bits every time.

    Args:
        lesson: what is learned, see there; its matrices change.
        chosen: int64, the numbers of the texts.
        rates: at the first of them, and behind the last.
        path: one of `PATHS`; None for the best that this processor has.
    """
    losses, ways = np.zeros(lesson.threads), lesson.ways
    given = _Lesson(
        rows=_at(lesson.bags.rows, "uint32"),
        starts=_at(lesson.bags.starts, "int64"),
        targets=_at(lesson.targets, "int64"),
        chosen=_at(chosen, "int64"),
        count=len(chosen),
        input=_at(lesson.input, "float32"),
        output=_at(lesson.output, "float32"),
        dimensions=lesson.input.shape[1],
        labels=len(lesson.output),
        way_starts=None if ways is None else _at(ways.starts, "int64"),
        nodes=None if ways is None else _at(ways.nodes, "int64"),
        turns=None if ways is None else _at(ways.turns, "float32"),
        rate_begin=rates[0],
        rate_end=rates[1],
        threads=lesson.threads,
        losses=_at(losses, "float64"),
    )
    _library(path or fitting_paths()[0]).sw2_texts_learn(ctypes.byref(given))
    return float(losses.sum())
