"""The machine: device, threads, fast number formats, memory and the allocator.

What is found out here is measured on this machine, never looked up in a table of processors: a 20-millisecond matrix
product says more about bf16 than a model name does. Nothing is cached across processes; a run freezes what it found in
its journal so that a resumed run does not measure again.

Memory is read from the kernel (`/proc/self/status`), which counts what every library allocates; elsewhere than on
Linux `resource.getrusage` is used, whose peak cannot be reset.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sw2.base.errors import ResourceError, UsageError

if TYPE_CHECKING:
    import torch

__all__ = [
    "Precision",
    "available_memory",
    "choose_device",
    "choose_precision",
    "keep_freed_memory",
    "memory_told",
    "out_of_memory",
    "peak_memory",
    "reset_peak_memory",
    "synchronize",
    "usable_cores",
]


@dataclass(frozen=True, kw_only=True)
class Precision:
    """The number format of matrix products, and why it was chosen."""

    name: str  # "bf16" or "fp32"
    reason: str


def choose_device(wanted: str = "auto") -> torch.device:
    """The device called `wanted`; "auto" is CUDA, then MPS, then the CPU, whichever is there first.

    Raises:
        UsageError: when the device does not exist on this machine.
    """
    import torch

    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if wanted == "auto":
        return torch.device(available[0])
    kind, _, number = wanted.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if kind not in available or (number and not (number.isdecimal() and int(number) < count)):
        raise UsageError(f"This machine has no device '{wanted}'.", wanted=" or ".join(available), got=wanted)
    return torch.device(wanted)


@functools.cache
def choose_precision(device: torch.device) -> Precision:
    """bf16 where a 512 x 512 bf16 product runs at least 1.3 times as fast as the fp32 one, else fp32.

    The fastest of twelve products each decides, taken in turn: another program that runs at the same time can make a
    product slower, never faster. On two cores this takes about 50 ms; a processor without bf16 units needs half a
    second for one product, so no further ones are taken after 0.2 seconds. A process measures once.
    """
    import torch

    formats = (torch.float32, torch.bfloat16)
    try:
        pairs = {dtype: [torch.ones(512, 512, device=device, dtype=dtype) for _ in range(2)] for dtype in formats}
        fastest = dict.fromkeys(formats, float("inf"))
        until = time.perf_counter() + 0.2
        for taken in range(12):
            if taken and time.perf_counter() > until:
                break
            for dtype, (left, right) in pairs.items():
                synchronize(device)
                began = time.perf_counter()
                torch.mm(left, right)
                synchronize(device)
                fastest[dtype] = min(fastest[dtype], time.perf_counter() - began)
    except RuntimeError as error:
        return Precision(name="fp32", reason=f"bf16 products do not run here ({error})")
    ratio = fastest[torch.float32] / fastest[torch.bfloat16]
    if ratio >= 1.3:
        return Precision(name="bf16", reason=f"a bf16 matrix product runs {ratio:.2g} times as fast as fp32 here")
    return Precision(name="fp32", reason=f"a bf16 matrix product runs only {ratio:.2g} times as fast as fp32 here")


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given, so that a clock means something."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def usable_cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def available_memory() -> int | None:
    """How many bytes programs can have without swapping, as the kernel estimates it; None where it does not say."""
    try:
        with open("/proc/meminfo") as info:
            for line in info:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out; torch on a CPU says so only in words."""
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "not enough memory" in text
        or "out of memory" in text.lower()
        or "DefaultCPUAllocator" in text
    )


@contextlib.contextmanager
def memory_told(what: str, least: int = 0, do: str | None = None) -> Iterator[None]:
    """Inside, memory that runs out is the user's error.

    Args:
        what: what memory is for.
        least: bytes that are surely needed; more than are free is said at once.
        do: what the user can do about it.

    Raises:
        ResourceError: there is too little memory.
    """
    free = available_memory()
    told = ResourceError(
        f"There is not enough memory for {what}.",
        wanted=f"at least {least / 1e9:.1f} GB" if least else "more memory",
        got="less" if free is None else f"{free / 1e9:.1f} GB free",
        do=do,
    )
    if free is not None and least > free:
        raise told
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch's own is a RuntimeError
        if not out_of_memory(error):
            raise
        raise told from error


def peak_memory() -> int:
    """The largest resident memory of this process since the last reset, in bytes."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak_memory() -> None:
    """Start a new peak at the present size; does nothing where the kernel does not offer it."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed blocks instead of giving them back to the kernel at once; True where it agreed.

    A training step frees and asks again for the same large blocks; without this every step pays for clearing their
    pages anew, 10 to 20 % of an eager step on a CPU. Peak memory is unchanged.
    """
    if sys.platform != "linux":
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_max = -1, -4  # from malloc.h
        return bool(libc.mallopt(m_mmap_max, 0) and libc.mallopt(m_trim_threshold, 2**31 - 1))
    except (OSError, AttributeError):
        return False
