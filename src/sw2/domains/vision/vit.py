"""ViT: a Transformer over the squares of a picture.

Shapes: B pictures, C channels, S pixels a side, P pixels a side of a square, T = (S / P)² squares and, with a class
token, one more; D width, H heads, K labels.

    picture [B, C, S, S] -> each P x P square, linearly -> (class token +) positions [B, T, D]
    -> blocks: x += attention(norm(x)); x += mlp(norm(x)) -> norm -> class token, or mean over squares [B, D]
    -> logits [B, K]

Every square sees every other. Nothing but the learned positions says which squares are neighbours: that must be learned
too, which takes more pictures than a convolutional network needs.

Choices: attention and feed-forward layers are the bricks of language models (`parts.layers.transformer`), told to look
both ways. Dropout stands where the paper has it, after the positions and at the end of each branch, and not on the
attention's weights. Initial weights are Glorot's, as in the paper's code; those of the head are small. A mean over the
squares without a class token learns better from few pictures (Beyer et al.), and is what the presets take.

Sources: Dosovitskiy et al., "An Image is Worth 16x16 Words" (2020), https://arxiv.org/abs/2010.11929, section 3.1 and
appendix B; Beyer et al., "Better plain ViT baselines" (2022), https://arxiv.org/abs/2205.01580; Touvron et al., "DeiT"
(2020), https://arxiv.org/abs/2012.12877, for stochastic depth.

Not here: pictures of another size than S (positions are not stretched), the hybrid with a convolutional stem,
distillation tokens. Learning from pictures without labels is in `pretraining`; all that it takes of this file is that
squares may be left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sw2.base.config import check_ranges, check_shares
from sw2.base.errors import UsageError
from sw2.core.model import Batch, Model, Outputs
from sw2.domains.vision.regularise import StochasticDepth, depth_rates
from sw2.parts.layers.transformer import Attention, FeedForward, build_norm

__all__ = ["Config", "ViT"]


class ViT(Model):
    """The network at the top of this file.

    `forward` takes "image" [B, C, S, S], and may be given "kept", int64 [B, V]: the squares of each picture that it
    sees, by number from the top left, row by row. It gives "logits" [B, K], "features" [B, D], what the head decides
    by, and "tokens" [B, T, D], what became of each square (after the class token, where there is one).
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of a ViT.

        Args:
            size: S, pixels a side of the pictures, a multiple of patch.
            channels: of the picture, 1 grey or 3 colour.
            classes: K, the number of labels.
            patch: P, pixels a side of a square.
            width: D, a multiple of 2 heads.
            depth: blocks.
            heads: H, of attention.
            hidden: width of the feed-forward layers.
            pool: what the head looks at, the "class" token or the "mean" of the squares, without such a token.
            dropout: share of the numbers that are dropped in training, in [0, 1).
            stochastic_depth: share of the examples for which the last block is left out in training, in [0, 1).
            norm_epsilon: of the LayerNorms.
        """

        size: int = 28
        channels: int = 1
        classes: int = 10
        patch: int = 4
        width: int = 96
        depth: int = 6
        heads: int = 3
        hidden: int = 384
        pool: Literal["class", "mean"] = "mean"
        dropout: float = 0.0
        stochastic_depth: float = 0.0
        norm_epsilon: float = 1e-6

        def __post_init__(self) -> None:
            sizes = ("size", "channels", "classes", "patch", "width", "depth", "heads", "hidden")
            wanted = "a whole number of at least 1"
            check_ranges("model", self, {name: (getattr(self, name) >= 1, wanted) for name in sizes})
            check_ranges("model", self, {"norm_epsilon": (self.norm_epsilon > 0, "a number above 0")})
            check_shares("model", self, "dropout", "stochastic_depth")
            if self.size % self.patch:
                raise UsageError(
                    "Squares do not fill the picture.",
                    wanted="a size that is a multiple of patch",
                    got=f"size {self.size}, patch {self.patch}",
                )
            self.attention  # noqa: B018 (refuses heads that do not divide the width)

        @property
        def attention(self) -> Attention.Config:
            """Of every block."""
            return Attention.Config(width=self.width, heads=self.heads, kv_heads=self.heads, biases="all")

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = _Embedding(config)
        rates = depth_rates(config.stochastic_depth, config.depth)
        self.blocks = nn.ModuleList(_Block(config, rate) for rate in rates)
        self.norm = build_norm("layer", config.width, config.norm_epsilon)
        self.head = nn.Linear(config.width, config.classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.head.weight, std=0.01)

    def forward(self, batch: Batch) -> Outputs:
        x_BTD = self.embedding(batch["image"], batch.get("kept"))
        T = x_BTD.shape[1]
        everything = torch.ones(1, T, T, dtype=torch.bool, device=x_BTD.device)
        for block in self.blocks:
            x_BTD = block(x_BTD, everything)
        x_BTD = self.norm(x_BTD)
        x_BD = x_BTD[:, 0] if self.config.pool == "class" else x_BTD.mean(1)
        return {"logits": self.head(x_BD), "features": x_BD, "tokens": x_BTD}

    def layers(self) -> Sequence[tuple[str, nn.Module]]:
        """The embedding, each block, the last norm and the head, from input to output."""
        blocks = [(f"block{number}", block) for number, block in enumerate(self.blocks, start=1)]
        return [("embedding", self.embedding), *blocks, ("norm", self.norm), ("head", self.head)]


Config = ViT.Config


class _Embedding(nn.Module):
    """Squares as vectors, with their places: [B, C, S, S] to [B, T, D], of all squares or of those kept."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.squares = nn.Conv2d(config.channels, config.width, config.patch, stride=config.patch)
        tokens = (config.size // config.patch) ** 2
        if config.pool == "class":
            self.class_token = nn.Parameter(torch.zeros(config.width))
            tokens += 1
        self.has_token = config.pool == "class"
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, config.width))
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.squares.weight, std=self.squares.weight[0].numel() ** -0.5)
        assert self.squares.bias is not None
        nn.init.zeros_(self.squares.bias)

    def forward(self, image_BCSS: Tensor, kept_BV: Tensor | None = None) -> Tensor:
        x_BTD = self.squares(image_BCSS).flatten(2).transpose(1, 2)
        if self.has_token:
            x_BTD = _with_token(x_BTD, self.class_token)
        embedded: Tensor = self.dropout(self._seen(x_BTD + self.positions, kept_BV))
        return embedded

    def _seen(self, x_BTD: Tensor, kept_BV: Tensor | None) -> Tensor:
        """The class token, and the squares that are kept."""
        if kept_BV is None:
            return x_BTD
        first = int(self.has_token)
        squares = x_BTD[:, first:].gather(1, kept_BV[:, :, None].expand(-1, -1, x_BTD.shape[2]))
        return torch.cat((x_BTD[:, :first], squares), dim=1)


def _with_token(x_BSD: Tensor, token_D: Tensor) -> Tensor:
    """The squares with the class token before them."""
    return torch.cat((token_D.expand(x_BSD.shape[0], 1, -1), x_BSD), dim=1)


class _Block(nn.Module):
    """`x += attention(norm(x)); x += mlp(norm(x))`, each left out at random in training."""

    def __init__(self, config: Config, rate: float) -> None:
        super().__init__()
        self.attention_norm = build_norm("layer", config.width, config.norm_epsilon)
        self.attention = Attention(config.attention)
        self.mlp_norm = build_norm("layer", config.width, config.norm_epsilon)
        self.mlp = FeedForward(config.width, config.hidden, "gelu", bias=True)
        self.dropout = nn.Dropout(config.dropout)
        self.drop = StochasticDepth(rate)

    def forward(self, x_BTD: Tensor, mask: Tensor) -> Tensor:
        mixed_BTD = x_BTD + self.dropout(self.attention(self.attention_norm(x_BTD), None, mask))
        x_BTD = self.drop(x_BTD, mixed_BTD)
        after_BTD: Tensor = self.drop(x_BTD, x_BTD + self.dropout(self.mlp(self.mlp_norm(x_BTD))))
        return after_BTD
