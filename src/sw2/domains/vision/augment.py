"""Augmentation: the same pictures in other places, mirrored, or with a hole, as whole batches of tensors.

Shapes: B pictures, C channels, H height, W width.

Choices: works on uint8 and float alike and keeps the type, so a cache of uint8 is augmented before it is normalised.
Shift and mirror are one gather for the whole batch. What a shift moves in at the edge repeats the edge: it is right for
black and white backgrounds alike, and photographs get no frame. Every draw comes from the generator that is passed in
(see `base.seed`), in a fixed order and number whatever is drawn.

Sources: pad and crop with mirroring, as in He et al. (2015), https://arxiv.org/abs/1512.03385, section 4.2; erasing:
DeVries and Taylor, "Cutout" (2017), https://arxiv.org/abs/1708.04552.

Not here: rotation, colour, mixing of pictures. They pay in long trainings, which minutes are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sw2.base.errors import UsageError

__all__ = ["Config", "augment"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """What may be done to a picture without changing its label.

    Args:
        shift: up to so many pixels in each direction.
        mirror: left and right swapped for every second picture; wrong for letters, digits and maps.
        erase: the side of a square that is replaced by the mean of its picture, in pixels; 0 for none.
    """

    shift: int = 2
    mirror: bool = False
    erase: int = 0

    def __post_init__(self) -> None:
        if self.shift < 0 or self.erase < 0:
            raise UsageError("A number of pixels is negative.", wanted="shift and erase of at least 0", got=self)


def augment(x_BCHW: Tensor, config: Config, generator: torch.Generator) -> Tensor:
    """Pictures moved, mirrored and erased at random.

    Each picture is moved by (dy, dx), uniform over the whole numbers -shift..shift; then mirrored with probability
    1/2; then a square around a uniform place loses its content.

    Args:
        x_BCHW: [B, C, H, W], uint8 or float; not changed.
        config: what to do.
        generator: on the CPU; two calls with generators of one seed give the same pictures.

    Returns:
        [B, C, H, W] of the same type, in channels-last memory when moved or mirrored.
    """
    number, _, height, width = x_BCHW.shape
    if config.shift or config.mirror:
        x_BCHW = _moved(x_BCHW, config, generator)
    if config.erase:
        hole_BH = _hole(number, height, config.erase, generator).to(x_BCHW.device)
        hole_BW = _hole(number, width, config.erase, generator).to(x_BCHW.device)
        mean_BC11 = x_BCHW.float().mean((2, 3), keepdim=True).to(x_BCHW.dtype)
        x_BCHW = torch.where(hole_BH[:, None, :, None] & hole_BW[:, None, None, :], mean_BC11, x_BCHW)
    return x_BCHW


def _moved(x_BCHW: Tensor, config: Config, generator: torch.Generator) -> Tensor:
    """Shift and mirror: pixel (y, x) of the result is pixel (rows[y], columns[x]) of the picture."""
    number, _, height, width = x_BCHW.shape
    by_B2 = torch.randint(-config.shift, config.shift + 1, (number, 2), generator=generator)
    rows_BH = (torch.arange(height) + by_B2[:, :1]).clamp(0, height - 1)
    columns_BW = (torch.arange(width) + by_B2[:, 1:]).clamp(0, width - 1)
    if config.mirror:
        mirrored_B1 = torch.rand((number, 1), generator=generator) < 0.5
        columns_BW = torch.where(mirrored_B1, columns_BW.flip(1), columns_BW)
    device = x_BCHW.device
    picture_B11 = torch.arange(number, device=device)[:, None, None]
    x_BHWC = x_BCHW.permute(0, 2, 3, 1)
    moved_BHWC = x_BHWC[picture_B11, rows_BH.to(device)[:, :, None], columns_BW.to(device)[:, None, :]]
    return moved_BHWC.permute(0, 3, 1, 2)


def _hole(number: int, extent: int, side: int, generator: torch.Generator) -> Tensor:
    """For each picture, which of `extent` places along one axis the square of `side` covers: bool [B, extent]."""
    first_B1 = torch.randint(0, extent, (number, 1), generator=generator) - side // 2
    place_E = torch.arange(extent)
    return (place_E >= first_B1) & (place_E < first_B1 + side)
