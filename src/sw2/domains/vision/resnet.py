"""ResNet for small pictures (8x8 to 64x64): a few residual stages, sized for minutes on a CPU.

Shapes: B pictures, C channels, H height, W width, K labels, D width of the last stage.

    picture [B, C, H, W] -> stem -> stage 1 -> stage 2 (half the size) -> … -> mean over places [B, D] -> logits [B, K]

Choices:
- The stem sees every pixel with a narrow 3x3 convolution and halves the picture with a second, strided one: most of
  the time of a small ResNet would otherwise go into the first, largest maps. A strided first convolution alone is
  faster still, but learned less from as many pictures.
- The last batch normalisation of each branch starts at zero, so a new network is as shallow as its shortcuts and deep
  ones train from the first step (Goyal et al.).
- A shortcut that halves the picture averages 2x2 neighbours before its 1x1 convolution, where a strided one would
  look at a quarter of the values (He et al. 2019, ResNet-D).
- No bias in front of a normalisation; no dropout. Channels-last memory is kept from the picture to the mean.

Sources: He et al., "Deep Residual Learning" (2015), https://arxiv.org/abs/1512.03385; He et al., "Delving Deep into
Rectifiers" (2015), https://arxiv.org/abs/1502.01852, for the initial weights; Goyal et al. (2017),
https://arxiv.org/abs/1706.02677, section 5.1; T. He et al., "Bag of Tricks" (2019), https://arxiv.org/abs/1812.01187.

Not here: the bottleneck blocks of ResNet-50 and up, pretrained weights (see `efficientnet.py`), normalised pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from sw2.base.errors import UsageError
from sw2.core.model import Batch, Model, Outputs

__all__ = ["Config", "ResNet"]


class ResNet(Model):
    """The network at the top of this file; `forward` takes "image" [B, C, H, W] and gives "logits" [B, K].

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
        """

        channels: int = 1
        classes: int = 10
        stem: int = 24
        stem_halves: int = 1
        widths: tuple[int, ...] = (48, 96, 192)
        blocks: tuple[int, ...] = (1, 1, 1)

        def __post_init__(self) -> None:
            numbers = (self.channels, self.classes, self.stem, *self.widths, *self.blocks)
            if len(self.widths) != len(self.blocks) or not self.widths or min(numbers) < 1 or self.stem_halves < 0:
                raise UsageError(
                    "This is not the shape of a ResNet.",
                    wanted="as many widths as blocks, all numbers at least 1, stem_halves at least 0",
                    got=self,
                )

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        stem: list[nn.Module] = [_convolution(config.channels, config.stem)]
        width = config.stem
        for _ in range(config.stem_halves):
            stem += [_convolution(width, config.widths[0], stride=2)]
            width = config.widths[0]
        self.stem = nn.Sequential(*stem)
        self.body = nn.ModuleList()
        for number, (wide, depth) in enumerate(zip(config.widths, config.blocks, strict=True)):
            stage = nn.Sequential()
            for place in range(depth):
                stage.append(_Residual(width, wide, stride=2 if number and not place else 1))
                width = wide
            self.body.append(stage)
        self.head = nn.Linear(width, config.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, _Residual):
                nn.init.zeros_(module.second_norm.weight)

    def forward(self, batch: Batch) -> Outputs:
        x_BDHW = self.stem(batch["image"])
        for stage in self.body:
            x_BDHW = stage(x_BDHW)
        return {"logits": self.head(x_BDHW.mean((2, 3)))}

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


class _Residual(nn.Module):
    """y = relu(shortcut(x) + norm(conv(relu(norm(conv(x))))))."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(width_in, width, stride=stride)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(_HalvingMean())
        if width_in != width:
            self.shortcut.append(nn.Conv2d(width_in, width, 1, bias=False))
            self.shortcut.append(nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.second_norm(self.second(self.first(x))))


class _HalvingMean(nn.Module):
    """The mean of 2x2 neighbours; at an odd edge the mean of those that are there."""

    def forward(self, x_BDHW: Tensor) -> Tensor:
        return F.avg_pool2d(x_BDHW, 2, ceil_mode=True, count_include_pad=False)


def _convolution(width_in: int, width: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution with normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    )
