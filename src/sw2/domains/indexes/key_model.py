"""What every model of an index is: tables of numbers beside sorted keys, which lead a query to a window of places.

    fit(keys, config) -> model     in one pass over the sorted keys
    model.locate(keys, queries)    the lower bound of each query; right whatever the model holds
    model.beyond()                 bytes that are kept beside the keys

`forward` is the model alone, as tensors: keys in, windows of places out. `locate` runs it in the kernels (`native`) and
narrows each window until the answer is proven; without a compiler `reference` does the same.

Notable: a fitted model has in its Config how many numbers it holds, so that it is rebuilt empty and filled from a file
like any network. Keys are kept as their 64 bits, since file formats know signed integers best.

What it does not do: inserts; keys of other types than int64, uint64 and float64 (`keys` brings others to these).

Shapes: N sorted keys, no NaN · M queries
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray

from sw2.core.model import Batch, Model, Outputs
from sw2.domains.indexes import native, reference

__all__ = ["KeyModel", "KeyType", "type_of"]

KeyType = Literal["int64", "uint64", "float64"]


def type_of(keys: np.ndarray) -> KeyType:
    """The type of the keys, as a Config has it."""
    return cast("KeyType", str(keys.dtype))


class KeyModel(Model):
    """The base class: tables of numbers, and how they lead to windows.

    Class attributes:
        tables: the name of each table and its dtype; "key" stands for the type of the keys.
        function: of the kernels, without `locate_`.
        settled: settings that a fit decides by measuring; given as they were found, it makes the same model again.
    """

    tables: ClassVar[Mapping[str, str]]
    function: ClassVar[str]
    settled: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        for name, length in self.lengths().items():
            dtype = {"key": torch.int64, "uint32": torch.int32, "uint16": torch.int16}.get(self.tables[name])
            self.register_buffer(name, torch.zeros(length, dtype=dtype or getattr(torch, self.tables[name])))

    @abstractmethod
    def lengths(self) -> dict[str, int]:
        """How many numbers each table has."""

    @classmethod
    @abstractmethod
    def fit(cls, keys: np.ndarray, config: Any) -> KeyModel:
        """The model of these keys.

        Args:
            keys: [N], sorted, N >= 1, no NaN; int64, uint64 or float64, contiguous.
            config: of this class; how many numbers it holds is filled in.
        """

    @abstractmethod
    def arguments(self) -> list[Any]:
        """What its function in the kernels takes behind the answers."""

    @abstractmethod
    def windows(self, keys: np.ndarray, queries: np.ndarray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the answers are said to lie, as the kernels compute it: low [M] and width [M]."""

    @classmethod
    def filled(cls, config: Any, tables: Mapping[str, np.ndarray]) -> Self:
        """A model of these tables."""
        model = cls(config)
        assert model.lengths() == {name: len(table) for name, table in tables.items()}
        for name, table in tables.items():
            # Copied, since torch begins at a line of memory, and numpy does not: nodes and marks then lie in one line.
            np.copyto(model.table(name), table, casting="no")
        return model

    def table(self, name: str) -> np.ndarray:
        """A table as numpy has it, in its own type; what is written there is written to the model."""
        dtype = self.tables[name]
        array: np.ndarray = getattr(self, name).numpy()
        return array.view(self.config.keys if dtype == "key" else dtype)

    def beyond(self) -> int:
        """Bytes that are kept beside the keys."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self.buffers())

    def locate(self, keys: np.ndarray, queries: np.ndarray) -> NDArray[np.int64]:
        """The number of keys below each query: the place of the first key that is not below it.

        Args:
            keys: [N], sorted, without NaN, of the type that the model was fitted to; N >= 1.
            queries: [M], of the same type, contiguous. NaN belongs behind all keys.

        Returns:
            [M], 0 … N, equal to `numpy.searchsorted(keys, queries)`.
        """
        assert keys.dtype == queries.dtype == np.dtype(self.config.keys)
        if native.why_not() is not None:
            return self._searched(keys, queries)
        answers = np.empty(len(queries), np.int64)
        array = self.array(keys)
        native.call(f"locate_{self.function}", array, len(keys), queries, len(queries), answers, *self.arguments())
        return answers

    def array(self, keys: np.ndarray) -> np.ndarray:
        """What its function in the kernels takes first: the keys, unless it has a copy of its own."""
        return keys

    def _searched(self, keys: np.ndarray, queries: np.ndarray) -> NDArray[np.int64]:
        return reference.locate(keys, queries, lambda some: self.windows(keys, some))

    def forward(self, batch: Batch) -> Outputs:
        """Windows of places.

        Args:
            batch: "keys" [N], sorted, and "queries" [M], as the 64 bits of their type in int64.

        Returns:
            "low" [M] and "width" [M], int64.
        """
        keys, queries = (batch[name].numpy().view(self.config.keys) for name in ("keys", "queries"))
        low, width = self.windows(keys, queries)
        return {"low": torch.from_numpy(low), "width": torch.from_numpy(width)}
