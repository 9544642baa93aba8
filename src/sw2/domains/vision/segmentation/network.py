"""A segmenter: an encoder that sees a picture once, and a light decoder that answers each click.

Shapes: B pictures, S pixels a side (a multiple of 16), D width, P prompts (clicks, and two corners for a box), M = 3
masks, T = 1 + M + P tokens, N = (S / 8)² places, E channels of a head, F random frequencies (D / 2).

    image [B, 3, S, S] -> EfficientNet-Lite0, four of its depths:
        1/2 [16], 1/4 [24], 1/8 [40], 1/16 [112] -> "coarse" [B, D, S/8, S/8], the two last in one
                                                   "middle" [B, D/4, S/4, S/4], "fine" [B, D/8, S/2, S/2]
    points [B, P, 2], labels [B, P] -> waves of the place + a learned vector for the label    -> tokens [B, P, D]
    mask   [B, S/2, S/2], the logits of an earlier answer, and the prompts drawn beside it: a narrow and a wide bump
           at each click, what lies in the box -> two strided convolutions                    -> added to "coarse"
    tokens and places -> two blocks: tokens among themselves; tokens look at places; MLP; places look at tokens
                      -> tokens look at places once more
    places, up to 1/4 and 1/2 with "middle" and "fine" added, times what each mask's token says
                      -> "masks" [B, M, S/2, S/2]
    the first token -> "scores" [B, M], the IoU that each mask is thought to have

Three masks, since one click may mean the wheel, the car or the row of cars; the score says which of them to show.

Choices: positions are the sines and cosines of random directions, drawn once and kept with the weights. Where there are
fewer than P prompts the rest carry the label -1 and are hidden from every look, so prompts have no order and padding
changes nothing. Prompts come in twice, as tokens as in the paper and drawn as maps as interactive segmenters before it
had them: where a click is has then not to be found out by attention, for which minutes of learning are short. The finer
depths come straight to the upscaling, as in the second edition of the model: without them
edges would be those of squares of 8 pixels. The encoder is small enough to learn on a processor, and may begin with
ImageNet's weights (`--from efficientnet-lite0`).

Sources: Kirillov et al., "Segment Anything" (2023), https://arxiv.org/abs/2304.02643, section 3 and appendix A; Tancik
et al. 2020, https://arxiv.org/abs/2006.10739, equation 5, for positions; Ravi et al., "SAM 2" (2024),
https://arxiv.org/abs/2408.00714, appendix D, for the finer depths in the upscaling; Sofiiuk et al. 2021 (RITM), https://arxiv.org/abs/2102.06583,
section 3, for clicks as maps.

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

__all__ = ["BOX", "MASKS", "NEGATIVE", "NOTHING", "POSITIVE", "STRIDE", "CrossAttention", "Segmenter"]

MASKS: Final = 3
STRIDE: Final = 2  # pixels of the picture along a side of a pixel of a mask
POSITIVE, NEGATIVE, NOTHING = 1, 0, -1
BOX: Final = (2, 3)  # labels of its upper left and lower right corner

_STAGES: Final = 5  # of EfficientNet-Lite0: up to 1/16 of the side
_WIDTHS: Final = (16, 24, 40, 112)
_DEPTHS: Final = (0, 1, 2, 4)  # the stages after which these widths are seen
_BLOCKS: Final = 2
_BUMPS: Final = (0.03, 0.12)  # deviations of the bumps at a click, in sides of the picture
_MAPS: Final = 2 + 2 * len(_BUMPS)  # the earlier mask, the box, and those of clicks of either label
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
    in it ("coarse", "middle", "fine"); with "points" float [B, P, 2], x and y in pixels divided by S, "labels" int64
    [B, P] and "mask" float [B, S/2, S/2] with "masked" bool [B], whether there is one, it gives "masks", logits, and
    "scores" beside what was seen. Without points it gives what was seen alone.
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
        self.fine, self.middle = nn.Conv2d(fine, D // 8, 1), nn.Conv2d(middle, D // 4, 1)
        self.near, self.far = nn.Conv2d(near, D, 1), nn.Conv2d(far, D, 1)
        self.neck = nn.Sequential(nn.Conv2d(D, D, 3, padding=1), nn.GroupNorm(1, D))

        self.register_buffer("frequencies", torch.randn(2, D // 2))
        self.prompts = nn.Embedding(2 + len(BOX), D)
        self.answers = nn.Embedding(1 + MASKS, D)
        self.no_mask = nn.Parameter(torch.zeros(D))
        self.mask = nn.Sequential(
            nn.Conv2d(_MAPS, D // 4, 2, 2), nn.GroupNorm(1, D // 4), nn.GELU(), nn.Conv2d(D // 4, D, 2, 2)
        )

        self.blocks = nn.ModuleList(_TwoWay(D, config.heads) for _ in range(_BLOCKS))
        self.last, self.last_norm = CrossAttention(D, config.heads), nn.LayerNorm(D)
        self.to_middle, self.middle_norm = nn.ConvTranspose2d(D, D // 4, 2, 2), nn.GroupNorm(1, D // 4)
        self.to_fine = nn.ConvTranspose2d(D // 4, D // 8, 2, 2)
        self.filters = nn.ModuleList(
            nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, D // 8)) for _ in range(MASKS)
        )
        self.score = nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, MASKS))

    def forward(self, batch: Batch) -> Outputs:
        seen = self._see(batch["image"]) if "image" in batch else {name: batch[name] for name in _SEEN}
        return {**seen, **self._answer(seen, batch)} if "points" in batch else seen

    def _see(self, image_B3SS: Tensor) -> Outputs:
        x, found = self.stem(image_B3SS), []
        for number, stage in enumerate(self.body):
            x = stage(x)
            if number in _DEPTHS:
                found.append(x)
        fine, middle, near, far = found
        both = self.near(near) + F.interpolate(self.far(far), scale_factor=2.0, mode="nearest")
        return {"coarse": self.neck(both), "middle": self.middle(middle), "fine": self.fine(fine)}

    def _answer(self, seen: Outputs, batch: Batch) -> Outputs:
        labels_BP = batch["labels"]
        B, side = len(labels_BP), seen["coarse"].shape[-1]
        given_BP = labels_BP != NOTHING
        prompts_BPD = self.waves(batch["points"]) + self.prompts(labels_BP.clamp(min=0))
        tokens_BTD = torch.cat((self.answers.weight.expand(B, -1, -1), prompts_BPD), dim=1)
        shown_BT = torch.cat((given_BP.new_ones(B, 1 + MASKS), given_BP), dim=1)

        masked_B111 = batch["masked"][:, None, None, None]
        earlier = (batch["mask"].float() / _MASK_SCALE).clamp(-1, 1)[:, None] * masked_B111
        drawn = _drawn(batch["points"], labels_BP, earlier.shape[-1])
        dense = self.mask(torch.cat((earlier, drawn), dim=1)) + self.no_mask[:, None, None] * ~masked_B111
        y_BND = (seen["coarse"] + dense).flatten(2).transpose(1, 2)
        places_ND = self.waves(_grid(side, y_BND.device))
        x_BTD = tokens_BTD
        for block in self.blocks:
            x_BTD, y_BND = block(x_BTD, y_BND, tokens_BTD, places_ND, shown_BT)
        x_BTD = self.last_norm(x_BTD + self.last(x_BTD + tokens_BTD, y_BND + places_ND, y_BND))

        y = y_BND.transpose(1, 2).unflatten(2, (side, side))
        y = F.gelu(self.middle_norm(self.to_middle(y) + seen["middle"]))
        y = F.gelu(self.to_fine(y) + seen["fine"])
        filters_BMC = torch.stack([make(x_BTD[:, 1 + m]) for m, make in enumerate(self.filters)], dim=1)
        masks = torch.einsum("bmc,bchw->bmhw", filters_BMC, y)
        return {"masks": masks.float(), "scores": self.score(x_BTD[:, 0]).float()}

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
        new.register_parameter("no_mask", self.no_mask)
        return [("stem", self.stem), ("body", self.body), ("decoder", new)]


_SEEN: Final = ("coarse", "middle", "fine")
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


def _grid(side: int, device: torch.device) -> Tensor:
    """The middles of side x side places, row by row, x before y: [side², 2] in [0, 1]."""
    middle = (torch.arange(side, device=device) + 0.5) / side
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    return torch.stack((x, y), dim=-1).flatten(0, 1)
