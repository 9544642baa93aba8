"""The model: y = x · weight + bias.

Shapes: N rows, F columns.

Source: Hoerl and Kennard 1970, "Ridge regression", doi:10.1080/00401706.1970.10488634.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from sw2.core.model import Batch, Model, Outputs

__all__ = ["Ridge"]


class Ridge(Model):
    """{"columns": float32 [N, F]} to {"value": float32 [N]}; zero until it has learned."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """F, the columns to learn from."""

        features: int = 1

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.zeros(config.features))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, batch: Batch) -> Outputs:
        return {"value": (batch["columns"] * self.weight).sum(1) + self.bias}
