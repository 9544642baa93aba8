"""Files that are either whole or absent: atomic writes, checksums, the home folder.

Whatever sw2 writes goes to a temporary name in the same folder, is synced to disk, and is then renamed; readers never
see half a file, and a full disk leaves what was there before. `folder` does the same for a folder of several files.
`held` keeps those apart who write in several steps.

Not here: formats (weights, programs, journals), which belong to the layers above.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sw2.base.errors import DiskFull, UsageError

__all__ = [
    "Held",
    "canonical_json",
    "finite",
    "folder",
    "full_disk_told",
    "held",
    "home",
    "is_file",
    "parse_json",
    "pretty_json",
    "remove_partials",
    "replacing",
    "sha256_of_bytes",
    "sha256_of_file",
    "write_bytes",
    "write_text",
]

_POLL_SECONDS: Final = 0.05


def home() -> Path:
    """The folder for downloads and caches: `$SW2_HOME`, else `$XDG_CACHE_HOME/sw2`, else `~/.cache/sw2`."""
    if chosen := os.environ.get("SW2_HOME"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sw2"


def finite(value: Any) -> Any:
    """`value` with None for each number in it that JSON does not have (nan and the infinities)."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return value


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text, which can be hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def is_file(path: Path) -> bool:
    """Whether there is a file; False also for a name that no file can have, such as one that is too long."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text that may come from anybody.

    Raises:
        ValueError: it is no JSON (NaN and Infinity are none), no UTF-8, or lists stand in lists too deep.
    """
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("lists or objects stand in each other too deep") from error


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def pretty_json(value: Any) -> str:
    """JSON for people, with a final newline."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def sha256_of_bytes(content: bytes) -> str:
    """The SHA-256 of `content` in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file's content in hexadecimal, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(path: Path) -> None:
    """Make a rename inside `path` durable; a no-op where folders cannot be opened (Windows)."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; on success it is synced and becomes `path`.

    Raises:
        DiskFull: when the disk is full; `path` is then as it was before.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with full_disk_told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
            partial.replace(path)
            _sync_folder(path.parent)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` to fill; on success its files are synced and it becomes `path`.

    An existing `path` is replaced as a whole: exchanged with the new one in one step where the kernel can (Linux), else
    moved aside first, so that a kill between the two renames leaves it under its other name.

    Raises:
        DiskFull: when the disk is full; `path` is then as it was before.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    aside = path.with_name(f".{path.name}.{os.getpid()}.old")
    with full_disk_told(path):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            for file_path in partial.rglob("*"):
                if file_path.is_file():
                    with open(file_path, "rb+") as file:
                        os.fsync(file.fileno())
            try:
                partial.replace(path)
            except OSError as error:
                # Asking whether `path` exists first would leave another process time to make it in between.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                if not _exchange(partial, path):
                    path.replace(aside)
                    partial.replace(path)
            _sync_folder(path.parent)
            for old in (partial, aside):  # where the exchange, or the two renames, left it
                shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            if aside.exists() and not path.exists():
                aside.replace(path)
            raise


def refuse_taken(path: Path) -> None:
    """Complain about a path at which there is something; nothing is overwritten.

    Raises:
        UsageError: it is neither free nor an empty folder.
    """
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists():
        raise UsageError(
            "There is something else at this path.",
            where=path,
            wanted="a new or empty folder",
            got="a folder with files" if path.is_dir() else "a file",
            do="Name another folder with --out.",
        )


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step (renameat2, since Linux 3.15); False where that cannot be done."""
    if sys.platform != "linux":
        return False
    at_fdcwd, rename_exchange = -100, 2  # from fcntl.h and linux/fs.h
    try:
        done = ctypes.CDLL(None).renameat2(at_fdcwd, os.fsencode(one), at_fdcwd, os.fsencode(other), rename_exchange)
    except (OSError, AttributeError):
        return False
    return bool(done == 0)


def remove_partials(path: Path) -> None:
    """Remove what killed processes left half-written in the folder `path`; only for who holds that folder alone."""
    for partial in path.glob(".*.partial"):
        shutil.rmtree(partial) if partial.is_dir() else partial.unlink()


class Held(Exception):
    """Another process, or thread, holds a lock; the text says which one, as far as it is known."""


@contextlib.contextmanager
def held(path: Path, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Be the one process, and the one thread, that holds the lock file `path`, which is made if it is not there.

    The lock is the operating system's: it ends with its process, also when that is killed, and holds on one machine.

    Raises:
        Held: another one holds it, and still does after `wait_seconds`.
    """
    with open(path, "a+", encoding="utf-8", errors="replace") as file:
        until = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    file.seek(0)
                    raise Held(file.read(1000) or "a process that did not write who it is") from None
                time.sleep(_POLL_SECONDS)
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name on it
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}, {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC on")
            file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                file.truncate(0)


@contextlib.contextmanager
def full_disk_told(path: Path) -> Iterator[None]:
    """Inside, a full disk is the user's error about `path`, not an OSError; so is a file larger than there may be.

    Raises:
        DiskFull: when the disk is full, or the system's limit of a file's size is reached.
    """
    try:
        yield
    except Exception as error:
        if _is_full(error):
            raise _full_disk(path) from error
        if _is_too_large(error):
            raise _too_large(path) from error
        raise


def _is_full(error: BaseException) -> bool:
    """Whether `error` means a full disk: `OSError` says so by number, native writers (safetensors) only in words."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error) or "os error 28" in str(error)


def _is_too_large(error: BaseException) -> bool:
    """Whether `error` means a file beyond the limit of the process (`ulimit -f`) or of the disk's format."""
    return (isinstance(error, OSError) and error.errno == errno.EFBIG) or "os error 27" in str(error)


def _too_large(path: Path) -> DiskFull:
    """The error for a file that may not grow as large as it has to."""
    return DiskFull(
        "Files may not be so large here; the file was not written and what was there before is unchanged.",
        where=path,
        wanted="a place where files may be larger",
        got="the limit of the process (ulimit -f), or of the disk's format",
        do="Raise the limit or choose another disk, then try again.",
    )


def _full_disk(path: Path) -> DiskFull:
    """The error for a disk that filled up while `path` was written."""
    there = next(parent for parent in path.absolute().parents if parent.exists())
    free = shutil.disk_usage(there).free
    return DiskFull(
        "The disk is full; the file was not written and what was there before is unchanged.",
        where=path,
        wanted="room for the file",
        got=f"{free / 1e6:.1f} MB free",
        do="Free some space, then try again.",
    )


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text to `path` atomically."""
    write_bytes(path, content.encode())
