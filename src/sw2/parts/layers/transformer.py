"""The transformer block of the LLaMA family: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

What is notable
- One matrix product makes queries, keys and values, and one makes the gate and the up projection.
- Rotary tables and masks are made once per batch by whoever owns the blocks, and handed to every layer.
- No buffers: the state of a block is its weights and nothing else.
- Attention does not know what a cache is. It takes an optional `Memory`, which stores the new keys and values and
  gives back all that the queries may look at; `parts.decoding.cache` holds one.

Sources
- RMSNorm: Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467, equation 4
- Rotary positions: Su et al. 2021, https://arxiv.org/abs/2104.09864, section 3.2.2
- Grouped-query attention: Ainslie et al. 2023, https://arxiv.org/abs/2305.13245
- SwiGLU: Shazeer 2020, https://arxiv.org/abs/2002.05202, equation 6
- The arrangement: Touvron et al. 2023, https://arxiv.org/abs/2302.13971, section 2.2

What it does not do: dropout, biases, sliding windows, mixtures of experts; no initialisation (the model's business).

Shapes: B batch · T new tokens · S keys in sight · D width · H query heads · K key heads · G = H / K · E = D / H
        F hidden width of the feed-forward layer · C = E / 2 rotary pairs
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from sw2.base.errors import UsageError
from sw2.parts.layers.attention import attend

__all__ = ["Attention", "Block", "Memory", "RMSNorm", "SwiGLU", "rotary_table", "rotate"]


class Memory(Protocol):
    """Keys and values of earlier tokens, by layer."""

    def extend(self, layer: int, keys_BKTE: Tensor, values_BKTE: Tensor) -> tuple[Tensor, Tensor]:
        """Store the keys and values of the new tokens; return those of every token in sight, each [B, K, S, E]."""
        ...


@final
class RMSNorm(nn.Module):
    """`x / sqrt(mean(x²) + ε) · weight` over the last axis, in float32 whatever `x` is (Zhang & Sennrich, equation 4).

    Args:
        width: length of the last axis.
        epsilon: added to the mean square, > 0.
    """

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x_D: Tensor) -> Tensor:
        """Return the normalised `x_D` [..., D], same shape and dtype."""
        wide = x_D.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
        return (wide * scale).to(x_D.dtype) * self.weight


def rotary_table(positions: Tensor, head_dim: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of `position · base^(-2c / E)` for every pair c (Su et al., equation 15).

    Args:
        positions: integers of any shape, for instance [T] or [B, T].
        head_dim: E, even.
        base: how slowly the slowest pair turns; 10,000 in the paper.

    Returns:
        Two float32 tensors shaped `positions.shape + (E / 2,)`.
    """
    pairs_C = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32)
    angles = positions[..., None].float() * (1.0 / base ** (pairs_C / head_dim))
    return angles.cos(), angles.sin()


def rotate(x_BTHE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn channel c and channel c + E/2 of each head by its position's angle (the half-split order of LLaMA).

    Args:
        x_BTHE: queries or keys.
        cos: [T, C] or [B, T, C], from `rotary_table`.
        sin: the same shape.

    Returns:
        [B, T, H, E] in the dtype of `x_BTHE`.
    """
    cos, sin = cos[..., None, :], sin[..., None, :]
    first, second = x_BTHE.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x_BTHE.dtype)


@final
class Attention(nn.Module):
    """Causal grouped-query self-attention with rotary positions.

    Query head h reads key head `h // (H / K)`. The rows of `qkv.weight` are all queries, then all keys, then all
    values.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes: `width` D, `heads` H (divides D into even parts), `kv_heads` K (divides H)."""

        width: int
        heads: int
        kv_heads: int

        def __post_init__(self) -> None:
            if min(self.width, self.heads, self.kv_heads) < 1 or self.width % (2 * self.heads):
                raise UsageError(
                    "The heads do not divide the width.",
                    wanted="a width that is a multiple of 2 · heads",
                    got=f"width {self.width}, heads {self.heads}",
                    do="Change the width or the number of heads.",
                )
            if self.heads % self.kv_heads:
                raise UsageError(
                    "The key heads do not divide the query heads.",
                    wanted="heads that are a multiple of kv_heads",
                    got=f"heads {self.heads}, kv_heads {self.kv_heads}",
                    do="Change the number of heads or of key heads.",
                )

        @property
        def head_dim(self) -> int:
            """E, the channels of one head."""
            return self.width // self.heads

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        rows = (config.heads + 2 * config.kv_heads) * config.head_dim
        self.qkv = skip_init(nn.Linear, config.width, rows, bias=False)
        self.out = skip_init(nn.Linear, config.width, config.width, bias=False)

    def forward(
        self,
        x_BTD: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        memory: Memory | None = None,
        layer: int = 0,
    ) -> Tensor:
        """Mix tokens.

        Args:
            x_BTD: normalised input.
            rotary: from `rotary_table`, for the positions of the T new tokens.
            mask: true where a query may look at a key, [B, T, S]; None is plain causal, which needs T = S.
            memory: where earlier keys and values are; None when the T tokens are all there is.
            layer: the name of this layer in `memory`.

        Returns:
            [B, T, D].
        """
        B, T, D = x_BTD.shape
        H, K, E = self.config.heads, self.config.kv_heads, self.config.head_dim
        qkv = self.qkv(x_BTD).view(B, T, H + 2 * K, E)
        turned, values = rotate(qkv[:, :, : H + K], *rotary), qkv[:, :, H + K :]
        q_BHTE, k_BKTE, v_BKTE = (part.transpose(1, 2) for part in (turned[:, :, :H], turned[:, :, H:], values))
        k_BKSE, v_BKSE = (k_BKTE, v_BKTE) if memory is None else memory.extend(layer, k_BKTE, v_BKTE)
        mixed_BHTE = attend(q_BHTE, k_BKSE, v_BKSE, mask)
        return self.out(mixed_BHTE.transpose(1, 2).reshape(B, T, D))


@final
class SwiGLU(nn.Module):
    """`down(silu(gate(x)) · up(x))` (Shazeer, equation 6). The rows of `gate_up.weight` are all gates, then all ups."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = skip_init(nn.Linear, width, 2 * hidden, bias=False)
        self.down = skip_init(nn.Linear, hidden, width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return [B, T, D]."""
        gate_BTF, up_BTF = self.gate_up(x_BTD).chunk(2, dim=-1)
        return self.down(F.silu(gate_BTF) * up_BTF)


@final
class Block(nn.Module):
    """`x += attention(norm(x)); x += mlp(norm(x))`."""

    def __init__(self, attention: Attention.Config, hidden: int, norm_epsilon: float) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(attention.width, norm_epsilon)
        self.attention = Attention(attention)
        self.mlp_norm = RMSNorm(attention.width, norm_epsilon)
        self.mlp = SwiGLU(attention.width, hidden)

    def forward(
        self,
        x_BTD: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        memory: Memory | None = None,
        layer: int = 0,
    ) -> Tensor:
        """Return [B, T, D]; the arguments are those of `Attention.forward`."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), rotary, mask, memory, layer)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD))
