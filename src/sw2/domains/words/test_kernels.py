"""A step of the kernels beside the same in numpy; what is drawn; parts of words; PPMI-SVD; what can be asked."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.native import NEEDS, processor_flags
from sw2.domains.words import native, reference
from sw2.domains.words.judges import spearman
from sw2.domains.words.lesson import Lesson, Tree, Way, alias_table, keep_chances, matrix
from sw2.domains.words.ppmi import pairs_of, ppmi_svd
from sw2.domains.words.space import WordSpace, odd_one_out, unit
from sw2.domains.words.vocabulary import fnv1a, ngrams_of, rows_of
from sw2.parts.formats.fasttext import huffman, ways


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels, unless a test says otherwise; compiled once, when the tests are collected."""
    monkeypatch.setenv("SW2_NATIVE", "on")


needs_kernels = pytest.mark.skipif(native.why_not() is not None, reason=str(native.why_not()))
WORDS, DIMENSIONS, BUCKETS = 60, 20, 30
WAYS: tuple[Way, ...] = ("skip-gram", "cbow", "subwords")


def lesson(way: Way, *, negatives: int = 5, window: int = 5, threads: int = 1, length: int = 700) -> Lesson:
    """A lesson of a made-up corpus, in which words stand beside themselves and lines are of all lengths; without words
    drawn, one with a tree.
    """
    random = np.random.default_rng(1)
    tokens = np.minimum(*random.integers(0, WORDS, (2, length))).astype(np.int32)
    tokens[random.random(length) < 0.06] = -1
    counts = np.bincount(tokens[tokens >= 0], minlength=WORDS) + 1
    threshold, alias = alias_table(counts, 0.75)
    rows, borders, parts = WORDS, None, None
    if way == "subwords":
        rows += BUCKETS
        borders, parts = rows_of([f"w{n}w" for n in range(WORDS)], 3, 6, BUCKETS, WORDS, own=True)
    matrices = []
    for size in (rows, WORDS):
        made = matrix(size, DIMENSIONS)
        made[:, :DIMENSIONS] = random.normal(0, 0.3, (size, DIMENSIONS))
        matrices.append(made)
    return Lesson(
        tokens=tokens,
        keep=keep_chances(counts, 1e-2),
        threshold=threshold,
        alias=alias,
        input=matrices[0],
        output=matrices[1],
        borders=borders,
        parts=parts,
        tree=None if negatives else Tree(*ways(huffman(np.sort(counts)[::-1]))),
        way=way,
        window=window,
        negatives=negatives,
        threads=threads,
    )


def paths() -> Iterator[str]:
    for path in native.PATHS:
        if NEEDS[path] <= processor_flags():
            yield path


@needs_kernels
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("negatives", "window"), [(0, 5), (1, 1), (5, 5), (7, 3), (20, 20)])
def test_kernels_and_numpy_learn_the_same(way: Way, negatives: int, window: int) -> None:
    """Values of both matrices within rounding, after a few hundred windows."""
    theirs = lesson(way, negatives=negatives, window=window, length=250)
    before = theirs.input.copy()
    wanted = reference.step(theirs, 3, 250, 7, (0.05, 0.01))
    assert np.abs(theirs.input - before).max() > 1e-3
    assert wanted.pairs > 0
    path = native.best_path()
    ours = lesson(way, negatives=negatives, window=window, length=250)
    told = native.step(ours, 3, 250, 7, (0.05, 0.01), path)
    np.testing.assert_allclose(ours.input, theirs.input, atol=1e-5)
    np.testing.assert_allclose(ours.output, theirs.output, atol=1e-5)
    assert (told.pairs, told.stayed) == (wanted.pairs, wanted.stayed)
    assert told.loss == pytest.approx(wanted.loss, rel=1e-4)
    assert not ours.input[:, DIMENSIONS:].any()
    assert not ours.output[:, DIMENSIONS:].any()


@pytest.mark.slow  # a compilation for each instruction set
@needs_kernels
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", list(paths()))
def test_every_instruction_set_learns_the_same(way: Way, path: str) -> None:
    ours, theirs = lesson(way), lesson(way)
    native.step(ours, 0, 700, 7, (0.05, 0.01), path)
    reference.step(theirs, 0, 700, 7, (0.05, 0.01))
    np.testing.assert_allclose(ours.input, theirs.input, atol=2e-5)


@pytest.mark.parametrize("way", WAYS)
def test_the_gradient_is_that_of_the_loss(way: Way) -> None:
    """One window: what changes is minus the rate times the gradient, by torch, of the loss that stands in the frame."""
    one = dataclasses.replace(lesson(way), keep=np.ones(WORDS, np.float32))
    own = dataclasses.replace(one, tokens=np.array([3, 9, 4], np.int32), window=1)
    first, second = (torch.tensor(each, requires_grad=True) for each in (one.input.copy(), one.output.copy()))
    negatives = np.array([5, 9, 7, 5, 4][: own.negatives])
    # In the middle of three words stands 9; window 1 has both others.
    beside, middle = np.array([3, 4]), 9
    if way == "subwords":
        assert one.borders is not None
        assert one.parts is not None
        parts = one.parts[one.borders[middle] : one.borders[middle + 1]]
        beside = beside[:1]  # the next word meets what this one changed: see the next test
        hidden = first[parts].mean(0, keepdim=True)
        used = negatives[negatives != beside[0]]
        loss = -torch.log(torch.sigmoid(hidden @ second[beside].T)).sum()
        loss = loss - torch.log(torch.sigmoid(-hidden @ second[used].T)).sum()
    else:
        hidden = first[beside].mean(0, keepdim=True) if way == "cbow" else first[beside]
        used = negatives[negatives != middle]
        loss = -torch.log(torch.sigmoid(hidden @ second[[middle]].T)).sum()
        loss = loss - torch.log(torch.sigmoid(-hidden @ second[used].T)).sum()
    loss.backward()
    reference._window(own, middle, beside.astype(np.int32), negatives, np.float32(0.1))
    assert first.grad is not None
    assert second.grad is not None
    np.testing.assert_allclose(own.output, second.detach() - 0.1 * second.grad, atol=1e-6)
    wanted = first.grad.clone()
    if way == "cbow":  # as in word2vec: each word gets the whole gradient of the mean, not its share
        wanted *= len(beside)
    if way == "subwords":
        counts = torch.from_numpy(np.bincount(parts, minlength=len(wanted))).float()
        wanted *= len(parts)
        assert counts.max() >= 1
    np.testing.assert_allclose(own.input, first.detach() - 0.1 * wanted, atol=1e-6)


def test_words_of_a_window_are_learned_as_if_the_parts_were_composed_anew_for_each() -> None:
    """As the official code does with subwords; no part stands there twice."""
    once, anew = lesson("subwords"), lesson("subwords")
    negatives = np.arange(3 * once.negatives) % WORDS
    beside = np.array([3, 4, 3], np.int32)
    assert once.borders is not None
    assert once.parts is not None
    parts = np.split(once.parts, once.borders[1:-1])
    middle = next(word for word in range(WORDS) if len(set(parts[word].tolist())) == len(parts[word]) > 2)
    loss, pairs = reference._window(once, middle, beside, negatives, np.float32(0.1))
    told = [
        reference._window(anew, middle, beside[i : i + 1], negatives[i * anew.negatives :], np.float32(0.1))
        for i in range(3)
    ]
    assert pairs == 3
    assert loss == pytest.approx(sum(each for each, _ in told), rel=1e-5)
    np.testing.assert_allclose(once.input, anew.input, atol=1e-6)
    np.testing.assert_allclose(once.output, anew.output, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_the_gradient_down_a_tree_is_that_of_the_loss(way: Way) -> None:
    """One pair, as above: what is learned is the turn at each node on the way."""
    own = lesson(way, negatives=0)
    first, second = (torch.tensor(each, requires_grad=True) for each in (own.input.copy(), own.output.copy()))
    assert own.tree is not None
    middle, beside = 9, np.array([3], np.int32)
    met = slice(*own.tree.borders[(middle if way != "subwords" else 3) :][:2])
    parts = beside
    if way == "subwords":
        assert own.borders is not None
        assert own.parts is not None
        parts = own.parts[own.borders[middle] : own.borders[middle + 1]]
    scores = second[own.tree.nodes[met]] @ first[parts].mean(0)
    turns = torch.from_numpy(own.tree.turns[met])
    loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, turns, reduction="sum")
    loss.backward()
    told, pairs = reference._window(own, middle, beside, np.zeros(0, np.int64), np.float32(0.1))
    assert (told, pairs) == (pytest.approx(loss.item(), rel=1e-5), 1)
    assert first.grad is not None
    assert second.grad is not None
    np.testing.assert_allclose(own.output, second.detach() - 0.1 * second.grad, atol=1e-6)
    np.testing.assert_allclose(own.input, first.detach() - 0.1 * len(parts) * first.grad, atol=1e-6)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=40))
def test_no_code_is_shorter_than_that_of_the_tree(counts: list[int]) -> None:
    """All turns together cost what Huffman's own rule says, and no way is the beginning of another."""
    sorted_counts = np.array(sorted(counts, reverse=True))
    borders, nodes, turns = ways(huffman(sorted_counts))
    lengths = np.diff(borders)
    codes = ["".join(str(int(turn)) for turn in turns[a:b][::-1]) for a, b in itertools.pairwise(borders)]
    if len(counts) == 1:
        assert codes == [""]
        return
    assert sum(2.0**-length for length in lengths) == 1
    assert len(set(codes)) == len(codes)
    assert not [1 for one in codes for other in codes if one != other and other.startswith(one)]
    heap, cost = sorted(counts), 0
    while len(heap) > 1:  # the two that weigh least become one
        cost += (joined := heapq.heappop(heap) + heapq.heappop(heap))
        heapq.heappush(heap, joined)
    assert sorted_counts @ lengths == cost
    assert all(nodes[b - 1] == len(counts) - 2 for b in borders[1:])  # every way ends at the root


@needs_kernels
@pytest.mark.parametrize("way", WAYS)
def test_one_thread_has_the_same_bits_and_several_nearly_the_same(way: Way) -> None:
    one, again, several = lesson(way), lesson(way), lesson(way, threads=3)
    told = [native.step(each, 0, 700, 7, (0.05, 0.01)) for each in (one, again, several)]
    assert one.input.tobytes() == again.input.tobytes()
    assert one.output.tobytes() == again.output.tobytes()
    assert told[0] == told[1]
    assert told[2].stayed == told[0].stayed  # what is drawn does not depend on threads
    start = lesson(way).input
    changes = [(each.input - start).ravel() for each in (one, several)]
    lengths = [np.linalg.norm(change) for change in changes]
    assert changes[0] @ changes[1] > 0.5 * lengths[0] * lengths[1]


def test_common_words_stay_less_often_and_draws_follow_the_counts() -> None:
    counts = np.array([10_000, 100, 1])
    share = 10.101 / 10_000
    assert keep_chances(counts, 1e-3).tolist() == pytest.approx([share**0.5 + share, 0.10101**0.5 + 0.10101, 1])
    assert keep_chances(counts, 0).tolist() == [1, 1, 1]


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=50), st.sampled_from([0.5, 0.75, 1.0]))
def test_the_alias_table_holds_the_chances(counts: list[int], power: float) -> None:
    threshold, alias = alias_table(np.array(counts), power)
    chances = threshold.astype(np.float64)
    np.add.at(chances, alias, 1 - threshold.astype(np.float64))
    weights = np.array(counts) ** power
    np.testing.assert_allclose(chances / len(counts), weights / weights.sum(), atol=1e-6)


# ------------------------------------------------------------------------------------------------------------ subwords


def test_the_hash_is_fnv1a_and_takes_bytes_as_signed() -> None:
    assert fnv1a("") == 2166136261
    assert fnv1a("foobar") == 0xBF9CF968  # from the authors' table of test values
    assert fnv1a("é") != fnv1a("e")
    found = 2166136261
    for byte in "é".encode():
        found = ((found ^ (0xFFFFFF00 | byte)) * 16777619) % 2**32
    assert fnv1a("é") == found


def test_ngrams_as_in_the_paper() -> None:
    assert ngrams_of("where", 3, 3) == ["<wh", "whe", "her", "ere", "re>"]
    assert "<" not in ngrams_of("where", 1, 6)
    assert ngrams_of("é", 3, 6) == ["<é>"]


@needs_kernels
@settings(max_examples=20)
@given(
    st.lists(st.text("abc<-é漢😀", min_size=1, max_size=8), min_size=1, max_size=5),
    st.integers(1, 4),
    st.integers(0, 3),
    st.booleans(),
)
def test_the_kernel_finds_the_same_ngrams(words: list[str], shortest: int, more: int, own: bool) -> None:
    borders, rows = rows_of(words, shortest, shortest + more, 97, 1000, own=own)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SW2_NATIVE", "off")
        wanted = rows_of(words, shortest, shortest + more, 97, 1000, own=own)
    assert borders.tolist() == wanted[0].tolist()
    assert rows.tolist() == wanted[1].tolist()


# ------------------------------------------------------------------------------------------------- factorising, asking


def test_pairs_are_counted_within_lines() -> None:
    tokens = np.array([0, 1, 2, -1, 0, 1, -2, 2], np.int32)
    keys, counts = pairs_of(tokens, 3, 2)
    assert dict(zip(keys.tolist(), counts.tolist(), strict=True)) == {0 * 3 + 1: 2, 0 * 3 + 2: 1, 1 * 3 + 2: 2}


def test_the_factorisation_is_that_of_the_matrix() -> None:
    """With all dimensions U sqrt(S) times itself is |PPMI|, the matrix's positive part by eigenvalues."""
    tokens = np.random.default_rng(3).zipf(1.6, 4000).clip(max=25).astype(np.int32) - 1
    tokens[::17] = -1
    keys, counts = pairs_of(tokens, 25, 5)
    together = np.zeros((25, 25))
    together[keys // 25, keys % 25] = counts
    together += together.T
    smoothed = together.sum(0) ** 0.75
    with np.errstate(divide="ignore", invalid="ignore"):
        ppmi = np.log(together * smoothed.sum() / np.outer(together.sum(1), smoothed))
    ppmi = np.where(np.isfinite(ppmi), np.maximum(ppmi, 0), 0)
    u, s, _ = np.linalg.svd(ppmi)
    found = ppmi_svd(tokens, 25, dimensions=24, seed=0)
    np.testing.assert_allclose(found @ found.T, (u * s) @ u.T, atol=0.05)
    assert ppmi_svd(tokens, 25, dimensions=5, seed=0).tobytes() == ppmi_svd(tokens, 25, dimensions=5, seed=0).tobytes()


def test_nearest_words_analogies_and_the_odd_one() -> None:
    words = ["man", "woman", "king", "queen", "lamp"]
    vectors = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 1], [1, 1, 1], [-1, 0, 0.1]], np.float32)
    space = WordSpace(words, vectors)
    assert space.analogies([("man", "king", "woman"), ("woman", "queen", "man")]) == ["queen", "king"]
    found = space.nearest(vectors[0], 9, without=["man", "nobody"])
    assert [word for word, _ in found] == ["woman", "king", "queen", "lamp"]
    assert found[0][1] == pytest.approx(1 / np.sqrt(2), abs=1e-6)
    assert int(np.argmin(odd_one_out(vectors))) == 4
    assert unit(np.zeros((1, 3), np.float32)).tolist() == [[0, 0, 0]]


def test_spearman_shares_ranks() -> None:
    # Ranks 1, 2.5, 2.5, 4 and 4, 3, 2, 1, by hand.
    assert spearman(np.array([1, 2, 2, 3]), np.array([9, 7, 5, 3])) == pytest.approx(-0.9486832980505138)
    assert spearman(np.array([1, 1]), np.array([2, 3])) == 0
