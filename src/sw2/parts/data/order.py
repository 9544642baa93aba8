"""The order in which examples are learned from, as a function of the step.

Examples are shuffled anew in each epoch, and batches run over the border between two epochs, so every batch is full and
every example comes once per epoch. The indices of step n are computed from (seed, n) alone: resuming, planning far
ahead and splitting a batch over processes need no state.

Shapes: N examples, B examples in a batch.
"""

from __future__ import annotations

import numpy as np

from sw2.base.seed import numpy_generator

__all__ = ["ShuffledOrder"]


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
        start = step * self.batch
        pieces, taken = [], 0
        while taken < self.batch:
            epoch, offset = divmod(start + taken, self.examples)
            piece = self._order(epoch)[offset : offset + self.batch - taken]
            pieces.append(piece)
            taken += len(piece)
        return np.concatenate(pieces)

    def share(self, step: int, rank: int, size: int) -> np.ndarray:
        """The part of the batch of `step` that process `rank` of `size` computes."""
        return self.indices(step)[rank::size]

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._epochs:
            if len(self._epochs) > 1:
                del self._epochs[min(self._epochs)]
            self._epochs[epoch] = numpy_generator(self.seed, "order", epoch).permutation(self.examples)
        return self._epochs[epoch]
