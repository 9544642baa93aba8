"""EfficientNet-Lite0: a network for colour pictures of 224x224 that comes with what it learned from ImageNet.

Shapes: B pictures, H height, W width, E expanded width, D = 1280 features, K labels.

    picture [B, 3, H, W] -> stem (1/2) -> 16 inverted residual blocks in 7 stages (1/32) -> head [B, 1280, H/32, W/32]
    -> mean over places = features [B, 1280] -> classifier = logits [B, K]

An inverted residual block widens each place (1x1), looks around in each channel alone (k x k, depthwise) and narrows
again (1x1, no activation), with a shortcut where sizes agree. "Lite" means: no squeeze-and-excitation, and ReLU6 for
swish, both for the sake of small processors and few bits.

Choices: padding is "same" as TensorFlow has it, from which the weights come. At stride 2 that puts the odd row of zeros
at the end, where PyTorch's own padding would put it in front and show the weights a picture moved by a pixel.
Batch normalisation keeps the original epsilon 1e-3 and momentum 0.99 (0.01 as PyTorch counts).
The original training also dropped whole blocks and features at random. That is left out: the forward holds no
randomness, and regularising a fine-tuning is left to augmentation and weight decay.

Sources: Tan and Le, "EfficientNet" (2019), https://arxiv.org/abs/1905.11946; Sandler et al., "MobileNetV2" (2018),
https://arxiv.org/abs/1801.04381; the Lite variants:
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.

Not here: the weights (`weights.py`), the larger Lite1 to Lite4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from sw2.base.errors import UsageError
from sw2.core.model import Batch, Model, Outputs

__all__ = ["FEATURES", "Config", "EfficientNetLite"]

FEATURES = 1280

# (blocks, kernel, stride of the first block, expansion, width) of each stage: table 1 of Tan and Le.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM = 32


class EfficientNetLite(Model):
    """The network at the top of this file.

    `forward` takes "image", float [B, 3, H, W] normalised as `weights.MEAN` and `weights.STD` say, of at least 32 x 32
    pixels, and gives "logits" [B, K] and "features" [B, 1280].
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """EfficientNet-Lite0 has one shape.

        Args:
            classes: K, the number of labels; ImageNet has 1000.
        """

        classes: int = 1000

        def __post_init__(self) -> None:
            if self.classes < 1:
                raise UsageError("A classifier needs labels.", wanted="classes of at least 1", got=self.classes)

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.stem = _Convolution(3, _STEM, kernel=3, stride=2)
        self.body = nn.ModuleList()
        width = _STEM
        for depth, kernel, stride, expansion, wide in _STAGES:
            stage = nn.Sequential()
            for place in range(depth):
                stage.append(_InvertedResidual(width, wide, kernel, 1 if place else stride, expansion))
                width = wide
            self.body.append(stage)
        self.head = _Convolution(width, FEATURES)
        self.classifier = nn.Linear(FEATURES, config.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # He's rule with the outputs that one input reaches: a depthwise kernel reaches only its own channel.
                fan = module.weight.shape[0] // module.groups * module.weight[0, 0].numel()
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan))
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, batch: Batch) -> Outputs:
        x_BEHW = self.stem(batch["image"])
        for stage in self.body:
            x_BEHW = stage(x_BEHW)
        features_BD = self.head(x_BEHW).mean((2, 3))
        return {"logits": self.classifier(features_BD), "features": features_BD}

    def layers(self) -> Sequence[tuple[str, nn.Module]]:
        """The stem, each block, the head and the classifier, from input to output."""
        blocks = [
            (f"stage{number}.block{place}", block)
            for number, stage in enumerate(self.body, start=1)
            for place, block in enumerate(stage.children(), start=1)
        ]
        return [("stem", self.stem), *blocks, ("head", self.head), ("classifier", self.classifier)]

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        """What is frozen or given a learning rate together, from input to output; every parameter is in one.

        Frozen batch normalisation must also be put into `eval()`, else its running statistics go on changing.
        """
        body = [(f"stage{number}", stage) for number, stage in enumerate(self.body, start=1)]
        return [("stem", self.stem), *body, ("head", self.head), ("classifier", self.classifier)]


Config = EfficientNetLite.Config


class _Convolution(nn.Module):
    """Convolution with TensorFlow's padding, batch normalisation and ReLU6."""

    def __init__(self, width_in: int, width: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)

    def forward(self, x_BEHW: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(_same(x_BEHW, self.conv.kernel_size[0], self.conv.stride[0])))
        return F.relu6(y)


class _InvertedResidual(nn.Module):
    """Widen, look around, narrow; added to the input where the sizes agree."""

    def __init__(self, width_in: int, width: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        expanded = width_in * expansion
        self.expand = _Convolution(width_in, expanded) if expansion > 1 else nn.Identity()
        self.depthwise = _Convolution(expanded, expanded, kernel, stride, groups=expanded)
        self.project = nn.Conv2d(expanded, width, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)
        self.adds = stride == 1 and width_in == width

    def forward(self, x_BEHW: Tensor) -> Tensor:
        y: Tensor = self.project_norm(self.project(self.depthwise(self.expand(x_BEHW))))
        return x_BEHW + y if self.adds else y


def _same(x_BEHW: Tensor, kernel: int, stride: int) -> Tensor:
    """Zeros around the picture so that n places become ceil(n / stride), the odd one at the end."""
    bottom, right = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x_BEHW.shape[-2:])
    return F.pad(x_BEHW, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2))
