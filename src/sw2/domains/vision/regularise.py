"""Regularisers of picture networks: blocks left out at random, and pictures mixed with their labels.

Shapes: B pictures, C channels, H height, W width, K labels.

- *Stochastic depth*: in training each example goes around a block with probability r; where it does not, what the block
  adds counts 1 / (1 - r), so that the expected value is that of the whole network. r grows from 0 at the first block to
  the network's setting at the last.
- *Mixup*: each picture becomes s · itself + (1 - s) · another one of the batch, with s from Beta(a, a), and so does its
  label. *Cutmix*: a rectangle of another picture is pasted in, and the label is mixed as the areas are.

Choices: s is drawn for each picture and not once a batch, so that a batch holds weak and strong mixtures. Where a
rectangle is cut off at the edge, the label counts what is left of it. Draws come from the generator that is passed in,
but those of stochastic depth from torch's global one, as dropout's do: the trainer seeds it at every step. With both
mixtures on, each batch gets one of them at even chance.

Sources: Huang et al., "Deep Networks with Stochastic Depth" (2016), https://arxiv.org/abs/1603.09382, section 3; scaled
in training instead of afterwards, as everywhere today; Zhang et al., "mixup" (2017), https://arxiv.org/abs/1710.09412,
equation 2; Yun et al., "CutMix" (2019), https://arxiv.org/abs/1905.04899, equations 1 and 2.

Not here: dropout (torch's own), label smoothing (torch's cross entropy, `learn.label_smoothing`), what keeps the label
(`augment.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sw2.base.config import check_ranges

__all__ = ["MixConfig", "StochasticDepth", "depth_rates", "mix"]


@final
class StochasticDepth(nn.Module):
    """In training, goes around a block for some of the examples; see the top of this file.

    Args:
        rate: r, the share of the examples for which the block is left out, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Return what the block made of each example, or what it was given.

        Args:
            before: what went into the block [B, ...].
            after: what came out of it [B, ...], which is `before` plus something.
        """
        if not self.training or self.rate == 0.0:
            return after
        kept = torch.rand(len(after), device=after.device) >= self.rate
        scale = (kept / (1 - self.rate)).to(after.dtype).view(-1, *(1,) * (after.ndim - 1))
        return before + scale * (after - before)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def depth_rates(rate: float, blocks: int) -> list[float]:
    """The rate of each block, growing evenly from 0 to `rate`.

    >>> depth_rates(0.5, 3)
    [0.0, 0.25, 0.5]
    """
    return [rate * number / max(blocks - 1, 1) for number in range(blocks)]


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """How pictures are mixed with others of their batch.

    Args:
        mixup: a of Beta(a, a), from which the share of a picture in its mixture is drawn; 0 for no mixup. 0.2 mixes
            little, 1 evenly.
        cutmix: the same for the area that is not pasted over; 0 for no cutmix. 1 in the paper.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        wanted = "a number of at least 0"
        check_ranges("mix", self, {"mixup": (self.mixup >= 0, wanted), "cutmix": (self.cutmix >= 0, wanted)})


def mix(
    x_BCHW: Tensor, labels_B: Tensor, classes: int, config: MixConfig, draw: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Pictures mixed with others of the batch, and labels mixed as they are.

    Args:
        x_BCHW: float; not changed.
        labels_B: int64.
        classes: K.
        config: with mixup or cutmix above 0.
        draw: two calls with generators of one seed give the same mixtures.

    Returns:
        float [B, C, H, W], and the probability of each label, float32 [B, K].
    """
    B, _, H, W = x_BCHW.shape
    cut = bool(config.cutmix) and (not config.mixup or draw.random() < 0.5)
    power = config.cutmix if cut else config.mixup
    share_B = torch.from_numpy(draw.beta(power, power, B)).float()
    other_B = torch.from_numpy(draw.permutation(B))
    if cut:
        side_B = (1 - share_B).sqrt()
        rows_BH = _covered(side_B, torch.from_numpy(draw.random(B)), H)
        columns_BW = _covered(side_B, torch.from_numpy(draw.random(B)), W)
        share_B = 1 - rows_BH.float().mean(1) * columns_BW.float().mean(1)
        pasted_B1HW = (rows_BH[:, :, None] & columns_BW[:, None, :])[:, None]
        mixed_BCHW = torch.where(pasted_B1HW, x_BCHW[other_B], x_BCHW)
    else:
        share_B111 = share_B[:, None, None, None]
        mixed_BCHW = share_B111 * x_BCHW + (1 - share_B111) * x_BCHW[other_B]
    own_BK, their_BK = (F.one_hot(labels, classes).float() for labels in (labels_B, labels_B[other_B]))
    return mixed_BCHW, share_B[:, None] * own_BK + (1 - share_B[:, None]) * their_BK


def _covered(side_B: Tensor, centre_B: Tensor, extent: int) -> Tensor:
    """Which of `extent` places a stretch covers that is `side_B` of them long, around `centre_B`: bool [B, extent]."""
    length_B1 = (side_B * extent).round()[:, None]
    first_B1 = (centre_B[:, None] * extent - length_B1 / 2).round()
    place_E = torch.arange(extent)
    return (place_E >= first_B1) & (place_E < first_B1 + length_B1)
