"""The blocks of decoder-only transformers, from GPT-2 to Qwen3: norms, positions, attention, feed-forward layers.

What is notable
- Each variant is a word in a config: RMSNorm or LayerNorm; rotary positions, or none here (learned ones are added by
  the model, ALiBi's slopes come in as a bias); grouped heads; norms on queries and keys; biases; SwiGLU, GELU, ReLU².
- One matrix product makes queries, keys and values, and one makes the gate and the up projection.
- Rotary tables and masks are made once per batch by whoever owns the blocks, and handed to every layer.
- No buffers: the state of a block is its weights and nothing else.
- Attention does not know what a cache is. It takes an optional `Memory`, which stores the new keys and values and
  gives back all that the queries may look at; `parts.decoding.cache` holds one.

Sources
- RMSNorm: Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467, equation 4
- LayerNorm: Ba et al. 2016, https://arxiv.org/abs/1607.06450, equation 4
- Rotary positions: Su et al. 2021, https://arxiv.org/abs/2104.09864, section 3.2.2; stretched to longer texts by
  interpolation (Chen et al. 2023, https://arxiv.org/abs/2306.15595), by YaRN (Peng et al. 2023,
  https://arxiv.org/abs/2309.00071, section 3) and by the rule of LLaMA 3.1 (https://arxiv.org/abs/2407.21783, section
  3.2, whose numbers are in the configs of its weights)
- ALiBi: Press et al. 2022, https://arxiv.org/abs/2108.12409, section 3
- Grouped-query attention: Ainslie et al. 2023, https://arxiv.org/abs/2305.13245
- SwiGLU: Shazeer 2020, https://arxiv.org/abs/2002.05202, equation 6; GELU: Hendrycks & Gimpel 2016,
  https://arxiv.org/abs/1606.08415; ReLU²: So et al. 2021, https://arxiv.org/abs/2109.08668, section 4
- Norms on queries and keys: Henry et al. 2020, https://arxiv.org/abs/2010.04245, as Qwen3 has them
- The arrangement: Touvron et al. 2023, https://arxiv.org/abs/2302.13971, section 2.2

What it does not do: dropout, sliding windows, mixtures of experts; no initialisation (the model's business).

Shapes: B batch · T new tokens · S keys in sight · D width · H query heads · K key heads · G = H / K · E channels of a
        head, usually D / H · F hidden width of the feed-forward layer · C = E / 2 rotary pairs
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, Protocol, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from sw2.base.errors import UsageError
from sw2.parts.layers.attention import attend

__all__ = [
    "ALL_BIASES",
    "Attention",
    "Block",
    "FeedForward",
    "Memory",
    "NormKind",
    "RMSNorm",
    "RotaryScaling",
    "SwiGLU",
    "alibi_slopes",
    "build_norm",
    "rotary_table",
    "rotate",
]

NormKind = Literal["rms", "layer"]
Activation = Literal["swiglu", "gelu", "gelu_tanh", "relu2"]
Biases = Literal["none", "qkv", "all"]
ALL_BIASES: Final = "all"


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


def build_norm(kind: NormKind, width: int, epsilon: float) -> nn.Module:
    """Make the norm called `kind` over a last axis of `width`: "rms" (RMSNorm) or "layer" (LayerNorm with a bias)."""
    return RMSNorm(width, epsilon) if kind == "rms" else nn.LayerNorm(width, epsilon)


@final
@dataclass(frozen=True, kw_only=True)
class RotaryScaling:
    """How rotary positions are stretched to longer texts than were trained on.

    Args:
        rule: which one; see the top of this file.
        factor: how many times longer, at least 1.
        trained: the length before stretching, in tokens, for "llama3" and "yarn".
        low: pairs that turn less often than this within `trained` are slowed by `factor` in full ("llama3": its
            low_freq_factor, "yarn": its beta_slow).
        high: pairs that turn more often are left alone (high_freq_factor, beta_fast); between, the two are blended.
        attention: "yarn" multiplies cosines and sines by this; 0 takes 0.1 ln(factor) + 1.
    """

    rule: Literal["none", "linear", "llama3", "yarn"] = "none"
    factor: float = 1.0
    trained: int = 0
    low: float = 1.0
    high: float = 4.0
    attention: float = 0.0

    def __post_init__(self) -> None:
        stretched = self.rule in ("llama3", "yarn")
        if not (self.factor >= 1 and self.attention >= 0 and 0 < self.low < self.high) or (
            stretched and self.trained < 1
        ):
            raise UsageError(
                "Rotary positions cannot be stretched like this.",
                wanted="factor ≥ 1, 0 < low < high, and trained ≥ 1 for llama3 and yarn",
                got=self,
            )


def _frequencies(head_dim: int, base: float, scaling: RotaryScaling, device: torch.device) -> Tensor:
    """The angle per position of each pair, float32 [C]."""
    pairs_C = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32)
    # exp rather than a power of `base`: torch's compiler keeps what an exp went into, instead of computing cosines
    # anew for every head of every layer.
    plain_C = torch.exp(pairs_C * (-math.log(base) / head_dim))
    if scaling.rule == "none":
        return plain_C
    if scaling.rule == "linear":
        return plain_C / scaling.factor
    if scaling.rule == "llama3":
        turns_C = scaling.trained * plain_C / (2 * math.pi)
        keep_C = ((turns_C - scaling.low) / (scaling.high - scaling.low)).clamp(0, 1)
    else:
        # YaRN blends along the number of the pair, between those that make `high` and `low` turns (section 3.2).
        def pair(turns: float) -> float:
            return head_dim * math.log(scaling.trained / (turns * 2 * math.pi)) / (2 * math.log(base))

        first, last = max(math.floor(pair(scaling.high)), 0), min(math.ceil(pair(scaling.low)), head_dim - 1)
        keep_C = 1 - ((pairs_C / 2 - first) / max(last - first, 1e-3)).clamp(0, 1)
    return plain_C * (keep_C + (1 - keep_C) / scaling.factor)


def rotary_table(
    positions: Tensor, head_dim: int, base: float, scaling: RotaryScaling | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of `position · base^(-2c / E)` for every pair c (Su et al., equation 15), stretched by rule.

    Args:
        positions: integers of any shape, for instance [T] or [B, T].
        head_dim: E, even.
        base: how slowly the slowest pair turns; 10,000 in the paper.
        scaling: how they are stretched; None: not.

    Returns:
        Two float32 tensors shaped `positions.shape + (E / 2,)`.
    """
    scaling = scaling or RotaryScaling()
    angles = positions[..., None].float() * _frequencies(head_dim, base, scaling, positions.device)
    if scaling.rule != "yarn":
        return angles.cos(), angles.sin()
    scale = scaling.attention or 0.1 * math.log(scaling.factor) + 1
    return angles.cos() * scale, angles.sin() * scale


def alibi_slopes(heads: int) -> Tensor:
    """ALiBi's slopes: 2^(-8h/H), h = 1 … H, for H a power of two; else those of the next lower power, and every other
    one of the next higher (Press et al., section 3 and their code). float32 [H].

    >>> alibi_slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    """
    lower = 2 ** math.floor(math.log2(heads))
    steps = [8 * (h + 1) / lower for h in range(lower)]
    steps += [4 * (2 * h + 1) / lower for h in range(heads - lower)]
    return torch.tensor([2.0**-step for step in steps])


def rotate(x_BTHE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn channel c and channel c + E/2 of each head by its position's angle (the half-split order of LLaMA).

    Args:
        x_BTHE: queries or keys.
        cos: [T, C] or [B, T, C], from `rotary_table`.
        sin: the same shape.

    Returns:
        [B, T, H, E] in the dtype of `x_BTHE`.
    """
    halves_2C = x_BTHE.float().unflatten(-1, (2, -1))
    cos, sin = cos[..., None, None, :], sin[..., None, None, :]
    # first cos - second sin, second cos + first sin: the other half comes by a flip, whose gradient is a flip again. A
    # compiler makes one vector loop of it each way; joining two halves costs it three times as long.
    turned = halves_2C * cos + halves_2C.flip(-2) * torch.cat((-sin, sin), -2)
    return turned.flatten(-2).to(x_BTHE.dtype)


@final
class Attention(nn.Module):
    """Causal grouped-query self-attention.

    Query head h reads key head `h // (H / K)`. The rows of `qkv.weight` are all queries, then all keys, then all
    values. Norms on queries and keys, where there are any, are RMSNorms over the channels of a head, before rotation.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes: `width` D, `heads` H, `kv_heads` K (divides H), `head_dim` E (0: D / H); which biases; head norms."""

        width: int
        heads: int
        kv_heads: int
        head_dim: int = 0
        biases: Biases = "none"
        head_norm: bool = False
        norm_epsilon: float = 1e-5

        def __post_init__(self) -> None:
            if min(self.width, self.heads, self.kv_heads) < 1 or self.head_dim < 0 or self.head_dim % 2:
                raise UsageError("This is not the shape of attention.", wanted="sizes of at least 1", got=self)
            if not self.head_dim and self.width % (2 * self.heads):
                raise UsageError(
                    "The heads do not divide the width.",
                    wanted="a width that is a multiple of 2 · heads",
                    got=f"width {self.width}, heads {self.heads}",
                    do="Change the width or the number of heads, or set head_dim.",
                )
            if self.heads % self.kv_heads:
                raise UsageError(
                    "The key heads do not divide the query heads.",
                    wanted="heads that are a multiple of kv_heads",
                    got=f"heads {self.heads}, kv_heads {self.kv_heads}",
                    do="Change the number of heads or of key heads.",
                )

        @property
        def channels(self) -> int:
            """E, the channels of one head."""
            return self.head_dim or self.width // self.heads

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        E = config.channels
        rows = (config.heads + 2 * config.kv_heads) * E
        self.qkv = skip_init(nn.Linear, config.width, rows, bias=config.biases != "none")
        if config.head_norm:
            self.query_norm = RMSNorm(E, config.norm_epsilon)
            self.key_norm = RMSNorm(E, config.norm_epsilon)
        self.out = skip_init(nn.Linear, config.heads * E, config.width, bias=config.biases == ALL_BIASES)

    def forward(
        self,
        x_BTD: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
        mask: Tensor | None = None,
        memory: Memory | None = None,
        layer: int = 0,
    ) -> Tensor:
        """Mix tokens.

        Args:
            x_BTD: normalised input.
            rotary: from `rotary_table`, for the positions of the T new tokens; None does not turn.
            mask: which key a query may look at, [B, T, S] bool; what is added to its score, [B, H, T, S] float; or
                the document of each token, [B, T] int64 (see `attend`). None is plain causal, which needs T = S.
            memory: where earlier keys and values are; None when the T tokens are all there is.
            layer: the name of this layer in `memory`.

        Returns:
            [B, T, D].
        """
        B, T, _ = x_BTD.shape
        H, K, E = self.config.heads, self.config.kv_heads, self.config.channels
        q_BTHE, k_BTKE, v_BTKE = self.qkv(x_BTD).view(B, T, H + 2 * K, E).split([H, K, K], dim=2)
        if self.config.head_norm:
            q_BTHE, k_BTKE = self.query_norm(q_BTHE), self.key_norm(k_BTKE)
        if rotary is not None:
            q_BTHE, k_BTKE = rotate(q_BTHE, *rotary), rotate(k_BTKE, *rotary)
        q_BHTE, k_BKTE, v_BKTE = (part.transpose(1, 2) for part in (q_BTHE, k_BTKE, v_BTKE))
        k_BKSE, v_BKSE = (k_BKTE, v_BKTE) if memory is None else memory.extend(layer, k_BKTE, v_BKTE)
        mixed_BHTE = attend(q_BHTE, k_BKSE, v_BKSE, mask)
        return self.out(mixed_BHTE.transpose(1, 2).reshape(B, T, H * E))


@final
class SwiGLU(nn.Module):
    """`down(silu(gate(x)) · up(x))` (Shazeer, equation 6). The rows of `gate_up.weight` are all gates, then all ups."""

    def __init__(self, width: int, hidden: int, *, bias: bool = False) -> None:
        super().__init__()
        self.gate_up = skip_init(nn.Linear, width, 2 * hidden, bias=bias)
        self.down = skip_init(nn.Linear, hidden, width, bias=bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return [B, T, D]."""
        gate_BTF, up_BTF = self.gate_up(x_BTD).chunk(2, dim=-1)
        return self.down(F.silu(gate_BTF) * up_BTF)


@final
class FeedForward(nn.Module):
    """`down(activation(up(x)))`: GELU by the error function ("gelu") or by tanh ("gelu_tanh"), ReLU² ("relu2")."""

    def __init__(self, width: int, hidden: int, activation: Activation, *, bias: bool) -> None:
        super().__init__()
        self.activation = activation
        self.up = skip_init(nn.Linear, width, hidden, bias=bias)
        self.down = skip_init(nn.Linear, hidden, width, bias=bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return [B, T, D]."""
        up_BTF = self.up(x_BTD)
        if self.activation == "relu2":
            return self.down(F.relu(up_BTF).square())
        return self.down(F.gelu(up_BTF, approximate="tanh" if self.activation == "gelu_tanh" else "none"))


@final
class Block(nn.Module):
    """`x += attention(norm(x)); x += mlp(norm(x))`."""

    def __init__(
        self,
        attention: Attention.Config,
        hidden: int,
        norm_epsilon: float,
        *,
        norm: NormKind = "rms",
        activation: Activation = "swiglu",
    ) -> None:
        super().__init__()
        bias = attention.biases == ALL_BIASES
        self.attention_norm = build_norm(norm, attention.width, norm_epsilon)
        self.attention = Attention(attention)
        self.mlp_norm = build_norm(norm, attention.width, norm_epsilon)
        self.mlp: nn.Module = (
            SwiGLU(attention.width, hidden, bias=bias)
            if activation == "swiglu"
            else FeedForward(attention.width, hidden, activation, bias=bias)
        )

    def forward(
        self,
        x_BTD: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
        mask: Tensor | None = None,
        memory: Memory | None = None,
        layer: int = 0,
    ) -> Tensor:
        """Return [B, T, D]; the arguments are those of `Attention.forward`."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), rotary, mask, memory, layer)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD))
