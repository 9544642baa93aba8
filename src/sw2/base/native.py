"""Code in C++ behind a C interface: compiled on first use, kept, and loaded with ctypes.

Notable
- A library's name holds the hash of source, headers beside it, compiler and flags: a changed one is compiled anew and
  never taken for the old one.
- It is written aside and renamed: several processes may compile at once, and each finds a whole file.
- Which instructions there are is read from the processor's flags; whoever has code for several sets chooses by them.
- No `-ffast-math`: it would change how the whole process treats the smallest numbers (gcc's crtfastmath.o).

Whoever has native code also has a path without it, which is the reference; `SW2_NATIVE=off` in the environment asks for
that.

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
import time
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Final

from sw2.base.errors import ResourceError
from sw2.base.store import home, replacing, sha256_of_bytes

__all__ = ["NEEDS", "PATHS", "compiled", "failure", "first_fitting", "processor_flags", "spent", "switched_off"]

PATHS: Final = {
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma", "-mprefer-vector-width=512"),
    "avx2": ("-mavx2", "-mfma"),
    "portable": (),
}
"""The usual instruction sets, best first, and the compiler's flags for each. "portable" runs on any processor."""

NEEDS: Final = {
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "fma"},
    "avx2": {"avx2", "fma"},
    "portable": set[str](),
}
"""What a processor must have for each of them."""

_spent = 0.0  # see `spent`

_FLAGS: Final = ("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread", "-Wno-psabi")


def spent() -> float:
    """The seconds that compiling has taken in this process: who times what may compile takes them off."""
    return _spent


def switched_off() -> bool:
    """Whether `SW2_NATIVE=off` asks for the path without native code."""
    return os.environ.get("SW2_NATIVE", "").lower() == "off"


@functools.cache
def processor_flags() -> frozenset[str]:
    """The instruction sets that this processor has, as the kernel names them (Linux on x86-64); elsewhere none."""
    if platform.machine() in ("x86_64", "AMD64") and sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("flags"):
                return frozenset(line.partition(":")[2].split())
    return frozenset()


def first_fitting(needs: Mapping[str, Set[str]]) -> str:
    """The first name whose instructions this processor has.

    Args:
        needs: instruction sets by a name, as `processor_flags` names them, the best first; the last needs none.
    """
    return next(name for name, needed in needs.items() if needed <= processor_flags())


def failure(load: Callable[[], object]) -> str | None:
    """Why a library cannot be loaded here, in one sentence; None when it can."""
    try:
        load()
    except ResourceError as error:
        return f"{error.message} {error.got}"
    return None


def compiled(source: Path, path: str, flags: Sequence[str]) -> ctypes.CDLL:
    """The library of one source file, compiled now if it is not in `home() / "native"`.

    Args:
        source: a file in C++.
        path: a name for the instructions that it is compiled for, for people who look into the folder.
        flags: of the compiler, beside the usual ones.

    Raises:
        ResourceError: the system is another one than Linux or macOS, there is no compiler, it failed, what it made
            cannot be loaded, or the disk is full.
    """
    global _spent
    if sys.platform not in ("linux", "darwin"):
        raise ResourceError("The native kernels need another system.", wanted="Linux or macOS", got=sys.platform)
    compiler = _compiler()
    if compiler is None:
        raise ResourceError(
            "The native kernels need a C++ compiler.",
            wanted="g++, clang++ or $CXX",
            got="None was found.",
            do="Install one, or set SW2_NATIVE=off to use the torch path.",
        )
    command = [compiler, *_FLAGS, *flags]
    texts = [source, *sorted(source.parent.glob("*.h"))]  # which it may include
    identity = "\n".join([*command, _version(compiler), platform.machine()]).encode()
    identity += b"".join(text.read_bytes() for text in texts)
    began = time.perf_counter()
    target = home() / "native" / f"{source.stem}-{path}-{sha256_of_bytes(identity)[:16]}.so"
    if not target.exists():
        with replacing(target) as partial:
            done = subprocess.run([*command, str(source), "-o", str(partial)], capture_output=True, text=True)
            if done.returncode:
                raise ResourceError(
                    "The native kernels do not compile here.",
                    where=str(source),
                    got=(done.stderr.strip().splitlines() or ["no message"])[0],
                    do="Set SW2_NATIVE=off to use the torch path, or set CXX to another compiler.",
                )
    _spent += time.perf_counter() - began
    try:
        return ctypes.CDLL(str(target))
    except OSError as error:
        raise ResourceError(
            "The native kernels were compiled but cannot be loaded.",
            where=str(target),
            got=str(error),
            do="Set SW2_NATIVE=off to use the torch path, or set CXX to another compiler.",
        ) from error


def _compiler() -> str | None:
    names = (os.environ["CXX"],) if os.environ.get("CXX") else ("g++", "clang++")
    return next((found for name in names if (found := shutil.which(name))), None)


@functools.cache
def _version(compiler: str) -> str:
    return subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
