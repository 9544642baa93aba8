"""GoogLeNet (Inception v1): blocks that look at a picture through several windows at once, with helpers on the way.

Shapes: B pictures, C channels, H height, W width, A auxiliary heads, D width, K labels.

    picture [B, C, H, W] -> stem (1/8; for small pictures 1/1) -> 3a 3b -> half -> 4a 4b 4c 4d 4e -> half -> 5a 5b
    -> mean over places [B, 1024] -> dropout -> logits [B, K]
                                          in training, from 4a and 4d: auxiliary logits [B, A, K]

    block: four branches side by side, joined by channels: 1x1; 1x1 then 3x3; 1x1 then 5x5; largest of 3x3 then 1x1

An auxiliary head is a small classifier in the middle of the network. Its loss counts while learning, so that gradients
reach the early layers on a short way; afterwards nobody asks it. Whoever learns adds the losses (`objective.py`).

Choices: convolutions are normalised (Ioffe and Szegedy), where the first version had none and normalised the stem's
answers by their neighbours; it then learns in minutes. `width` scales every number of the paper's table. The stem for
small pictures is one 3x3 convolution, so that 28x28 pictures meet the blocks at the size at which 224x224 do. An
auxiliary head averages to 4x4 places whatever the size is, which for 224x224 is the paper's 5x5 mean in effect.

Sources: Szegedy et al., "Going Deeper with Convolutions" (2014), https://arxiv.org/abs/1409.4842, table 1, and section
5 for the auxiliary heads; Ioffe and Szegedy (2015), https://arxiv.org/abs/1502.03167, for normalisation; initial
weights: He et al. (2015), https://arxiv.org/abs/1502.01852.

Not here: pretrained weights, the later versions that factor windows into smaller ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sw2.base.config import check_ranges, check_shares
from sw2.core.model import Batch, Model, Outputs
from sw2.parts.layers.batch_norm import BatchNormRelu

__all__ = ["Config", "GoogLeNet"]

# Of each block: 1x1; 1x1 before 3x3, 3x3; 1x1 before 5x5, 5x5; 1x1 after the largest. Table 1 of Szegedy et al.
_BLOCKS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
_STEM = (64, 64, 192)
_HALVED_BEFORE = ("4a", "5a")
_AUXILIARY_AFTER = ("4a", "4d")
_AUXILIARY_WIDTHS = (128, 1024)
_AUXILIARY_PLACES = 4
_AUXILIARY_DROPOUT = 0.7


class GoogLeNet(Model):
    """The network at the top of this file.

    `forward` takes "image" [B, C, H, W] and gives "logits" [B, K] and "features" [B, D]; in training also
    "auxiliary" [B, A, K].
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of a GoogLeNet.

        Args:
            channels: of the picture, 1 grey or 3 colour.
            classes: K, the number of labels.
            width: what every width of the paper is multiplied with, above 0 and at most 4.
            stem_kind: "small" keeps the size of the picture, "photo" brings it to an eighth, as in the paper.
            dropout: share of the features that are dropped in training, in [0, 1); 0.4 in the paper.
            auxiliary: whether there are auxiliary heads.
        """

        channels: int = 1
        classes: int = 10
        width: float = 0.25
        stem_kind: Literal["small", "photo"] = "small"
        dropout: float = 0.4
        auxiliary: bool = True

        def __post_init__(self) -> None:
            allowed = {
                "channels": (self.channels >= 1, "a whole number of at least 1"),
                "classes": (self.classes >= 1, "a whole number of at least 1"),
                "width": (0 < self.width <= 4, "a number above 0, at most 4"),
            }
            check_ranges("model", self, allowed)
            check_shares("model", self, "dropout")

        def wide(self, width: int) -> int:
            """A width of the paper, scaled; at least 4, so that the narrowest branch sees something."""
            return max(4, round(width * self.width))

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        first, second, width = (config.wide(each) for each in _STEM)
        if config.stem_kind == "photo":
            self.stem = nn.Sequential(
                _convolution(config.channels, first, 7, stride=2),
                _half(),
                _convolution(first, second, 1),
                _convolution(second, width, 3),
                _half(),
            )
        else:
            self.stem = nn.Sequential(_convolution(config.channels, width, 3))
        self.body = nn.ModuleDict()
        self.auxiliary = nn.ModuleDict()
        for name, widths in _BLOCKS.items():
            block = _Inception(width, *(config.wide(each) for each in widths), halves=name in _HALVED_BEFORE)
            self.body[name] = block
            width = block.width
            if config.auxiliary and name in _AUXILIARY_AFTER:
                self.auxiliary[name] = _Auxiliary(width, config)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(width, config.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, batch: Batch) -> Outputs:
        x_BDHW = self.stem(batch["image"])
        heard = []
        for name, block in self.body.items():
            x_BDHW = block(x_BDHW)
            if self.training and name in self.auxiliary:
                heard.append(self.auxiliary[name](x_BDHW))
        features_BD = x_BDHW.mean((2, 3))
        outputs = {"logits": self.head(self.dropout(features_BD)), "features": features_BD}
        return {**outputs, "auxiliary": torch.stack(heard, 1)} if heard else outputs

    def layers(self) -> Sequence[tuple[str, nn.Module]]:
        """The stem, the blocks, the auxiliary heads and the head, from input to output."""
        auxiliary = [(f"auxiliary {name}", head) for name, head in self.auxiliary.items()]
        return [("stem", self.stem), *self.body.items(), *auxiliary, ("head", self.head)]


Config = GoogLeNet.Config


class _Inception(nn.Module):
    """Four branches side by side; [B, D, H, W] to [B, width, H, W], halved before where asked."""

    def __init__(
        self, width_in: int, one: int, before3: int, three: int, before5: int, five: int, pooled: int, *, halves: bool
    ) -> None:
        super().__init__()
        self.halving = _half() if halves else nn.Identity()
        self.one = _convolution(width_in, one, 1)
        self.three = nn.Sequential(_convolution(width_in, before3, 1), _convolution(before3, three, 3))
        self.five = nn.Sequential(_convolution(width_in, before5, 1), _convolution(before5, five, 5))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), _convolution(width_in, pooled, 1))
        self.width = one + three + five + pooled

    def forward(self, x: Tensor) -> Tensor:
        x = self.halving(x)
        return torch.cat([branch(x) for branch in (self.one, self.three, self.five, self.pooled)], dim=1)


class _Auxiliary(nn.Module):
    """Mean to 4x4 places, 1x1 convolution, two linear layers: [B, D, H, W] to [B, K]."""

    def __init__(self, width_in: int, config: Config) -> None:
        super().__init__()
        narrow, hidden = (config.wide(width) for width in _AUXILIARY_WIDTHS)
        self.narrow = _convolution(width_in, narrow, 1)
        self.hidden = nn.Linear(narrow * _AUXILIARY_PLACES**2, hidden)
        self.dropout = nn.Dropout(_AUXILIARY_DROPOUT)
        self.head = nn.Linear(hidden, config.classes)

    def forward(self, x_BDHW: Tensor) -> Tensor:
        places = self.narrow(F.adaptive_avg_pool2d(x_BDHW, _AUXILIARY_PLACES))
        logits_BK: Tensor = self.head(self.dropout(F.relu(self.hidden(places.flatten(1)))))
        return logits_BK


def _half() -> nn.MaxPool2d:
    """The largest of 3x3 at every second place; sizes are halved, rounding up."""
    return nn.MaxPool2d(3, stride=2, padding=1)


def _convolution(width_in: int, width: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution with normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(width_in, width, kernel, stride=stride, padding=kernel // 2, bias=False),
        BatchNormRelu(width),
    )
