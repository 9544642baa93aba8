"""A learned model as the hash function of a map: how often keys meet in a slot, beside functions that know no keys.

A model of an index says where a key stands among n. Taken as its slot of n (load 1.0), it leaves fewer slots empty than
a random hash function does, if it is near the truth: 1 / e of them, 0.368, is what chance leaves (Kraska et al. 2018,
https://arxiv.org/abs/1712.01208, section 4, from where the question comes).

    python benchmarks/learned_hash.py [--keys 10000000] [--sets uniform coast] [--peer-python PATH]

    conflicts   the share of keys that find their slot taken, which is the share of slots that stay empty
    longest     the most keys of one slot
    probes      keys that are compared for a key that is there, with a chain for each slot
    map         bytes a key of such a map with values of 8 bytes: slots of 16, 24 for each key that conflicts, the model

Hash functions that know no keys: the end of MurmurHash3, and one multiplication by an odd number (multiply-shift), both
scaled to n. Equal keys are taken once. Key sets: `_index_keys.py`. Nothing is timed: a hash function is a part of some
other program's compiled code, and there the comparison of times belongs.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from _index_keys import GENERATED, REAL, generated, real
from numpy.typing import NDArray

from sw2.domains.indexes.filters.reference import mixed
from sw2.domains.indexes.models import Pgm, RadixSpline
from sw2.domains.indexes.objective import CANDIDATES
from sw2.domains.indexes.reference import ordered
from sw2.domains.indexes.rmi import Rmi

__all__ = ["main"]

LINES: Final = {"pgm": Pgm, "radix-spline": RadixSpline, "rmi": Rmi}
AT_ONCE: Final = 1 << 20
ODD: Final = np.uint64(0x9E3779B97F4A7C15)

Hash = Callable[[np.ndarray], NDArray[np.int64]]


def scaled(hashes: NDArray[np.uint64], slots: int) -> NDArray[np.int64]:
    """Hashes of 64 bits as slots."""
    return ((hashes >> np.uint64(32)) * np.uint64(slots) >> np.uint64(32)).astype(np.int64)


def functions(keys: np.ndarray) -> Iterator[tuple[str, int, Hash]]:
    """Name, bytes and function of each candidate."""
    slots = len(keys)
    yield "murmur", 0, lambda some: scaled(mixed(ordered(some)), slots)
    yield "multiply-shift", 8, lambda some: scaled(ordered(some) * ODD, slots)
    for name, settings in CANDIDATES:
        if name not in LINES:
            continue
        kind = LINES[name]
        model = kind.fit(keys, kind.Config(**settings))
        assert isinstance(model, (Pgm, RadixSpline, Rmi))
        said = " ".join([name, *(f"{key}={value}" for key, value in settings.items())])
        yield said, model.beyond(), functools.partial(model.guess, keys)


def counted(keys: np.ndarray, function: Hash) -> NDArray[np.int64]:
    """How many keys each slot has."""
    counts = np.zeros(len(keys), np.int64)
    for start in range(0, len(keys), AT_ONCE):
        slots = np.minimum(function(keys[start : start + AT_ONCE]), len(keys) - 1)
        counts += np.bincount(slots, minlength=len(keys))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keys", type=int, default=10_000_000, help="of each generated set")
    parser.add_argument("--sets", nargs="+", default=[*GENERATED, *REAL], choices=[*GENERATED, *REAL])
    parser.add_argument("--peer-python", default="", help="with h5py for the coast")
    chosen = parser.parse_args()
    for name in chosen.sets:
        found = generated(name, chosen.keys) if name in GENERATED else real(name, chosen.peer_python or sys.executable)
        if isinstance(found, str):
            print(f"\n{name}: left out. {found}")
            continue
        keys = np.unique(found)
        n = len(keys)
        print(f"\n{name}: {n:,} different keys; by chance {1 / math.e:.3f} of them conflict")
        print(
            f"{'function':<28}" + "".join(f"{each:>11}" for each in ("bytes", "conflicts", "longest", "probes", "map"))
        )
        for said, size, function in functions(keys):
            counts = counted(keys, function)
            conflicts = n - int(np.count_nonzero(counts))
            probes = float((counts * (counts + 1) // 2).sum()) / n
            bytes_ = 16 + (24 * conflicts + size) / n
            print(
                f"{said:<28}{size:>11,}{conflicts / n:>11.3f}{counts.max():>11,}{probes:>11.2f}{bytes_:>11.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
