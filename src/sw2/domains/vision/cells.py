"""CellNet: a network made of one small cell, repeated, and the cell is a setting: what a search can choose.

Shapes: B pictures, C channels, H height, W width, D width of the last cell, K labels.

    picture [B, C, H, W] -> stem -> cell -> half the size, wider -> cell -> … -> mean of places [B, D] -> logits [B, K]

    cell: place 0 is what comes in; places 1, 2, 3 are nodes. A node takes one earlier place through one operation:
          first = operation(0), second = operation(0 or 1), third = operation(0, 1 or 2)
          what comes out is the sum of the nodes that no other node takes

    conv3x3, conv5x5, separable3x3, separable5x5     ReLU, convolution (or one per channel and then 1x1), normalised
    max3x3, mean3x3                                  the largest or the mean of 3x3, normalised
    identity                                         nothing

So there are 7 · 7 · 7 · 2 · 3 = 2,058 cells, each named by five settings `model.cell.…`. `SharedCellNet` holds every
operation of every node once and is any of those networks, one at a time: `choose`. Its tensors have the names that
those of the chosen network have, so that a network can be cut out of it.

Choices:
- Every cell of a network is the same, as in the paper's search for cells; there is one a width, and what halves between
  them is fixed, where the paper searches a second cell for that.
- A node has one input and one operation, where the paper's have two of each: a space so small can be learned as a
  whole, one network after the other, and the search be held against the truth (`benchmarks/shared_weights.py`).
- A node's weights do not depend on which place it takes, as in the paper.
- In the shared network normalisation always uses the batch's own statistics: running ones would be a mixture of all
  networks and fit none. So what it says of a picture depends on the others in the batch.

Sources: Pham et al., "Efficient Neural Architecture Search via Parameter Sharing" (2018),
https://arxiv.org/abs/1802.03268, section 2.4; ReLU before the convolution and normalised pooling: Liu et al., "DARTS"
(2018), https://arxiv.org/abs/1806.09055; separable convolutions: Chollet (2016), https://arxiv.org/abs/1610.02357;
initial weights: He et al. (2015), https://arxiv.org/abs/1502.01852.

Not here: how it is searched (`sw2 search --strategy shared`), pretrained weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Final, Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from sw2.base.errors import UsageError
from sw2.core.model import Batch, Model, Outputs, Shared

__all__ = ["OPERATIONS", "Cell", "CellNet", "Config", "Operation", "SharedCellNet"]

Operation = Literal["conv3x3", "conv5x5", "separable3x3", "separable5x5", "max3x3", "mean3x3", "identity"]
OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)

_Normalisation = Callable[[int], nn.Module]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell; see the top of this file.

    Args:
        first, second, third: what each node does.
        second_from, third_from: the place that the node takes; the first takes place 0.
    """

    first: Operation = "conv3x3"
    second: Operation = "separable3x3"
    third: Operation = "identity"
    second_from: Literal[0, 1] = 1
    third_from: Literal[0, 1, 2] = 0

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Of each node, in order."""
        return (self.first, self.second, self.third)

    @property
    def places(self) -> tuple[int, ...]:
        """Which place each node takes."""
        return (0, self.second_from, self.third_from)


class CellNet(Model):
    """The network at the top of this file.

    `forward` takes "image" [B, C, H, W] and gives "logits" [B, K] and "features" [B, D], what the head decides by.

    The pictures are float and normalised, of any one height and width.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of a CellNet.

        Args:
            channels: of the picture, 1 grey or 3 colour.
            classes: K, the number of labels.
            stem_halves: how often the stem halves the picture: 0 suits tiny ones such as 8x8, 1 those of 28x28.
            widths: channels of each cell; every cell after the first sees half the size, rounded up.
            cell: the cell, the same at each width.
        """

        channels: int = 1
        classes: int = 10
        stem_halves: int = 1
        widths: tuple[int, ...] = (32, 64, 128)
        cell: Cell = field(default_factory=Cell)

        def __post_init__(self) -> None:
            if not self.widths or min(self.channels, self.classes, *self.widths) < 1 or self.stem_halves < 0:
                raise UsageError(
                    "This is not the shape of a CellNet.",
                    wanted="at least one width, all numbers at least 1, stem_halves at least 0",
                    got=self,
                )

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.net = _Network(config, [[operation] for operation in config.cell.operations], nn.BatchNorm2d)

    def forward(self, batch: Batch) -> Outputs:
        return self.net(batch["image"], self.config.cell)

    def layers(self) -> Sequence[tuple[str, nn.Module]]:
        """The stem, each cell with what halves before it, and the head, from input to output."""
        return self.net.layers()


Config = CellNet.Config


class SharedCellNet(Shared):
    """Every network that differs from `config` in its cell alone; `forward` is that of the chosen one."""

    settings: ClassVar = (
        *("model.cell.first", "model.cell.second", "model.cell.third"),
        *("model.cell.second_from", "model.cell.third_from"),
    )
    Config = CellNet.Config
    config: CellNet.Config

    def __init__(self, config: CellNet.Config) -> None:
        super().__init__()
        self.config, self.cell = config, config.cell
        statistics_of_the_batch = partial(nn.BatchNorm2d, track_running_stats=False)
        self.net = _Network(config, [OPERATIONS] * len(config.cell.operations), statistics_of_the_batch)

    def choose(self, config: CellNet.Config) -> None:
        self.cell = config.cell

    def forward(self, batch: Batch) -> Outputs:
        return self.net(batch["image"], self.cell)

    def layers(self) -> Sequence[tuple[str, nn.Module]]:
        """As those of each of its networks."""
        return self.net.layers()


class _Network(nn.Module):
    """Stem, cells and head, with the operations that are held of each node; called with the cell that is computed."""

    def __init__(self, config: Config, held: Sequence[Sequence[Operation]], normalised: _Normalisation) -> None:
        super().__init__()
        width = config.widths[0]
        self.stem = nn.Sequential(_convolution(config.channels, width, 3, 1), normalised(width))
        for _ in range(config.stem_halves):
            self.stem.extend((nn.ReLU(), _convolution(width, width, 3, 2), normalised(width)))
        self.body = nn.ModuleList()
        for number, wide in enumerate(config.widths):
            self.body.append(_Stage(width, wide, held, normalised, halves=number > 0))
            width = wide
        self.head = nn.Linear(width, config.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, cell: Cell) -> dict[str, Tensor]:
        x = self.stem(x)
        for stage in self.body:
            x = stage(x, cell)
        features_BD = F.relu(x).mean((2, 3))
        return {"logits": self.head(features_BD), "features": features_BD}

    def layers(self) -> Sequence[tuple[str, nn.Module]]:
        cells = [(f"cell{number}", stage) for number, stage in enumerate(self.body, start=1)]
        return [("stem", self.stem), *cells, ("head", self.head)]


class _Stage(nn.Module):
    """One cell, behind what halves and widens where asked: [B, width_in, H, W] to [B, width, H, W] or half of it."""

    def __init__(
        self,
        width_in: int,
        width: int,
        held: Sequence[Sequence[Operation]],
        normalised: _Normalisation,
        *,
        halves: bool,
    ) -> None:
        super().__init__()
        self.before = nn.Sequential()
        if halves:
            halved = nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)
            self.before.extend((nn.ReLU(), halved, _convolution(width_in, width, 1, 1), normalised(width)))
        self.nodes = nn.ModuleList(
            nn.ModuleDict({operation: _operation(operation, width, normalised) for operation in each}) for each in held
        )

    def forward(self, x: Tensor, cell: Cell) -> Tensor:
        places = [self.before(x)]
        for node, operation, taken in zip(self.nodes, cell.operations, cell.places, strict=True):
            assert isinstance(node, nn.ModuleDict)
            places.append(node[operation](places[taken]))
        loose = [each for place, each in enumerate(places) if place not in cell.places]
        found = loose[0]
        for each in loose[1:]:
            found = found + each
        return found


def _operation(name: Operation, width: int, normalised: _Normalisation) -> nn.Module:
    """An operation that keeps width and size."""
    match name:
        case "identity":
            return nn.Identity()
        case "max3x3":
            return nn.Sequential(nn.MaxPool2d(3, 1, padding=1), normalised(width))
        case "mean3x3":
            return nn.Sequential(nn.AvgPool2d(3, 1, padding=1, count_include_pad=False), normalised(width))
    kernel = int(name[-1])
    if name.startswith("conv"):
        return nn.Sequential(nn.ReLU(), _convolution(width, width, kernel, 1), normalised(width))
    each = _convolution(width, width, kernel, 1, groups=width)
    return nn.Sequential(nn.ReLU(), each, _convolution(width, width, 1, 1), normalised(width))


def _convolution(width_in: int, width: int, kernel: int, stride: int, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the size, or halves it, rounding up."""
    return nn.Conv2d(width_in, width, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
