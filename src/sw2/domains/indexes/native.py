"""The kernels of `kernels.cpp`, compiled on first use (`base.native` says how) and called with numpy arrays.

`SW2_NATIVE=off`, or a machine without a compiler, leaves `reference` instead: the same answers, slower by far.

What it does not do: copies. Arrays are passed as they lie in memory, so a mapped file is searched where it is.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any, Final

import numpy as np

from sw2.base.native import compiled, failure, first_fitting, switched_off

__all__ = ["PATHS", "address", "best_path", "call", "invoke", "typed", "why_not"]

# Without fused multiplication, so that every path and the reference predict the same bits.
PATHS: Final = {
    "avx512": ("-ffp-contract=off", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mprefer-vector-width=512"),
    "avx2": ("-ffp-contract=off", "-mavx2"),
    "portable": ("-ffp-contract=off",),
}
"""The instruction sets, best first, and the compiler's flags for each. "portable" runs on any processor."""

_NEEDS: Final = {
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq"},
    "avx2": {"avx2"},
    "portable": set[str](),
}
_SOURCE: Final = Path(__file__).with_name("kernels.cpp")


@functools.cache
def best_path() -> str:
    """The first of `PATHS` whose instructions this processor has; "portable" where that is not known."""
    return first_fitting(_NEEDS)


@functools.cache
def _library(path: str) -> ctypes.CDLL:
    return compiled(_SOURCE, path, PATHS[path])


@functools.cache
def _function(name: str, dtype: np.dtype, path: str) -> Any:
    return getattr(_library(path), f"{name}_{dtype}")


def why_not() -> str | None:
    """Why the kernels do not run here, in one sentence; None when they do."""
    return "SW2_NATIVE is off." if switched_off() else failure(lambda: _library(best_path()))


def call(name: str, keys: np.ndarray, *arguments: Any, path: str | None = None) -> int:
    """Call the function `name` for the type of `keys`.

    Args:
        name: of a function in `kernels.cpp`, without the type at its end.
        keys: the first argument, contiguous, of int64, uint64 or float64.
        arguments: arrays, contiguous and of the types that the function takes; and whole numbers.
        path: one of `PATHS`; None for the best that this processor has.

    Returns:
        What the function returns; of no meaning where it returns nothing.
    """
    return invoke(_function(name, keys.dtype, path or best_path()), keys, *arguments)


def address(name: str, dtype: np.dtype) -> int:
    """Where the function `name` for a type stands in memory, for compiled code that calls it itself."""
    return ctypes.cast(_function(name, dtype, best_path()), ctypes.c_void_p).value or 0


def typed(function: Any, count: int) -> Any:
    """The compiled function, told that it takes `count` addresses and numbers: words of 64 bits alike."""
    function.restype, function.argtypes = ctypes.c_int64, (ctypes.c_int64,) * count
    return function


def invoke(function: Any, *arguments: Any) -> int:
    """Call a compiled function with arrays, contiguous and of the types that it takes, and whole numbers.

    Returns:
        What the function returns; of no meaning where it returns nothing.
    """
    if function.argtypes is None:
        typed(function, len(arguments))
    passed: list[int] = []
    for each in arguments:
        if isinstance(each, np.ndarray):
            assert each.flags.c_contiguous
            assert each.dtype.isnative
            passed.append(each.ctypes.data)
        else:
            passed.append(each)
    done: int = function(*passed)
    return done
