"""Sorted containers of Python packages, one key at a time since they take no batches: run by learned_index.py.

    python _index_packages.py KEYS.npy QUESTIONS.npy      a line of JSON for each package: nanoseconds a key

Needs numpy and those of BTrees, sortedcontainers and pygm that are to be asked; a line says why one of them was not.
What it does not do: check the answers of a package beyond the first thousand.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["main"]


def btrees(keys: np.ndarray) -> Callable[[list[int]], list[int]]:
    """A key's place; BTrees has no look-up of the next key's value that is as quick."""
    from BTrees.LLBTree import LLBTree  # type: ignore[import-not-found]
    from BTrees.QQBTree import QQBTree  # type: ignore[import-not-found]

    different, places = np.unique(keys, return_index=True)
    kind = LLBTree if keys.dtype == np.int64 else QQBTree
    tree = kind(dict(zip(different.tolist(), places.tolist(), strict=True)))
    return lambda some: [tree[key] for key in some]


def sorted_containers(keys: np.ndarray) -> Callable[[list[int]], list[int]]:
    from sortedcontainers import SortedList  # type: ignore[import-untyped]

    ask = SortedList(keys.tolist()).bisect_left
    return lambda some: [ask(key) for key in some]


def pygm(keys: np.ndarray) -> Callable[[list[int]], list[int]]:
    from pygm import SortedList  # type: ignore[import-not-found]

    ask = SortedList(keys, "q" if keys.dtype == np.int64 else "Q").bisect_left
    return lambda some: [ask(key) for key in some]


def main() -> None:
    keys, questions = (np.load(path) for path in sys.argv[1:3])
    random, ordered = questions.tolist(), np.sort(questions).tolist()
    right = np.searchsorted(keys, questions[:1000]).tolist()
    for name, make in (("BTrees", btrees), ("sortedcontainers", sorted_containers), ("pygm", pygm)):
        row: dict[str, Any] = {"model": name}
        try:
            began = time.thread_time()
            ask = make(keys)
            row["build"] = time.thread_time() - began
            assert ask(random[:1000]) == right, name
            row |= {"random": _nanoseconds(ask, random), "sorted": _nanoseconds(ask, ordered)}
            del ask
        except ImportError as error:
            row["why not"] = str(error)
        print(json.dumps(row), flush=True)


def _nanoseconds(ask: Callable[[list[int]], Any], questions: list[int]) -> float:
    times = []
    for _ in range(3):
        began = time.thread_time_ns()
        ask(questions)
        times.append(time.thread_time_ns() - began)
    return min(times) / len(questions)


if __name__ == "__main__":
    main()
