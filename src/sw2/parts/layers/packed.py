"""Weights in 4 or 8 bits: groups of 32 along the input, with a scale (and, in 4 bits, a minimum) each.

    8 bits    w = scale · code                codes -127 … 127, scale float16: GGUF's Q8_0
    4 bits    w = scale · code + minimum      codes 0 … 15, scale and minimum float16: GGUF's Q4_1

Both are bit for bit those of llama.cpp's files, so that its models come in and go out without another rounding. Only
weights are packed; products are of full precision: each forward unpacks what it multiplies with. That is the reference
and what judging uses; writing text goes through `parts.decoding.native`, which reads the packed form itself.

Sources: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and ggml-quants.c (quantize_row_q4_1_ref) for the two
formats and how they round.

What it does not do: training (packed modules have no parameters), calibrated rounding.

Shapes: R rows (outputs) · C columns (inputs), a multiple of 32 · G = C / 32 groups
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeGuard, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sw2.base.errors import UsageError

__all__ = [
    "GROUP",
    "PARTS",
    "Packed",
    "PackedEmbedding",
    "PackedLinear",
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


def pack(weight_RC: Tensor, bits: Bits) -> Packed:
    """Round a matrix to nearest.

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
    groups = weight_RC.float().unflatten(1, (-1, GROUP))
    if bits == 8:
        scales = groups.abs().amax(-1) / 127
        exact = _divided(groups, scales)
        codes = torch.trunc(exact + 0.5 * exact.sign()).to(torch.int8)  # halves away from zero
        return Packed(8, codes.flatten(1), scales.half(), None)
    minima = groups.amin(-1)
    scales = (groups.amax(-1) - minima) / 15
    codes = (_divided(groups - minima[..., None], scales) + 0.5).floor().clamp(0, 15).to(torch.uint8)
    low, high = codes.split(GROUP // 2, dim=-1)
    return Packed(4, (low | high << 4).flatten(1), scales.half(), minima.half())


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


def pack_modules(model: nn.Module, matrix_bits: int, embedding_bits: int) -> None:
    """Put empty packed modules in the place of linear layers and embeddings, for loading a state.

    Args:
        model: changed in place.
        matrix_bits: of every `nn.Linear` whose columns are a multiple of 32; 0 leaves them.
        embedding_bits: of every `nn.Embedding`, likewise.
    """
    for name, module in list(model.named_modules()):
        new: nn.Module | None = None
        if matrix_bits and isinstance(module, nn.Linear) and module.in_features % GROUP == 0:
            new = PackedLinear(module, 4 if matrix_bits == 4 else 8)
        elif embedding_bits and isinstance(module, nn.Embedding) and module.embedding_dim % GROUP == 0:
            new = PackedEmbedding(module, 4 if embedding_bits == 4 else 8)
        if new is not None:
            model.set_submodule(name, new)
