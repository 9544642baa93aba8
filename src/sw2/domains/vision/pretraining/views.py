"""Views: the same picture cut out elsewhere, mirrored, in other tones; what they share is what the picture is of.

    crop      a rectangle of 20 to 100 % of the area and of sides 3:4 to 4:3, brought back to the picture's size
    mirror    left and right swapped for every second picture (`augment`)
    tone      contrast, then brightness, each times a factor from 0.6 to 1.4
    colour    distances from grey times such a factor; every fifth picture all grey. Colour pictures only

Choices: on whole batches of tensors, in grey values from 0 to 255. Every draw is made from the generator that is passed
in, in a fixed order and number whatever is switched on. Cutting out is one bilinear look-up for the whole batch; where
it makes a picture smaller, pixels are left out and not averaged, which is little at such scales.

Source: Chen et al. 2020, https://arxiv.org/abs/2002.05709, section 3 and appendix A, whose table of pairs of
augmentations says that crop and colour are what counts; strengths between those for ImageNet and those for CIFAR-10.
Not taken over: blur (pictures of 28x28 have nothing to lose), turning the hue.

Shapes: B pictures, C channels, S pixels a side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from sw2.base.config import check_ranges
from sw2.domains.vision.augment import Config as AugmentConfig
from sw2.domains.vision.augment import augment

__all__ = ["ViewConfig", "view"]

_WIDEST: Final = 4 / 3
_LUMA: Final = (0.299, 0.587, 0.114)  # BT.601, as in `parts.prep.pictures`


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """What makes two views of a picture differ.

    Args:
        crop: the least share of the area that is cut out, in (0, 1]; 1 keeps whole pictures.
        tone: contrast, brightness and colour are multiplied by 1 - tone to 1 + tone, in [0, 1).
        grey: the share of colour pictures that lose their colours, in [0, 1].
        augment: shifts, mirrors and holes; a crop shifts by itself.
    """

    crop: float = 0.2
    tone: float = 0.4
    grey: float = 0.2
    augment: AugmentConfig = field(default_factory=lambda: AugmentConfig(shift=0))

    def __post_init__(self) -> None:
        allowed = {
            "crop": (0 < self.crop <= 1, "a number in (0, 1]"),
            "tone": (0 <= self.tone < 1, "a number in [0, 1)"),
            "grey": (0 <= self.grey <= 1, "a number in [0, 1]"),
        }
        check_ranges("views", self, allowed)


def view(x_BCSS: Tensor, config: ViewConfig, draw: torch.Generator) -> Tensor:
    """One view of each picture.

    Args:
        x_BCSS: in grey values from 0 to 255, of any type; not changed.
        config: how views differ.
        draw: on the CPU; two calls with generators of one seed give the same views.

    Returns:
        float32 [B, C, S, S], from 0 to 255.
    """
    number, channels = x_BCSS.shape[:2]
    cut_BCSS = _crop(x_BCSS.float(), config.crop, torch.rand((4, number), generator=draw))
    cut_BCSS = augment(cut_BCSS, config.augment, draw)
    factor_3B111 = 1 + config.tone * (2 * torch.rand((3, number, 1, 1, 1), generator=draw) - 1)
    greyed_B111 = torch.rand((number, 1, 1, 1), generator=draw) < config.grey
    contrast, brightness, colour = factor_3B111
    mean_B111 = cut_BCSS.mean((1, 2, 3), keepdim=True)
    cut_BCSS = ((cut_BCSS - mean_B111) * contrast + mean_B111) * brightness
    if channels == 3:
        luma_BSS = (cut_BCSS * torch.tensor(_LUMA).view(3, 1, 1)).sum(1)
        grey_B1SS = luma_BSS[:, None]
        cut_BCSS = grey_B1SS + (cut_BCSS - grey_B1SS) * torch.where(greyed_B111, 0.0, colour)
    return cut_BCSS.clamp(0, 255)


def _crop(x_BCSS: Tensor, least: float, chance_4B: Tensor) -> Tensor:
    """A rectangle of each picture at the picture's size; area, shape and place follow from four chances in [0, 1)."""
    if least == 1:
        return x_BCSS
    area, shape, down, right = chance_4B
    share_B = least + (1 - least) * area
    ratio_B = torch.exp(math.log(_WIDEST) * (2 * shape - 1))
    high_B, wide_B = (share_B / ratio_B).sqrt().clamp(max=1), (share_B * ratio_B).sqrt().clamp(max=1)
    # Places run from -1 to 1 over the picture, so a rectangle of height h may be moved by 1 - h either way.
    nothing_B = torch.zeros_like(area)
    across = torch.stack((wide_B, nothing_B, (1 - wide_B) * (2 * right - 1)), dim=1)
    along = torch.stack((nothing_B, high_B, (1 - high_B) * (2 * down - 1)), dim=1)
    grid = F.affine_grid(torch.stack((across, along), dim=1), list(x_BCSS.shape), align_corners=False)
    return F.grid_sample(x_BCSS, grid, mode="bilinear", padding_mode="border", align_corners=False)
