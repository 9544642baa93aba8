"""A bidirectional encoder of texts: BERT's shape, mean pooling, unit length.

    tokens [B, T] -> embeddings + positions, LayerNorm -> blocks, every token sees every other -> mean over tokens
                  -> divided by its length -> "vectors" [B, D]

Notable
- Norms come after the residual sums, as in the first Transformer, and not before them as in `parts.layers.Block`.
- Attention is torch's own kernel in every precision. The one in `parts.layers` is written out in bf16, for a compiler
  to fuse and a gradient to run through; without either, a layer of 8 texts of 200 tokens took 64 ms that way and 11 ms
  this way (one core, bf16, other work beside it).

Sources: Devlin et al. 2018, https://arxiv.org/abs/1810.04805, section 3; Reimers & Gurevych 2019,
https://arxiv.org/abs/1908.10084, section 3 (mean pooling); Wang et al. 2020, https://arxiv.org/abs/2002.10957 (MiniLM,
whose sizes are the Config's defaults).

What it does not do: two texts in one row (BERT's second token type), heads for masked words, learning.

Shapes: B texts · T tokens · D width · H heads · E = D / H · V vocabulary
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from sw2.base.errors import UsageError
from sw2.core.model import Batch, Model, Outputs
from sw2.parts.layers.transformer import FeedForward, build_norm

__all__ = ["TextEncoder"]


@final
class TextEncoder(Model):
    """The network at the top of this file."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of an encoder.

        Args:
            vocab_size: V.
            context: the most tokens of a text.
            width: D.
            depth: blocks.
            heads: H, of attention; divides D.
            hidden: width of the feed-forward layers.
            norm_epsilon: of the LayerNorms.
        """

        vocab_size: int = 30522
        context: int = 512
        width: int = 384
        depth: int = 6
        heads: int = 12
        hidden: int = 1536
        norm_epsilon: float = 1e-12

        def __post_init__(self) -> None:
            sizes = (self.vocab_size, self.context, self.width, self.depth, self.heads, self.hidden)
            if min(sizes) < 1 or self.norm_epsilon <= 0 or self.width % self.heads:
                raise UsageError(
                    "This is not the shape of an encoder.",
                    wanted="sizes of at least 1, and a width that is a multiple of heads",
                    got=self,
                )

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = skip_init(nn.Embedding, config.vocab_size, config.width)
        self.positions = skip_init(nn.Embedding, config.context, config.width)
        self.embedding_norm = build_norm("layer", config.width, config.norm_epsilon)
        self.body = nn.ModuleList(_Block(config) for _ in range(config.depth))

    def forward(self, batch: Batch) -> Outputs:
        """Embed texts.

        Args:
            batch: "tokens" int64 [B, T], and "lengths" int64 [B], how many of each row are its text, at least 1; what
                comes after changes nothing.

        Returns:
            "vectors" float32 [B, D], of length 1.
        """
        lengths_B = batch["lengths"]
        x_BTD = deque(self.states(batch), maxlen=1).pop()
        here_BT = torch.arange(x_BTD.shape[1], device=x_BTD.device) < lengths_B[:, None]
        total_BD = (x_BTD.float() * here_BT[..., None]).sum(1)
        return {"vectors": F.normalize(total_BD / lengths_B[:, None], dim=-1)}

    def states(self, batch: Batch) -> Iterator[Tensor]:
        """The vector of each token [B, T, D], before the first block and after each.

        Args:
            batch: as `forward` takes it.
        """
        tokens_BT = batch["tokens"]
        T = tokens_BT.shape[1]
        here_BT = torch.arange(T, device=tokens_BT.device) < batch["lengths"][:, None]
        x_BTD = self.embedding_norm(self.embedding(tokens_BT) + self.positions.weight[:T])
        yield x_BTD
        for block in self.body:
            x_BTD = block(x_BTD, here_BT)
            yield x_BTD


@final
class _Block(nn.Module):
    """`x = norm(x + attention(x)); x = norm(x + mlp(x))`."""

    def __init__(self, config: TextEncoder.Config) -> None:
        super().__init__()
        self.attention = _Attention(config.width, config.heads)
        self.attention_norm = build_norm("layer", config.width, config.norm_epsilon)
        self.mlp = FeedForward(config.width, config.hidden, "gelu", bias=True)
        self.mlp_norm = build_norm("layer", config.width, config.norm_epsilon)

    def forward(self, x_BTD: Tensor, here_BT: Tensor) -> Tensor:
        x_BTD = self.attention_norm(x_BTD + self.attention(x_BTD, here_BT))
        return self.mlp_norm(x_BTD + self.mlp(x_BTD))


@final
class _Attention(nn.Module):
    """Every token looks at every token that is there. The rows of `qkv.weight` are queries, keys, values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = skip_init(nn.Linear, width, 3 * width)
        self.out = skip_init(nn.Linear, width, width)

    def forward(self, x_BTD: Tensor, here_BT: Tensor) -> Tensor:
        q_BHTE, k_BHTE, v_BHTE = self.qkv(x_BTD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed_BHTE = F.scaled_dot_product_attention(q_BHTE, k_BHTE, v_BHTE, attn_mask=here_BT[:, None, None, :])
        return self.out(mixed_BHTE.transpose(1, 2).flatten(-2))
