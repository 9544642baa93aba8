"""ConvNeXt: a convolutional network with the habits of a Transformer.

Shapes: B pictures, C channels, H height, W width, D width of a stage, K labels.

    picture [B, C, H, W] -> each P x P square, linearly, norm [B, D, H/P, W/P] -> stage 1
    -> norm, each 2 x 2 square, linearly -> stage 2 (half the size) -> … -> mean over places -> norm -> logits [B, K]

    block: x + scale · (D <- 4 D, GELU, 4 D <- D)(norm(7x7 in each channel alone(x)))

Choices: as published, one normalisation and one activation a block, LayerNorm over the channels of a place. The two
1x1 convolutions are linear layers over channels-last memory, in which they are plain matrix products. A branch starts
at `layer_scale`, 1e-6 in the paper for hundreds of epochs; trainings of minutes want it larger (README.md). Smaller
squares in the stem (P = 1 or 2) make it fit small pictures.

Sources: Liu et al., "A ConvNet for the 2020s" (2022), https://arxiv.org/abs/2201.03545, section 2 and appendix A;
the scale of branches: Touvron et al. (2021), https://arxiv.org/abs/2103.17239, section 2; stochastic depth: see
`regularise.py`.

Not here: ConvNeXt V2's response normalisation, masked pre-training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sw2.base.config import check_ranges, check_shares
from sw2.base.errors import UsageError
from sw2.core.model import Batch, Model, Outputs
from sw2.domains.vision.regularise import StochasticDepth, depth_rates

__all__ = ["Config", "ConvNeXt"]

_EPSILON = 1e-6
_KERNEL = 7
_WIDENING = 4


class ConvNeXt(Model):
    """The network at the top of this file.

    `forward` takes "image" [B, C, H, W] and gives "logits" [B, K] and "features" [B, D], what the head decides by.

    Pictures have at least patch · 2^(stages - 1) pixels a side; what is left over at the right and below is not seen.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of a ConvNeXt.

        Args:
            channels: of the picture, 1 grey or 3 colour.
            classes: K, the number of labels.
            patch: P, pixels a side of the squares that the stem sees.
            widths: D of each stage; every stage after the first halves the picture.
            blocks: in each stage.
            layer_scale: what branches count at first, above 0.
            stochastic_depth: share of the examples for which the last block is left out in training, in [0, 1).
            norm_epsilon: of the last LayerNorm; all others have 1e-6.
        """

        channels: int = 1
        classes: int = 10
        patch: int = 2
        widths: tuple[int, ...] = (40, 80, 160)
        blocks: tuple[int, ...] = (2, 2, 2)
        layer_scale: float = 1e-6
        stochastic_depth: float = 0.0
        norm_epsilon: float = 1e-6

        def __post_init__(self) -> None:
            numbers = (self.channels, self.classes, self.patch, *self.widths, *self.blocks)
            if len(self.widths) != len(self.blocks) or not self.widths or min(numbers) < 1:
                raise UsageError(
                    "This is not the shape of a ConvNeXt.",
                    wanted="as many widths as blocks, all numbers at least 1",
                    got=self,
                )
            above = "a number above 0"
            allowed = {
                "layer_scale": (self.layer_scale > 0, above),
                "norm_epsilon": (self.norm_epsilon > 0, above),
            }
            check_ranges("model", self, allowed)
            check_shares("model", self, "stochastic_depth")

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width = config.widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(config.channels, width, config.patch, stride=config.patch), _ChannelNorm(width)
        )
        self.body = nn.ModuleList()
        rates = iter(depth_rates(config.stochastic_depth, sum(config.blocks)))
        for number, (wide, depth) in enumerate(zip(config.widths, config.blocks, strict=True)):
            stage = nn.Sequential()
            if number:
                stage.append(nn.Sequential(_ChannelNorm(width), nn.Conv2d(width, wide, 2, stride=2)))
                width = wide
            for _ in range(depth):
                stage.append(_Block(width, config.layer_scale, next(rates)))
            self.body.append(stage)
        self.norm = nn.LayerNorm(width, config.norm_epsilon)
        self.head = nn.Linear(width, config.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, batch: Batch) -> Outputs:
        x_BDHW = self.stem(batch["image"])
        for stage in self.body:
            x_BDHW = stage(x_BDHW)
        features_BD = self.norm(x_BDHW.mean((2, 3)))
        return {"logits": self.head(features_BD), "features": features_BD}

    def layers(self) -> Sequence[tuple[str, nn.Module]]:
        """The stem, each halving and each block, the last norm and the head, from input to output."""
        parts = [
            (f"stage{number}.{'block' if isinstance(part, _Block) else 'half'}{place}", part)
            for number, stage in enumerate(self.body, start=1)
            for place, part in enumerate(stage.children(), start=1 if number == 1 else 0)
        ]
        return [("stem", self.stem), *parts, ("norm", self.norm), ("head", self.head)]

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        """What is frozen or given a learning rate together, from input to output; every parameter is in one."""
        body = [(f"stage{number}", stage) for number, stage in enumerate(self.body, start=1)]
        return [("stem", self.stem), *body, ("norm", self.norm), ("head", self.head)]


Config = ConvNeXt.Config


class _ChannelNorm(nn.Module):
    """LayerNorm over the channels of each place of [B, D, H, W]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, _EPSILON)

    def forward(self, x_BDHW: Tensor) -> Tensor:
        normal_BHWD: Tensor = self.norm(x_BDHW.permute(0, 2, 3, 1))
        return normal_BHWD.permute(0, 3, 1, 2)


class _Block(nn.Module):
    """The block at the top of this file."""

    def __init__(self, width: int, scale: float, rate: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, _KERNEL, padding=_KERNEL // 2, groups=width)
        self.norm = nn.LayerNorm(width, _EPSILON)
        self.up = nn.Linear(width, _WIDENING * width)
        self.down = nn.Linear(_WIDENING * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale))
        self.drop = StochasticDepth(rate)

    def forward(self, x_BDHW: Tensor) -> Tensor:
        y_BHWD = self.norm(self.depthwise(x_BDHW).permute(0, 2, 3, 1))
        y_BHWD = self.scale * self.down(F.gelu(self.up(y_BHWD)))
        after_BDHW: Tensor = self.drop(x_BDHW, x_BDHW + y_BHWD.permute(0, 3, 1, 2))
        return after_BDHW
