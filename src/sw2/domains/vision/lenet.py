"""LeNet: the small convolutional network that read postal codes and cheques.

Shapes: B pictures, C channels, S pixels a side, P = places a side after the second halving, K labels.

    picture [B, C, S, S] -> 6 maps, 5x5, halved [B, 6, S/2, S/2] -> 16 maps, 5x5, halved [B, 16, P, P]
    -> 120 units that see all of it -> 84 units -> logits [B, K]

At S = 28 these are the sizes of LeNet-5: 28, 14, 10, 5, and 61,706 weights for ten digits.

Choices: as in LeNet-5, but for what nobody does any more. Halving is a plain mean of 2x2 without weights of its own;
every map of the second layer sees all six of the first; the end is a linear layer under cross entropy instead of
distances to drawn digits. The squashing function stays tanh, so that this network is one from before ReLU. Pictures
below 12 pixels keep their size in the second convolution, which would else have nothing to move over.

Source: LeCun et al., "Gradient-Based Learning Applied to Document Recognition" (1998), section II.B,
https://doi.org/10.1109/5.726791; initial weights for tanh: Glorot and Bengio (2010), equation 16,
https://proceedings.mlr.press/v9/glorot10a.html.

Not here: normalisation layers, dropout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from sw2.base.config import check_ranges
from sw2.core.model import Batch, Model, Outputs

__all__ = ["Config", "LeNet"]

_KERNEL = 5
_SMALLEST = 4
_PADDED_BELOW = 12


class LeNet(Model):
    """The network at the top of this file.

    `forward` takes "image" [B, C, S, S] and gives "logits" [B, K] and "features" [B, F], what the head decides by.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of a LeNet.

        Args:
            size: S, pixels a side of the pictures, at least 4.
            channels: of the picture, 1 grey or 3 colour.
            classes: K, the number of labels.
        """

        size: int = 28
        channels: int = 1
        classes: int = 10

        def __post_init__(self) -> None:
            allowed = {
                "size": (self.size >= _SMALLEST, f"a whole number of at least {_SMALLEST}"),
                "channels": (self.channels >= 1, "a whole number of at least 1"),
                "classes": (self.classes >= 1, "a whole number of at least 1"),
            }
            check_ranges("model", self, allowed)

        @property
        def padding(self) -> int:
            """Zeros around what the second convolution sees."""
            return _KERNEL // 2 if self.size < _PADDED_BELOW else 0

        @property
        def places(self) -> int:
            """P."""
            return (self.size // 2 - (_KERNEL - 1 - 2 * self.padding)) // 2

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Conv2d(config.channels, 6, _KERNEL, padding=_KERNEL // 2)
        self.second = nn.Conv2d(6, 16, _KERNEL, padding=config.padding)
        self.third = nn.Linear(16 * config.places**2, 120)
        self.fourth = nn.Linear(120, 84)
        self.head = nn.Linear(84, config.classes)
        for layer in (self.first, self.second, self.third, self.fourth, self.head):
            nn.init.xavier_uniform_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, batch: Batch) -> Outputs:
        x_BDHW = F.avg_pool2d(torch.tanh(self.first(batch["image"])), 2)
        x_BDHW = F.avg_pool2d(torch.tanh(self.second(x_BDHW)), 2)
        x_BF = torch.tanh(self.fourth(torch.tanh(self.third(x_BDHW.flatten(1)))))
        return {"logits": self.head(x_BF), "features": x_BF}

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        """Each layer, from input to output."""
        return list(self.named_children())


Config = LeNet.Config
