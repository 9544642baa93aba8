"""Rounding to 4 or 8 bits that looks at more than a group's least and largest number.

    fit     scale and minimum of each group by least squares, without data
    gptq    the error of each column is made good in those that are still to be rounded, with the products of inputs

Both give `Packed` matrices, so files and kernels are those of plain rounding; only the numbers in them are better.

Notable
- A fit begins with plain rounding and keeps what is better for each group, so it is never worse. From each of several
  ranges it goes to and fro between the codes that are nearest and the scale and minimum that are best for these codes.
- GPTQ rounds columns in the order of how much their input varies, the loudest first, while there is most left to make
  good with. The groups keep their place, so scales and minima are decided before the first column is rounded.
- Which of the columns matter is said by the products of inputs, xᵀx summed over tokens ("gram"), alone: the inputs
  themselves need not be kept.

Sources
- GPTQ: Frantar et al. 2022, https://arxiv.org/abs/2210.17323, equations 2 and 3 and section 3.3
- what it is derived from: Hassibi & Stork 1993, "Second order derivatives for network pruning: optimal brain surgeon"
- weighting a fit by the size of inputs is the observation of AWQ: Lin et al. 2023, https://arxiv.org/abs/2306.00978,
  section 3.1

What it does not do: AWQ's scaling of inputs, which would need to be folded into the layer before; codes of fewer bits.

Shapes: R rows (outputs) · C columns (inputs), a multiple of 32 · G = C / 32 groups of N = 32
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from sw2.base.errors import LearningError
from sw2.parts.layers.packed import GROUP, Bits, Packed, check_packable, from_codes, pack, unpack

__all__ = ["error", "fit", "gptq"]

_SPANS: Final = (0.65, 0.75, 0.85, 0.95, 1.0)
"""Of a group's range, what the first codes of a fit span; plain rounding spans it all."""
_ROUNDS: Final = 3
_DAMPING: Final = 0.01
"""What is added to the diagonal of the products, in units of its mean (Frantar et al., section 3.3)."""
_AT_ONCE: Final = 128
"""Columns after which the errors are carried on to all others."""


def error(weight_RC: Tensor, packed: Packed, gram_CC: Tensor) -> float:
    """What rounding changes in a layer's outputs: the sum of squares of `x (Q - W)ᵀ` over the inputs.

    Args:
        weight_RC: W.
        packed: Q.
        gram_CC: xᵀx, summed over inputs.
    """
    wrong_RC = unpack(packed) - weight_RC.float()
    return float(((wrong_RC @ gram_CC.float()) * wrong_RC).sum())


def fit(weight_RC: Tensor, bits: Bits, importance_C: Tensor | None = None) -> Packed:
    """Round a matrix with the scale and minimum of each group that give the least `Σ importance · error²`.

    Args:
        weight_RC: the matrix.
        bits: 4 or 8.
        importance_C: of each column, ≥ 0; None weighs all alike.

    Returns:
        Never worse by this measure than `pack`, in any group.

    Raises:
        UsageError: see `packed.check_packable`.
    """
    check_packable(weight_RC)
    groups = weight_RC.float().unflatten(1, (-1, GROUP))
    weights = torch.ones_like(groups[:1]) if importance_C is None else importance_C.float().view(1, -1, GROUP)
    # An input that never comes must not leave its group without any measure.
    weights = weights + 1e-6 * weights.mean() + 1e-30
    best = whole = _Grid.of(pack(weight_RC, bits))

    def squares(grid: _Grid) -> Tensor:
        return ((groups - grid.numbers(grid.codes(groups))).square() * weights).sum(-1)

    least_RG = squares(best)
    for span in _SPANS:
        grid = whole.spanning(span)
        for _ in range(_ROUNDS):
            grid = grid.solved(groups, weights)
            found_RG = squares(grid)
            best, least_RG = grid.where(found_RG < least_RG, best), torch.fmin(found_RG, least_RG)
    return best.packed(best.codes(groups))


def gptq(weight_RC: Tensor, gram_CC: Tensor, bits: Bits) -> Packed:
    """Round a layer's matrix so that its outputs change little (Frantar et al., equations 2 and 3).

    With H = xᵀx + λ I, columns are rounded one after the other. The error of column q, divided by [H⁻¹]_qq, is
    subtracted from all columns after it times [H⁻¹]_q,: , H⁻¹ being that of the columns not yet rounded; its rows are
    those of the Cholesky factor of the whole inverse.

    Args:
        weight_RC: the matrix.
        gram_CC: xᵀx, summed over the inputs x of the layer.
        bits: 4 or 8.

    Raises:
        UsageError: see `packed.check_packable`.
        LearningError: the products are not finite.
    """
    check_packable(weight_RC)
    gram = gram_CC.double()
    if not bool(gram.isfinite().all()):
        raise LearningError("The inputs of a layer are not finite.", wanted="finite numbers", got="inf or nan")
    diagonal_C = gram.diagonal()
    damped = gram + torch.eye(len(gram), dtype=torch.float64) * (_DAMPING * diagonal_C.mean() + 1e-12)
    order_C = torch.argsort(diagonal_C, descending=True, stable=True)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped[order_C][:, order_C]))
    factor_CC = torch.linalg.cholesky(inverse, upper=True).float()

    grid = _Grid.of(fit(weight_RC, bits, diagonal_C))
    # Column after column, so columns lie in rows here.
    parts = (grid.scales_RG, grid.inverse_RG, grid.minima_RG)
    scales_CR, inverse_CR, minima_CR = (part.repeat_interleave(GROUP, 1)[:, order_C].T.contiguous() for part in parts)
    left_CR = weight_RC.float()[:, order_C].T.contiguous()
    codes_CR = torch.empty_like(left_CR)
    for begin in range(0, len(left_CR), _AT_ONCE):
        end = min(begin + _AT_ONCE, len(left_CR))
        errors_KR = torch.empty_like(left_CR[begin:end])
        for column in range(begin, end):
            numbers_R, minima_R = left_CR[column], minima_CR[column]
            codes_R = ((numbers_R - minima_R) * inverse_CR[column]).round().clamp(*grid.range)
            errors_R = (numbers_R - (codes_R * scales_CR[column] + minima_R)) / factor_CC[column, column]
            left_CR[column + 1 : end].addr_(factor_CC[column, column + 1 : end], errors_R, alpha=-1)
            codes_CR[column], errors_KR[column - begin] = codes_R, errors_R
        left_CR[end:].addmm_(factor_CC[begin:end, end:].T, errors_KR, alpha=-1)
    return grid.packed(codes_CR[torch.argsort(order_C)].T.unflatten(1, (-1, GROUP)))


@dataclass(frozen=True)
class _Grid:
    """The numbers that codes stand for, `scale · code + minimum`, in each group; in 8 bits all minima are 0."""

    bits: Bits
    scales_RG: Tensor
    minima_RG: Tensor

    @classmethod
    def of(cls, packed: Packed) -> _Grid:
        scales = packed.scales.float()
        return cls(packed.bits, scales, torch.zeros_like(scales) if packed.minima is None else packed.minima.float())

    @property
    def range(self) -> tuple[int, int]:
        """The least and the largest code."""
        return (0, 15) if self.bits == 4 else (-127, 127)

    @property
    def inverse_RG(self) -> Tensor:
        """`1 / scale`, 0 where there is none."""
        return torch.where(self.scales_RG > 0, 1 / self.scales_RG, 0.0)

    def codes(self, groups_RGN: Tensor) -> Tensor:
        """The nearest codes."""
        return ((groups_RGN - self.minima_RG[..., None]) * self.inverse_RG[..., None]).round().clamp(*self.range)

    def numbers(self, codes_RGN: Tensor) -> Tensor:
        """What codes stand for."""
        return codes_RGN * self.scales_RG[..., None] + self.minima_RG[..., None]

    def spanning(self, share: float) -> _Grid:
        """A grid with the same centre and a share of the range."""
        scales_RG = self.scales_RG * share
        return _Grid(self.bits, scales_RG, self.minima_RG + sum(self.range) / 2 * (self.scales_RG - scales_RG))

    def solved(self, groups_RGN: Tensor, weights_1GN: Tensor) -> _Grid:
        """The grid of least weighted squares for the codes that are nearest on this one, rounded to float16."""
        codes = self.codes(groups_RGN)
        q_RG, qq_RG = (weights_1GN * codes).sum(-1), (weights_1GN * codes * codes).sum(-1)
        x_RG, qx_RG = (weights_1GN * groups_RGN).sum(-1), (weights_1GN * codes * groups_RGN).sum(-1)
        if self.bits == 8:
            scales_RG, minima_RG = qx_RG / qq_RG, self.minima_RG
        else:
            total_1G = weights_1GN.sum(-1)
            scales_RG = (total_1G * qx_RG - q_RG * x_RG) / (total_1G * qq_RG - q_RG * q_RG)
            minima_RG = (x_RG - scales_RG * q_RG) / total_1G
        solved = _Grid(self.bits, scales_RG.half().float(), minima_RG.half().float())
        # Where all codes are alike there is nothing to solve.
        return solved.where((solved.scales_RG + solved.minima_RG).isfinite() & (solved.scales_RG > 0), self)

    def where(self, condition_RG: Tensor, other: _Grid) -> _Grid:
        """This grid where the condition holds, the other one elsewhere."""
        scales_RG = torch.where(condition_RG, self.scales_RG, other.scales_RG)
        return _Grid(self.bits, scales_RG, torch.where(condition_RG, self.minima_RG, other.minima_RG))

    def packed(self, codes_RGN: Tensor) -> Packed:
        """The matrix of these codes."""
        return from_codes(codes_RGN, self.scales_RG, self.minima_RG if self.bits == 4 else None)
