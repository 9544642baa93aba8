"""Scaled dot-product attention for grouped heads: `softmax(Q Kᵀ / √E + mask) V` (https://arxiv.org/abs/1706.03762).

Two ways to the same numbers. Which one is faster was measured on CPUs, forward and backward, at 256 tokens:
- torch's own kernel, which never holds all T x S scores at once: 1.4 times as fast as the other in float32 (AVX2), and
  what a GPU wants. It is the usual way.
- written out as matrix products with a gradient of our own, so that a compiler fuses scale, mask and softmax between
  them: compiled in bf16 on a CPU that multiplies bf16 natively (AVX-512), 8 rows of 5 heads of 64 channels take 8.6 ms
  and torch's kernel 19.8 ms. Taken for half precision on a CPU, as long as the scores are few enough to hold.

What it does not do: dropout, attention sinks; a gradient for what is added to the scores.

Shapes: B batch · H query heads · K key heads · G = H / K · T queries · S keys · E channels of a head
"""

from __future__ import annotations

from typing import Any, Final, final

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["attend", "causal_mask", "document_mask"]

LONGEST_WRITTEN_OUT: Final = 1024
"""The most queries whose scores are held in memory; beyond it they would outweigh everything else in the block."""


def causal_mask(queries: int, device: torch.device) -> Tensor:
    """Return [T, T], true where key s is not later than query t."""
    return torch.ones(queries, queries, dtype=torch.bool, device=device).tril()


def document_mask(documents_BT: Tensor) -> Tensor:
    """Return [B, T, T], true where key s is not later than query t and in the same document.

    Args:
        documents_BT: an integer per token; tokens of one document in a row share it.
    """
    same_BTT = documents_BT[:, :, None] == documents_BT[:, None, :]
    return same_BTT & causal_mask(documents_BT.shape[1], documents_BT.device)


def attend(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, mask: Tensor | None = None) -> Tensor:
    """Let each query collect the values of the keys it may look at.

    Args:
        q_BHTE: queries; head h reads key head `h // G`.
        k_BKSE: keys.
        v_BKSE: values.
        mask: bool [B, T, S], true where query t may look at key s, at least once in each row; or float [B, H, T, S],
            added to the scores, -inf where it may not. None is causal, and needs T = S.

    Returns:
        [B, H, T, E] in the dtype of the values. The softmax is in float32.
    """
    assert mask is not None or q_BHTE.shape[2] == k_BKSE.shape[2], "without a mask there are as many keys as queries"
    half = q_BHTE.device.type == "cpu" and q_BHTE.dtype != torch.float32
    if half and q_BHTE.shape[2] <= LONGEST_WRITTEN_OUT:
        return _written_out(q_BHTE, k_BKSE, v_BKSE, mask)
    return F.scaled_dot_product_attention(
        q_BHTE,
        k_BKSE,
        v_BKSE,
        attn_mask=None if mask is None else mask.to(q_BHTE.dtype) if mask.ndim == 4 else mask[:, None],
        is_causal=mask is None,
        enable_gqa=q_BHTE.shape[1] != k_BKSE.shape[1],
    )


def _written_out(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, mask: Tensor | None) -> Tensor:
    B, H, T, E = q_BHTE.shape
    K = k_BKSE.shape[1]
    # Added, not filled in: one loop for a compiler, and nothing to mask again on the way back.
    if mask is not None and mask.ndim == 4:
        bias = mask.float().unflatten(1, (K, H // K))
    else:
        bias = torch.where(causal_mask(T, q_BHTE.device) if mask is None else mask[:, None, None], 0.0, -torch.inf)
    return _WrittenOut.apply(q_BHTE.view(B, K, H // K, T, E), k_BKSE, v_BKSE, bias).view(B, H, T, E)  # type: ignore[no-untyped-call]


@final
class _WrittenOut(torch.autograd.Function):
    """`softmax(Q Kᵀ / √E + bias) V`, and its gradient.

    With P the softmax, O the output and a dash for the gradient of the loss: softmax's derivative needs the sum of
    P ∘ P' over the keys, which equals that of O ∘ O' over the channels (Dao et al. 2022,
    https://arxiv.org/abs/2205.14135, appendix B.2). The channels are fewer, and P is then passed over once.
    """

    @staticmethod
    def forward(ctx: Any, q_BKGTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, bias: Tensor) -> Tensor:
        B, K, G, T, E = q_BKGTE.shape
        # The G query heads of one key head are stacked along T, so that keys and values are never repeated in memory.
        scores_BKNS = (q_BKGTE * E**-0.5).reshape(B, K, G * T, E) @ k_BKSE.mT
        weights_BKGTS = torch.softmax(scores_BKNS.view(B, K, G, T, -1).float() + bias, dim=-1).to(v_BKSE.dtype)
        mixed_BKGTE = (weights_BKGTS.flatten(2, 3) @ v_BKSE).view_as(q_BKGTE)
        ctx.save_for_backward(q_BKGTE, k_BKSE, v_BKSE, weights_BKGTS, mixed_BKGTE)
        return mixed_BKGTE

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q_BKGTE, k_BKSE, v_BKSE, weights_BKGTS, mixed_BKGTE = ctx.saved_tensors
        (d_mixed_BKGTE,) = gradients
        shared_BKGT1 = (d_mixed_BKGTE.float() * mixed_BKGTE.float()).sum(-1, keepdim=True)
        d_mixed_BKNE = d_mixed_BKGTE.flatten(2, 3)
        d_weights_BKGTS = (d_mixed_BKNE @ v_BKSE.mT).view_as(weights_BKGTS)
        d_scores_BKGTS = weights_BKGTS.float() * (d_weights_BKGTS.float() - shared_BKGT1) * q_BKGTE.shape[-1] ** -0.5
        d_scores_BKNS = d_scores_BKGTS.to(q_BKGTE.dtype).flatten(2, 3)
        d_q_BKGTE = (d_scores_BKNS @ k_BKSE).view_as(q_BKGTE)
        d_k_BKSE = d_scores_BKNS.mT @ q_BKGTE.flatten(2, 3)
        return d_q_BKGTE, d_k_BKSE, weights_BKGTS.flatten(2, 3).mT @ d_mixed_BKNE, None
