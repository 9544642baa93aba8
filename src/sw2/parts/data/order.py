"""The order in which examples are learned from, as a function of the step.

Examples are shuffled anew in each epoch, and batches run over the border between two epochs, so every batch is full and
every example comes once per epoch. The indices of step n are computed from (seed, n) alone: resuming, planning far
ahead and splitting a batch over processes need no state.

Several sources are mixed by counting, not by drawing: in every 10,000 places each source has exactly its share, and
after any number of places it is at most 1 - 1 / (2 (S - 1)) places away from it, which is the best there is.

Source of the mixing: Tijdeman 1980, "The chairman assignment problem" (of the sources that would fall behind otherwise,
the one whose next turn is due first).

Shapes: N examples, B examples in a batch, S sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sw2.base.seed import derive, numpy_generator

__all__ = ["PERIOD", "MixedOrder", "ShuffledOrder", "apportioned", "turns"]

PERIOD: Final = 10_000
"""Places after which the turns of a mixture repeat; shares are exact to one in so many."""


class ShuffledOrder:
    """Batches of shuffled indices.

    Args:
        examples: N, at least 1.
        batch: B, examples per step.
        seed: determines every epoch's order.
    """

    def __init__(self, examples: int, batch: int, seed: int) -> None:
        assert examples > 0
        assert batch > 0
        self.examples, self.batch, self.seed = examples, batch, seed
        self._epochs: dict[int, np.ndarray] = {}

    def steps_per_epoch(self) -> float:
        """N / B."""
        return self.examples / self.batch

    def indices(self, step: int) -> np.ndarray:
        """The int64 [B] indices of `step`."""
        return self.at(np.arange(step * self.batch, (step + 1) * self.batch))

    def share(self, step: int, rank: int, size: int) -> np.ndarray:
        """The part of the batch of `step` that process `rank` of `size` computes."""
        return self.indices(step)[rank::size]

    def at(self, places: NDArray[np.int64]) -> np.ndarray:
        """The indices at any `places` of the endless order, counted from 0: int64, as many."""
        epochs, offsets = np.divmod(places, self.examples)
        found = np.empty(len(places), dtype=np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            found[here] = self._order(int(epoch))[offsets[here]]
        return found

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._epochs:
            if len(self._epochs) > 1:
                del self._epochs[min(self._epochs)]
            self._epochs[epoch] = numpy_generator(self.seed, "order", epoch).permutation(self.examples)
        return self._epochs[epoch]


class MixedOrder:
    """Batches over several sources in fixed shares, each source shuffled by itself.

    Args:
        examples: N of each source, at least 1.
        shares: what part of all places each source has, above 0, with the sum 1.
        batch: B, examples per step.
        seed: determines every order; one source alone has that of `ShuffledOrder`.
    """

    def __init__(self, examples: Sequence[int], shares: Sequence[float], batch: int, seed: int) -> None:
        assert len(examples) == len(shares) > 0
        self.batch = batch
        self.counts = apportioned(shares, PERIOD)
        self.orders = [
            ShuffledOrder(number, batch, derive(seed, "source", index) if index else seed)
            for index, number in enumerate(examples)
        ]
        self._turns = turns(self.counts)
        # How many turns each source had before each place of a period: [PERIOD + 1, S].
        taken = self._turns[:, None] == np.arange(len(examples))
        self._before = np.concatenate([np.zeros((1, len(examples)), np.int64), np.cumsum(taken, axis=0)])

    def steps_per_epoch(self) -> float:
        """Steps until as many examples were taken as there are, of whichever sources."""
        return sum(order.examples for order in self.orders) / self.batch

    def epochs_per_step(self) -> list[float]:
        """What part of each source one step takes, in the mean."""
        return [
            self.batch * count / PERIOD / order.examples for count, order in zip(self.counts, self.orders, strict=True)
        ]

    def indices(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """For each place of the batch of `step` the source and the index in it: two int64 [B]."""
        places = np.arange(step * self.batch, (step + 1) * self.batch)
        periods, offsets = np.divmod(places, PERIOD)
        sources, indices = self._turns[offsets], np.empty(self.batch, dtype=np.int64)
        for source in np.unique(sources):
            here = sources == source
            before = periods[here] * self.counts[source] + self._before[offsets[here], source]
            indices[here] = self.orders[source].at(before)
        return sources, indices

    def share(self, step: int, rank: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The part of the batch of `step` that process `rank` of `size` computes."""
        sources, indices = self.indices(step)
        return sources[rank::size], indices[rank::size]


def apportioned(shares: Sequence[float], total: int) -> list[int]:
    """Whole numbers with the sum `total`, nearest to `total` times each share, and at least 1 each.

    By largest remainders (Hamilton's method); of equal ones the first.

    >>> apportioned([0.67, 0.15, 0.18], 10)
    [7, 1, 2]
    """
    assert len(shares) <= total
    exact = np.asarray(shares, dtype=np.float64) / sum(shares) * total
    counts = np.maximum(np.floor(exact), 1).astype(np.int64)
    while counts.sum() < total:
        counts[np.argmax(exact - counts)] += 1
    while counts.sum() > total:
        counts[np.argmin(np.where(counts > 1, exact - counts, np.inf))] -= 1
    return [int(count) for count in counts]


def turns(counts: Sequence[int]) -> NDArray[np.int64]:
    """Whose turn each place is: int64 [sum of counts], spread so that no source is ever one away from its share.

    With d = 1 / (2 (S - 1)): a source may take place n when its share of n places is at least d more than the turns it
    had; of those that may, the one takes it whose next turn is due first, where share times places = turns + 1 - d.

    >>> turns([2, 1, 1])
    array([0, 1, 2, 0])
    """
    total = sum(counts)
    if len(counts) == 1:
        return np.zeros(total, dtype=np.int64)
    slack = 1 / (2 * (len(counts) - 1))
    share = np.asarray(counts, dtype=np.float64) / total
    had = np.zeros(len(counts), dtype=np.int64)
    found = np.empty(total, dtype=np.int64)
    for place in range(total):
        may = share * (place + 1) - had >= slack - 1e-9
        due = np.where(may, (had + 1 - slack) / share, np.inf)
        found[place] = np.argmin(due)
        had[found[place]] += 1
    return found
