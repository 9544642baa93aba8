"""Indexes of text beside their peers: bytes beyond the texts, and nanoseconds a text, on the same texts and questions.

    words     663,473 words of a large English list (Debian's wamerican-insane)
    names     the paths of the archive's packages, pool/main/… (what `apt-cache dumpavail` names; as apt knows them now)
    urls      `--keys` addresses of 200 hosts, three parts each; they begin alike, so their heads say little

    python benchmarks/learned_index_texts.py [--sets words] [--keys 1000000] [--questions 1000000] [--json FILE]

Asked are texts that are there, in random order, and sorted. "inside" is the look-up with the questions laid out as
bytes already, "python" a call with an array of Python's texts, which have to become bytes first.

Peers: `bisect_left` of Python on a list of bytes, a text at a time; halving all texts, compiled, 32 questions waiting
for memory together as in our own; and `absl::btree_map<string_view, …>` where its headers are (Debian's libabsl-dev),
one look-up after the other, since it has no other way. Times are of one thread on its processor, the best of five
rounds; the bytes of an index count its heads, 8 a text, and those of absl's tree are its nodes, views of the texts.

At the end for each set by how much the fastest model is faster than each peer.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import time
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from _index_keys import unpacked

from sw2.base.errors import ResourceError
from sw2.base.native import compiled
from sw2.domains.indexes import native, texts
from sw2.domains.indexes.models import MODELS
from sw2.domains.indexes.objective import CANDIDATES
from sw2.domains.indexes.task import nanoseconds
from sw2.domains.indexes.texts import SortedTexts, Texts, asked_texts, packed

__all__ = ["main"]

SETS: Final = ("words", "names", "urls")
ROUNDS: Final = 5
_FEW: Final = 100_000  # questions to Python's bisect


def made(name: str, count: int) -> list[bytes]:
    """The texts of a set, in order, each once."""
    if name == "words":
        file = unpacked("wamerican-insane") / "usr/share/dict/american-english-insane"
        return sorted({line for line in file.read_bytes().splitlines() if line})
    if name == "names":
        told = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True).stdout
        return sorted({line[10:] for line in told.splitlines() if line.startswith(b"Filename: ")})
    random = np.random.default_rng(22)
    stems = [random.bytes(3).hex() for _ in range(2000)]
    parts = random.integers(0, [200, 2000, 2000, 1000], (count, 4)).tolist()
    return sorted({f"https://www.{stems[a]}.org/{stems[b]}/{stems[c]}/{d}".encode() for a, b, c, d in parts})


def of_absl(keys: Texts, random: Texts, ordered: Texts, right: np.ndarray) -> dict[str, Any]:
    """The row of absl::btree_map, or why there is none."""
    row: dict[str, Any] = {"model": "absl::btree_map"}
    try:
        flags = ("-DNDEBUG", "-Wl,--no-as-needed", "-labsl_throw_delegate")
        library = compiled(Path(__file__).with_name("_index_absl.cpp"), "peer", flags)
    except ResourceError as error:
        return row | {"why not": f"{error.message} {error.got}"}
    answers = np.zeros(len(random), np.int64)

    def ask(some: Texts) -> None:
        native.invoke(library.locate_texts, len(keys), some.values, some.starts, len(some), answers)

    began = time.thread_time()
    library.build_texts.restype = ctypes.c_int64
    row |= {"bytes": native.invoke(library.build_texts, keys.values, keys.starts, len(keys))}
    row |= {"build": time.thread_time() - began}
    ask(random)
    assert np.array_equal(answers, right)
    row |= {"inside": nanoseconds(ask, random, ROUNDS), "sorted": nanoseconds(ask, ordered, ROUNDS)}
    native.invoke(library.build_texts, keys.values, keys.starts, 0)  # gives the memory back
    return row


def measured(keys: list[bytes], questions: int, models: Sequence[str]) -> list[dict[str, Any]]:
    places = np.random.default_rng(1).integers(0, len(keys), questions)
    asked, right = [keys[place] for place in places.tolist()], places
    random, ordered = packed(asked), packed(sorted(asked))
    spoken = np.array([text.decode() for text in asked], dtype=object)
    few = asked[:_FEW]
    rows: list[dict[str, Any]] = [{"model": "bisect of Python", "bytes": 0}]
    rows[0]["python"] = nanoseconds(lambda some: [bisect_left(keys, each) for each in some], few, ROUNDS)
    began = time.thread_time()
    index = SortedTexts(packed(keys))
    heads = time.thread_time() - began
    assert np.array_equal(index.halved(random), right)
    row: dict[str, Any] = {"model": "halving all texts", "bytes": 0}
    row |= {"inside": nanoseconds(index.halved, random, ROUNDS), "sorted": nanoseconds(index.halved, ordered, ROUNDS)}
    rows.append(row)
    for name, settings in CANDIDATES:
        if name not in models:
            continue
        began = time.thread_time()
        model = MODELS[name].fit(index.heads, MODELS[name].Config(**settings))
        row = {
            "build": heads + time.thread_time() - began,
            "bytes": model.beyond() + index.heads.nbytes,
            "family": name,
        }
        row["model"] = " ".join([name, *(f"{key}={value}" for key, value in settings.items())])
        assert np.array_equal(index.places(model.locate, random), right), name
        for which, some in (("inside", random), ("sorted", ordered)):
            row[which] = nanoseconds(lambda part, model=model: index.places(model.locate, part), some, ROUNDS)  # type: ignore[misc]
        row["python"] = nanoseconds(
            lambda some, model=model: index.places(model.locate, asked_texts(some)[0]),  # type: ignore[misc]
            spoken,
            ROUNDS,
        )
        rows.append(row)
    rows.append(of_absl(index.texts, random, ordered, right))
    print(f"\nall begin with {index.prefix!r}; of one head {index.longest_run():,} at most")
    return rows


def show(name: str, keys: list[bytes], rows: Sequence[dict[str, Any]]) -> None:
    print(f"{name}: {len(keys):,} texts, {sum(map(len, keys)) / 1e6:.1f} MB")
    print(f"{'model':<28}" + "".join(f"{each:>12}" for each in ("bytes", "build s", "inside", "sorted", "python")))
    for row in rows:
        cells = [f"{row['bytes']:,}" if "bytes" in row else "", f"{row['build']:.2f}" if "build" in row else ""]
        cells += [f"{row[each]:.1f}" if each in row else "" for each in ("inside", "sorted", "python")]
        print(f"{row['model']:<28}" + (row.get("why not") or "".join(f"{each:>12}" for each in cells)), flush=True)


def ratios(name: str, rows: Sequence[dict[str, Any]]) -> str:
    """By how much the fastest model is faster than each peer, as each is called."""
    best = min((row for row in rows if "family" in row), key=lambda row: row["inside"])
    line = f"{name}  {best['model']}"
    for row in rows:
        if row["model"] == "bisect of Python":
            line += f"  ÷ bisect, from Python {row['python'] / best['python']:.2f}"
        elif "inside" in row and row.get("family", "b-plus-tree") == "b-plus-tree":
            line += f"  ÷ {row['model']} {row['inside'] / best['inside']:.2f}"
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--keys", type=int, default=1_000_000, help="addresses that are drawn")
    parser.add_argument("--questions", type=int, default=1_000_000)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    for reason in (native.why_not(), texts.why_not()):
        if reason is not None:
            raise SystemExit(f"The kernels do not run here: {reason}")
    found: dict[str, list[dict[str, Any]]] = {}
    for name in chosen.sets:
        try:
            keys = made(name, chosen.keys)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"\n{name}: left out. {error}")
            continue
        if not keys:
            print(f"\n{name}: left out. apt knows no packages; apt-get update.")
            continue
        found[name] = measured(keys, chosen.questions, chosen.models)
        show(name, keys, found[name])
    print("\nBy how much the fastest model is faster:")
    for name, rows in found.items():
        print(ratios(name, rows))
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
