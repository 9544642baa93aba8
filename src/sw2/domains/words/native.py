"""The kernels of `kernels.cpp`, compiled on first use (`base.native` says how) and called with numpy arrays.

`SW2_NATIVE=off`, or a machine without a compiler, leaves `reference` instead: the same vectors up to rounding, slower
by far. Sums are rounded otherwise by each instruction set, so that their bits differ.

What it does not do: copies. Matrices are changed where they lie.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Final

import numpy as np

from sw2.base.native import NEEDS, PATHS, compiled, failure, first_fitting, switched_off
from sw2.domains.words.lesson import LANES, Lesson, Told

__all__ = ["ALIGNED", "PATHS", "address", "best_path", "ngrams", "step", "why_not"]

_SOURCE: Final = Path(__file__).with_name("kernels.cpp")
_MOST_NODES: Final = 64
_WAYS: Final = {"skip-gram": 0, "cbow": 1, "subwords": 2}
ALIGNED: Final = 64
"""What addresses of matrices are multiples of."""


class _Lesson(ctypes.Structure):
    """The struct of the kernels, field by field."""

    _fields_ = (
        ("tokens", ctypes.c_void_p),
        ("begin", ctypes.c_int64),
        ("end", ctypes.c_int64),
        ("keep", ctypes.c_void_p),
        ("threshold", ctypes.c_void_p),
        ("alias", ctypes.c_void_p),
        ("words", ctypes.c_int64),
        ("input", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
        ("borders", ctypes.c_void_p),
        ("parts", ctypes.c_void_p),
        ("ways", ctypes.c_void_p),
        ("nodes", ctypes.c_void_p),
        ("turns", ctypes.c_void_p),
        ("way", ctypes.c_int64),
        ("window", ctypes.c_int64),
        ("negatives", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("seed", ctypes.c_uint64),
        ("rate_begin", ctypes.c_double),
        ("rate_end", ctypes.c_double),
        ("told", ctypes.c_void_p),
    )


def best_path() -> str:
    """The first of `PATHS` whose instructions this processor has; "portable" where that is not known."""
    return first_fitting(NEEDS)


@functools.cache
def _library(path: str) -> ctypes.CDLL:
    native = compiled(_SOURCE, path, PATHS[path])
    native.sw2_words_step.restype = None
    native.sw2_words_step.argtypes = [ctypes.POINTER(_Lesson)]
    native.sw2_words_ngrams.restype = ctypes.c_int64
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    native.sw2_words_ngrams.argtypes = [ctypes.c_char_p, pointer, *[number] * 6, pointer, pointer]
    return native


def why_not() -> str | None:
    """Why the kernels do not run here, in one sentence; None when they do."""
    return "SW2_NATIVE is off." if switched_off() else failure(lambda: _library(best_path()))


def address(array: np.ndarray | None, dtype: str, aligned: int = 1) -> int | None:
    """The address of an array of that type, contiguous and there; None stays None."""
    if array is None:
        return None
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    assert array.ctypes.data % aligned == 0
    return array.ctypes.data


def step(lesson: Lesson, begin: int, end: int, seed: int, rates: tuple[float, float], path: str | None = None) -> Told:
    """Learn from tokens[begin:end], as `reference.step`; on one thread the same bits every time.

    Args:
        lesson: what is learned, see there; its matrices change.
        begin, end: the piece of the corpus.
        seed: of this pass over the corpus, in [0, 2^63).
        rates: the learning rate at the begin and at the end of the piece.
        path: one of `PATHS`; None for the best that this processor has.
    """
    told, tree = np.zeros((lesson.threads, 3)), lesson.tree
    assert (tree is not None) == (lesson.negatives == 0)
    assert tree is None or np.diff(tree.borders).max() <= _MOST_NODES
    assert lesson.input.shape[1] % LANES == 0
    given = _Lesson(
        tokens=address(lesson.tokens, "int32"),
        begin=begin,
        end=end,
        keep=address(lesson.keep, "float32"),
        threshold=address(lesson.threshold, "float32"),
        alias=address(lesson.alias, "int32"),
        words=len(lesson.keep),
        input=address(lesson.input, "float32", ALIGNED),
        output=address(lesson.output, "float32", ALIGNED),
        stride=lesson.input.shape[1],
        borders=address(lesson.borders, "int64"),
        parts=address(lesson.parts, "int32"),
        ways=address(tree.borders if tree else None, "int64"),
        nodes=address(tree.nodes if tree else None, "int32"),
        turns=address(tree.turns if tree else None, "float32"),
        way=_WAYS[lesson.way],
        window=lesson.window,
        negatives=lesson.negatives,
        threads=lesson.threads,
        seed=seed,
        rate_begin=rates[0],
        rate_end=rates[1],
        told=address(told, "float64"),
    )
    _library(path or best_path()).sw2_words_step(ctypes.byref(given))
    loss, pairs, stayed = told.sum(0)
    return Told(float(loss), int(pairs), int(stayed))


def ngrams(
    texts: bytes, begins: np.ndarray, shortest: int, longest: int, words: int, buckets: int, *, own: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The rows that make up each of N words, as `vocabulary.rows_of` tells: borders int64 [N + 1] and rows int32."""
    library, count = _library(best_path()), len(begins) - 1
    borders = np.empty(count + 1, np.int64)
    given = (
        texts,
        address(begins, "int64"),
        count,
        shortest,
        longest,
        int(own),
        words,
        buckets,
        address(borders, "int64"),
    )
    parts = np.empty(library.sw2_words_ngrams(*given, None), np.int32)
    library.sw2_words_ngrams(*given, address(parts, "int32"))
    return borders, parts
