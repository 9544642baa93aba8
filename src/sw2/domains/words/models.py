"""The tables of vectors that a program holds.

    WordVectors       one vector a word (skip-gram, CBOW, GloVe, PPMI-SVD)
    SubwordVectors    one vector a word and one a bucket of character n-grams; a word is the mean of its own and theirs,
                      a word never seen the mean of theirs (Bojanowski et al. 2017, arXiv 1607.04606)

How they are learned is the objective's: kernels in C++ for most, a factorisation for PPMI-SVD. What words are
told apart by while learning (the output matrix) is not kept.

Shapes: N words asked for, V words, B buckets, M rows asked for, D dimensions
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import nn
from torch.nn import functional

from sw2.base.config import check_ranges
from sw2.core.model import Batch, Model, Outputs

__all__ = ["SubwordVectors", "WordVectors"]

_MOST_DIMENSIONS = 1024  # the kernels' room


@final
class WordVectors(Model):
    """A vector for each word: weight [V, D]."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The settings.

        Args:
            dimensions: of a vector.
            words: how many there are; found in the corpus.
        """

        dimensions: int = 100
        words: int = 0

        def __post_init__(self) -> None:
            check_ranges("model", self, {"dimensions": _dimensions(self.dimensions)})

    def __init__(self, config: WordVectors.Config) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.zeros(config.words, config.dimensions))

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
        """

        dimensions: int = 100
        shortest: int = 3
        longest: int = 6
        buckets: int = 200_000
        words: int = 0

        def __post_init__(self) -> None:
            allowed = {
                "dimensions": _dimensions(self.dimensions),
                "shortest": (1 <= self.shortest <= 20, "a whole number from 1 to 20"),
                "longest": (self.shortest <= self.longest <= 20, "a whole number from model.shortest to 20"),
                "buckets": (1 <= self.buckets <= 1 << 30, "a whole number from 1 to 2^30"),
            }
            check_ranges("model", self, allowed)

    def __init__(self, config: SubwordVectors.Config) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.zeros(config.words + config.buckets, config.dimensions))

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


def _dimensions(value: int) -> tuple[bool, str]:
    return 2 <= value <= _MOST_DIMENSIONS, f"a whole number from 2 to {_MOST_DIMENSIONS}"
