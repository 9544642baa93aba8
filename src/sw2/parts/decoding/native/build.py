"""The kernels' library for each instruction set, compiled on first use (`base.native` says how).

One library per set; which one runs is read from the processor's flags.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Final

from sw2.base.native import compiled, failure, first_fitting

__all__ = ["PATHS", "available", "best_path", "library"]

PATHS: Final = {
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mfma", "-mf16c"),
    "avx2": ("-mavx2", "-mfma", "-mf16c"),
    "portable": (),
}
"""The instruction sets, best first, and the compiler's flags for each. "portable" runs on any processor."""

_NEEDS: Final = {
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "fma", "f16c"},
    "avx2": {"avx2", "fma", "f16c"},
    "portable": set[str](),
}
_SOURCE: Final = Path(__file__).with_name("kernels.cpp")


def best_path() -> str:
    """The first of `PATHS` whose instructions this processor has, as the kernel (Linux) tells; else "portable"."""
    return first_fitting(_NEEDS)


def available() -> str | None:
    """None when the kernels can run here, else the reason in one sentence."""
    return failure(lambda: library(best_path()))


@functools.cache
def library(path: str) -> ctypes.CDLL:
    """The compiled kernels for one of `PATHS`.

    Raises:
        ResourceError: as `sw2.base.native.compiled`.
    """
    native = compiled(_SOURCE, path, PATHS[path])
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    for name, result, arguments in (
        ("sw2_matrix_bytes", number, [ctypes.c_int32, number, number]),
        ("sw2_pack", None, [pointer, pointer, pointer, pointer, pointer]),
        ("sw2_held_bytes", number, []),
        ("sw2_new", pointer, [pointer, ctypes.c_int32]),
        ("sw2_delete", None, [pointer]),
        ("sw2_step", None, [pointer, number, pointer, pointer, pointer, pointer, pointer]),
        ("sw2_copy", None, [pointer, number, number, number]),
    ):
        function = getattr(native, name)
        function.restype, function.argtypes = result, arguments
    return native
