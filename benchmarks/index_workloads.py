"""Keys that come, are looked up and are listed: a learned index with a session beside B-trees with the same durability.

    python benchmarks/index_workloads.py [--keys 1000000 10000000] [--operations 200000] [--batches 1 100 10000]
        [--sync each never] [--folder ON-THE-DISK-TO-MEASURE]

    workloads   look-ups alone; 95 of them to 5 inserts; 50 to 50; scans of 100 and of 10,000 keys (one a call)
    batch       operations of a call; inserts of a call are one record, and one sync where each is synced
    session     the log of `sw2 amend` beside a quantised spline: a look-up gives the key's place
    absl        `absl::btree_multiset` in memory (Debian's libabsl-dev) behind a log of the same records, each written
                at the file's end and synced (`fdatasync`); one call from Python for each batch, as there; a look-up
                gives the first key that is not below
    absl, room  the same behind the session's own log, which writes into room that it took before
    sqlite      a table with an index on its keys, WAL, a transaction a call; synchronous=FULL where each is synced,
                else OFF; the same look-up, one after the other, as SQL has it

Operations a second by the clock on the wall, the median of rounds in which the sides take turns, each first in turn and
what it left on its way to the disk waited for before the next; and the ratios to absl's. Keys inserted are drawn
like those that are there (`--set` of `_index_keys.py`); all sides get the same ones.
Before anything is timed and at the end the sides hold the same number of keys, and as many in a few ranges.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
from _index_keys import GENERATED, generated
from numpy.typing import NDArray

from sw2.base.errors import ResourceError
from sw2.base.native import compiled
from sw2.catalog import catalog
from sw2.core.capabilities import Amend
from sw2.core.program import Program
from sw2.core.task import Context
from sw2.domains.indexes import native
from sw2.domains.indexes.session import KeySession
from sw2.domains.indexes.sides import library
from sw2.verbs.train import Order, train

__all__ = ["main"]

Keys = NDArray[np.int64]
Sync = Literal["each", "never"]
SHARES: Final = {"look-ups": 0.0, "95/5": 0.05, "50/50": 0.5}
SCANS: Final = (100, 10_000)
PLAIN: Final = "absl"
ROOMY: Final = "absl, room"


class Side(Protocol):
    """What is measured."""

    name: str

    def insert(self, keys: Keys) -> None: ...

    def find(self, keys: Keys) -> object: ...

    def scan(self, low: int, high: int) -> int: ...

    def count(self) -> int: ...

    def close(self) -> None: ...


class OfSession:
    name = "session"

    def __init__(self, program: Program, path: Path, sync: Sync) -> None:
        session = program.capability(Amend).amended(path, sync=sync)  # type: ignore[type-abstract]
        assert isinstance(session, KeySession)
        self._session = session

    def insert(self, keys: Keys) -> None:
        self._session.insert(keys)

    def find(self, keys: Keys) -> object:
        return self._session.position(keys)

    def scan(self, low: int, high: int) -> int:
        return len(self._session.between(low, high))

    def count(self) -> int:
        return len(self._session)

    def close(self) -> None:
        self._session.close()


class OfAbsl:
    def __init__(self, keys: Keys, path: Path, sync: Sync, *, room: bool) -> None:
        self.name, self._which = (ROOMY, 1) if room else (PLAIN, 0)
        flags = ("-DNDEBUG", "-Wl,--no-as-needed", "-labsl_throw_delegate")
        self._library: Any = compiled(Path(__file__).parent / "_index_absl.cpp", "peer", flags)
        self._count, log = len(keys), library()
        self._file = path.open("wb", buffering=0)
        self._log = native.invoke(log.open_log, self._file.fileno(), 0, int(sync == "each"), int(room))
        self._append = ctypes.cast(log.append_came, ctypes.c_void_p).value
        self._room = np.empty(1 << 20, np.int64)
        native.invoke(self._library.hold, self._which, keys, len(keys))

    def insert(self, keys: Keys) -> None:
        if native.invoke(self._library.put, self._which, self._append, self._log, keys, len(keys)):
            raise SystemExit("The peer's log cannot be written.")
        self._count += len(keys)

    def find(self, keys: Keys) -> object:
        answers = np.empty(len(keys), np.int64)
        native.invoke(self._library.find, self._which, keys, len(keys), answers)
        return answers

    def scan(self, low: int, high: int) -> int:
        return len(
            self._room[: native.invoke(self._library.scan, self._which, low, high, self._room, len(self._room))].copy()
        )

    def count(self) -> int:
        return self._count

    def close(self) -> None:
        native.invoke(library().close_log, self._log)
        self._file.close()
        native.invoke(self._library.hold, self._which, self._room, 0)


class OfSqlite:
    name = "sqlite"

    def __init__(self, keys: Keys, path: Path, sync: Sync) -> None:
        self._base = sqlite3.connect(path, isolation_level=None)
        self._base.execute("PRAGMA journal_mode=WAL")
        self._base.execute("CREATE TABLE keys (key INTEGER)")
        self._base.execute("PRAGMA synchronous=OFF")
        self._put(keys)
        self._base.execute("CREATE INDEX by_key ON keys (key)")
        self._base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._base.execute(f"PRAGMA synchronous={'FULL' if sync == 'each' else 'OFF'}")

    def _put(self, keys: Keys) -> None:
        self._base.execute("BEGIN")
        self._base.executemany("INSERT INTO keys VALUES (?)", ((key,) for key in keys.tolist()))
        self._base.execute("COMMIT")

    def insert(self, keys: Keys) -> None:
        self._put(keys)

    def find(self, keys: Keys) -> object:
        ask = "SELECT key FROM keys WHERE key >= ? ORDER BY key LIMIT 1"
        return [self._base.execute(ask, (key,)).fetchone() for key in keys.tolist()]

    def scan(self, low: int, high: int) -> int:
        ask = "SELECT key FROM keys WHERE key >= ? AND key < ? ORDER BY key"
        return len(self._base.execute(ask, (low, high)).fetchall())

    def count(self) -> int:
        return int(self._base.execute("SELECT count(*) FROM keys").fetchone()[0])

    def close(self) -> None:
        self._base.close()


def calls(keys: Keys, operations: int, batch: int, share: float, seed: int) -> Iterator[tuple[Keys, Keys]]:
    """What is inserted and what is looked up, call by call; the same for the same seed."""
    random = np.random.default_rng(seed)
    for _ in range(operations // batch):
        inserted = int((random.random(batch) < share).sum())
        drawn = keys[random.integers(0, len(keys), batch)] + random.integers(0, 1 << 20, batch)
        yield drawn[:inserted], drawn[inserted:]


def timed(side: Side, keys: Keys, operations: int, batch: int, share: float, seed: int) -> float:
    """Operations a second."""
    made = list(calls(keys, operations, batch, share, seed))
    os.sync()  # or the first sync waits for what the side before left to the system
    began = time.perf_counter()
    for inserted, asked in made:
        if len(inserted):
            side.insert(inserted)
        if len(asked):
            side.find(asked)
    return len(made) * batch / (time.perf_counter() - began)


def timed_scans(side: Side, keys: Keys, length: int, times: int, seed: int) -> float:
    """Scans a second."""
    starts = np.random.default_rng(seed).integers(0, max(len(keys) - length, 1), times).tolist()
    ends = [(int(keys[start]), int(keys[min(start + length, len(keys) - 1)])) for start in starts]
    began = time.perf_counter()
    for low, high in ends:
        side.scan(low, high)
    return times / (time.perf_counter() - began)


def agree(sides: list[Side], keys: Keys) -> None:
    """The sides hold the same keys, as far as a few ranges tell."""
    for low, high in ((int(keys[0]), int(keys[len(keys) // 100])), (int(keys[-2]), int(keys[-1]) + 5)):
        assert len({side.scan(low, high) for side in sides}) == 1
    assert len({side.count() for side in sides}) == 1


def shown(title: str, found: dict[str, list[float]]) -> None:
    middle = {name: statistics.median(values) for name, values in found.items()}
    cells = "".join(f"{value:>14,.0f}" for value in middle.values())
    ratios = "".join(f"{middle['session'] / middle[name]:>12.2f}" for name in (PLAIN, ROOMY) if name in middle)
    print(f"{title:<34}{cells}{ratios}", flush=True)


def measured(
    keys: Keys, program: Program, sync: Sync, batches: list[int], operations: int, rounds: int, folder: Path
) -> None:
    sides: list[Side] = [OfSession(program, folder / f"{sync}.session", sync)]
    try:
        sides.append(OfAbsl(keys, folder / f"{sync}.log", sync, room=False))
        if sync == "each":
            sides.append(OfAbsl(keys, folder / f"{sync}.room.log", sync, room=True))
    except ResourceError as error:
        print(f"absl is left out: {error.message} {error.got}")
    sides.append(OfSqlite(keys, folder / f"{sync}.sqlite", sync))
    agree(sides, keys)
    print(f"\nsync {sync}, operations a second")
    print(f"{'workload':<34}" + "".join(f"{side.name:>14}" for side in sides) + "     session ÷ absl's")
    for name, share in SHARES.items():
        for batch in batches:
            found: dict[str, list[float]] = {side.name: [] for side in sides}
            for turn in range(rounds):
                for side in sides[turn % len(sides) :] + sides[: turn % len(sides)]:
                    some = operations if share == 0 or sync == "never" else min(operations, 4000 * batch)
                    found[side.name].append(timed(side, keys, some, batch, share, 100 * batch + turn))
            shown(f"{name}, batches of {batch:,}", found)
    for length in SCANS:
        found = {side.name: [] for side in sides}
        for turn in range(rounds):
            for side in sides:
                found[side.name].append(timed_scans(side, keys, length, max(operations // length // 10, 5), turn))
        shown(f"scans of {length:,}, a second", found)
    agree(sides, keys)
    for side in sides:
        side.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keys", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--set", default="uniform", choices=GENERATED)
    parser.add_argument("--operations", type=int, default=200_000, help="of a round; fewer where each is synced")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 100, 10_000])
    parser.add_argument("--sync", nargs="+", default=["each", "never"], choices=["each", "never"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; the system's temporary one by itself")
    chosen = parser.parse_args()
    if (reason := native.why_not()) is not None:
        raise SystemExit(f"The kernels do not run here: {reason}")
    for count in chosen.keys:
        keys = generated(chosen.set, count)
        with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
            folder = Path(name)
            np.save(folder / "keys.npy", keys)
            order = Order(task="learned-index", data=str(folder / "keys.npy"), model="quantised-spline")
            program = train(catalog(), order, folder / "index", Context())
            print(f"\n{chosen.set}: {len(keys):,} keys")
            for sync in chosen.sync:
                measured(keys, program, sync, chosen.batches, chosen.operations, chosen.rounds, folder)


if __name__ == "__main__":
    main()
