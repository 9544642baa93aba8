"""Muon: momentum whose matrix is replaced by its nearest (semi-)orthogonal one before each step.

    M <- mu M + (1 - mu) G                         momentum, G the gradient
    O  = orthogonalize((1 - mu) G + mu M)          Nesterov look-ahead; every singular value becomes about 1
    W <- (1 - lr * weight_decay) W - lr * 0.2 sqrt(max(R, C)) O

Shape legend: N matrices of one shape, R rows and C columns.

Notable choices
- Gram form of the Newton-Schulz iteration. With X = M / |M|, each step X <- (aI + bG + cG²) X only needs G = X Xᵀ, so
  the iteration runs on R x R matrices and touches the R x C one twice. |M|² is the trace of M Mᵀ; the division waits.
- Row blocks: a weight of [320, 864] counts as five matrices of [64, 864]. For a query, key or value projection a block
  of `head_dim` rows is one attention head; elsewhere it is a choice that makes the step cheap: with blocks of 64 rows
  it takes 5 % of the forward and backward pass of 2,048 tokens through a decoder of 10 million parameters on one core,
  with whole matrices 22 %. It cost a small decoder of bytes nothing: held-out loss 1.91 nats with blocks and 1.96
  without, after 300 steps (means of two seeds at one learning rate; AdamW at that rate 2.24).
  Training large models by blocks alone is reported to grow unstable (MuonBP): set `block_rows` to 0 there.
- float32 throughout, on every device: bf16 products do not exist on many CPUs and are then slower than float32.
- The factor 0.2 sqrt(max(R, C)) gives the update the root mean square of AdamW's, so AdamW's learning rate and weight
  decay carry over.
- Convolution filters [out, in, ...] are matrices [out, in * ...].
- Sharded tensors (FSDP2) are gathered, orthogonalised by every process alike, and each takes its part back.

Why not `torch.optim.Muon` (from torch 2.9): it always multiplies in bf16, one matrix at a time, and takes only
two-dimensional parameters. On a CPU without bf16 instructions a step on whole matrices took 28 times as long as ours.
The tests compare the results of the two.

Sources: K. Jordan, "Muon: an optimizer for hidden layers" (2024), https://kellerjordan.github.io/posts/muon/ for the
method and the coefficients; Liu et al., "Muon is scalable for LLM training" (2025), https://arxiv.org/abs/2502.16982,
for the factor; Khaled et al., "MuonBP" (2025), https://arxiv.org/abs/2510.16981 on orthogonalising blocks.

It does not choose which parameters it gets (see `groups`), and does not divide the work among processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor

__all__ = ["Muon", "orthogonalize"]

# The quintic with the steepest slope at zero whose iterates stay within about [0.7, 1.2] (Jordan 2024).
_A, _B, _C = 3.4445, -4.7750, 2.0315
_EPSILON = 1e-7
# Matrices of one shape go through one batched product; this many numbers at a time bounds the extra memory to 64 MB.
_NUMBERS_AT_ONCE = 2**24


def orthogonalize(matrices_NRC: Tensor, *, iterations: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrix of each, approximately: U Vᵀ for a singular value decomposition U S Vᵀ.

    Newton-Schulz iteration of the odd quintic 3.4445 x - 4.7750 x³ + 2.0315 x⁵ on the singular values, of which each
    starts divided by the Frobenius norm.

    Args:
        matrices_NRC: [N, R, C], any floating type.
        iterations: how often the quintic is applied, at least 1; after 5, singular values that began above 1 % of the
            norm lie in about [0.5, 1.25], and smaller ones have grown by a factor of 485.

    Returns:
        [N, R, C] in float32.

    >>> import torch
    >>> orthogonalize(torch.diag(torch.tensor([300.0, 200.0, 100.0]))[None])[0].diagonal().round().tolist()
    [1.0, 1.0, 1.0]
    """
    rows, columns = matrices_NRC.shape[-2:]
    if rows > columns:
        return orthogonalize(matrices_NRC.mT, iterations=iterations).mT
    x_NRC = matrices_NRC.float()
    gram_NRR = x_NRC @ x_NRC.mT
    squared_N11 = gram_NRR.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None].clamp_min(_EPSILON**2)
    gram_NRR.div_(squared_N11)
    product_NRR: Tensor | None = None
    for iteration in range(iterations):
        factor_NRR = torch.baddbmm(gram_NRR, gram_NRR, gram_NRR, beta=_B, alpha=_C)
        factor_NRR.diagonal(dim1=-2, dim2=-1).add_(_A)
        product_NRR = factor_NRR if product_NRR is None else factor_NRR @ product_NRR
        if iteration + 1 < iterations:
            gram_NRR = factor_NRR @ gram_NRR @ factor_NRR
    assert product_NRR is not None, "iterations must be at least 1"
    return product_NRR.mul_(squared_N11.rsqrt()) @ x_NRC


class Muon(torch.optim.Optimizer):
    """Muon for hidden matrices; vectors, embeddings and heads belong to AdamW.

    Args:
        parameters: tensors of at least two dimensions, (name, tensor) pairs, or parameter groups of either.
        lr: learning rate on AdamW's scale, above 0.
        momentum: share of the running gradient that is kept, in [0, 1).
        weight_decay: decoupled; W loses `lr * weight_decay` of itself at every step.
        block_rows: a matrix whose rows are a multiple of this is treated in blocks of so many rows; 0 never divides.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        *,
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
        block_rows: int = 64,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "block_rows": block_rows}
        super().__init__(parameters, defaults)
        assert all(p.ndim >= 2 for group in self.param_groups for p in group["params"]), "Muon takes matrices"

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step from the gradients that are there; parameters without one stay as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            learning = [parameter for parameter in group["params"] if parameter.grad is not None]
            for shape in sorted({tuple(parameter.shape) for parameter in learning}):
                alike = [parameter for parameter in learning if tuple(parameter.shape) == shape]
                at_once = max(1, _NUMBERS_AT_ONCE // math.prod(shape))
                for start in range(0, len(alike), at_once):
                    self._move(alike[start : start + at_once], group)
        return loss

    def _move(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """One step of parameters that have the same shape."""
        shape = parameters[0].shape
        rows, columns = shape[0], math.prod(shape[1:])
        block = group["block_rows"] if group["block_rows"] and rows % group["block_rows"] == 0 else rows
        looking_ahead = [_whole(self._momentum(parameter, group["momentum"])) for parameter in parameters]
        # The order of columns changes nothing, so filters are taken as they lie, channels last or not.
        lying = looking_ahead[0].dim_order()
        lying = lying if lying[0] == 0 else tuple(range(len(shape)))
        matrices = [update.permute(lying).reshape(rows, columns) for update in looking_ahead]
        blocks_NRC = (matrices[0] if len(matrices) == 1 else torch.cat(matrices)).view(-1, block, columns)
        updates = orthogonalize(blocks_NRC).reshape(-1, *(shape[axis] for axis in lying))
        back = [lying.index(axis) for axis in range(len(shape))]
        scale = 0.2 * math.sqrt(max(block, columns))
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(_part(update.permute(back).to(parameter.dtype), parameter), alpha=-group["lr"] * scale)

    def _momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        """Bring the parameter's running gradient up to date; returns it with Nesterov's look-ahead."""
        gradient = cast(Tensor, parameter.grad)
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(state["momentum"], momentum)


def _is_sharded(tensor: Tensor) -> bool:
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def _whole(tensor: Tensor) -> Tensor:
    """The gathered tensor where it is sharded, else itself."""
    return tensor.full_tensor() if _is_sharded(tensor) else tensor  # type: ignore[attr-defined, no-any-return]


def _part(whole: Tensor, like: Tensor) -> Tensor:
    """`whole`, which every process holds alike, laid out as `like` is; nothing is sent."""
    if not _is_sharded(like):
        return whole
    from torch.distributed.tensor import DTensor, Replicate

    mesh, placements = like.device_mesh, like.placements  # type: ignore[attr-defined]
    return DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim).redistribute(placements=placements)
