"""Hostile files: endless variations of a good one, for readers that must refuse or read and do nothing else.

    endure(folder / "config.json", lambda: read_folder(folder), range(1000), structured_json)

A variation is a function of its number, so that a failing one is found again by it. `mutated` changes bytes: bits are
flipped, lengths become huge, parts vanish, repeat or change places. Bytes alone seldom get past a parser, so a file of
known structure also varies in that: `structured_json` replaces, removes and adds values, `structured_safetensors` does
so with the header of a safetensors file and keeps its length right.

Each variation has a time and a memory, so that "refused, but only after an hour" is a failure too.

What it does not do: look at which branches were reached.
"""

from __future__ import annotations

import copy
import json
import random
import signal
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from sw2.base.errors import Sw2Error

__all__ = ["Structured", "endure", "mutated", "structured_json", "structured_safetensors"]

Structured = Callable[[bytes, random.Random], bytes]

_WHOLE: Final = (0, 1, -1, 2, 7, 127, 255, 2**16, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**200)
_VALUES: Final[tuple[Any, ...]] = (
    *_WHOLE, None, True, False, "", "x", "\0", "../../etc/passwd", "<|endoftext|>", "F32", "U8", [], {}, [[]], [None],
    {"": ""}, 0.5, -1.5, 1e308, float("nan"), float("inf"), "9" * 400, [0] * 300, [1, 2, 3], "é🙂",
)  # fmt: skip


def endure(
    file: Path,
    use: Callable[[], object],
    numbers: Iterable[int],
    structured: Structured | None = None,
    *,
    seconds: int = 10,
    megabytes: int = 1500,
) -> Counter[str]:
    """Put each variation of `file` in its place and use it; the good file stands there again at the end.

    Args:
        file: the good file.
        use: opens and uses what `file` belongs to.
        numbers: of the variations.
        structured: see `mutated`.
        seconds, megabytes: what each may take, the memory as address space (held on Linux, in the main thread).

    Returns:
        How often `use` answered ("used"), and how often it raised which Sw2Error (its message).

    Raises:
        AssertionError: it raised anything else, or took more; names the variation.
    """
    good = file.read_bytes()
    outcomes: Counter[str] = Counter()
    try:
        for number in numbers:
            file.write_bytes(mutated(good, random.Random(number), structured))
            try:
                with _within(seconds, megabytes):
                    use()
                outcomes["used"] += 1
            except Sw2Error as error:
                outcomes[error.message] += 1
            except Exception as error:
                raise AssertionError(f"variation {number} of {file.name}: {type(error).__name__}: {error}") from error
    finally:
        file.write_bytes(good)
    return outcomes


def mutated(good: bytes, draw: random.Random, structured: Structured | None = None) -> bytes:
    """A variation of the file `good`: of its structure where that is known (three times in four), else of its bytes."""
    if structured is not None and draw.random() < 0.75:
        return structured(good, draw)
    content = bytearray(good)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        if not content:
            break
        # Headers stand in front, and are short beside the data.
        at = draw.randrange(min(len(content), draw.choice((64, 1024, 16_384, len(content)))))
        length = draw.choice((1, 2, 4, 8, 64, 1024))
        match draw.randrange(7):
            case 0:
                content[at] ^= 1 << draw.randrange(8)
            case 1:
                content[at : at + length] = draw.randbytes(length)
            case 2:
                size = draw.choice((1, 2, 4, 8))
                content[at : at + size] = (draw.choice(_WHOLE) % 256**size).to_bytes(size, "little")
            case 3:
                del content[at : at + length]
            case 4:
                content[at:at] = content[at : at + length]
            case 5:
                del content[at:]
            case _:
                other = draw.randrange(len(content))
                content[at : at + length] = content[other : other + length]
    return bytes(content)


def structured_json(good: bytes, draw: random.Random) -> bytes:
    """A variation of a JSON text: one or a few of its values become others, vanish, or stand twice."""
    tree: Any = [json.loads(good)]
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = list(_places(tree))
        holder, key = draw.choice(places)
        match draw.randrange(6):
            case 0 | 1:
                holder[key] = copy.deepcopy(draw.choice(_VALUES))
            case 2:
                holder[key] = _near(copy.deepcopy(holder[key]), draw)
            case 3 if holder is not tree:
                del holder[key]
            case 4 if isinstance(holder, dict):
                holder[draw.choice((key + "x", key[:-1], "", key.upper()))] = copy.deepcopy(holder[key])
            case 4 if holder is not tree:
                holder.insert(key, copy.deepcopy(holder[key]))
            case _:
                other_holder, other_key = draw.choice(places)
                holder[key] = copy.deepcopy(other_holder[other_key])
    text = json.dumps(tree[0])
    if draw.random() < 0.02:
        text = "[" * draw.choice((10, 100_000)) + text
    if draw.random() < 0.05 and text.startswith("{"):
        text = text[:-1] + "," + text[1:]  # every key twice
    return text.encode()


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """(holder, key) of every value, the outermost first."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in list(inner):
        yield tree, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def _near(value: Any, draw: random.Random) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return draw.choice((value + 1, value - 1, -value, 2 * value, value // 2, 1000 * value, *_WHOLE))
    if isinstance(value, float):
        return draw.choice((-value, value * 1e30, value * 1e-30, 0.0, float("nan"), float("inf")))
    if isinstance(value, str):
        return draw.choice((value + value, value[:-1], value[1:], value.upper(), value + "\0", value.replace("e", "é")))
    if isinstance(value, list):
        return draw.choice((value[:-1], value[1:], value + value, value[::-1], [value]))
    return dict(list(value.items())[: len(value) // 2])


def structured_safetensors(good: bytes, draw: random.Random) -> bytes:
    """A variation of the header of a safetensors file, whose length is mostly kept right."""
    (length,) = struct.unpack_from("<Q", good)
    header = structured_json(good[8 : 8 + length], draw)
    said = len(header) if draw.random() < 0.9 else draw.choice(_WHOLE) % 2**64
    return struct.pack("<Q", said) + header + good[8 + length :]


@contextmanager
def _within(seconds: int, megabytes: int) -> Iterator[None]:
    """Inside, more seconds end with TimeoutError and more memory than at the beginning with MemoryError."""
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        yield
        return
    import resource

    def late(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise TimeoutError(f"still at it after {seconds} seconds")

    with open("/proc/self/statm", encoding="ascii") as file:
        present = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (present + megabytes * 2**20, before[1]))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, handler)
