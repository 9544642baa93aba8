"""Texts as bags of rows, and the model: the mean of the rows that a text has, and a linear layer.

    hidden_ND = mean of input_RD over the rows of a text        scores_NK = hidden_ND output_KDᵀ

With hierarchical softmax the K outputs are those of the inner nodes of a tree over the labels; the last is not used.

Shapes: N texts, M rows of all of them, R rows there are, D dimensions, K labels.
Source: Joulin, Grave, Bojanowski and Mikolov 2016, arXiv:1607.01759, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from sw2.base.config import check_ranges
from sw2.core.model import Batch, Model, Outputs

__all__ = ["BagOfNgrams", "Bags"]


@dataclass(frozen=True, eq=False)
class Bags:
    """The rows of many texts in one array; those of what occurs twice stand there twice.

    Args:
        rows: uint32 [M].
        starts: int64 [N + 1]; the rows of text i are rows[starts[i] : starts[i + 1]].
    """

    rows: NDArray[np.uint32]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, text: int) -> NDArray[np.uint32]:
        return self.rows[self.starts[text] : self.starts[text + 1]]


@final
class BagOfNgrams(Model):
    """{"rows": int64 [M], "starts": int64 [N]} to {"hidden": float32 [N, D], "scores": float32 [N, K]}."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The size.

        Args:
            rows: R; told by the texts.
            labels: K; told by the texts.
            dimensions: D.
            loss: "softmax", "hierarchical softmax", or that of a model that was opened.
        """

        rows: int = 1
        labels: int = 2
        dimensions: int = 32
        loss: Literal["softmax", "hierarchical softmax", "one for each label", "negative sampling"] = "softmax"

        def __post_init__(self) -> None:
            allowed = {
                "rows": (self.rows >= 0, "a whole number of at least 0"),
                "labels": (self.labels >= 1, "a whole number of at least 1"),
                "dimensions": (1 <= self.dimensions <= 10_000, "a whole number from 1 to 10000"),
            }
            check_ranges("model", self, allowed)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.input = nn.Parameter(torch.zeros(config.rows, config.dimensions))
        self.output = nn.Parameter(torch.zeros(config.labels, config.dimensions))

    def forward(self, batch: Batch) -> Outputs:
        hidden_ND = functional.embedding_bag(batch["rows"], self.input, batch["starts"], mode="mean")
        return {"hidden": hidden_ND, "scores": hidden_ND @ self.output.T}
