"""A segmenter: an encoder that sees a picture once, and a light decoder that answers each click.

Shapes: B pictures, K prompts of each (a row of prompts is X = BK of them, picture by picture), S pixels a side (a
multiple of 16), D width, P places of a prompt (clicks, and two corners for a box), M = 3 masks, T = 1 + M + P tokens,
N = (S / 8)² places, H = S / 2 pixels a side of a mask, E channels of a head.

    image [B, 3, S, S] -> EfficientNet-Lite0, four of its depths:
        1/2 [16], 1/4 [24], 1/8 [40], 1/16 [112] -> "coarse" [B, D, S/8, S/8], the two last in one
                                                   "middle" [B, D/2, S/4, S/4], "fine" [B, D/4, H, H]
                       -> "colours" [B, 3, H, H] and "palette" [B, H², C], see `evidence`
    points [X, P, 2], labels [X, P] -> waves of the place + a learned vector for the label
                                       + what "coarse" has where a click is             -> tokens [X, P, D]
    maps   [X, 22, H, H]: the logits of an earlier answer; a narrow and a wide bump at each click, what lies in the box;
           what colours and edges say of the clicks (`evidence`); how much each place looks like a clicked one
           -> convolutions at 1/2, 1/4 and 1/8 -> added to "fine", "middle" and "coarse"
    tokens and places -> two blocks: a convolution over the places; tokens among themselves; tokens look at places; MLP;
                         places look at tokens -> tokens look at places once more
    places, up to 1/4 and 1/2 with "middle", "fine" and the maps' convolutions added, times what each mask's token says
                      -> "masks" [X, M, H, H]
    the first token, each mask's token, and what of a mask goes with being good -> "scores" [X, M], the IoU that each
                         mask is thought to have

Three masks, since one click may mean the wheel, the car or the row of cars; the score says which of them to show.

Choices: positions are the sines and cosines of random directions, drawn once and kept with the weights. Where there are
fewer than P prompts the rest carry the label -1 and are hidden from every look, so prompts have no order and padding
changes nothing. Prompts come in twice, as tokens as in the paper and drawn as maps as interactive segmenters before it
had them: where a click is has then not to be found out by attention, for which minutes of learning are short. For the
same reason the maps hold what needs no learning, and reach every depth of the decoder: the finest ones see colours and
edges at the size of the mask. The encoder is small enough to learn on a processor, and may begin with ImageNet's
weights (`--from efficientnet-lite0`).

Sources: Kirillov et al., "Segment Anything" (2023), https://arxiv.org/abs/2304.02643, section 3 and appendix A; Tancik
et al. 2020, https://arxiv.org/abs/2006.10739, equation 5, for positions; Ravi et al., "SAM 2" (2024),
https://arxiv.org/abs/2408.00714, appendix D, for the finer depths in the upscaling; Sofiiuk et al. 2021 (RITM),
https://arxiv.org/abs/2102.06583, section 3, for clicks and the earlier mask as maps.

What it does not do: text as a prompt; the paper's fourth mask for many clicks, as the scores choose among three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sw2.base.config import check_ranges
from sw2.core.model import Batch, Model, Outputs
from sw2.domains.vision.efficientnet import EfficientNetLite
from sw2.domains.vision.segmentation.evidence import MAPS, colours, maps, palette

__all__ = ["BOX", "MASKS", "NEGATIVE", "NOTHING", "POSITIVE", "SEEN", "STRIDE", "CrossAttention", "Segmenter"]

MASKS: Final = 3
STRIDE: Final = 2  # pixels of the picture along a side of a pixel of a mask
SEEN: Final = ("coarse", "middle", "fine", "colours", "palette")
POSITIVE, NEGATIVE, NOTHING = 1, 0, -1
BOX: Final = (2, 3)  # labels of its upper left and lower right corner

_STAGES: Final = 5  # of EfficientNet-Lite0: up to 1/16 of the side
_WIDTHS: Final = (16, 24, 40, 112)
_DEPTHS: Final = (0, 1, 2, 4)  # the stages after which these widths are seen
_BLOCKS: Final = 2
_BUMPS: Final = (0.03, 0.12)  # deviations of the bumps at a click, in sides of the picture
_MAPS: Final = 2 + 2 * len(_BUMPS) + MAPS + 2  # the earlier mask, the box, bumps, evidence, and what looks alike
_TRAITS: Final = 3
_SURER: Final = 1.0  # logits
_MASK_SCALE: Final = 8.0  # logits of an earlier mask are cut at so much either way, and brought to about one


@final
class CrossAttention(nn.Module):
    """`softmax(Q Kᵀ / √E) V` in `heads` heads, with its own projections.

    Args:
        width: D.
        heads: divides D.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, q_BTD: Tensor, k_BSD: Tensor, v_BSD: Tensor, shown_BS: Tensor | None = None) -> Tensor:
        """[B, T, D]; only keys that are True in `shown_BS` are looked at, all where it is None."""
        q, k, v = (
            make(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for make, x in ((self.query, q_BTD), (self.key, k_BSD), (self.value, v_BSD))
        )
        mask = None if shown_BS is None else shown_BS[:, None, None]
        mixed_BHTE = F.scaled_dot_product_attention(q, k, v, mask)
        out: Tensor = self.out(mixed_BHTE.transpose(1, 2).flatten(2))
        return out


@final
class _TwoWay(nn.Module):
    """Tokens look at each other and at the places, places look at the tokens; norms come after each addition."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.among, self.down, self.up = (CrossAttention(width, heads) for _ in range(3))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))

    def forward(
        self, x_BTD: Tensor, y_BND: Tensor, tokens_BTD: Tensor, places_ND: Tensor, shown_BT: Tensor
    ) -> tuple[Tensor, Tensor]:
        one, two, three, four = self.norms
        q = x_BTD + tokens_BTD
        x_BTD = one(x_BTD + self.among(q, q, x_BTD, shown_BT))
        x_BTD = two(x_BTD + self.down(x_BTD + tokens_BTD, y_BND + places_ND, y_BND))
        x_BTD = three(x_BTD + self.mlp(x_BTD))
        y_BND = four(y_BND + self.up(y_BND + places_ND, x_BTD + tokens_BTD, x_BTD, shown_BT))
        return x_BTD, y_BND


@final
class Segmenter(Model):
    """The network at the top of this file.

    `forward` takes "image", float [B, 3, S, S] normalised as ImageNet's weights want it, or in its place what was seen
    in it (all of `SEEN`); with "points" float [X, P, 2], x and y in pixels divided by S, "labels" int64 [X, P] and
    "mask" float [X, S/2, S/2] with "masked" bool [X], whether there is one, it gives "masks", logits, and "scores"
    beside what was seen. X is B or a multiple, where there are several prompts for each picture. Without points it
    gives what was seen alone.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of a segmenter.

        Args:
            width: D, a multiple of 8.
            heads: of attention; divides the width.
        """

        width: int = 64
        heads: int = 4

        def __post_init__(self) -> None:
            allowed = {
                "width": (self.width >= 8 and self.width % 8 == 0, "a multiple of 8"),
                "heads": (self.heads >= 1 and self.width % self.heads == 0, "a divisor of the width"),
            }
            check_ranges("model", self, allowed)

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        D = config.width
        whole = EfficientNetLite(EfficientNetLite.Config(classes=1))
        self.stem, self.body = whole.stem, whole.body[:_STAGES]
        fine, middle, near, far = _WIDTHS
        self.fine, self.middle = nn.Conv2d(fine + 3, D // 4, 3, padding=1), nn.Conv2d(middle, D // 2, 1)
        self.near, self.far = nn.Conv2d(near, D, 1), nn.Conv2d(far, D, 1)
        self.neck = nn.Sequential(nn.Conv2d(D, D, 3, padding=1), nn.GroupNorm(1, D))

        self.register_buffer("frequencies", torch.randn(2, D // 2))
        self.prompts = nn.Embedding(2 + len(BOX), D)
        self.answers = nn.Embedding(1 + MASKS, D)
        self.there, self.looks = nn.Linear(D, D), nn.Linear(D, D // 2)
        self.maps = nn.ModuleList(
            [_convolution(_MAPS, D // 4, 3, 1), _convolution(D // 4, D // 2, 2, 2), _convolution(D // 2, D, 2, 2)]
        )
        self.spread = nn.ModuleList(_convolution(D, D, 3, 1) for _ in range(_BLOCKS))

        self.blocks = nn.ModuleList(_TwoWay(D, config.heads) for _ in range(_BLOCKS))
        self.last, self.last_norm = CrossAttention(D, config.heads), nn.LayerNorm(D)
        self.to_middle, self.to_fine = nn.ConvTranspose2d(D, D // 2, 2, 2), nn.ConvTranspose2d(D // 2, D // 4, 2, 2)
        self.at_middle, self.at_fine = _convolution(D // 2, D // 2, 3, 1), _convolution(D // 4, D // 4, 3, 1)
        self.filters = nn.ModuleList(
            nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, D // 4)) for _ in range(MASKS)
        )
        self.score = nn.Sequential(nn.Linear(2 * D + _TRAITS, D), nn.ReLU(), nn.Linear(D, 1))

    def forward(self, batch: Batch) -> Outputs:
        seen = self._see(batch["image"]) if "image" in batch else {name: batch[name] for name in SEEN}
        return {**seen, **self._answer(seen, batch)} if "points" in batch else seen

    def _see(self, image_B3SS: Tensor) -> Outputs:
        x, found = self.stem(image_B3SS), []
        for number, stage in enumerate(self.body):
            x = stage(x)
            if number in _DEPTHS:
                found.append(x)
        fine, middle, near, far = found
        both = self.near(near) + F.interpolate(self.far(far), scale_factor=2.0, mode="nearest")
        with torch.no_grad():
            tints = colours(image_B3SS)
            shares = palette(tints)
        return {
            "coarse": self.neck(both),
            "middle": self.middle(middle),
            "fine": self.fine(torch.cat((fine, tints), dim=1)),
            "colours": tints,
            "palette": shares,
        }

    def _answer(self, seen: Outputs, batch: Batch) -> Outputs:
        points_XP2, labels_XP = batch["points"], batch["labels"]
        X, side = len(labels_XP), seen["coarse"].shape[-1]
        each = X // len(seen["coarse"])
        coarse, middle, fine = (seen[name].repeat_interleave(each, 0) for name in ("coarse", "middle", "fine"))
        y_XND = coarse.flatten(2).transpose(1, 2)
        given_XP = labels_XP != NOTHING
        clicks_2XP = torch.stack((labels_XP == POSITIVE, labels_XP == NEGATIVE))

        # A prompt knows where it is, what it says, and, if it is a click, what is to be seen there.
        at_XP = _number(points_XP2, side)
        there_XPD = self.there(y_XND.gather(1, at_XP[..., None].expand(-1, -1, y_XND.shape[2])))
        prompts_XPD = self.waves(points_XP2) + self.prompts(labels_XP.clamp(min=0))
        prompts_XPD = prompts_XPD + there_XPD * clicks_2XP.any(0)[..., None]
        tokens_XTD = torch.cat((self.answers.weight.expand(X, -1, -1), prompts_XPD), dim=1)
        shown_XT = torch.cat((given_XP.new_ones(X, 1 + MASKS), given_XP), dim=1)

        drawn = self._maps(seen, batch, clicks_2XP)
        looks_XNE = F.normalize(self.looks(y_XND), dim=2)
        alike_XNP = looks_XNE @ looks_XNE.gather(1, at_XP[..., None].expand(-1, -1, looks_XNE.shape[2])).mT
        alike = torch.stack([alike_XNP.masked_fill(~each[:, None], -1).amax(2) for each in clicks_2XP], dim=1)
        alike = F.interpolate(alike.unflatten(2, (side, side)), size=drawn.shape[-2:], mode="bilinear")
        told: list[Tensor] = []
        for make in self.maps:
            told.append(make(told[-1] if told else torch.cat((drawn, alike), dim=1)))
        to_fine, to_middle, to_coarse = told

        y_XND = y_XND + to_coarse.flatten(2).transpose(1, 2)
        places_ND = self.waves(_grid(side, y_XND.device))
        x_XTD = tokens_XTD
        for block, spread in zip(self.blocks, self.spread, strict=True):
            y = y_XND.transpose(1, 2).unflatten(2, (side, side))
            y_XND = y_XND + spread(y).flatten(2).transpose(1, 2)
            x_XTD, y_XND = block(x_XTD, y_XND, tokens_XTD, places_ND, shown_XT)
        x_XTD = self.last_norm(x_XTD + self.last(x_XTD + tokens_XTD, y_XND + places_ND, y_XND))

        y = y_XND.transpose(1, 2).unflatten(2, (side, side))
        y = self.to_middle(y) + middle + to_middle
        y = y + self.at_middle(y)
        y = self.to_fine(y) + fine + to_fine
        y = y + self.at_fine(y)
        filters_XMC = torch.stack([make(x_XTD[:, 1 + m]) for m, make in enumerate(self.filters)], dim=1)
        masks = (filters_XMC @ y.flatten(2)).unflatten(2, y.shape[2:]).float()
        whole_XMD = x_XTD[:, :1].expand(-1, MASKS, -1)
        judged = torch.cat((whole_XMD, x_XTD[:, 1 : 1 + MASKS], _traits(masks.detach())), dim=2)
        return {"masks": masks, "scores": self.score(judged)[..., 0].float()}

    @torch.no_grad()
    def _maps(self, seen: Outputs, batch: Batch, clicks_2XP: Tensor) -> Tensor:
        """All prompts drawn, beside the earlier mask: [X, maps, S/2, S/2]."""
        masked_X11 = batch["masked"][:, None, None]
        side = seen["colours"].shape[-1]
        logits = batch["mask"].float().clamp(-_MASK_SCALE, _MASK_SCALE)
        drawn = _drawn(batch["points"], batch["labels"], side)
        sure, wide = drawn[:, 0], drawn[:, 1]
        # The box stands for an earlier answer where there is neither that nor a click.
        first = torch.where(clicks_2XP.any(0).any(1)[:, None, None], wide, drawn[:, -1])
        believed = torch.where(masked_X11, logits.sigmoid(), first)
        believed = (believed + sure).clamp(max=1) * (1 - drawn[:, len(_BUMPS)])
        evidence = maps(
            seen["colours"], seen["palette"], _number(batch["points"], side), clicks_2XP, believed.flatten(1)
        )
        return torch.cat(((logits / _MASK_SCALE * masked_X11)[:, None], drawn, evidence), dim=1)

    def waves(self, points: Tensor) -> Tensor:
        """Sines and cosines of places in [0, 1] along random directions: [..., 2] to [..., D] (Tancik, equation 5)."""
        angle = 2 * math.pi * ((2 * points - 1) @ self.get_buffer("frequencies"))
        return torch.cat((angle.sin(), angle.cos()), dim=-1)

    def layers(self) -> Sequence[tuple[str, nn.Module]]:
        """The encoder's stages, the decoder's blocks, the upscaling: what every prompt goes through, in order."""
        return [
            ("stem", self.stem),
            *((f"stage{number}", stage) for number, stage in enumerate(self.body, start=1)),
            ("neck", self.neck),
            *((f"block{number}", block) for number, block in enumerate(self.blocks, start=1)),
            ("to_middle", self.to_middle),
            ("to_fine", self.to_fine),
        ]

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        """The stem and the body of the encoder, then all that is new."""
        known = ("stem", "body")
        new = nn.ModuleList(module for name, module in self.named_children() if name not in known)
        return [("stem", self.stem), ("body", self.body), ("decoder", new)]


Config = Segmenter.Config


def _drawn(points_BP2: Tensor, labels_BP: Tensor, side: int) -> Tensor:
    """Prompts as maps [B, maps, side, side]: bumps of positive clicks, of negative ones, and 1 inside the box."""
    grid_N2 = _grid(side, points_BP2.device)
    squared_BPN = (points_BP2[:, :, None] - grid_N2).square().sum(3)
    maps = [
        ((-squared_BPN / (2 * deviation**2)).exp() * (labels_BP == label)[..., None]).amax(1)
        for label in (POSITIVE, NEGATIVE)
        for deviation in _BUMPS
    ]
    after_BPN = (grid_N2 >= points_BP2[:, :, None]).all(3) & (labels_BP == BOX[0])[..., None]
    before_BPN = (grid_N2 <= points_BP2[:, :, None]).all(3) & (labels_BP == BOX[1])[..., None]
    maps.append((after_BPN.any(1) & before_BPN.any(1)).to(maps[0].dtype))
    return torch.stack(maps, dim=1).unflatten(2, (side, side))


def _convolution(width_in: int, width: int, kernel: int, stride: int) -> nn.Sequential:
    """Convolution that keeps the size (3, 1) or halves it (2, 2), normalised over the whole picture, ReLU."""
    convolution = nn.Conv2d(width_in, width, kernel, stride, padding=kernel // 2 if stride == 1 else 0)
    return nn.Sequential(convolution, nn.GroupNorm(1, width), nn.ReLU())


def _traits(masks_XMHH: Tensor) -> Tensor:
    """What of masks goes with being good: [X, M, traits], each from 0 to 1.

    The share of the picture; how sure its pixels are of it; and how little it shrinks when it has to be surer, which
    the paper calls stability.
    """
    logits = masks_XMHH.flatten(2)
    inside = (logits > 0).float()
    count = inside.sum(2)
    sure = (logits.sigmoid() * inside).sum(2) / count.clamp(min=1)
    stable = (logits > _SURER).sum(2) / (logits > -_SURER).sum(2).clamp(min=1)
    return torch.stack((count / logits.shape[2], sure, stable), dim=2)


def _number(points: Tensor, side: int) -> Tensor:
    """The number of the place, row by row, in which a point lies: [..., 2] in [0, 1] to int64 [...]."""
    x, y = (points * side).long().clamp(0, side - 1).unbind(-1)
    return y * side + x


def _grid(side: int, device: torch.device) -> Tensor:
    """The middles of side x side places, row by row, x before y: [side², 2] in [0, 1]."""
    middle = (torch.arange(side, device=device) + 0.5) / side
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    return torch.stack((x, y), dim=-1).flatten(0, 1)
