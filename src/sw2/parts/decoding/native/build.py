"""Compile the kernels on first use, and keep the result.

Notable
- One library per instruction set; which one runs is read from the processor's flags. A library's name holds the hash
  of source, compiler and flags, so a changed one is compiled anew and never taken for the old one.
- It is written aside and renamed: several processes may compile at once, and each finds a whole file.
- No `-ffast-math`: it would change how the whole process treats the smallest numbers (gcc's crtfastmath.o).

What it does not do: Windows, cross-compilation, wheels with compiled code inside.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from sw2.base.errors import ResourceError
from sw2.base.store import home, replacing, sha256_of_bytes

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
_FLAGS: Final = ("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread", "-Wno-psabi")
_SOURCE: Final = Path(__file__).with_name("kernels.cpp")


@functools.cache
def best_path() -> str:
    """The first of `PATHS` whose instructions this processor has, as the kernel (Linux) tells; else "portable"."""
    flags: set[str] = set()
    if platform.machine() in ("x86_64", "AMD64") and sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("flags"):
                flags = set(line.partition(":")[2].split())
                break
    return next(path for path in PATHS if _NEEDS[path] <= flags)


def available() -> str | None:
    """None when the kernels can run here, else the reason in one sentence."""
    if sys.platform not in ("linux", "darwin"):
        return f"The native kernels need Linux or macOS, and this is {sys.platform}."
    if _compiler() is None:
        return "The native kernels need a C++ compiler, and neither g++ nor clang++ (nor $CXX) was found."
    try:
        library(best_path())
    except ResourceError as error:
        return f"{error.message} {error.got}"
    return None


@functools.cache
def library(path: str) -> ctypes.CDLL:
    """The compiled kernels for one of `PATHS`, compiled now if they are not in `home() / "native"`.

    Raises:
        ResourceError: there is no compiler, it failed, or the disk is full.
    """
    compiler = _compiler()
    if compiler is None:
        raise ResourceError("There is no C++ compiler.", wanted="g++, clang++ or $CXX", do="Install one.")
    command = [compiler, *_FLAGS, *PATHS[path]]
    identity = "\n".join([*command, _version(compiler), platform.machine()]).encode() + _SOURCE.read_bytes()
    target = home() / "native" / f"kernels-{path}-{sha256_of_bytes(identity)[:16]}.so"
    if not target.exists():
        with replacing(target) as partial:
            done = subprocess.run([*command, str(_SOURCE), "-o", str(partial)], capture_output=True, text=True)
            if done.returncode:
                raise ResourceError(
                    "The native kernels do not compile here.",
                    where=str(_SOURCE),
                    got=(done.stderr.strip().splitlines() or ["no message"])[0],
                    do="Set SW2_NATIVE=off to use the torch path, or set CXX to another compiler.",
                )
    return _typed(ctypes.CDLL(str(target)))


def _compiler() -> str | None:
    names = (os.environ["CXX"],) if os.environ.get("CXX") else ("g++", "clang++")
    return next((found for name in names if (found := shutil.which(name))), None)


@functools.cache
def _version(compiler: str) -> str:
    return subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout


def _typed(native: ctypes.CDLL) -> ctypes.CDLL:
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
