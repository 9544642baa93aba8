"""Masked autoencoding: a ViT sees a quarter of a picture's squares, and a small decoder guesses the others.

Shapes: B pictures, C channels, S pixels a side, P pixels a side of a square, T = (S / P)² squares, V of them seen and U
hidden, D width of the encoder, E of the decoder, F = P P C numbers in a square.

    picture → V of T squares at random → ViT → [B, V, D] → linear → [B, V, E]
            → the hidden squares' places filled with one learned vector, positions added → blocks → [B, T, F]
    loss: the mean squared error over the hidden squares, each brought to mean 0 and deviation 1 by its own pixels

Nothing but the seen squares goes through the encoder, which is why it is cheap: a quarter of the work.

Choices: the squares of small pictures are small, 4 x 4 of them in digits of 8x8 and 7 x 7 in clothes of 28x28 (see the
domain's `presets`), so that these are learned from as photographs are. Positions begin as sines and cosines of row and
column, as in the paper, and go on to learn, as those of our ViT do: from scratch in minutes there is no time to find
out which squares are neighbours. The decoder is narrow and has two blocks; the paper needs more of them only for what a
probe reads off directly. Pictures are moved and mirrored and no more, as the paper found enough.

Source: He et al., "Masked Autoencoders Are Scalable Vision Learners" (2021), https://arxiv.org/abs/2111.06377, section
3 and table 1; the variance of a square is the unbiased one, with 1e-6 added, as in the authors' code.

What it does not do: other networks than ViT, of which squares cannot be left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, final

import torch
from torch import Tensor, nn

from sw2.base.config import check_ranges
from sw2.base.errors import UsageError
from sw2.core.gradient import Gradient, GradientConfig, Lesson, Loss, Nets
from sw2.core.model import Batch, Model, Outputs
from sw2.core.objective import Job
from sw2.domains.vision.augment import Config as AugmentConfig
from sw2.domains.vision.augment import augment
from sw2.domains.vision.objective import network
from sw2.domains.vision.prep import PicturePrep
from sw2.domains.vision.pretraining.lesson import drawn, lesson_without_labels
from sw2.domains.vision.vit import ViT
from sw2.parts.layers.transformer import Attention, Block, build_norm

__all__ = ["Decoder", "MaskedConfig", "draw_masks", "learn", "masked_loss", "squares", "waves"]

_EPSILON: Final = 1e-6
_LONGEST_WAVE: Final = 10_000.0
_HEAD: Final = 16  # channels of a head of the decoder


@dataclass(frozen=True, kw_only=True)
class MaskedConfig:
    """How hidden squares are learned from.

    Args:
        gradient: batches, optimiser, precision; see `core.gradient`.
        augment: what may be done to a picture first.
        hidden: share of the squares that are hidden, in (0, 1); at least one is hidden and one is seen.
        normalise: whether the pixels of each square are brought to mean 0 and deviation 1 before they are guessed.
        decoder_width: E, a multiple of 32.
        decoder_depth: blocks of the decoder.
    """

    gradient: GradientConfig = field(default_factory=GradientConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    hidden: float = 0.75
    normalise: bool = True
    decoder_width: int = 32
    decoder_depth: int = 2

    def __post_init__(self) -> None:
        allowed = {
            "hidden": (0 < self.hidden < 1, "a number between 0 and 1"),
            "decoder_width": (self.decoder_width >= 1 and self.decoder_width % 32 == 0, "a multiple of 32"),
            "decoder_depth": (self.decoder_depth >= 1, "a whole number of at least 1"),
        }
        check_ranges("learn", self, allowed)


def learn(config: MaskedConfig, provider: Mapping[str, str]) -> Gradient:
    """The objective for the catalogue."""
    return Gradient("image-feature-extraction", config.gradient, lambda job: _lesson(job, config, provider))


@final
class Decoder(Model):
    """Guesses every square from those that were seen.

    `forward` takes "tokens" [B, V, D], what became of the squares that were seen, and "kept" int64 [B, V], which ones
    they are; it gives "squares" [B, T, F].
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of a decoder.

        Args:
            inputs: D, the width of what it is given.
            side: squares along a side of the picture; T is its square.
            pixels: F, the numbers in a square.
            width: E, a multiple of 32.
            depth: blocks.
        """

        inputs: int = 96
        side: int = 7
        pixels: int = 16
        width: int = 32
        depth: int = 2

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        heads = config.width // _HEAD
        attention = Attention.Config(width=config.width, heads=heads, kv_heads=heads, biases="all")
        self.enter = nn.Linear(config.inputs, config.width)
        self.unseen = nn.Parameter(0.02 * torch.randn(config.width))
        self.positions = nn.Parameter(waves(config.side, config.width))
        self.blocks = nn.ModuleList(
            Block(attention, 4 * config.width, _EPSILON, norm="layer", activation="gelu") for _ in range(config.depth)
        )
        self.norm = build_norm("layer", config.width, _EPSILON)
        self.pixels = nn.Linear(config.width, config.pixels)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, batch: Batch) -> Outputs:
        seen_BVE = self.enter(batch["tokens"]).to(self.unseen.dtype)
        B, _, E = seen_BVE.shape
        T = self.config.side**2
        where = batch["kept"][:, :, None].expand(-1, -1, E)
        x_BTE = self.unseen.expand(B, T, E).scatter(1, where, seen_BVE) + self.positions
        everything = torch.ones(1, T, T, dtype=torch.bool, device=x_BTE.device)
        for block in self.blocks:
            x_BTE = block(x_BTE, None, everything)
        return {"squares": self.pixels(self.norm(x_BTE))}


def waves(side: int, width: int) -> Tensor:
    """Positions of a side x side grid, row by row: sines and cosines of the row, then of the column.

    With W = width // 4 waves of wavelengths from 2π towards 20,000π, as in Vaswani et al. 2017
    (https://arxiv.org/abs/1706.03762, section 3.5) for each axis; what is left of the width is 0.

    Returns:
        float32 [side², width].
    """
    number = width // 4
    rate_W = _LONGEST_WAVE ** -(torch.arange(number) / max(number, 1))
    angle_SW = torch.arange(side)[:, None] * rate_W
    axis = torch.cat((angle_SW.sin(), angle_SW.cos()), dim=1)
    row, column = (each.expand(side, side, -1) for each in (axis[:, None], axis[None]))
    return nn.functional.pad(torch.cat((row, column), dim=2).flatten(0, 1), (0, width - 4 * number))


def squares(image_BCSS: Tensor, patch: int) -> Tensor:
    """The pixels of each square of P = `patch` a side, squares row by row from the top left: [B, T, F]."""
    B, C, S, _ = image_BCSS.shape
    side = S // patch
    parted = image_BCSS.reshape(B, C, side, patch, side, patch).permute(0, 2, 4, 3, 5, 1)
    return parted.reshape(B, side * side, patch * patch * C)


def draw_masks(number: int, tokens: int, hidden: float, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which squares are seen and which are hidden, for each picture any choice equally likely.

    Args:
        number: B.
        tokens: T, at least 2.
        hidden: the share to hide; rounded so that at least one square is on each side.
        draw: on the CPU.

    Returns:
        int64 [B, V] and [B, U], each in rising order.
    """
    U = min(max(round(tokens * hidden), 1), tokens - 1)
    order_BT = torch.rand((number, tokens), generator=draw).argsort(1)
    return order_BT[:, U:].sort(1).values, order_BT[:, :U].sort(1).values


def masked_loss(
    guessed_BTF: Tensor, image_BCSS: Tensor, hidden_BU: Tensor, patch: int, *, normalise: bool = True
) -> Tensor:
    """The squared error of the hidden squares, its mean over their pixels, summed over the pictures.

    Args:
        guessed_BTF: every square, as the decoder guesses it.
        image_BCSS: the pictures.
        hidden_BU: the squares that count, int64.
        patch: P; of more than one pixel where squares are normalised.
        normalise: whether the target is (x - mean) / sqrt(variance + 1e-6) of each square (He et al., section 3).

    Returns:
        float32, one number.
    """
    target_BTF = squares(image_BCSS.float(), patch)
    if normalise:
        mean, variance = target_BTF.mean(2, keepdim=True), target_BTF.var(2, keepdim=True)
        target_BTF = (target_BTF - mean) / (variance + _EPSILON).sqrt()
    error_BT = (guessed_BTF.float() - target_BTF).square().mean(2)
    return error_BT.gather(1, hidden_BU).mean(1).sum()


def _lesson(job: Job, config: MaskedConfig, provider: Mapping[str, str]) -> Lesson:
    prep = job.prep
    assert isinstance(prep, PicturePrep)
    if not issubclass(job.model_class, ViT):
        raise UsageError(
            "Squares cannot be hidden from this network.", where="--model", wanted="vit", got=job.model_name
        )
    encoder = network(job, prep)
    assert isinstance(encoder, ViT)
    shape = encoder.config
    side, tokens = shape.size // shape.patch, (shape.size // shape.patch) ** 2
    if tokens < 2 or (config.normalise and shape.patch**2 * shape.channels < 2):
        raise UsageError(
            "These squares cannot be guessed from each other.",
            where="model.patch",
            wanted="at least 2 squares in a picture, each of more than one number",
            got=f"{tokens} of {shape.patch} x {shape.patch} pixels, {shape.channels} channels",
            do="Set model.patch, or learn.normalise=false.",
        )
    if "start" not in job.parents:
        with torch.no_grad():
            encoder.embedding.positions[-tokens:] = waves(side, shape.width)
    decoder = Decoder.Config(
        inputs=shape.width,
        side=side,
        pixels=shape.patch**2 * shape.channels,
        width=config.decoder_width,
        depth=config.decoder_depth,
    )

    def make(pictures_BCSS: Tensor, draw: torch.Generator) -> Batch:
        image_BCSS = prep.normalise(augment(pictures_BCSS, config.augment, draw))
        kept_BV, hidden_BU = draw_masks(len(image_BCSS), tokens, config.hidden, draw)
        return {"image": image_BCSS, "kept": kept_BV, "hidden": hidden_BU}

    def loss(nets: Nets, batch: Batch) -> Loss:
        kept_BV = batch["kept"]
        tokens_BVD = nets["encoder"]({"image": batch["image"], "kept": kept_BV})["tokens"][:, -kept_BV.shape[1] :]
        guessed = nets["decoder"]({"tokens": tokens_BVD, "kept": kept_BV})["squares"]
        total = masked_loss(guessed, batch["image"], batch["hidden"], shape.patch, normalise=config.normalise)
        return Loss(total, len(kept_BV))

    return lesson_without_labels(
        job,
        config.gradient,
        provider,
        encoder=encoder,
        helper=("decoder", drawn(job, lambda: Decoder(decoder))),
        make=make,
        loss=loss,
    )
