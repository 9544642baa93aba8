"""Counting beside counting by hand, within any memory; a step of the kernels beside numpy, and numpy beside torch."""

from __future__ import annotations

import dataclasses
import mmap
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sw2.base.errors import DiskFull
from sw2.domains.words.glove import counts, fit, native
from sw2.domains.words.glove.counts import counted
from sw2.domains.words.glove.fit import PAIR, Fit, squares
from sw2.domains.words.lesson import matrix
from sw2.domains.words.vocabulary import Encoded


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels, unless a test says otherwise; compiled once, when the tests are collected."""
    monkeypatch.setenv("SW2_NATIVE", "on")


needs_kernels = pytest.mark.skipif(native.why_not() is not None, reason=str(native.why_not()))
WORDS, DIMENSIONS = 40, 20


def corpus(tokens: list[int]) -> Encoded:
    """A corpus of these numbers."""
    content = np.array([*tokens, -1], np.int32)
    mapped = mmap.mmap(-1, content.nbytes)
    mapped.write(content.tobytes())
    return Encoded(np.frombuffer(mapped, np.int32), sum(token >= 0 for token in tokens), mapped)


def by_hand(tokens: list[int], window: int) -> dict[tuple[int, int], float]:
    """As the authors' code: each word adds to its cell and to the mirrored one for every word before it."""
    found: Counter[tuple[int, int]] = Counter()
    for place, word in enumerate(tokens):
        for distance in range(1, window + 1):
            before = tokens[place - distance] if place >= distance else -1
            if min(word, before) < 0:
                break
            found[word, before] += 1 / distance  # type: ignore[assignment]
            found[before, word] += 1 / distance  # type: ignore[assignment]
    return dict(found)


def text(length: int = 3000) -> list[int]:
    """A made-up corpus, in which words stand beside themselves and lines are of all lengths."""
    random = np.random.default_rng(1)
    tokens = np.minimum(*random.integers(0, WORDS, (2, length)))
    tokens[random.random(length) < 0.06] = -1
    return [int(token) for token in tokens]


# ------------------------------------------------------------------------------------------------------------ counting


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tokens=st.lists(st.integers(-1, 6), min_size=2, max_size=60),
    window=st.integers(1, 20),
    compiled=st.booleans(),
)
def test_pairs_are_counted_by_distance_within_lines(
    tokens: list[int], window: int, compiled: bool, own_home: Path
) -> None:
    tokens = [*tokens, -1, 0, 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SW2_NATIVE", "on" if compiled else "off")
        name = f"{compiled} {tokens}"
        found = counted(corpus(tokens), name, 7, window=window, memory=1 << 20, threads=1)
    wanted = by_hand(tokens, window)
    pairs = {(int(a), int(b)): float(count) for a, b, count in found.pairs}
    assert all(a <= b for a, b in pairs)
    assert len(pairs) == len(found.pairs)
    assert pairs == pytest.approx({key: count for key, count in wanted.items() if key[0] <= key[1]}, rel=1e-6)


def test_neither_memory_nor_threads_nor_a_compiler_change_a_bit(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = counted(corpus(text()), "whole", WORDS, window=10, memory=1 << 24, threads=1).pairs
    assert len(whole) > 700
    assert (whole["smaller"][1:] < whole["smaller"][:-1]).mean() == pytest.approx(0.5, abs=0.1)  # an order of chance
    runs = []
    original = counts._runs
    monkeypatch.setattr(counts, "_runs", lambda *given: runs.append(original(*given)) or runs[-1])
    monkeypatch.setattr(counts, "_TOKENS_AT_ONCE", 100)
    monkeypatch.setattr(counts, "_RUNS_AT_ONCE", 3)
    for threads, memory, native_too in ((1, 16_000, "on"), (3, 30_000, "on"), (2, 200_000, "off")):
        monkeypatch.setenv("SW2_NATIVE", native_too)
        small = counted(corpus(text()), f"{threads}", WORDS, window=10, memory=memory, threads=threads).pairs
        assert small.tobytes() == whole.tobytes()
        assert len(runs[-1]) > 3  # several runs, merged in several rounds, and several piles
    for folder in (own_home / "pairs").iterdir():
        assert sorted(path.name for path in folder.iterdir()) == ["pairs.bin", "told.json"]
    again = counted(corpus([0, 1]), "whole", WORDS, window=10, memory=1 << 24, threads=1).pairs
    assert again.tobytes() == whole.tobytes()  # from the cache


def test_a_full_disk_leaves_nothing_behind(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(counts, "_ordered", full)
    with pytest.raises(DiskFull):
        counted(corpus(text()), "full", WORDS, window=10, memory=1 << 20, threads=1)
    assert not list((own_home / "pairs").iterdir())


# ------------------------------------------------------------------------------------------------------------- fitting


def lesson(pairs: list[tuple[int, int, float]] | None = None, threads: int = 1) -> Fit:
    """A lesson of all pairs of a made-up corpus in some order, or of these."""
    random = np.random.default_rng(2)
    if pairs is None:
        found = [(a, b, count) for (a, b), count in by_hand(text(), 5).items() if a <= b]
        pairs = [found[place] for place in random.permutation(len(found))]
    tables = []
    for bias in (DIMENSIONS, DIMENSIONS + 1):
        made = matrix(WORDS, DIMENSIONS + 2)
        made[:, : DIMENSIONS + 2] = random.normal(0, 0.3, (WORDS, DIMENSIONS + 2))
        made[:, 2 * DIMENSIONS + 1 - bias] = 1
        tables.append(made)
    return Fit(
        pairs=np.array(pairs, PAIR),
        first=tables[0],
        second=tables[1],
        first_squares=squares(WORDS, DIMENSIONS, DIMENSIONS + 1),
        second_squares=squares(WORDS, DIMENSIONS, DIMENSIONS),
        rate=0.05,
        x_max=20.0,
        alpha=0.75,
        threads=threads,
    )


def all_of(given: Fit) -> dict[str, np.ndarray]:
    return {name: getattr(given, name) for name in ("first", "second", "first_squares", "second_squares")}


@needs_kernels
def test_kernels_and_numpy_fit_the_same() -> None:
    ours, theirs = lesson(), lesson()
    before = theirs.first.copy()
    for _ in range(2):  # the second pass finds squares
        told, wanted = native.fit(ours, 3, 500), fit.fit(theirs, 3, 500)
        assert told == pytest.approx(wanted, rel=1e-4)
    assert np.abs(theirs.first - before).max() > 1e-2
    for name, array in all_of(ours).items():
        np.testing.assert_allclose(array, getattr(theirs, name), atol=2e-5, rtol=1e-5)
    assert (ours.first[:, DIMENSIONS + 1] == 1).all()
    assert (ours.second[:, DIMENSIONS] == 1).all()
    assert not ours.first[:, DIMENSIONS + 2 :].any()


def test_a_step_is_that_of_adagrad_on_the_loss_of_the_paper() -> None:
    """Against torch: the gradient of half the weighted square, in AdaGrad of the scaled gradients."""
    own = lesson([(3, 9, 5.0), (4, 4, 50.0), (3, 9, 0.5)])
    tables = [torch.tensor(each[:, :DIMENSIONS].copy(), requires_grad=True) for each in (own.first, own.second)]
    biases = [
        torch.tensor(own.first[:, DIMENSIONS].copy(), requires_grad=True),
        torch.tensor(own.second[:, DIMENSIONS + 1].copy(), requires_grad=True),
    ]
    sums = [torch.ones_like(each) for each in (*tables, *biases)]
    total = 0.0
    for smaller, larger, count in own.pairs.tolist():
        for i, j in ((smaller, larger), (larger, smaller))[: 1 + (smaller != larger)]:
            off = tables[0][i] @ tables[1][j] + biases[0][i] + biases[1][j] - np.log(count)
            loss = min(1.0, (count / own.x_max) ** own.alpha) * off**2
            gradients = torch.autograd.grad(loss / 2, [*tables, *biases])
            with torch.no_grad():
                for each, gradient, square in zip((*tables, *biases), gradients, sums, strict=True):
                    scaled = own.rate * gradient
                    each -= scaled / square.sqrt()
                    square += scaled**2
            total += loss.item()
    assert fit.fit(own, 0, 3) == pytest.approx(total, rel=1e-5)
    for found, wanted in zip((own.first, own.second), tables, strict=True):
        np.testing.assert_allclose(found[:, :DIMENSIONS], wanted.detach(), atol=1e-6)
    np.testing.assert_allclose(own.first[:, DIMENSIONS], biases[0].detach(), atol=1e-6)
    np.testing.assert_allclose(own.second[:, DIMENSIONS + 1], biases[1].detach(), atol=1e-6)


@needs_kernels
def test_one_thread_has_the_same_bits_and_several_nearly_the_same() -> None:
    one, again, several = lesson(), lesson(), lesson(threads=3)
    losses = [sum(native.fit(each, 0, len(each.pairs)) for _ in range(3)) for each in (one, again, several)]
    assert losses[0] == losses[1]
    assert losses[2] == pytest.approx(losses[0], rel=0.1)
    for name, array in all_of(one).items():
        assert array.tobytes() == all_of(again)[name].tobytes()
    assert np.corrcoef(one.first.ravel(), several.first.ravel())[0, 1] > 0.99


@needs_kernels
def test_counts_are_found_again_in_products() -> None:
    """With as many dimensions as this needs, the logarithms of all counts are fitted closely."""
    own = dataclasses.replace(lesson(), x_max=1.0)
    first = native.fit(own, 0, len(own.pairs))
    for _ in range(300):
        last = native.fit(own, 0, len(own.pairs))
    assert last < 0.05 * first
    products = own.first @ own.second.T
    logarithms = np.log(own.pairs["count"])
    said = products[own.pairs["smaller"], own.pairs["larger"]]
    assert np.corrcoef(said, logarithms)[0, 1] > 0.95
