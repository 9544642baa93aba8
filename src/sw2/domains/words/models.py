"""The tables of vectors that a program holds.

    WordVectors       one vector a word (skip-gram, CBOW, GloVe, PPMI-SVD)
    SubwordVectors    one vector a word and one a bucket of character n-grams; a word is the mean of its own and theirs,
                      a word never seen the mean of theirs (Bojanowski et al. 2017, arXiv 1607.04606)

How they are learned is the objective's: kernels in C++ for most, a factorisation for PPMI-SVD. What words are
told apart by while learning (the output matrix) is not kept.

Either is float32, or codes that cannot learn (`in_bits`): a byte for each number and a scale for each row, or a byte
for each two numbers and a length for each row, see `parts.formats.compressed`. Who uses codes unpacks them (`thawed`):
they save room in files, not in memory.

Shapes: N words asked for, V words, B buckets, M rows asked for, D dimensions
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, final

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sw2.base.config import check_ranges
from sw2.core.model import Batch, Model, Outputs
from sw2.parts.formats.compressed import CENTROIDS, Compressed, EightBits, ProductCodes, eight_bits, product_codes

__all__ = ["SubwordVectors", "WordVectors"]

_MOST_DIMENSIONS = 1024  # the kernels' room
_WIDTH = 2  # numbers that share a byte in 4 bits


@final
class WordVectors(Model):
    """A vector for each word: weight [V, D]."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The settings.

        Args:
            dimensions: of a vector.
            words: how many there are; found in the corpus.
            bits: of a number, 8 or 4 for codes; 0 for float32.
        """

        dimensions: int = 100
        words: int = 0
        bits: Literal[0, 4, 8] = 0

        def __post_init__(self) -> None:
            check_ranges("model", self, {"dimensions": _dimensions(self.dimensions)})

    weight: nn.Parameter

    def __init__(self, config: WordVectors.Config) -> None:
        super().__init__()
        self.config = config
        _hold(self, config.words, config.dimensions, config.bits)

    def in_bits(self, bits: Literal[4, 8], seed: int) -> WordVectors:
        """The same vectors in codes that cannot learn.

        Args:
            bits: of a number.
            seed: of the rows that centroids are learned from (4 bits).

        Raises:
            DataError: there are fewer rows than the 256 centroids of 4 bits.
        """
        return _in_bits(self, bits, seed)

    def thawed(self) -> WordVectors:
        return _unpacked(self) if self.config.bits else copy.deepcopy(self)

    def forward(self, batch: Batch) -> Outputs:
        """Vectors of words.

        Args:
            batch: "words" int64 [N], numbers of words.

        Returns:
            "vectors" [N, D].
        """
        return {"vectors": functional.embedding(batch["words"], self.weight)}


@final
class SubwordVectors(Model):
    """A vector for each word and each bucket of n-grams: weight [V + B, D]."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The settings.

        Args:
            dimensions: of a vector.
            shortest: characters of an n-gram at least, "<" and ">" around the word counted.
            longest: and at most.
            buckets: how many vectors n-grams share.
            words: how many there are; found in the corpus.
            bits: of a number, 8 or 4 for codes; 0 for float32.
        """

        dimensions: int = 100
        shortest: int = 3
        longest: int = 6
        buckets: int = 200_000
        words: int = 0
        bits: Literal[0, 4, 8] = 0

        def __post_init__(self) -> None:
            allowed = {
                "dimensions": _dimensions(self.dimensions),
                "shortest": (1 <= self.shortest <= 20, "a whole number from 1 to 20"),
                "longest": (self.shortest <= self.longest <= 20, "a whole number from model.shortest to 20"),
                "buckets": (1 <= self.buckets <= 1 << 30, "a whole number from 1 to 2^30"),
            }
            check_ranges("model", self, allowed)

    weight: nn.Parameter

    def __init__(self, config: SubwordVectors.Config) -> None:
        super().__init__()
        self.config = config
        _hold(self, config.words + config.buckets, config.dimensions, config.bits)

    def in_bits(self, bits: Literal[4, 8], seed: int) -> SubwordVectors:
        """The same vectors in codes that cannot learn, as `WordVectors.in_bits`."""
        return _in_bits(self, bits, seed)

    def thawed(self) -> SubwordVectors:
        return _unpacked(self) if self.config.bits else copy.deepcopy(self)

    def forward(self, batch: Batch) -> Outputs:
        """Vectors of words.

        Args:
            batch: "rows" int64 [M], the rows of all words one after the other, and "begins" int64 [N], where those of
                each word begin.

        Returns:
            "vectors" [N, D]; zeros for a word without rows.
        """
        vectors = functional.embedding_bag(batch["rows"], self.weight, batch["begins"], mode="mean")
        return {"vectors": vectors}


Table = TypeVar("Table", WordVectors, SubwordVectors)


def _in_bits(model: Table, bits: Literal[4, 8], seed: int) -> Table:
    matrix = model.weight.detach().numpy()
    found = eight_bits(matrix) if bits == 8 else product_codes(matrix, _WIDTH, seed=seed)
    made = type(model)(replace(model.config, bits=bits))
    made.load_state_dict({name: torch.from_numpy(array) for name, array in vars(found).items() if name != "width"})
    return made


def _hold(model: Table, rows: int, dimensions: int, bits: int) -> None:
    """Room for the vectors: numbers that learn, or codes under the names that `compressed` has for them."""
    if not bits:
        model.weight = nn.Parameter(torch.zeros(rows, dimensions))
    elif bits == 8:
        model.register_buffer("codes", torch.zeros(rows, dimensions, dtype=torch.int8))
        model.register_buffer("scales", torch.zeros(rows))
    else:
        model.register_buffer("codes", torch.zeros(rows, -(-dimensions // _WIDTH), dtype=torch.uint8))
        model.register_buffer("centroids", torch.zeros(CENTROIDS * dimensions))
        model.register_buffer("norm_codes", torch.zeros(rows, dtype=torch.uint8))
        model.register_buffer("norm_centroids", torch.zeros(CENTROIDS))


def _unpacked(model: Table) -> Table:
    held = {name: buffer.numpy() for name, buffer in model.named_buffers()}
    found: Compressed = EightBits(**held) if model.config.bits == 8 else ProductCodes(**held, width=_WIDTH)
    made = type(model)(replace(model.config, bits=0))
    made.weight.data = torch.from_numpy(found.rows(np.arange(found.shape[0])))
    return made


def _dimensions(value: int) -> tuple[bool, str]:
    return 2 <= value <= _MOST_DIMENSIONS, f"a whole number from 2 to {_MOST_DIMENSIONS}"
