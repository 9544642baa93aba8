"""The kernels of `kernels.cpp` beside, compiled on first use and called with numpy arrays, as those of the room above.

`SW2_NATIVE=off`, or a machine without a compiler, leaves `counts` and `fit` in numpy instead.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sw2.base.native import compiled, failure, switched_off
from sw2.domains.words.glove.fit import PAIR, Fit
from sw2.domains.words.native import ALIGNED, PATHS, address, best_path

__all__ = ["count", "fit", "sort", "why_not"]

_SOURCE: Final = Path(__file__).with_name("kernels.cpp")
_ROOTS: Final = "-fno-math-errno"
"""Square roots of 16 numbers at once: none of them needs to tell the C library of a wrong one."""


class _Fit(ctypes.Structure):
    """The struct of the kernels, field by field."""

    _fields_ = (
        ("pairs", ctypes.c_void_p),
        ("begin", ctypes.c_int64),
        ("end", ctypes.c_int64),
        ("first", ctypes.c_void_p),
        ("second", ctypes.c_void_p),
        ("first_squares", ctypes.c_void_p),
        ("second_squares", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("rate", ctypes.c_double),
        ("x_max", ctypes.c_double),
        ("alpha", ctypes.c_double),
        ("loss", ctypes.c_void_p),
    )


@functools.cache
def _library(path: str) -> ctypes.CDLL:
    native = compiled(_SOURCE, path, (*PATHS[path], _ROOTS))
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    native.sw2_glove_count.restype = number
    native.sw2_glove_count.argtypes = [pointer, *[number] * 5, pointer, number, number, pointer]
    native.sw2_glove_sort.restype = number
    native.sw2_glove_sort.argtypes = [pointer, number]
    native.sw2_glove_fit.restype = None
    native.sw2_glove_fit.argtypes = [ctypes.POINTER(_Fit)]
    return native


def why_not() -> str | None:
    """Why the kernels do not run here, in one sentence; None when they do."""
    return "SW2_NATIVE is off." if switched_off() else failure(lambda: _library(best_path()))


def count(
    tokens: NDArray[np.int32],
    begin: int,
    end: int,
    words: int,
    window: int,
    table: NDArray[np.uint64],
    most: int,
    used: NDArray[np.int64],
) -> int:
    """Count the pairs whose first word stands in tokens[begin:end]: where it stopped, as `most` cells were used.

    Args:
        tokens: [N], numbers of words; -1 between lines.
        begin, end: the piece.
        words: V.
        window: how many words behind one are beside it, at most 20.
        table: [C, 2], C a power of two: keys (0 where the cell is free) and sums; changes.
        most: below C, and at least `window`.
        used: [1], how many cells are; changes.
    """
    assert table.shape[0] & (table.shape[0] - 1) == 0
    assert window <= most < table.shape[0]
    where = (address(tokens, "int32"), begin, end, len(tokens), words, window)
    into = (address(table, "uint64"), table.shape[0], most, address(used, "int64"))
    return int(_library(best_path()).sw2_glove_count(*where, *into))


def sort(table: NDArray[np.uint64]) -> int:
    """Bring the used cells of a table [C, 2] to the front, by their keys: how many there are."""
    return int(_library(best_path()).sw2_glove_sort(address(table, "uint64"), table.shape[0]))


def fit(given: Fit, begin: int, end: int, path: str | None = None) -> float:
    """Learn from pairs[begin:end], as `fit.fit`: the sum of the losses; on one thread the same bits every time.

    Args:
        given: what is learned, see there; its matrices change.
        begin, end: the piece.
        path: one of `PATHS`; None for the best that this processor has.
    """
    assert given.pairs.dtype == PAIR
    losses = np.zeros(given.threads)
    filled = _Fit(
        pairs=given.pairs.ctypes.data,
        begin=begin,
        end=end,
        first=address(given.first, "float32", ALIGNED),
        second=address(given.second, "float32", ALIGNED),
        first_squares=address(given.first_squares, "float32", ALIGNED),
        second_squares=address(given.second_squares, "float32", ALIGNED),
        stride=given.first.shape[1],
        threads=given.threads,
        rate=given.rate,
        x_max=given.x_max,
        alpha=given.alpha,
        loss=address(losses, "float64"),
    )
    _library(path or best_path()).sw2_glove_fit(ctypes.byref(filled))
    return float(losses.sum())
