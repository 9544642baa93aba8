"""The n-gram model against a second one written with dictionaries and loops, straight from the paper."""

from __future__ import annotations

import lzma
import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.errors import DataError
from sw2.base.seed import numpy_generator
from sw2.domains.language.ngram import NGram, discounts, xz_bits

END = 0


class Direct:
    """The same model with one dictionary per order."""

    def __init__(self, documents: list[list[int]], vocab_size: int, order: int) -> None:
        self.vocab_size, self.order = vocab_size, order
        texts = [(END, *document) for document in documents if document]
        self.counts: list[dict[tuple[int, ...], int]] = []
        for n in range(1, order + 1):
            counts: dict[tuple[int, ...], int] = defaultdict(int)
            before = defaultdict(set)
            for text in texts:
                for end in range(n, len(text) + 1):
                    gram = text[end - n : end]
                    if end > n:
                        before[gram].add(text[end - n - 1])
                    if (n == order and (n > 1 or end > 1)) or (end == n and 1 < n < order):
                        counts[gram] += 1
            if n < order:
                for gram, tokens in before.items():
                    counts[gram] += len(tokens)
            self.counts.append(counts)

    def chance(self, token: int, context: tuple[int, ...]) -> float:
        return self._chance(token, ((END, *context))[-(self.order - 1) :] if self.order > 1 else ())

    def _chance(self, token: int, context: tuple[int, ...]) -> float:
        counts = self.counts[len(context)]
        off = [0.0, *discounts(np.array([count for count in counts.values() if count], dtype=np.int64))]
        after = {gram[-1]: count for gram, count in counts.items() if gram[:-1] == context and count}
        shorter = self._chance(token, context[1:]) if context else 1 / self.vocab_size
        if not after:
            return shorter
        total = sum(after.values())
        left = sum(off[min(count, 3)] for count in after.values()) / total
        count = after.get(token, 0)
        return (count - off[min(count, 3)]) / total + left * shorter


documents = st.lists(st.lists(st.integers(0, 4), max_size=25), min_size=1, max_size=6).filter(any)


@settings(max_examples=80, deadline=None)
@given(documents, documents, st.integers(1, 5))
def test_both_models_agree(train: list[list[int]], held_out: list[list[int]], order: int) -> None:
    model = NGram(train, vocab_size=6, end_of_text=END, order=order)
    direct = Direct(train, 6, order)
    bits = 0.0
    for document in held_out:
        for place, token in enumerate(document):
            bits -= math.log2(direct.chance(token, tuple(document[:place])))
    assert model.bits(held_out) == pytest.approx(bits, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(documents, st.lists(st.integers(0, 5), max_size=8), st.integers(1, 5))
def test_probabilities_sum_to_one(train: list[list[int]], context: list[int], order: int) -> None:
    model = NGram(train, vocab_size=6, end_of_text=END, order=order)
    chances = model.probabilities(context)
    assert chances.shape == (6,)
    assert (chances > 0).all()
    assert chances.sum() == pytest.approx(1, abs=1e-12)


def markov(tokens: int, seed: int) -> list[np.ndarray]:
    """Documents of 100 tokens from a random second-order chain with Zipf-like transitions over 50 tokens."""
    rng = numpy_generator(seed, "markov")
    ranks = np.minimum(rng.zipf(1.5, size=tokens) - 1, 49)
    made = []
    for begin in range(0, tokens, 100):
        first, second, document = 1, 1, []
        for rank in ranks[begin : begin + 100]:
            first, second = second, int((first * 7 + second * 13 + rank * 17) % 49 + 1)
            document.append(second)
        made.append(np.array(document))
    return made


def test_it_learns_the_chain_that_made_the_text() -> None:
    train, held_out = markov(60_000, seed=1), markov(5_000, seed=2)
    bits = [NGram(train, vocab_size=50, end_of_text=END, order=order).bits(held_out) / 5_000 for order in (1, 2, 3, 5)]
    mass = np.bincount(np.minimum(numpy_generator(3, "zipf").zipf(1.5, size=400_000) - 1, 49) % 49) / 400_000
    entropy = -(mass * np.log2(mass)).sum()
    assert entropy < bits[2] < 1.15 * entropy
    assert bits[2] < bits[3] < 1.05 * bits[2]
    assert bits[2] < bits[1] - 0.5
    assert bits[2] < bits[0] - 0.5


def test_large_vocabularies_on_real_counts_sum_to_one() -> None:
    model = NGram(markov(20_000, seed=1), vocab_size=60_000, end_of_text=59_999)
    for context in ([], [1], [3, 9, 27], [1, 2, 3, 4, 5, 6]):
        assert model.probabilities(context).sum() == pytest.approx(1, abs=1e-12)


def test_discounts_by_hand() -> None:
    counts = np.repeat([1, 2, 3, 4, 9], [8, 4, 2, 1, 5])
    y = 8 / 16
    assert discounts(counts) == pytest.approx((1 - 2 * y * 4 / 8, 2 - 3 * y * 2 / 4, 3 - 4 * y * 1 / 2))
    assert discounts(np.array([1, 1, 2])) == (0.5, 1.0, 1.5)


def test_bigrams_by_hand() -> None:
    """One document, 1 2 1 2; too few counts to estimate from, so 0.5 and 1 are taken from those of one and two."""
    model = NGram([[1, 2, 1, 2]], vocab_size=4, end_of_text=END, order=2)
    # Before 1 stand two different tokens, before 2 one: a(1) = 2, a(2) = 1, and the discounts leave 1.5 of 3.
    alone = {1: (2 - 1) / 3 + 0.5 / 4, 2: (1 - 0.5) / 3 + 0.5 / 4, 3: 0.5 / 4}
    # After 1 came 2, twice; after 2 came 1, once; after the beginning 1, once.
    first, second, third = (1 - 0.5) + 0.5 * alone[1], (2 - 1) / 2 + 1 / 2 * alone[2], 1 / 2 * alone[3]
    assert model.chances([[1, 2], [1, 3]]).tolist() == pytest.approx([first, second, first, third])
    assert model.bits([[1, 2]]) == pytest.approx(-math.log2(first * second))


def test_tokens_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(DataError, match="outside the vocabulary"):
        NGram([[1, 6]], vocab_size=6, end_of_text=END)
    with pytest.raises(DataError, match="nothing to count"):
        NGram([[]], vocab_size=6, end_of_text=END)
    with pytest.raises(DataError, match="outside the vocabulary"):
        NGram([[1, 2]], vocab_size=6, end_of_text=END).bits([[-1]])


def test_xz_learns_from_the_training_text() -> None:
    noise = numpy_generator(1, "noise").bytes(100_000)
    held_out = [noise[:3_000], noise[50_000:53_000]]
    bits = xz_bits(noise, held_out)
    assert 48_000 <= bits.alone <= 48_400
    assert bits.primed < 6_000
    # Never worse than the file format, whose header and check it leaves out.
    assert bits.alone <= 8 * len(lzma.compress(b"".join(held_out), preset=9 | lzma.PRESET_EXTREME))
