"""Numbers for comparing two implementations of a network that cannot be installed beside each other.

The trusted one runs once, with weights and inputs that follow from their names alone, and what it answers is kept in a
small file; a test gives ours the same weights and inputs and compares. Gradients are kept as two numbers each: the
norm, and the projection onto a direction that follows from the name too, which a permuted or negated gradient misses.

The stream is that of numpy's Philox generator (Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405) before it
becomes a distribution; numpy promises that this stream never changes, which it does not promise of its distributions.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

__all__ = ["digest", "numbers"]


def numbers(name: str, *shape: int) -> np.ndarray:
    """The numbers called `name`: float32 of this shape, uniform in [-1, 1).

    >>> numbers("block.weight", 2, 2).round(3).tolist() == numbers("block.weight", 4).round(3).reshape(2, 2).tolist()
    True
    """
    raw = np.random.Philox(key=zlib.crc32(name.encode())).random_raw(int(np.prod(shape)))
    return ((np.atleast_1d(raw) >> np.uint64(11)) * 2.0**-52 - 1.0).astype(np.float32).reshape(shape)


def digest(name: str, values: Any) -> list[float]:
    """The norm of `values`, and their projection onto the direction called `name`.

    Args:
        name: of what they are.
        values: numbers of any shape, as whatever numpy takes.
    """
    flat = np.asarray(values, np.float64).ravel()
    direction = numbers(f"direction of {name}", flat.size).astype(np.float64)
    return [float(np.linalg.norm(flat)), float(flat @ direction)]
