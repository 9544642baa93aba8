"""The network of an alignment: two maps into one space, and how crowded each word stands there.

Legend: N source words, M target words, D dimensions. `forward` maps vectors, [B, D] to unit rows [B, D]; the words'
vectors themselves are preprocessing, and not in here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from sw2.base.config import check_ranges
from sw2.core.model import Batch, Model, Outputs
from sw2.domains.words.alignment.geometry import unit

__all__ = ["BilingualMap", "BilingualMapConfig"]


@dataclass(frozen=True, kw_only=True)
class BilingualMapConfig:
    """The sizes, which follow from the vectors.

    Args:
        dimensions: D.
        source_words, target_words: N and M.
    """

    dimensions: int = 2
    source_words: int = 1
    target_words: int = 1

    def __post_init__(self) -> None:
        allowed = {name: (value >= 1, "a whole number of at least 1") for name, value in vars(self).items()}
        check_ranges("model", self, allowed)


@final
class BilingualMap(Model):
    """A linear map for each language, and the densities of CSLS."""

    Config = BilingualMapConfig

    def __init__(self, config: BilingualMapConfig) -> None:
        super().__init__()
        self.config = config
        self.source_map = nn.Parameter(torch.eye(config.dimensions))
        self.target_map = nn.Parameter(torch.eye(config.dimensions))
        self.source_density: Tensor
        self.target_density: Tensor
        self.register_buffer("source_density", torch.zeros(config.source_words))
        self.register_buffer("target_density", torch.zeros(config.target_words))

    def forward(self, batch: Batch) -> Outputs:
        """{"source": [B, D], "target": [B, D]}, either or both, in the common space."""
        maps = {"source": self.source_map, "target": self.target_map}
        return {side: unit(vectors_BD @ maps[side]) for side, vectors_BD in batch.items()}
