"""The filters: which keys may be in a set, and which are surely not.

    BloomFilter        k bits of a field for each key
    SandwichedFilter   a Bloom filter, a classifier of keys, and a Bloom filter of the keys that it misses

Neither ever denies a key that was added. Of the first that is known since Bloom; the second scores in whole numbers,
adds whatever scores below its threshold to the filter behind, and answers by that very comparison.

Notable: a model has in its Config how large its fields are, so that it is rebuilt empty and filled from a file like any
network. Fields are kept as int64, since file formats know signed integers best.

Sources, and how sizes follow from rates: the frame of `sizes`; the arithmetic: that of `kernels.cpp`.

What it does not do: deletes; keys that come later than the others (the rate would no longer hold).

Shapes: N keys · W = 2^power weights
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sw2.base.config import check_ranges
from sw2.core.model import Batch, Model, Outputs
from sw2.domains.indexes.filters import reference
from sw2.domains.indexes.filters.keysets import KeySet, library, why_not
from sw2.domains.indexes.filters.sizes import MOST_BITS, Field
from sw2.domains.indexes.native import invoke

__all__ = ["MODELS", "BloomFilter", "Filter", "SandwichedFilter"]

_BEHIND: Final = np.uint64(0xD6E8FEB86659FD93)
"""Added to hashes before they are mixed for the filter behind: what the front took for a key must look new to it."""


class Filter(Model):
    """The base class."""

    @abstractmethod
    def add(self, keys: KeySet) -> None:
        """Make it say "probably" of these keys from now on."""

    @abstractmethod
    def holds(self, keys: KeySet) -> NDArray[np.bool_]:
        """Of each key whether it may be in the set, [N]; true for all that were added."""

    def forward(self, batch: Batch) -> Outputs:
        """Whether keys may be in the set.

        Args:
            batch: "values" and, of texts, "starts"; those of a `KeySet`, numbers as int64.

        Returns:
            "holds", bool [N].
        """
        values = batch["values"].numpy()
        starts = batch["starts"].numpy() if "starts" in batch else None
        keys = KeySet(values.view(np.uint64) if starts is None else values, starts)
        return {"holds": torch.from_numpy(self.holds(keys))}

    def stored(self) -> int:
        """Bytes of its fields and weights."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self.buffers())


def _check(section: str, size: Field) -> None:
    fits = (0 <= size.bits <= MOST_BITS, f"a whole number from 0 to {MOST_BITS}")
    check_ranges(section, size, {"bits": fits, "hashes": (0 <= size.hashes <= 64, "a whole number from 0 to 64")})


def _field(words: Tensor) -> NDArray[np.uint64]:
    array: NDArray[np.int64] = words.numpy()
    return array.view(np.uint64)


def _add(words: Tensor, size: Field, hashes: NDArray[np.uint64]) -> None:
    if not size.bits:
        return
    if why_not() is None:
        invoke(library().add, _field(words), size.bits, size.hashes, hashes, len(hashes))
    else:
        reference.add(_field(words), size.bits, size.hashes, hashes)


def _ask(words: Tensor, size: Field, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    if not size.bits:
        return np.ones(len(hashes), bool)
    if why_not() is not None:
        return reference.ask(_field(words), size.bits, size.hashes, hashes)
    found = np.empty(len(hashes), np.uint8)
    invoke(library().ask, _field(words), size.bits, size.hashes, hashes, len(hashes), found)
    return found.view(bool)


@final
class BloomFilter(Filter):
    """A field of bits, of which each key has some."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The settings.

        Args:
            field: its size; found while fitting.
        """

        field: Field = field(default_factory=Field)

        def __post_init__(self) -> None:
            _check("model.field", self.field)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.words: Tensor
        self.register_buffer("words", torch.zeros(config.field.words, dtype=torch.int64))

    def add(self, keys: KeySet) -> None:
        _add(self.words, self.config.field, keys.hashes())

    def holds(self, keys: KeySet) -> NDArray[np.bool_]:
        return _ask(self.words, self.config.field, keys.hashes())


@final
class SandwichedFilter(Filter):
    """A classifier of keys between two Bloom filters."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The settings.

        Args:
            power: W = 2^power weights, of one byte each; found while fitting.
            threshold: keys with this score, or a higher one, need no filter behind; found while fitting.
            front, back: the sizes of the filters before and behind the classifier; found while fitting.
        """

        power: int = 1
        threshold: int = 0
        front: Field = field(default_factory=Field)
        back: Field = field(default_factory=Field)

        def __post_init__(self) -> None:
            check_ranges("model", self, {"power": (1 <= self.power <= 30, "a whole number from 1 to 30")})
            _check("model.front", self.front)
            _check("model.back", self.back)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.weights: Tensor
        self.front: Tensor
        self.back: Tensor
        self.register_buffer("weights", torch.zeros(1 << config.power, dtype=torch.int8))
        self.register_buffer("front", torch.zeros(config.front.words, dtype=torch.int64))
        self.register_buffer("back", torch.zeros(config.back.words, dtype=torch.int64))

    def _low(self, keys: KeySet) -> NDArray[np.bool_]:
        """Which keys score too little."""
        return keys.scores(self.weights.numpy()) < self.config.threshold

    def add(self, keys: KeySet) -> None:
        hashes = keys.hashes()
        _add(self.front, self.config.front, hashes)
        _add(self.back, self.config.back, reference.mixed(hashes[self._low(keys)] + _BEHIND))

    def holds(self, keys: KeySet) -> NDArray[np.bool_]:
        hashes = keys.hashes()
        found = _ask(self.front, self.config.front, hashes)
        passed = np.flatnonzero(found)
        low = passed[self._low(keys.take(passed))]
        found[low] = _ask(self.back, self.config.back, reference.mixed(hashes[low] + _BEHIND))
        return found


MODELS: Final[dict[str, type[Filter]]] = {"sandwiched-filter": SandwichedFilter, "bloom-filter": BloomFilter}
"""Every filter by the catalogue's name, the learned one first."""
