"""ResNet, plain and residual, deep and shallow, for pictures of 8x8 and for photographs: one network, told by words.

Shapes: B pictures, C channels, H height, W width, K labels, D width of the last stage.

    picture [B, C, H, W] -> stem -> stage 1 -> stage 2 (half the size) -> … -> mean over places [B, D] -> logits [B, K]

    Config()                    a few residual stages for 8x8 to 64x64, sized for minutes on a CPU: the default
    of_depth(20)                the networks of He et al. for CIFAR, 6 n + 2 layers deep: depth is one number
    of_depth(20, "none")        the same without shortcuts: the plain networks that get worse with depth
    Config(stem_kind="photo", block="bottleneck", shortcut="stride", …)     ResNet-50 and its like, for 224x224

Choices:
- The stem sees every pixel with a narrow 3x3 convolution and halves the picture with a second, strided one: most of
  the time of a small ResNet would otherwise go into the first, largest maps. A strided first convolution alone is
  faster still, but learned less from as many pictures.
- The last batch normalisation of each branch starts at zero, so a new network is as shallow as its shortcuts and deep
  ones train from the first step (Goyal et al.). Not in `of_depth`, which is held to 2015: all start at one there, and
  a plain network could not start otherwise.
- A shortcut that halves the picture averages 2x2 neighbours before its 1x1 convolution, where a strided one would
  look at a quarter of the values (He et al. 2019, ResNet-D). The other forms of He et al. 2015 are there by name.
- A bottleneck halves in its 3x3 convolution, as everybody's weights have it since 2016, and not in its first.
- No bias in front of a normalisation; no dropout. Channels-last memory is kept from the picture to the mean.

Sources: He et al., "Deep Residual Learning" (2015), https://arxiv.org/abs/1512.03385, section 4.2 and table 6 for
`of_depth`, table 1 for photographs; stochastic depth: see `regularise.py`; He et al., "Delving Deep into
Rectifiers" (2015), https://arxiv.org/abs/1502.01852, for the initial weights; Goyal et al. (2017),
https://arxiv.org/abs/1706.02677, section 5.1; T. He et al., "Bag of Tricks" (2019), https://arxiv.org/abs/1812.01187.

Not here: pretrained weights (see `families.py`), normalised pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sw2.base.config import check_shares
from sw2.base.errors import UsageError
from sw2.core.model import Batch, Model, Outputs
from sw2.domains.vision.regularise import StochasticDepth, depth_rates
from sw2.parts.layers.batch_norm import BatchNormRelu

__all__ = ["Config", "GreyConvolution", "ResNet", "of_depth"]

Shortcut = Literal["mean", "stride", "pad", "none"]
_NARROWING = 4  # a bottleneck's insides have a quarter of its width


class ResNet(Model):
    """The network at the top of this file.

    `forward` takes "image" [B, C, H, W] and gives "logits" [B, K] and "features" [B, D], what the head decides by.

    The pictures are float and normalised, of any one height and width.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of a ResNet.

        Args:
            channels: of the picture, 1 grey or 3 colour.
            classes: K, the number of labels.
            stem: the width of the first convolution.
            stem_halves: how often the stem halves the picture. 1 suits 28x28 and larger, 0 tiny ones such as 8x8.
            widths: channels of each stage; every stage after the first halves the picture, rounding up.
            blocks: residual blocks in each stage, two 3x3 convolutions each.
            stem_kind: "small" as above; "photo": 7x7 of stride 2 and the largest of 3x3 at stride 2 (stem_halves is 2).
            block: "basic" as above; "bottleneck": 1x1, 3x3, 1x1 with a quarter of the width inside.
            shortcut: where size or width change, "mean" of 2x2 and 1x1 convolution, "stride" (1x1 convolution alone),
                "pad" (every second place, zeros for new channels, no weights), or "none" anywhere: a plain network.
            stochastic_depth: share of the examples for which the last block is left out in training, in [0, 1).
        """

        channels: int = 1
        classes: int = 10
        stem: int = 24
        stem_halves: int = 1
        widths: tuple[int, ...] = (48, 96, 192)
        blocks: tuple[int, ...] = (1, 1, 1)
        stem_kind: Literal["small", "photo"] = "small"
        block: Literal["basic", "bottleneck"] = "basic"
        shortcut: Shortcut = "mean"
        stochastic_depth: float = 0.0

        def __post_init__(self) -> None:
            numbers = (self.channels, self.classes, self.stem, *self.widths, *self.blocks)
            if len(self.widths) != len(self.blocks) or not self.widths or min(numbers) < 1 or self.stem_halves < 0:
                raise UsageError(
                    "This is not the shape of a ResNet.",
                    wanted="as many widths as blocks, all numbers at least 1, stem_halves at least 0",
                    got=self,
                )
            if self.stem_kind == "photo" and self.stem_halves != 2:
                raise UsageError("The stem for photographs halves twice.", wanted="stem_halves=2", got=self.stem_halves)
            if self.block == "bottleneck" and any(width % _NARROWING for width in self.widths):
                raise UsageError(
                    "A bottleneck is a quarter as wide inside.",
                    wanted="widths that are multiples of 4",
                    got=self.widths,
                )
            if self.shortcut == "pad" and list(self.widths) != sorted(self.widths):
                raise UsageError("Padding only adds channels.", wanted="widths that do not fall", got=self.widths)
            check_shares("model", self, "stochastic_depth")
            if self.stochastic_depth and self.shortcut == "none":
                raise UsageError(
                    "A plain network has no way around a block.",
                    wanted="stochastic_depth=0, or shortcuts",
                    got=f"stochastic_depth {self.stochastic_depth}, shortcut none",
                )

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        stem: list[nn.Module] = []
        width = config.stem
        if config.stem_kind == "photo":
            stem += [_convolution(config.channels, width, stride=2, kernel=7), nn.MaxPool2d(3, 2, padding=1)]
        else:
            stem += [_convolution(config.channels, width)]
            for _ in range(config.stem_halves):
                stem += [_convolution(width, config.widths[0], stride=2)]
                width = config.widths[0]
        self.stem = nn.Sequential(*stem)
        self.body = nn.ModuleList()
        kind = _Residual if config.block == "basic" else _Bottleneck
        rates = iter(depth_rates(config.stochastic_depth, sum(config.blocks)))
        for number, (wide, depth) in enumerate(zip(config.widths, config.blocks, strict=True)):
            stage = nn.Sequential()
            for place in range(depth):
                stage.append(kind(width, wide, 2 if number and not place else 1, config.shortcut, next(rates)))
                width = wide
            self.body.append(stage)
        self.head = nn.Linear(width, config.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, _Residual | _Bottleneck) and config.shortcut in ("mean", "stride"):
                nn.init.zeros_(module.last_norm.weight)

    def forward(self, batch: Batch) -> Outputs:
        x_BDHW = self.stem(batch["image"])
        for stage in self.body:
            x_BDHW = stage(x_BDHW)
        features_BD = x_BDHW.mean((2, 3))
        return {"logits": self.head(features_BD), "features": features_BD}

    def layers(self) -> Sequence[tuple[str, nn.Module]]:
        """The stem, each residual block and the head, from input to output."""
        blocks = [
            (f"stage{number}.block{place}", block)
            for number, stage in enumerate(self.body, start=1)
            for place, block in enumerate(stage.children(), start=1)
        ]
        return [("stem", self.stem), *blocks, ("head", self.head)]

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        """What is frozen or given a learning rate together, from input to output; every parameter is in one."""
        body = [(f"stage{number}", stage) for number, stage in enumerate(self.body, start=1)]
        return [("stem", self.stem), *body, ("head", self.head)]


Config = ResNet.Config


def of_depth(depth: int, shortcut: Shortcut = "pad", *, channels: int = 3, classes: int = 10) -> Config:
    """The network of He et al. for CIFAR, section 4.2: 16, 32 and 64 channels, n blocks each.

    Args:
        depth: layers with weights, 6 n + 2: the first, two a block, the last. 20, 32, 44, 56 and 110 in the paper.
        shortcut: "pad" is the paper's residual network, "none" its plain one.
        channels: of the picture.
        classes: K.

    Raises:
        UsageError: a depth that is not of this form; names those beside it.

    >>> of_depth(20).blocks
    (3, 3, 3)
    """
    number = max(depth - 2, 0) // 6
    if depth != 6 * number + 2 or not number:
        near = sorted({6 * max(number, 1) + 2, 6 * number + 8})
        raise UsageError(
            "A ResNet of this form has 6 n + 2 layers.",
            where=f"depth {depth}",
            wanted=" or ".join(map(str, near)),
            got=depth,
        )
    return Config(
        channels=channels,
        classes=classes,
        stem=16,
        stem_halves=0,
        widths=(16, 32, 64),
        blocks=(number,) * 3,
        shortcut=shortcut,
    )


class _Residual(nn.Module):
    """y = relu(shortcut(x) + norm(conv(relu(norm(conv(x))))))."""

    def __init__(self, width_in: int, width: int, stride: int, shortcut: Shortcut, rate: float) -> None:
        super().__init__()
        self.first = _convolution(width_in, width, stride=stride)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = BatchNormRelu(width)
        self.shortcut = _shortcut(shortcut, width_in, width, stride)
        self.drop = StochasticDepth(rate)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        return self.second_norm

    def forward(self, x: Tensor) -> Tensor:
        return _joined(x, self.second(self.first(x)), self.second_norm, self.shortcut, self.drop)


class _Bottleneck(nn.Module):
    """The same with three convolutions: 1x1 to a quarter of the width, 3x3 there, 1x1 back."""

    def __init__(self, width_in: int, width: int, stride: int, shortcut: Shortcut, rate: float) -> None:
        super().__init__()
        inner = width // _NARROWING
        self.first = _convolution(width_in, inner, kernel=1)
        self.second = _convolution(inner, inner, stride=stride)
        self.third = nn.Conv2d(inner, width, 1, bias=False)
        self.third_norm = BatchNormRelu(width)
        self.shortcut = _shortcut(shortcut, width_in, width, stride)
        self.drop = StochasticDepth(rate)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        return self.third_norm

    def forward(self, x: Tensor) -> Tensor:
        return _joined(x, self.third(self.second(self.first(x))), self.third_norm, self.shortcut, self.drop)


def _joined(x: Tensor, y: Tensor, norm: BatchNormRelu, shortcut: nn.Module | None, drop: StochasticDepth) -> Tensor:
    """What a block makes of its input x and of y, what comes out of its last convolution."""
    if shortcut is None:
        return norm(y)
    around: Tensor = shortcut(x)
    if drop.rate:
        return F.relu(drop(around, around + norm.alone(y)))
    return norm(y, around)


def _shortcut(kind: Shortcut, width_in: int, width: int, stride: int) -> nn.Module | None:
    """The way around a block; None for a plain network."""
    if kind == "none":
        return None
    around = nn.Sequential()
    if kind == "pad" and (width_in != width or stride > 1):
        around.append(_Padded(width - width_in, stride))
    if kind == "mean" and stride > 1:
        around.append(_HalvingMean())
    if kind in ("mean", "stride") and (width_in != width or (kind == "stride" and stride > 1)):
        around.append(nn.Conv2d(width_in, width, 1, stride=stride if kind == "stride" else 1, bias=False))
        around.append(nn.BatchNorm2d(width))
    return around


class _Padded(nn.Module):
    """Every `stride`-th place, and `more` channels of zeros (He et al. 2015, option A)."""

    def __init__(self, more: int, stride: int) -> None:
        super().__init__()
        self.more, self.stride = more, stride

    def forward(self, x_BDHW: Tensor) -> Tensor:
        return F.pad(x_BDHW[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))


class _HalvingMean(nn.Module):
    """The mean of 2x2 neighbours; at an odd edge the mean of those that are there."""

    def forward(self, x_BDHW: Tensor) -> Tensor:
        return F.avg_pool2d(x_BDHW, 2, ceil_mode=True, count_include_pad=False)


class GreyConvolution(nn.Conv2d):
    """A 3x3 convolution of one channel that learns in less than half of the time on a CPU: as one product.

    What convolves there is made for sixteen channels and more. Of one, the nine neighbours of each place [B·H·W, 9] are
    copied out at little cost, and a matrix product takes them. Elsewhere, and in evaluation, it is torch's own.
    """

    def __init__(self, width: int) -> None:
        super().__init__(1, width, 3, padding=1, bias=False)

    def forward(self, x_B1HW: Tensor) -> Tensor:
        if not self.training or x_B1HW.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x_B1HW)
        B, _, H, W = x_B1HW.shape
        half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        edged_BHW = F.pad(x_B1HW[:, 0].bfloat16() if half else x_B1HW[:, 0], (1, 1, 1, 1))
        near = torch.stack([edged_BHW[:, y : y + H, x : x + W] for y in range(3) for x in range(3)], dim=-1)
        return F.linear(near.flatten(0, 2), self.weight.flatten(1)).view(B, H, W, -1).permute(0, 3, 1, 2)


def _convolution(width_in: int, width: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """A convolution with normalisation and ReLU; the picture keeps its size, or its half, rounded up."""
    grey = (width_in, stride, kernel) == (1, 1, 3)
    return nn.Sequential(
        GreyConvolution(width)
        if grey
        else nn.Conv2d(width_in, width, kernel, stride=stride, padding=kernel // 2, bias=False),
        BatchNormRelu(width),
    )
