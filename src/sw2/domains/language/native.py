"""From a decoder's weights to what the native kernels run; see `parts.decoding.native`.

Notable: whether the kernels know a network is read from the names in its state, so that a part they have never heard
of (a norm with a bias, another feed-forward layer, recall, an embedding of places) is refused, not ignored. Matrices
are taken as they are: packed to 4 or 8 bits, bfloat16, or float32.

`SW2_NATIVE=off` in the environment keeps to the torch path, which is the reference.

What it does not do: half precision in fp16, which is turned to fp32; networks on another device than the CPU.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, Literal

import torch
from torch import Tensor

from sw2.parts.decoding import native
from sw2.parts.decoding.native import NativeLayer, NativeMatrix, NativeWeights

__all__ = ["native_weights", "switched_off", "why_not"]

_MATRICES: Final = ("attention.qkv", "attention.out", "mlp.gate_up", "mlp.down")
_VECTORS: Final = ("attention_norm.weight", "mlp_norm.weight")
_OPTIONAL: Final = ("attention.qkv.bias", "attention.query_norm.weight", "attention.key_norm.weight")
_PACKED: Final = ("codes", "scales", "minima")


def switched_off() -> bool:
    """Whether `SW2_NATIVE=off` asks for the torch path."""
    return os.environ.get("SW2_NATIVE", "").lower() == "off"


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
    rotary: tuple[Tensor, Tensor],
) -> NativeWeights | None:
    """Describe a decoder to the kernels; None where `why_not` has a reason or a size does not suit them.

    Args:
        state: from `Decoder.state_dict()`.
        heads: H.
        kv_heads: K.
        norm_epsilon: of every norm.
        rotary: cosines and sines [positions, E / 2], from `parts.layers.transformer.rotary_table`.
    """
    if why_not(state) is not None:
        return None
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))

    def layer(prefix: str) -> NativeLayer:
        qkv, out, gate_up, down = (_matrix(state, prefix + name) for name in _MATRICES)
        attention_norm, mlp_norm = (state[prefix + name] for name in _VECTORS)
        bias, query_norm, key_norm = (state.get(prefix + name) for name in _OPTIONAL)
        return NativeLayer(
            attention_norm=attention_norm,
            qkv=qkv,
            out=out,
            mlp_norm=mlp_norm,
            gate_up=gate_up,
            down=down,
            qkv_bias=bias,
            query_norm=query_norm,
            key_norm=key_norm,
        )

    embedding = _matrix(state, "embedding")
    weights = NativeWeights(
        heads=heads,
        kv_heads=kv_heads,
        norm_epsilon=norm_epsilon,
        cosines=rotary[0],
        sines=rotary[1],
        embedding=embedding,
        layers=tuple(layer(f"blocks.{index}.") for index in range(depth)),
        norm=state["norm.weight"],
        head=_matrix(state, "head") if any(name.split(".")[0] == "head" for name in state) else embedding,
    )
    return weights if weights.obstacle() is None else None


def _known(name: str) -> bool:
    if name.startswith("blocks."):
        inner = name.split(".", 2)[2]
        return inner in (*_VECTORS, *_OPTIONAL) or _is_matrix(inner, _MATRICES)
    return name in ("norm.weight", "head") or _is_matrix(name, ("embedding", "head"))


def _is_matrix(name: str, matrices: tuple[str, ...]) -> bool:
    owner, _, kind = name.rpartition(".")
    return owner in matrices and kind in ("weight", *_PACKED)


def _matrix(state: Mapping[str, Tensor], name: str) -> NativeMatrix:
    if f"{name}.codes" in state:
        codes, scales, minima = (state.get(f"{name}.{part}") for part in _PACKED)
        assert codes is not None, "checked above"
        bits: Literal[4, 8] = 8 if minima is None else 4
        return NativeMatrix(bits=bits, codes=codes, scales=scales, minima=minima)
    weight = state[name] if name in state else state[f"{name}.weight"]
    if weight.dtype == torch.bfloat16:
        return NativeMatrix(bits=16, codes=weight)
    return NativeMatrix(bits=32, codes=weight.float())
