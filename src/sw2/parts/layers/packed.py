"""Weights in 4 or 8 bits: groups of 32 along the input, with a scale (and, in 4 bits, a minimum) each.

    8 bits    w = scale · code                codes -127 … 127, scale float16: GGUF's Q8_0
    4 bits    w = scale · code + minimum      codes 0 … 15, scale and minimum float16: GGUF's Q4_1

Both are bit for bit those of llama.cpp's files, so that its models come in and go out without another rounding. Only
weights are packed; products are of full precision: each forward unpacks what it multiplies with. That is the reference
and what judging uses; writing text goes through `parts.decoding.native`, which reads the packed form itself.

Sources: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and ggml-quants.c (quantize_row_q4_1_ref) for the two
formats and how they round.

What it does not do: training (packed modules have no parameters); rounding that looks at more than a group's least and
largest number, which is in `parts.layers.calibrated`.

Shapes: R rows (outputs) · C columns (inputs), a multiple of 32 · G = C / 32 groups of N = 32
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal, TypeGuard, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sw2.base.errors import UsageError

__all__ = [
    "GROUP",
    "PARTS",
    "Bits",
    "Packed",
    "PackedEmbedding",
    "PackedLinear",
    "can_pack",
    "check_packable",
    "from_codes",
    "is_packed",
    "pack",
    "pack_modules",
    "unpack",
]

GROUP: Final = 32
PARTS: Final = (".codes", ".scales", ".minima")
"""Endings of the names of a packed matrix' buffers in a state."""
Bits = Literal[4, 8]


@final
@dataclass(frozen=True)
class Packed:
    """A packed matrix.

    Args:
        bits: 4 or 8.
        codes: uint8 [R, C / 2] in 4 bits, of each group byte j holds element j in its low half and j + 16 in its high
            one; int8 [R, C] in 8.
        scales: float16 [R, G].
        minima: float16 [R, G] in 4 bits, None in 8.
    """

    bits: Bits
    codes: Tensor
    scales: Tensor
    minima: Tensor | None

    def state(self, owner: str) -> dict[str, Tensor]:
        """Its tensors by their names in the state of a network, where the module or parameter `owner` has it."""
        parts = dict(zip(PARTS, (self.codes, self.scales, self.minima), strict=True))
        return {f"{owner}{ending}": tensor for ending, tensor in parts.items() if tensor is not None}


def check_packable(weight_RC: Tensor) -> None:
    """Complain about a matrix that cannot be packed.

    Raises:
        UsageError: its columns are no multiple of 32, or a number is not finite or too large for float16 scales.
    """
    # The largest scale or minimum that float16 holds is 65,504.
    if weight_RC.ndim != 2 or weight_RC.shape[1] % GROUP or not bool((weight_RC.abs() <= 65_504).all()):
        raise UsageError(
            "These weights cannot be packed.",
            wanted=f"a matrix of numbers up to 65,504 with a multiple of {GROUP} columns",
            got=f"shape {tuple(weight_RC.shape)}, largest {float(weight_RC.abs().amax()):g}",
        )


def pack(weight_RC: Tensor, bits: Bits) -> Packed:
    """Round a matrix to nearest, between the least and the largest number of each group.

    Raises:
        UsageError: see `check_packable`.
    """
    check_packable(weight_RC)
    groups = weight_RC.float().unflatten(1, (-1, GROUP))
    if bits == 8:
        scales = groups.abs().amax(-1) / 127
        exact = _divided(groups, scales)
        codes = torch.trunc(exact + 0.5 * exact.sign())  # halves away from zero
        return from_codes(codes, scales, None)
    minima = groups.amin(-1)
    scales = (groups.amax(-1) - minima) / 15
    codes = (_divided(groups - minima[..., None], scales) + 0.5).floor().clamp(0, 15)
    return from_codes(codes, scales, minima)


def from_codes(codes_RGN: Tensor, scales_RG: Tensor, minima_RG: Tensor | None) -> Packed:
    """Pack numbers that are rounded already.

    Args:
        codes_RGN: whole numbers [R, G, 32]: -127 … 127, or 0 … 15 where there are minima.
        scales_RG: as float16 or what is to be rounded to it.
        minima_RG: None for 8 bits.
    """
    if minima_RG is None:
        return Packed(8, codes_RGN.to(torch.int8).flatten(1), scales_RG.half(), None)
    low, high = codes_RGN.to(torch.uint8).split(GROUP // 2, dim=-1)
    return Packed(4, (low | high << 4).flatten(1), scales_RG.half(), minima_RG.half())


def _divided(numbers: Tensor, by: Tensor) -> Tensor:
    """`numbers / by` as llama.cpp has it: times the reciprocal, and 0 where all numbers of a group are alike (or so
    nearly that there is no reciprocal).
    """
    inverse = torch.where((by > 0) & (1 / by).isfinite(), 1 / by, 0.0)
    return numbers * inverse[..., None]


def unpack(packed: Packed) -> Tensor:
    """The numbers that a packed matrix stands for, float32 [R, C]."""
    scales = packed.scales.float()[..., None]
    if packed.bits == 8:
        return (packed.codes.unflatten(1, (-1, GROUP)).float() * scales).flatten(1)
    halves = packed.codes.unflatten(1, (-1, GROUP // 2))
    codes = torch.cat((halves & 15, halves >> 4), -1).float()
    assert packed.minima is not None, "4 bits have minima"
    return (codes * scales + packed.minima.float()[..., None]).flatten(1)


class _PackedMatrix(nn.Module):
    """Buffers of a packed matrix, empty until a state is loaded."""

    codes: Tensor
    scales: Tensor
    minima: Tensor | None

    def __init__(self, rows: int, columns: int, bits: Bits) -> None:
        super().__init__()
        self.bits: Bits = bits
        groups = columns // GROUP
        width, dtype = (columns // 2, torch.uint8) if bits == 4 else (columns, torch.int8)
        self.register_buffer("codes", torch.zeros(rows, width, dtype=dtype))
        self.register_buffer("scales", torch.zeros(rows, groups, dtype=torch.float16))
        if bits == 4:
            self.register_buffer("minima", torch.zeros(rows, groups, dtype=torch.float16))
        else:
            self.minima = None

    @property
    def packed(self) -> Packed:
        """The matrix as it is kept."""
        return Packed(self.bits, self.codes, self.scales, self.minima)

    @property
    def weight(self) -> Tensor:
        """The numbers, float32 [R, C], made anew at every call."""
        return unpack(self.packed)


@final
class PackedLinear(_PackedMatrix):
    """`nn.Linear` whose matrix is packed; the bias is not.

    Args:
        linear: whose sizes and bias it takes; its matrix is not.
        bits: 4 or 8.
    """

    def __init__(self, linear: nn.Linear, bits: Bits) -> None:
        super().__init__(linear.out_features, linear.in_features, bits)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return the product, in the dtype of `x`."""
        return F.linear(x, self.weight.to(x.dtype), self.bias)


@final
class PackedEmbedding(_PackedMatrix):
    """`nn.Embedding` whose table is packed.

    Args:
        embedding: whose sizes it takes.
        bits: 4 or 8.
    """

    def __init__(self, embedding: nn.Embedding, bits: Bits) -> None:
        super().__init__(embedding.num_embeddings, embedding.embedding_dim, bits)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the rows of `tokens`, float32."""
        rows = tokens.flatten()
        minima = None if self.minima is None else self.minima[rows]
        return unpack(Packed(self.bits, self.codes[rows], self.scales[rows], minima)).view(*tokens.shape, -1)


def is_packed(module: nn.Module) -> TypeGuard[PackedLinear | PackedEmbedding]:
    """Whether a module keeps a packed matrix."""
    return isinstance(module, _PackedMatrix)


def can_pack(module: nn.Module) -> bool:
    """Whether `pack_modules` has a packed form of this module."""
    if isinstance(module, nn.Linear):
        return module.in_features % GROUP == 0
    return isinstance(module, nn.Embedding) and module.embedding_dim % GROUP == 0


def pack_modules(model: nn.Module, matrix_bits: int, embedding_bits: int, keep: Collection[str] = ()) -> None:
    """Put empty packed modules in the place of linear layers and embeddings, for loading a state.

    Args:
        model: changed in place.
        matrix_bits: of every `nn.Linear` whose columns are a multiple of 32; 0 leaves them.
        embedding_bits: of every `nn.Embedding`, likewise.
        keep: names of modules that stay as they are.
    """
    for name, module in list(model.named_modules()):
        if name in keep or not can_pack(module):
            continue
        if isinstance(module, nn.Linear) and matrix_bits:
            model.set_submodule(name, PackedLinear(module, 4 if matrix_bits == 4 else 8))
        elif isinstance(module, nn.Embedding) and embedding_bits:
            model.set_submodule(name, PackedEmbedding(module, 4 if embedding_bits == 4 else 8))
