"""How much memory a fit takes, in a process of its own: run by learned_index.py.

    python _index_memory.py KEYS.npy MODEL '{"setting": value}'      a line of JSON: the peak, as a multiple of the keys
    python _index_memory.py KEYS.npy trial '{}'                      of the trial of all candidates

Counted is the most that was resident (VmHWM of Linux) from the moment when the interpreter, its libraries and the
compiled kernels are there, less what was resident then. The keys are mapped and all read before the fit, so their pages
count, once: the least is 1.0. The operating system may take pages of a file back when it needs them; a copy it cannot.

What it does not do: systems other than Linux; memory that was asked for and never written to, which is not taken.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from sw2.domains.indexes.columns import Column, Place
from sw2.domains.indexes.keys import KeyKind
from sw2.domains.indexes.models import MODELS
from sw2.domains.indexes.objective import trial

__all__ = ["main"]


def resident(name: str) -> int:
    """A line of the process's status, in bytes."""
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines[name].split()[0])


def fit(keys: np.ndarray, name: str, settings: dict[str, int]) -> None:
    if name == "trial":
        kind = KeyKind("int64")
        column = Column(place=Place(path=""), kind=kind, keys=keys, numbers=len(keys), sha256="", size=0)
        trial(column, 200_000, seed=0)
    else:
        MODELS[name].fit(keys, MODELS[name].Config(**settings))


def main() -> None:
    path, name, settings = sys.argv[1:]
    random = np.random.default_rng(0)
    fit(np.sort(random.integers(0, 1 << 62, 1000)), name, json.loads(settings))  # loads what is loaded late
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    keys = np.load(path, mmap_mode="r")
    keys.max()  # reads all of them
    read = resident("VmRSS") - before
    fit(keys, name, json.loads(settings))
    peak = resident("VmHWM") - before
    print(json.dumps({"times the keys": peak / keys.nbytes, "keys alone": read / keys.nbytes}))


if __name__ == "__main__":
    main()
