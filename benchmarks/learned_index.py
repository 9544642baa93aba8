"""Learned indexes beside their peers: bytes beyond the keys, and nanoseconds a key, on the same keys and questions.

Key sets: three generated of `--keys` keys each, three real (`_index_keys.py` says which, and where they come from).
Questions: a million keys that are there, in random order and sorted.

    python benchmarks/learned_index.py [--peer-python PATH] [--json FILE] [--figure FILE.svg]
    python benchmarks/learned_index.py --sets uniform --models quantised-spline b-plus-tree binary-search   two minutes
    python benchmarks/learned_index.py --keys 100000000 --sets uniform        in 4 GB
    python benchmarks/learned_index.py --sets uniform lognormal --memory      how much memory fits take, and no times

Peers: our own searches and static B+tree, compiled, 32 queries waiting for memory together as in the models;
`numpy.searchsorted`; `absl::btree_map` where its headers are (Debian's libabsl-dev), one look-up after the other, since
it has no other way; and the packages BTrees, sortedcontainers and pygm of the interpreter `--peer-python`, a key at a
time. "inside" is the compiled function alone, "random" and "sorted" what a user of Python sees, which is one call more.
Times are of one thread on its processor, the best of five rounds; all candidates take turns in one process. absl holds
the keys itself: its bytes are all it has, those of the others what they keep beyond the keys.

At the end the bars: for each set the fastest learned model with at most a tenth of the B+tree's bytes, and by how much
it is faster than the peers. `--figure` draws size against time, as in Marcus et al. 2020 (arXiv 2006.12804). `--memory`
fits each candidate, and then all of the trial, in processes of their own (`_index_memory.py` says what is counted).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from _index_figure import drawn
from _index_keys import GENERATED, REAL, generated, real

from sw2.base.errors import ResourceError
from sw2.base.native import compiled
from sw2.domains.indexes import native
from sw2.domains.indexes.key_model import KeyModel
from sw2.domains.indexes.models import MODELS
from sw2.domains.indexes.objective import CANDIDATES
from sw2.domains.indexes.task import nanoseconds

__all__ = ["main"]

LEARNED: Final = ("pgm", "radix-spline", "rmi", "quantised-spline")
HERE: Final = Path(__file__).parent
ROUNDS: Final = 5


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


def of_absl(keys: np.ndarray, random: np.ndarray, ordered: np.ndarray) -> dict[str, Any]:
    """The row of absl::btree_map, or why there is none."""
    row: dict[str, Any] = {"model": "absl::btree_map"}
    try:
        flags = ("-DNDEBUG", "-Wl,--no-as-needed", "-labsl_throw_delegate")
        library = compiled(HERE / "_index_absl.cpp", "peer", flags)
    except ResourceError as error:
        return row | {"why not": f"{error.message} {error.got}"}
    build, locate = (getattr(library, f"{name}_{keys.dtype}") for name in ("build", "locate"))
    build.restype = ctypes.c_int64
    answers = np.zeros(len(random), np.int64)

    def ask(some: np.ndarray) -> None:
        locate(*(_passed(each) for each in (len(keys), some, len(some), answers)))

    began = time.thread_time()
    taken = build(_passed(keys), _passed(len(keys)))
    row |= {"build": time.thread_time() - began, "bytes": taken}
    ask(random)
    assert np.array_equal(answers, np.searchsorted(keys, random))
    row |= {"inside": nanoseconds(ask, random, ROUNDS), "sorted": nanoseconds(ask, ordered, ROUNDS)}
    build(_passed(keys), _passed(0))  # gives the memory back
    return row | {"random": row["inside"]}


def _passed(value: Any) -> Any:
    return ctypes.c_void_p(value.ctypes.data) if isinstance(value, np.ndarray) else ctypes.c_int64(value)


def of_packages(python: str, keys: np.ndarray, random: np.ndarray) -> list[dict[str, Any]]:
    """The rows of Python packages; they are asked fewer questions."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("keys.npy", "questions.npy")]
        for path, array in zip(paths, (keys, random[:100_000]), strict=True):
            np.save(path, array)
        command = [python, HERE / "_index_packages.py", *paths]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return [{"model": "packages", "why not": done.stderr.strip().splitlines()[-1]}]
    return [json.loads(line) for line in done.stdout.splitlines()]


def of_memory(keys: np.ndarray, models: Sequence[str]) -> list[dict[str, Any]]:
    """The peak of memory of each fit, and of the trial, as multiples of the keys."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keys.npy"
        np.save(path, keys)
        for name, settings in [*CANDIDATES, ("trial", {})]:
            if name not in (*models, "trial"):
                continue
            command = [sys.executable, HERE / "_index_memory.py", path, name, json.dumps(settings)]
            done = subprocess.run(command, capture_output=True, text=True)
            row: dict[str, Any] = {"model": _called(name, settings)}
            if done.returncode:
                row["why not"] = done.stderr.strip().splitlines()[-1]
            rows.append(row if done.returncode else row | json.loads(done.stdout))
    return rows


def show_memory(name: str, keys: np.ndarray, rows: Sequence[dict[str, Any]]) -> None:
    print(f"\n{name}: {len(keys):,} keys of {keys.dtype}, {keys.nbytes / 1e6:.0f} MB; peak of memory (bar 1.5)")
    for row in rows:
        text = row.get("why not") or f"{row['times the keys']:.2f} times the keys"
        print(f"{row['model']:<40}{text}", flush=True)


def _called(name: str, settings: Mapping[str, Any]) -> str:
    return " ".join([name, *(f"{key}={value}" for key, value in settings.items())])


def measured(keys: np.ndarray, questions: int, models: Sequence[str], python: str) -> list[dict[str, Any]]:
    random = keys[np.random.default_rng(1).integers(0, len(keys), questions)]
    ordered = np.sort(random)
    right = np.searchsorted(keys, random)
    row: dict[str, Any] = {"model": "numpy.searchsorted", "bytes": 0}
    for name, some in (("random", random), ("sorted", ordered)):
        row[name] = nanoseconds(lambda asked: np.searchsorted(keys, asked), some, ROUNDS)
    rows = [row]
    for name, settings in CANDIDATES:
        if name not in models:
            continue
        began = time.thread_time()
        model = MODELS[name].fit(keys, MODELS[name].Config(**settings))
        row = {"build": time.thread_time() - began, "bytes": model.beyond(), "family": name}
        assert np.array_equal(model.locate(keys, random), right), name
        settled = {each: getattr(model.config, each) for each in model.settled}
        row["model"] = _called(name, {**settings, **settled})
        row["inside"] = nanoseconds(inside(model, keys), random, ROUNDS)
        for which, some in (("random", random), ("sorted", ordered)):
            row[which] = nanoseconds(lambda asked, model=model: model.locate(keys, asked), some, ROUNDS)  # type: ignore[misc]
        rows.append(row)
    rows.append(of_absl(keys, random, ordered))
    return rows + (of_packages(python, keys, random) if python else [])


def show(name: str, keys: np.ndarray, rows: Sequence[dict[str, Any]]) -> None:
    print(f"\n{name}: {len(keys):,} keys of {keys.dtype}, {keys.nbytes / 1e6:.0f} MB")
    print(f"{'model':<40}" + "".join(f"{each:>12}" for each in ("bytes", "build s", "inside", "random", "sorted")))
    for row in rows:
        cells = [f"{row['bytes']:,}" if "bytes" in row else "", f"{row['build']:.2f}" if "build" in row else ""]
        cells += [f"{row[each]:.1f}" if each in row else "" for each in ("inside", "random", "sorted")]
        text = row.get("why not") or "".join(f"{each:>12}" for each in cells)
        print(f"{row['model']:<40}{text}", flush=True)


def bars(found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """For each set by how much the best small model is faster; those rows that a bar speaks of."""
    lines = []
    for name, rows in found.items():
        by_name = {row["model"]: row for row in rows if "random" in row}
        tree = by_name.get("b-plus-tree")
        small = [row for row in rows if tree and row.get("family") in LEARNED and 10 * row["bytes"] <= tree["bytes"]]
        if not tree or not small:
            continue
        best = min(small, key=lambda row: row["random"])
        line = {"set": name, "best": best["model"], "bytes": best["bytes"], "÷ B+tree": tree["random"] / best["random"]}
        for label, peer in (("÷ binary", "binary-search"), ("÷ numpy", "numpy.searchsorted")):
            if peer in by_name:
                line[label] = by_name[peer]["random"] / best["random"]
        line["÷ numpy, sorted"] = by_name["numpy.searchsorted"]["sorted"] / best["sorted"]
        if "absl::btree_map" in by_name:
            line["B+tree ÷ absl"] = by_name["absl::btree_map"]["inside"] / tree["inside"]
        lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keys", type=int, default=10_000_000, help="of each generated set")
    parser.add_argument("--questions", type=int, default=1_000_000)
    parser.add_argument("--sets", nargs="+", default=[*GENERATED, *REAL], choices=[*GENERATED, *REAL])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--peer-python", default="", help="with BTrees, sortedcontainers, pygm, and h5py for the coast")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path, help="an SVG")
    parser.add_argument("--memory", action="store_true", help="the peak of memory of each fit, and no times")
    chosen = parser.parse_args()
    if (reason := native.why_not()) is not None:
        raise SystemExit(f"The kernels do not run here: {reason}")
    found: dict[str, list[dict[str, Any]]] = {}
    for name in chosen.sets:
        made = generated(name, chosen.keys) if name in GENERATED else real(name, chosen.peer_python or sys.executable)
        if isinstance(made, str):
            print(f"\n{name}: left out. {made}")
            continue
        if chosen.memory:
            found[name] = of_memory(made, chosen.models)
            show_memory(name, made, found[name])
            continue
        found[name] = measured(made, chosen.questions, chosen.models, chosen.peer_python)
        show(name, made, found[name])
    if lines := bars(found):
        print("\nThe fastest learned model with a tenth of the B+tree's bytes (bars 1.7, 1.4, 8, 1; 0.9):")
    for line in lines:
        print(
            "  ".join(f"{key} {value:.2f}" if isinstance(value, float) else str(value) for key, value in line.items())
        )
    if chosen.json:
        chosen.json.write_text(json.dumps({"sets": found, "bars": lines}, indent=2))
    if chosen.figure:
        chosen.figure.write_text(drawn(found))


if __name__ == "__main__":
    main()
