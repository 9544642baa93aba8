"""What the picture itself says about prompts, without a weight: alike colours, and ways that cross no edge.

Shapes: B pictures, K prompts of each (rows go picture by picture, so that there are BK), P places or clicks of a
prompt, H = W pixels a side of a mask, N = H W pixels, C colours of a palette.

    near in colour   exp(-|colour - colour of the click|² / 2σ²) of the nearest click in colour, for two σ
    colour model     the share of object among the pixels of each colour, as the earlier answer has it, corrected at
                     the clicks; before there is an answer, as a wide bump at the positive clicks has it
    geodesic         exp(-d / τ) for two τ, where d is the length of the shortest way to a click, and a step over an
                     edge is as long as the edge is high

These are the two things that segmentation without learning lives on: GrabCut's colour models of object and ground, and
distances that edges lengthen. Drawn as maps, they spare a small network from finding them, and it learns how far each
is to be trusted.

Choices: the colour model is no mixture of Gaussians, as the same would have to be fitted again at each click: every
pixel belongs in parts to the colours of a palette, which are those of 64 of its own pixels, so that a model is two
products with one matrix that is made once. Colours are lightness and two differences, each about as far apart as the
eye has them, without the exact bends of Lab. Shortest ways are found by sweeps over rows and columns, to and fro,
twice; ways with more turns than that come out a little long.

Sources: Rother et al. 2004 (GrabCut), https://doi.org/10.1145/1015706.1015720; Wang et al. 2018 (DeepIGeoS),
https://arxiv.org/abs/1707.00652, section 3.1, for geodesic maps as inputs of a network; Toivanen 1996,
https://doi.org/10.1016/0167-8655(96)00010-4, for the sweeps.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["MAPS", "colours", "geodesic", "maps", "palette"]

_DEVIATIONS: Final = (0.08, 0.25)  # of colours, where 1 is half of the way from black to white
_PALETTE_DEVIATION: Final = 0.06
_PALETTE_SIDE: Final = 8
_REACHES: Final = (0.3, 1.2)  # τ
_STEP: Final = 0.02  # what a step costs where there is no edge
_SWEEPS: Final = 2
_FAR: Final = 1e4
MAPS: Final = 2 * len(_DEVIATIONS) + 1 + 2 * len(_REACHES)


def colours(image_B3SS: Tensor) -> Tensor:
    """Lightness, red less green, yellow less blue at half the size: [B, 3, S/2, S/2]; about -1 to 1."""
    red, green, blue = F.avg_pool2d(image_B3SS.float(), 2).unbind(1)
    return torch.stack(((red + green + blue) / 3, (red - green) / 2, (red + green) / 4 - blue / 2), dim=1)


def palette(colours_B3HH: Tensor) -> Tensor:
    """How much each pixel is of each colour of the palette: [B, N, C], rows sum to 1."""
    side = colours_B3HH.shape[-1]
    kept = ((torch.arange(_PALETTE_SIDE, device=colours_B3HH.device) + 0.5) * side / _PALETTE_SIDE).long()
    some_B3C = colours_B3HH[:, :, kept][:, :, :, kept].flatten(2)
    all_B3N = colours_B3HH.flatten(2)
    # -|a - b|² but for what is the same for all colours of a pixel.
    alike_BNC = 2 * all_B3N.transpose(1, 2) @ some_B3C - some_B3C.square().sum(1, keepdim=True)
    return (alike_BNC / (2 * _PALETTE_DEVIATION**2)).softmax(2)


def maps(
    colours_B3HH: Tensor, palette_BNC: Tensor, places_XP: Tensor, given_2XP: Tensor, believed_XN: Tensor
) -> Tensor:
    """The maps at the top of this file: [BK, MAPS, H, H], each from 0 to 1.

    Args:
        colours_B3HH, palette_BNC: of the pictures.
        places_XP: int64 [BK, P], numbers of pixels, row by row.
        given_2XP: bool [2, BK, P], which of the places are positive clicks, which negative ones.
        believed_XN: float [BK, N], the share of object in each pixel as it is thought to be.
    """
    B, _, side, _ = colours_B3HH.shape
    X, P = places_XP.shape
    each_B3N = colours_B3HH.flatten(2)
    clicked_B3KP = each_B3N.gather(2, places_XP.view(B, 1, -1).expand(-1, 3, -1)).view(B, 3, -1, P)
    away_BKPN = (clicked_B3KP[..., None] - each_B3N[:, :, None, None]).square().sum(1)
    away_XPN = away_BKPN.view(X, P, -1)
    nearest_2XN = [away_XPN.masked_fill(~given_XP[..., None], _FAR).amin(1) for given_XP in given_2XP]
    found = [(-each / (2 * deviation**2)).exp() for each in nearest_2XN for deviation in _DEVIATIONS]

    believed_BNK = believed_XN.view(B, -1, side * side).transpose(1, 2)
    of_BCK = palette_BNC.transpose(1, 2) @ believed_BNK / (palette_BNC.sum(1)[..., None] + 1e-6)
    found.append((palette_BNC @ of_BCK).transpose(1, 2).reshape(X, -1))

    # Ways are sought at half the size: they need no exact edge, and there are half as many rows.
    half = side // 2
    halved = places_XP // side // 2 * half + places_XP % side // 2
    start_2XM = [
        torch.full((X, half * half + 1), _FAR, device=places_XP.device).scatter(
            1, halved.masked_fill(~given_XP, half * half), 0.0
        )[:, :-1]
        for given_XP in given_2XP
    ]
    start = torch.stack(start_2XM, dim=1).view(B, -1, half, half)
    ways = geodesic(start, F.avg_pool2d(colours_B3HH, 2)).view(X, 2, half, half)
    reached = torch.cat([(-ways / reach).exp() for reach in _REACHES], dim=1)
    wide = F.interpolate(reached, scale_factor=2.0, mode="bilinear")
    return torch.cat((torch.stack(found, dim=1).unflatten(2, (side, side)), wide), dim=1)


def geodesic(start_BKHH: Tensor, colours_B3HH: Tensor) -> Tensor:
    """Lengths of the shortest ways from where `start` is 0, [B, K, H, H]; never longer than `start` is.

    A step to one of the eight neighbours is as long as their colours are apart, and 0.02 for each side of a pixel.
    """
    found = start_BKHH
    for _ in range(_SWEEPS):
        for turned in (False, True):
            for back in (False, True):
                found = _turn(_down(_turn(found, turned, back), _turn(colours_B3HH, turned, back)), turned, back)
    return found


def _turn(x: Tensor, turned: bool, back: bool) -> Tensor:
    """What is to be swept down, and the same again to undo it."""
    if turned and back:
        return x.transpose(2, 3).flip(2, 3)
    return x.transpose(2, 3) if turned else x.flip(2) if back else x


def _down(found_BKHW: Tensor, colours_B3HW: Tensor) -> Tensor:
    """One sweep from the first row to the last: each pixel is reached from the three above it."""
    width = colours_B3HW.shape[3]
    before = F.pad(colours_B3HW[:, :, :-1], (1, 1), value=_FAR)
    lengths = [
        (before[..., shift : shift + width] - colours_B3HW[:, :, 1:]).square().sum(1).sqrt()[:, None]
        + _STEP * (1 if shift == 1 else 2**0.5)
        for shift in range(3)
    ]
    left, straight, right = (each.unbind(2) for each in lengths)
    rows = list(found_BKHW.unbind(2))
    for y in range(1, len(rows)):
        above = rows[y - 1]
        row = torch.minimum(rows[y], above + straight[y - 1])
        beside = F.pad(above, (1, 1), value=_FAR)
        row = torch.minimum(row, beside[..., :width] + left[y - 1])
        rows[y] = torch.minimum(row, beside[..., 2:] + right[y - 1])
    return torch.stack(rows, dim=2)
