"""Learned membership filters beside Bloom filters of the same rate: bytes, the rate on held-out others, keys denied.

    words     the words of a large English list (Debian's wamerican-insane); others: words of German and Italian lists
              (wngerman, witalian) that are not in it
    typos     the same words; others: a word of them with one letter changed
    ipv4      the starts of ranges of IPv4 addresses of one country (tor-geoipdb); others: addresses drawn at random
    uniform   numbers of 64 bits drawn at random; others the same: nothing can be learned
    names     random hexadecimal digits; others the same: nothing can be learned

    python benchmarks/membership_filter.py [--sets words] [--rates 0.1 0.01 0.001] [--seeds 3] [--keys 1000000]

Each filter is made by `sw2 train membership-filter` with nothing set but the rate, so what is shown is what is chosen.
Others are dealt anew for each seed: half to learn from, a quarter to size, a quarter to measure the rate on. The
medians of the seeds stand there, of the rate the least and the most too. "least" is what no filter of that rate can be
below where keys look like others, log2(1 / rate) bits a key. Bytes are those of fields and weights. Times are of one
thread on its processor, beside the Bloom filter's in the same run.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from _index_keys import real, unpacked

from sw2.catalog import catalog
from sw2.core.task import Context
from sw2.domains.indexes.filters.keysets import why_not
from sw2.verbs.train import Order, train

__all__ = ["main"]

SETS: Final = ("words", "typos", "ipv4", "uniform", "names")
MOST_OTHERS: Final = 1_000_000


def words(package: str, *files: str) -> set[str]:
    folder = unpacked(package) / "usr/share/dict"
    return {line for file in files for line in (folder / file).read_text(encoding="utf-8").splitlines() if line}


def mistyped(word: str, random: np.random.Generator) -> str:
    """The word with one letter changed."""
    place, letter = random.integers(len(word)), "abcdefghijklmnopqrstuvwxyz"[random.integers(26)]
    return word[:place] + letter + word[place + 1 :]


def made(name: str, count: int, folder: Path) -> tuple[Path, Path]:
    """The files of a set's keys and of others."""
    random = np.random.default_rng(5)
    if name in ("words", "typos"):
        keys = words("wamerican-insane", "american-english-insane")
        if name == "words":
            others = (words("wngerman", "ngerman") | words("witalian", "italian")) - keys
        else:
            others = {mistyped(word, random) for word in sorted(keys)} - keys
        return _lines(folder / "keys.txt", sorted(keys)), _lines(folder / "others.txt", sorted(others))
    if name == "names":
        drawn = [random.bytes(8).hex() for _ in range(2 * count)]
        return _lines(folder / "keys.txt", drawn[:count]), _lines(folder / "others.txt", drawn[count:])
    if name == "ipv4":
        found = real("ipv4", "")
        if isinstance(found, str):
            raise OSError(found)
        others_ = random.integers(0, 1 << 32, MOST_OTHERS)
        return _array(folder / "keys.npy", found), _array(folder / "others.npy", others_)
    both = random.integers(0, 1 << 64, 2 * count, np.uint64)
    return _array(folder / "keys.npy", both[:count]), _array(folder / "others.npy", both[count:])


def _lines(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _array(path: Path, values: np.ndarray) -> Path:
    np.save(path, values)
    return path


def measured(keys: Path, others: Path, rate: float, seed: int, out: Path) -> dict[str, Any]:
    settings = [f"data.absent={others}", f"rate={rate}"]
    order = Order(task="membership-filter", data=str(keys), settings=settings, seed=seed)
    program = train(catalog(), order, out, Context(seed=seed))
    scores = {(each["of"], each["name"]): each for each in program.card.scores}
    own, plain = (
        {name: score["value"] for (of, name), score in scores.items() if of == who}
        for who in ("program", "bloom-filter")
    )
    assert own["keys denied"] == 0
    return {
        "taken": program.nets["filter"].model,
        "keys": scores["program", "bits a key"]["examples"],
        "program": own,
        "bloom": plain,
        "why": program.card.made.get("why model", ""),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--rates", nargs="+", type=float, default=[0.1, 0.01, 0.001])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keys", type=int, default=1_000_000, help="of the sets that are drawn")
    chosen = parser.parse_args()
    if (reason := why_not()) is not None:
        raise SystemExit(f"The kernels do not run here: {reason}")
    for name in chosen.sets:
        with tempfile.TemporaryDirectory() as folder:
            try:
                keys, others = made(name, chosen.keys, Path(folder))
            except OSError as error:
                print(f"\n{name}: left out. {error}")
                continue
            for rate in chosen.rates:
                show(
                    name,
                    rate,
                    [
                        measured(keys, others, rate, seed, Path(folder) / f"{rate}-{seed}")
                        for seed in range(chosen.seeds)
                    ],
                )


def show(name: str, rate: float, rows: list[dict[str, Any]]) -> None:
    def median(who: str, what: str) -> float:
        return statistics.median(row[who][what] for row in rows)

    rates = [row["program"]["false-positive rate"] for row in rows]
    bits, plain = median("program", "bits a key"), median("bloom", "bits a key")
    taken = ", ".join(sorted({row["taken"] for row in rows}))
    print(
        f"\n{name}, {rows[0]['keys']:,} keys, rate {rate:g}: taken {taken}\n"
        f"  {bits:.2f} bits a key beside {plain:.2f}, {bits / plain:.3f} of them (least {math.log2(1 / rate):.2f});"
        f" rate {statistics.median(rates):.5f} ({min(rates):.5f} to {max(rates):.5f})"
        f" beside {median('bloom', 'false-positive rate'):.5f};"
        f" {median('program', 'nanoseconds a key'):.0f} ns beside {median('bloom', 'nanoseconds a key'):.0f}\n"
        f"  {rows[0]['why']}",
        flush=True,
    )


if __name__ == "__main__":
    main()
