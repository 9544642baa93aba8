"""From a decoder's weights to what the native kernels run; see `parts.decoding.native`.

Notable: what a network has is read from the names in its state, and a part that the kernels have never heard of is
refused, not ignored. Matrices are taken as they are: packed to 4 or 8 bits, bfloat16, or float32.

`SW2_NATIVE=off` in the environment keeps to the torch path, which is the reference.

What it does not do: half precision in fp16, which is turned to fp32; networks on another device than the CPU.

Shapes: P positions · H heads · E channels of a head
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import torch
from torch import Tensor

from sw2.base.native import switched_off
from sw2.parts.decoding import native
from sw2.parts.decoding.native import NativeLayer, NativeMatrix, NativeNorm, NativeWeights

__all__ = ["native_weights", "why_not"]

_MATRICES: Final = ("attention.qkv", "attention.out", "mlp.gate_up", "mlp.up", "mlp.down")
_NORMS: Final = ("attention_norm", "mlp_norm", "attention.query_norm", "attention.key_norm")
_OUTER_MATRICES: Final = ("embedding", "positions", "recall", "share", "head")
_OUTER_NORMS: Final = ("embedding_norm", "norm")
_PACKED: Final = ("codes", "scales", "minima")


def why_not(state: Mapping[str, Tensor]) -> str | None:
    """Why a decoder with this state cannot run natively, in one sentence; None when it can.

    Args:
        state: from `Decoder.state_dict()`.
    """
    if switched_off():
        return "SW2_NATIVE is off."
    if strange := sorted(name for name in state if not _known(name)):
        return f"The native kernels do not know {strange[0]}."
    if any(tensor.device.type != "cpu" for tensor in state.values()):
        return "The native kernels run on the CPU only."
    return native.available()


def native_weights(
    state: Mapping[str, Tensor],
    *,
    heads: int,
    kv_heads: int,
    norm_epsilon: float,
    activation: Literal["swiglu", "gelu", "gelu_tanh", "relu2"],
    rotary: tuple[Tensor, Tensor],
    slopes: Tensor,
) -> NativeWeights | None:
    """Describe a decoder to the kernels; None where `why_not` has a reason or a size does not suit them.

    Args:
        state: from `Decoder.state_dict()`.
        heads: H.
        kv_heads: K.
        norm_epsilon: of every norm.
        activation: of the feed-forward layers.
        rotary: cosines and sines [P, E / 2], from `parts.layers.transformer.rotary_table`; 1 and 0 for no rotation.
        slopes: [H], from `parts.layers.transformer.alibi_slopes`; 0 for none.
    """
    if why_not(state) is not None:
        return None
    owners = {name.rpartition(".")[0] for name in state} | {"head"} & set(state)
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))

    def matrix(name: str) -> NativeMatrix | None:
        return _matrix(state, name) if name in owners else None

    def norm(name: str) -> NativeNorm | None:
        return NativeNorm(weight=state[f"{name}.weight"], bias=state.get(f"{name}.bias")) if name in owners else None

    def layer(prefix: str) -> NativeLayer:
        matrices = {name.partition(".")[2]: matrix(prefix + name) for name in _MATRICES}
        gate_up, up = matrices.pop("gate_up"), matrices.pop("up")
        norms = {name.rpartition(".")[2]: norm(prefix + name) for name in _NORMS}
        parts: dict[str, Any] = {**matrices, **norms, "up": gate_up or up}
        return NativeLayer(**parts)

    outer: dict[str, Any] = {name: matrix(name) for name in _OUTER_MATRICES} | {
        name: norm(name) for name in _OUTER_NORMS
    }
    weights = NativeWeights(
        heads=heads,
        kv_heads=kv_heads,
        norm_epsilon=norm_epsilon,
        activation=activation,
        cosines=rotary[0],
        sines=rotary[1],
        slopes=slopes,
        layers=tuple(layer(f"blocks.{index}.") for index in range(depth)),
        **{**outer, "head": outer["head"] or outer["embedding"]},
    )
    fits = weights.obstacle() is None and weights.longest == len(weights.cosines)
    return weights if fits else None


def _known(name: str) -> bool:
    inside = name.startswith("blocks.")
    owner, _, kind = (name.split(".", 2)[2] if inside else name).rpartition(".")
    if owner in (_NORMS if inside else _OUTER_NORMS):
        return kind in ("weight", "bias")
    if owner in (_MATRICES if inside else _OUTER_MATRICES):
        return kind in ("weight", "bias", *_PACKED)
    return name == "head"


def _matrix(state: Mapping[str, Tensor], name: str) -> NativeMatrix:
    bias = state.get(f"{name}.bias")
    if f"{name}.codes" in state:
        codes, scales, minima = (state.get(f"{name}.{part}") for part in _PACKED)
        assert codes is not None, "checked above"
        bits: Literal[4, 8] = 8 if minima is None else 4
        return NativeMatrix(bits=bits, codes=codes, scales=scales, minima=minima, bias=bias)
    weight = state[name] if name in state else state[f"{name}.weight"]
    if weight.dtype == torch.bfloat16:
        return NativeMatrix(bits=16, codes=weight, bias=bias)
    return NativeMatrix(bits=32, codes=weight.float(), bias=bias)
