"""Learned indexes beside their peers: bytes beyond the keys, and nanoseconds a key, on the same keys and questions.

Key sets, each of `--keys` keys: uniform and lognormal whole numbers, and a staircase that is hard for lines: runs of 16
to 256 keys, each with a distance of its own from 1 to 2^20 between its keys, and 2^30 between runs. `--addresses FILE`
adds the IPv4 range starts of Debian's package tor-geoipdb (usr/share/tor/geoip in it).

Questions: a million keys that are there, in random order and sorted. Every peer is compiled, takes batches, and lets 32
queries wait for memory together, save `numpy.searchsorted`; so "python" is what a user sees, and differs from "inside"
by one call from Python. Times are of one thread on its processor, the best of five rounds; all candidates take turns in
one process. `--peers` also asks the packages BTrees and sortedcontainers, one key at a time, as they are used.

    python benchmarks/learned_index.py [--keys 10000000] [--questions 1000000] [--json FILE]

A row holds: bytes · build seconds · ns random · ns sorted · times as fast as the B+tree, binary search, numpy (random).
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sw2.domains.indexes import native
from sw2.domains.indexes.models import MODELS, KeyModel
from sw2.domains.indexes.objective import CANDIDATES
from sw2.domains.indexes.task import nanoseconds

__all__ = ["main"]


def made(name: str, count: int) -> np.ndarray:
    random = np.random.default_rng(22)
    if name == "uniform":
        return np.sort(random.integers(0, 1 << 62, count))
    if name == "lognormal":
        return np.sort((np.exp(2 * random.normal(size=count)) * 1e9).astype(np.int64))
    lengths = random.integers(16, 257, count // 100 + 1)
    gaps = np.repeat(1 << random.integers(0, 21, len(lengths)), lengths)[:count]
    starts = np.cumsum(lengths)
    gaps[starts[starts < count]] = 1 << 30
    return np.cumsum(gaps)


def addresses(file: Path) -> np.ndarray:
    lines = (line.split(",") for line in file.read_text().splitlines() if line and line[0] != "#")
    return np.sort(np.array([int(line[0]) for line in lines], np.int64))


def one_by_one(keys: np.ndarray) -> Iterator[tuple[str, Callable[[np.ndarray], Any]]]:
    """Sorted containers of Python packages: a key at a time, since they take no batches."""
    plain = keys.tolist()
    try:
        tree = importlib.import_module("BTrees.LLBTree").LLBTree(zip(plain, range(len(plain)), strict=True))
        yield "BTrees", lambda some: [tree[key] for key in some.tolist()]
    except ImportError:
        pass
    try:
        listed = importlib.import_module("sortedcontainers").SortedList(plain)
        yield "sortedcontainers", lambda some: [listed.bisect_left(key) for key in some.tolist()]
    except ImportError:
        pass


def inside(model: KeyModel, keys: np.ndarray) -> Callable[[np.ndarray], Any]:
    """The compiled function alone, into memory that is there already."""
    answers: dict[int, np.ndarray] = {}

    def locate(some: np.ndarray) -> None:
        into = answers.setdefault(len(some), np.zeros(len(some), np.int64))
        if model.function == "eytzinger":
            native.call("locate_eytzinger", model.table("node"), len(keys), some, len(some), into)
        else:
            native.call(f"locate_{model.function}", keys, len(keys), some, len(some), into, *model.arguments())

    return locate


def measured(keys: np.ndarray, questions: int, peers: bool) -> list[dict[str, Any]]:
    random = keys[np.random.default_rng(1).integers(0, len(keys), questions)]
    ordered = np.sort(random)
    right = np.searchsorted(keys, random)
    rows: list[dict[str, Any]] = []

    def row(name: str, beyond: int, build: float, inner: Any, outer: Any) -> None:
        rows.append(
            {
                "model": name,
                "bytes": beyond,
                "build": build,
                "inside": nanoseconds(inner, random, 5) if inner else None,
                "random": nanoseconds(outer, random, 5),
                "sorted": nanoseconds(outer, ordered, 5),
            }
        )

    row("numpy.searchsorted", 0, 0.0, None, lambda some: np.searchsorted(keys, some))
    for name, settings in CANDIDATES:
        began = time.thread_time()
        model = MODELS[name].fit(keys, MODELS[name].Config(**settings))
        build = time.thread_time() - began
        assert np.array_equal(model.locate(keys, random), right), name
        called = " ".join([name, *(f"{key}={value}" for key, value in settings.items())])
        row(called, model.beyond(), build, inside(model, keys), lambda some, model=model: model.locate(keys, some))
    for name, ask in one_by_one(keys) if peers else ():
        few = random[:100_000]
        rows.append({"model": name, "random": nanoseconds(ask, few), "sorted": nanoseconds(ask, np.sort(few))})
    return rows


def show(name: str, keys: np.ndarray, rows: Sequence[dict[str, Any]]) -> None:
    by_name = {row["model"]: row for row in rows}
    print(f"\n{name}: {len(keys):,} keys of {keys.dtype}, {keys.nbytes / 1e6:.0f} MB")
    head = ("model", "bytes", "build s", "inside", "random", "sorted", "÷ B+tree", "÷ binary", "÷ numpy")
    print(f"{head[0]:<28}" + "".join(f"{each:>11}" for each in head[1:]))
    for row in rows:
        cells = [f"{row['bytes']:,}" if "bytes" in row else "", f"{row['build']:.2f}" if "build" in row else ""]
        cells += [f"{row[each]:.1f}" if row.get(each) else "" for each in ("inside", "random", "sorted")]
        peers = (by_name[peer]["random"] for peer in ("b-plus-tree", "binary-search", "numpy.searchsorted"))
        cells += [f"{peer / row['random']:.2f}" for peer in peers]
        print(f"{row['model']:<28}" + "".join(f"{each:>11}" for each in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--questions", type=int, default=1_000_000)
    parser.add_argument("--sets", nargs="*", default=["uniform", "lognormal", "staircase"])
    parser.add_argument("--addresses", type=Path)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    if (reason := native.why_not()) is not None:
        raise SystemExit(f"The kernels do not run here: {reason}")
    makers: dict[str, Callable[[], np.ndarray]] = {
        name: lambda name=name: made(name, chosen.keys)  # type: ignore[misc]
        for name in chosen.sets
    }
    makers |= {"addresses": lambda: addresses(chosen.addresses)} if chosen.addresses else {}
    found = {}
    for name, make in makers.items():
        keys = make()
        found[name] = measured(keys, chosen.questions, chosen.peers)
        show(name, keys, found[name])
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
