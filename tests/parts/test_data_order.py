"""The order of examples: a function of the seed and the step, whatever computes them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sw2.parts.data.order import ShuffledOrder


@given(
    examples=st.integers(1, 40),
    share=st.integers(1, 6),
    size=st.integers(1, 4),
    seed=st.integers(0, 3),
    step=st.integers(0, 30),
)
def test_processes_share_the_batch_of_one(examples: int, share: int, size: int, seed: int, step: int) -> None:
    order = ShuffledOrder(examples, share * size, seed)
    whole = order.indices(step)
    shares = [ShuffledOrder(examples, share * size, seed).share(step, rank, size) for rank in range(size)]
    assert [len(part) for part in shares] == [share] * size
    assert np.array_equal(np.stack(shares, 1).reshape(-1), whole)


@given(examples=st.integers(1, 40), batch=st.integers(1, 7), seed=st.integers(0, 3))
def test_every_example_comes_once_an_epoch(examples: int, batch: int, seed: int) -> None:
    order = ShuffledOrder(examples, batch, seed)
    seen = np.concatenate([order.indices(step) for step in range(2 * examples)])
    for epoch in range(batch):  # 2 · examples steps hold at least so many whole epochs
        assert sorted(seen[epoch * examples : (epoch + 1) * examples]) == list(range(examples))


def test_seeds_and_epochs_differ() -> None:
    first, other = (ShuffledOrder(50, 50, seed) for seed in (0, 1))
    assert not np.array_equal(first.indices(0), other.indices(0))
    assert not np.array_equal(first.indices(0), first.indices(1))
