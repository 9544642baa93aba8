"""The order of learning: every example once per epoch, shares by count, the same on any number of processes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw2.parts.data.order import PERIOD, MixedOrder, ShuffledOrder, apportioned, turns

SHARES = st.lists(st.floats(0.01, 1), min_size=1, max_size=8)


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 5))
def test_every_example_comes_once_per_epoch(examples: int, batch: int, seed: int) -> None:
    order = ShuffledOrder(examples, batch, seed)
    seen = np.concatenate([order.indices(step) for step in range(-(-3 * examples // batch))])
    for epoch in range(3):
        assert sorted(seen[epoch * examples : (epoch + 1) * examples]) == list(range(examples))


@given(SHARES, st.integers(8, 500))
def test_numbers_follow_shares(shares: list[float], total: int) -> None:
    counts = apportioned(shares, total)
    assert sum(counts) == total
    assert min(counts) >= 1
    exact = [share / sum(shares) * total for share in shares]
    if min(exact) >= 1:
        assert all(abs(count - wanted) < 1 for count, wanted in zip(counts, exact, strict=True))


@given(SHARES)
def test_no_source_is_ever_further_from_its_share_than_the_theorem_says(shares: list[float]) -> None:
    counts = apportioned(shares, 500)
    found = turns(counts)
    had = np.cumsum(found[:, None] == np.arange(len(counts)), axis=0)
    wanted = np.arange(1, 501)[:, None] * np.array(counts) / 500
    assert had[-1].tolist() == counts
    bound = 1 - 1 / (2 * (len(counts) - 1)) if len(counts) > 1 else 0
    assert np.abs(had - wanted).max() <= bound + 1e-6


def test_a_mixture_keeps_its_shares_and_reads_each_source_in_epochs() -> None:
    order = MixedOrder([300, 40, 7], [0.67, 0.3, 0.03], 16, seed=3)
    sources, indices = (np.concatenate(each) for each in zip(*map(order.indices, range(PERIOD // 16)), strict=True))
    assert np.bincount(sources).tolist() == [6700, 3000, 300]
    for source, examples in enumerate([300, 40, 7]):
        read = indices[sources == source]
        for start in range(0, len(read) - examples, examples):
            assert sorted(read[start : start + examples]) == list(range(examples))
    assert order.epochs_per_step()[2] * PERIOD / 16 == pytest.approx(300 / 7)


@given(st.integers(0, 10**7), st.sampled_from([1, 2, 4, 8]))
def test_the_order_is_the_same_on_any_number_of_processes(step: int, size: int) -> None:
    order = MixedOrder([50, 20], [0.75, 0.25], 8, seed=1)
    whole = np.stack(order.indices(step))
    again = MixedOrder([50, 20], [0.75, 0.25], 8, seed=1)
    for rank in range(size):
        assert (np.stack(again.share(step, rank, size)) == whole[:, rank::size]).all()


def test_one_source_is_in_the_order_it_has_alone() -> None:
    alone, mixed = ShuffledOrder(33, 4, 9), MixedOrder([33], [1.0], 4, 9)
    for step in (0, 7, 12_345):
        assert mixed.indices(step)[1].tolist() == alone.indices(step).tolist()
