"""Clicks: where the next one goes, and how good a mask is.

Shapes: H height, W width, B pictures, S pixels a side.

The protocol by which prompted segmenters are compared: the first click is the place of the object that is farthest
from its border, each further one the place of the wrong pixels that is farthest from theirs; it is positive where
something of the object is missing, negative where too much is taken. What lies outside the picture counts as border.

Learning draws a wrong pixel at random instead, each equally likely, as the paper does.

Sources: Kirillov et al. 2023, https://arxiv.org/abs/2304.02643, appendix D.1; Sofiiuk et al. 2021 (RITM),
https://arxiv.org/abs/2102.06583, section 4, for the protocol.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sw2.base.errors import DataError
from sw2.base.names import missing_extra

__all__ = ["farthest", "iou", "next_click", "random_clicks"]

_DEPTHS: Final = 12
_DEEP: Final = 3


def farthest(region_HW: np.ndarray) -> tuple[float, int, int]:
    """The place of a region that is farthest from what is no part of it: (distance in pixels, x, y).

    The distance is 0 where there is no region; of equally far places the first counts, row by row.
    """
    try:
        from scipy.ndimage import distance_transform_edt
    except ModuleNotFoundError as error:
        raise missing_extra("scipy") from error
    distance_HW = distance_transform_edt(np.pad(region_HW, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance_HW.argmax()), distance_HW.shape)
    return float(distance_HW[y, x]), int(x), int(y)


def next_click(target_HW: np.ndarray, mask_HW: np.ndarray) -> tuple[int, int, int]:
    """The next click of the protocol: (x, y, 1 or 0).

    Args:
        target_HW: bool, the object.
        mask_HW: bool, the present answer; nothing where there is none yet. Where it is right everywhere, the click goes
            to the middle of the object again.

    Raises:
        DataError: there is no object.
    """
    if not target_HW.any():
        raise DataError("There is nothing to click at.", wanted="a mask of at least one pixel", got="an empty mask")
    missing, too_much = farthest(target_HW & ~mask_HW), farthest(mask_HW & ~target_HW)
    if missing[0] == too_much[0] == 0:
        missing = farthest(target_HW)
    return (*missing[1:], 1) if missing[0] >= too_much[0] else (*too_much[1:], 0)


def random_clicks(target_BHH: Tensor, mask_BHH: Tensor, draw_B: Tensor) -> tuple[Tensor, Tensor]:
    """A wrong pixel of each picture, deep in what is wrong; one of the object's where nothing is.

    Args:
        target_BHH, mask_BHH: bool, on one device.
        draw_B: uniform in [0, 1), which decides.

    Returns:
        The middles of the pixels divided by the side, float [B, 2], x before y, and int64 [B], 1 where it is part of
        the object and 0 where not.
    """
    wrong_BHH = target_BHH ^ mask_BHH
    nothing_B = ~wrong_BHH.flatten(1).any(1)
    upto_BN = _depths(torch.where(nothing_B[:, None, None], target_BHH, wrong_BHH)).flatten(1).pow(_DEEP).cumsum(1)
    all_B = upto_BN[:, -1]
    wanted_B = torch.minimum(draw_B * all_B, torch.nextafter(all_B, torch.zeros_like(all_B)))
    place_B = (upto_BN <= wanted_B[:, None]).sum(1).clamp(max=upto_BN.shape[1] - 1)
    side = target_BHH.shape[-1]
    points_B2 = (torch.stack((place_B % side, place_B // side), dim=1) + 0.5) / side
    return points_B2, target_BHH.flatten(1).gather(1, place_B[:, None])[:, 0].long()


def _depths(region_BHH: Tensor) -> Tensor:
    """How many steps, to any of eight neighbours, a pixel is from what is no part of the region, counted to 12."""
    left = region_BHH
    found = left.float()
    for _ in range(_DEPTHS - 1):
        wide = F.pad(left, (1, 1, 1, 1))
        rows = wide[:, :-2] & wide[:, 1:-1] & wide[:, 2:]
        left = rows[..., :-2] & rows[..., 1:-1] & rows[..., 2:]
        found += left
    return found


def iou(mask: np.ndarray, target: np.ndarray) -> float:
    """Intersection over union of two masks of one shape; 1 where both are empty."""
    union = np.count_nonzero(mask | target)
    return np.count_nonzero(mask & target) / union if union else 1.0
