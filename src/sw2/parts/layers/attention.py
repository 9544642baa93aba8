"""Scaled dot-product attention for grouped heads: `softmax(Q Kᵀ / √E + mask) V` (https://arxiv.org/abs/1706.03762).

Three ways to the same numbers. Which one is faster was measured on CPUs, forward and backward, at 256 tokens:
- torch's own kernel, which never holds all T x S scores at once: 1.4 times as fast as the other in float32 (AVX2), and
  what a GPU wants. It is the usual way.
- written out as matrix products with a gradient of our own, so that a compiler fuses scale, mask and softmax between
  them: compiled in bf16 on a CPU that multiplies bf16 natively (AVX-512), 8 rows of 5 heads of 64 channels take 8.6 ms
  and torch's kernel 19.8 ms. Taken for half precision on a CPU, as long as the scores are few enough to hold.
- in pieces of 128 queries beside the keys that they may look at, for longer rows of several documents on a CPU: what
  other documents hold, and what comes later, is never computed. A row of 2048 tokens with documents of 1100, 508, 220
  and 220, 9 heads of 64 channels over 3 of keys, in bf16: 55 ms, and by torch's kernel with a mask 240 ms.
  Rows that branch (one prompt, several answers that do not see each other) go the same way. In bf16 on a CPU that
  multiplies it, pieces are those of native code (`attention_kernel`), and the loop here is its reference.

What it does not do: dropout, attention sinks; a gradient for what is added to the scores.

Shapes: B batch · H query heads · K key heads · G = H / K · T queries · S keys · E channels of a head
        M queries of a piece · N = G · M
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sw2.parts.layers import attention_kernel

__all__ = ["attend", "branch_mask", "causal_mask", "document_mask", "within_branches", "within_documents"]

_PIECE: Final = 128
"""Queries of a piece: 256 took a quarter longer with the documents above."""
_MOST_KEPT: Final = 2**26
"""Bytes of weights that a layer keeps for its backward pass; where there are more, they are computed anew. A network of
30 layers may thus take 2 GB more, and less of its time."""

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


def branch_mask(branches_BT: Tensor, documents_BT: Tensor | None = None) -> Tensor:
    """Return [B, T, T], true where key s is not later than query t and either common to all branches or in the same.

    Args:
        branches_BT: 0 for what is common, which comes first in its document; another integer for each branch.
        documents_BT: as of `document_mask`; None where each row is one.
    """
    same_BTT = branches_BT[:, :, None] == branches_BT[:, None, :]
    common_B1T = branches_BT[:, None, :] == 0
    before = causal_mask(branches_BT.shape[1], branches_BT.device)
    return (same_BTT | common_B1T) & (before if documents_BT is None else document_mask(documents_BT))


def within_branches(branches_BT: Tensor, documents_BT: Tensor | None = None) -> Tensor:
    """What `attend` is best told of rows that branch, for all layers; as `within_documents`."""
    if not _by_pieces(branches_BT):
        return branch_mask(branches_BT, documents_BT)
    return torch.stack([torch.zeros_like(branches_BT) if documents_BT is None else documents_BT, branches_BT], 1)


def within_documents(documents_BT: Tensor) -> Tensor:
    """What `attend` is best told of rows of several documents, for all layers: the documents themselves where they go
    piece by piece (long rows on a CPU), a mask elsewhere.

    Args:
        documents_BT: an integer per token; tokens of one document in a row share it.
    """
    return documents_BT if _by_pieces(documents_BT) else document_mask(documents_BT)


def _by_pieces(ids_BT: Tensor) -> bool:
    return ids_BT.device.type == "cpu" and ids_BT.shape[1] > LONGEST_WRITTEN_OUT


def attend(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, mask: Tensor | None = None) -> Tensor:
    """Let each query collect the values of the keys it may look at.

    Args:
        q_BHTE: queries; head h reads key head `h // G`.
        k_BKSE: keys.
        v_BKSE: values.
        mask: bool [B, T, S], true where query t may look at key s, at least once in each row; float [B, H, T, S],
            added to the scores, -inf where it may not; or int64 [B, T], on a CPU, the document of each token: those of
            its own document up to itself (see `within_documents`); or int64 [B, 2, T], the document and the branch:
            of its document those in branch 0 and in its own (`within_branches`). None is causal. But for the first
            two T = S.

    Returns:
        [B, H, T, E] in the dtype of the values. The softmax is in float32.
    """
    assert mask is not None or q_BHTE.shape[2] == k_BKSE.shape[2], "without a mask there are as many keys as queries"
    on_cpu = q_BHTE.device.type == "cpu"
    half = on_cpu and q_BHTE.dtype != torch.float32
    if mask is not None and mask.dtype == torch.int64:
        assert on_cpu, "the pieces are a loop on a CPU; elsewhere `within_documents` gives a mask"
        learns = torch.is_grad_enabled() and any(each.requires_grad for each in (q_BHTE, k_BKSE, v_BKSE))
        mixed_BHTE, _, _ = _in_documents(q_BHTE, k_BKSE, v_BKSE, mask, learns)
        return mixed_BHTE
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


@final
@dataclass(frozen=True)
class _Piece:
    """Queries of a document that go together, of the G heads that share one of keys, beside the keys they look at: one
    stretch of the row, or what its branches have in common and the stretch of one.
    """

    row: int
    key_head: int
    heads: slice
    here: slice
    seen: tuple[slice, ...]

    def queries(self, whole: Tensor) -> Tensor:
        """Its part of something with query heads, [G, M, ...] of [B, H, T, ...]."""
        return whole[self.row, self.heads, self.here]

    def keys(self, whole: Tensor) -> Tensor:
        """Its part of something with key heads, [S, E] of [B, K, S, E]."""
        parts = [whole[self.row, self.key_head, each] for each in self.seen]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def add_to_keys(self, whole: Tensor, more_SE: Tensor) -> None:
        """Add to its part of something with key heads."""
        at = 0
        for each in self.seen:
            whole[self.row, self.key_head, each] += more_SE[at : (at := at + each.stop - each.start)]


def _pieces(documents: Tensor, heads: int, key_heads: int) -> Iterator[_Piece]:
    """Every piece. One of keys' heads at a time, so that the scores of a piece fit a core's own cache.

    Args:
        documents: [B, T], the document of each token, or [B, 2, T], the document and the branch.
        heads: H.
        key_heads: K.
    """
    group = heads // key_heads
    for row, ids in enumerate(documents.reshape(len(documents), -1, documents.shape[-1]).numpy()):
        changes = np.flatnonzero((ids[:, 1:] != ids[:, :-1]).any(0)) + 1
        common, of = slice(0, 0), -1
        for begin, end in itertools.pairwise([0, *changes.tolist(), ids.shape[1]]):
            document, branch = int(ids[0, begin]), int(ids[-1, begin]) if len(ids) == 2 else 0
            if branch == 0:
                common, of = slice(begin, end), document
            # Padding (a branch below 0) looks at itself alone: nobody looks at what it finds.
            before = (common,) if branch > 0 and of == document else ()
            for first in range(begin, end, _PIECE):
                here = slice(first, min(first + _PIECE, end))
                for head in range(key_heads):
                    seen = (*before, slice(begin, here.stop))
                    yield _Piece(row, head, slice(head * group, (head + 1) * group), here, seen)


def _scores(q_GME: Tensor, k_SE: Tensor) -> Tensor:
    """The scores of a piece, float32 [G, M, S]; the last query looks at all keys."""
    (G, M, E), S = q_GME.shape, len(k_SE)
    scores_GMS = ((q_GME * E**-0.5).reshape(-1, E) @ k_SE.mT).view(G, M, S).float()
    scores_GMS[..., S - M :].masked_fill_(~causal_mask(M, q_GME.device), -torch.inf)
    return scores_GMS


@final
class _Kept:
    """The weights of pieces, one after the other in the memory of their row and head of keys."""

    def __init__(self, rows: list[Tensor], key_heads: int) -> None:
        self.rows, self._key_heads, self._ends = rows, key_heads, [0] * len(rows)

    def next(self, piece: _Piece, shape: torch.Size) -> Tensor:
        """The place of the next piece, which must come in the order of `_pieces`."""
        row = piece.row * self._key_heads + piece.key_head
        first = self._ends[row]
        self._ends[row] += shape.numel()
        return self.rows[row][first : self._ends[row]].view(shape)


def _room(q_BHTE: Tensor, k_BKSE: Tensor, learns: bool) -> list[Tensor]:
    """Where the loop over pieces keeps weights for the backward: for each row and head of keys as much as they can take
    at most, or nothing where all of it would be too much for every layer.

    Several smaller ones: memory of more than 32 MB is given back to the system at once, and takes long to get again.
    """
    B, H, T, _ = q_BHTE.shape
    K = k_BKSE.shape[1]
    most = H // K * T * (T + _PIECE) // 2
    if not learns or B * K * most * q_BHTE.element_size() > _MOST_KEPT:
        return []
    return [q_BHTE.new_empty(most) for _ in range(B * K)]


@torch.library.custom_op("sw2::attend_in_documents", mutates_args=())
def _in_documents(
    q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, documents: Tensor, learns: bool
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """What `attend` returns, ln Σ exp(scores) of each query, float32 [B, H, T], and the weights of the pieces one after
    the other (see `_room`), which the kernel does not need. One operation to a compiler.

    The sums are of no use, and left as they are, where weights are kept.
    """
    mixed_BHTE = torch.empty_like(q_BHTE)
    if attention_kernel.serves(q_BHTE, k_BKSE, v_BKSE):
        return mixed_BHTE, attention_kernel.attend(q_BHTE, k_BKSE, v_BKSE, documents, mixed_BHTE), []
    sums_BHT = q_BHTE.new_empty(q_BHTE.shape[:3], dtype=torch.float32)
    kept = _Kept(_room(q_BHTE, k_BKSE, learns), k_BKSE.shape[1])
    for piece in _pieces(documents, q_BHTE.shape[1], k_BKSE.shape[1]):
        scores_GMS = _scores(piece.queries(q_BHTE), piece.keys(k_BKSE))
        # softmax is one loop over memory, and the sum follows from what it made of the largest score.
        weights_GMS = scores_GMS.softmax(-1)
        if kept.rows:
            rounded_GMS = kept.next(piece, weights_GMS.shape).copy_(weights_GMS)
        else:
            piece.queries(sums_BHT).copy_(scores_GMS.amax(-1) - weights_GMS.amax(-1).log())
            rounded_GMS = weights_GMS.to(v_BKSE.dtype)
        mixed_GME = piece.queries(mixed_BHTE)
        mixed_GME.copy_((rounded_GMS.flatten(0, 1) @ piece.keys(v_BKSE)).view_as(mixed_GME))
    return mixed_BHTE, sums_BHT, kept.rows


@_in_documents.register_fake
def _(
    q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, documents: Tensor, learns: bool
) -> tuple[Tensor, Tensor, list[Tensor]]:
    del documents
    sums_BHT = q_BHTE.new_empty(q_BHTE.shape[:3], dtype=torch.float32)
    kept = [] if attention_kernel.serves(q_BHTE, k_BKSE, v_BKSE) else _room(q_BHTE, k_BKSE, learns)
    return torch.empty_like(q_BHTE), sums_BHT, kept


@torch.library.custom_op("sw2::attend_in_documents_backward", mutates_args=())
def _in_documents_backward(
    d_mixed_BHTE: Tensor,
    q_BHTE: Tensor,
    k_BKSE: Tensor,
    v_BKSE: Tensor,
    documents: Tensor,
    mixed_BHTE: Tensor,
    sums_BHT: Tensor,
    kept: list[Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of queries, keys and values, as in `_WrittenOut`; weights that were not kept are computed anew from
    their sums.
    """
    if not kept and attention_kernel.serves(q_BHTE, k_BKSE, v_BKSE):
        return attention_kernel.attend_backward(d_mixed_BHTE, q_BHTE, k_BKSE, v_BKSE, documents, mixed_BHTE, sums_BHT)
    H, K, E = q_BHTE.shape[1], k_BKSE.shape[1], q_BHTE.shape[3]
    d_q_BHTE = torch.empty_like(q_BHTE)
    # Pieces of a document add up in its keys and values.
    d_k_BKSE, d_v_BKSE = (torch.zeros_like(each, dtype=torch.float32) for each in (k_BKSE, v_BKSE))
    shared_BHT = (d_mixed_BHTE.float() * mixed_BHTE.float()).sum(-1)
    # The scale of the scores goes into the small factors.
    scaled_k_BKSE, scaled_q_BHTE = k_BKSE * E**-0.5, q_BHTE * E**-0.5
    known = _Kept(kept, K)
    for piece in _pieces(documents, H, K):
        q_GME, k_SE, v_SE = piece.queries(q_BHTE), piece.keys(k_BKSE), piece.keys(v_BKSE)
        d_mixed_NE = piece.queries(d_mixed_BHTE).reshape(-1, E)
        shape = torch.Size((*q_GME.shape[:2], len(k_SE)))
        if known.rows:
            weights_GMS = known.next(piece, shape)
        else:
            weights_GMS = _scores(q_GME, k_SE).sub_(piece.queries(sums_BHT)[..., None]).exp_()
        piece.add_to_keys(d_v_BKSE, weights_GMS.to(v_SE.dtype).flatten(0, 1).mT @ d_mixed_NE)
        d_weights_GMS = (d_mixed_NE @ v_SE.mT).view(shape).float()
        d_scores_GMS = d_weights_GMS.sub_(piece.queries(shared_BHT)[..., None]).mul_(weights_GMS)
        d_scores_NS = d_scores_GMS.to(q_GME.dtype).flatten(0, 1)
        piece.queries(d_q_BHTE).copy_((d_scores_NS @ piece.keys(scaled_k_BKSE)).view_as(q_GME))
        piece.add_to_keys(d_k_BKSE, d_scores_NS.mT @ piece.queries(scaled_q_BHTE).reshape(-1, E))
    return d_q_BHTE, d_k_BKSE.to(k_BKSE.dtype), d_v_BKSE.to(v_BKSE.dtype)


@_in_documents_backward.register_fake
def _(
    d_mixed_BHTE: Tensor,
    q_BHTE: Tensor,
    k_BKSE: Tensor,
    v_BKSE: Tensor,
    documents: Tensor,
    mixed_BHTE: Tensor,
    sums_BHT: Tensor,
    kept: list[Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    del d_mixed_BHTE, documents, mixed_BHTE, sums_BHT, kept
    return torch.empty_like(q_BHTE), torch.empty_like(k_BKSE), torch.empty_like(v_BKSE)


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, _ = inputs
    mixed_BHTE, sums_BHT, kept = output
    # Nobody looks at what was kept, and its gradients would be zeros as large.
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, mixed_BHTE, sums_BHT, *kept)


def _gradients(
    ctx: Any, d_mixed_BHTE: Tensor, d_sums_BHT: Tensor, d_kept: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor, None, None]:
    del d_sums_BHT, d_kept
    saved = ctx.saved_tensors
    return *_in_documents_backward(d_mixed_BHTE, *saved[:6], list(saved[6:])), None, None


_in_documents.register_autograd(_gradients, setup_context=_keep)
