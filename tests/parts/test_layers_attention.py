"""Attention: its ways against the formula with loops and each other, and what masks hide."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sw2.parts.layers import attention
from sw2.parts.layers.attention import attend, causal_mask, document_mask


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_loops(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, mask_BTS: Tensor) -> Tensor:
    B, H, T, E = q_BHTE.shape
    group = H // k_BKSE.shape[1]
    out = torch.zeros(B, H, T, E)
    for b in range(B):
        for h in range(H):
            for t in range(T):
                seen = [s for s in range(k_BKSE.shape[2]) if mask_BTS[b, t, s]]
                scores = [float(q_BHTE[b, h, t] @ k_BKSE[b, h // group, s]) / math.sqrt(E) for s in seen]
                total = sum(math.exp(score) for score in scores)
                for s, score in zip(seen, scores, strict=True):
                    out[b, h, t] += math.exp(score) / total * v_BKSE[b, h // group, s]
    return out


@pytest.mark.parametrize("way", [attend, attention._written_out])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_both_ways_are_the_formula(way: object, kv_heads: int) -> None:
    q, k, v = draw(2, 4, 5, 6, seed=0), draw(2, kv_heads, 5, 6, seed=1), draw(2, kv_heads, 5, 6, seed=2)
    documents = torch.tensor([[0, 0, 1, 1, 1], [3, 3, 3, 3, 9]])
    for mask, full in (
        (None, causal_mask(5, q.device).expand(2, 5, 5)),
        (document_mask(documents), document_mask(documents)),
    ):
        torch.testing.assert_close(way(q, k, v, mask), with_loops(q, k, v, full), atol=1e-5, rtol=1e-5)  # type: ignore[operator]


def test_gradients_of_both_ways_agree() -> None:
    gradients = []
    for way in (attend, attention._written_out):
        leaves = [draw(2, heads, 7, 8, seed=heads).requires_grad_() for heads in (4, 2)]
        way(leaves[0], leaves[1], leaves[1], None).square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_document_mask_by_hand() -> None:
    got = document_mask(torch.tensor([[7, 7, 8]]))
    assert got.tolist() == [[[True, False, False], [True, True, False], [False, False, True]]]


def test_half_precision_stays_near_and_keeps_its_dtype() -> None:
    q, k, v = draw(1, 2, 9, 8, seed=0), draw(1, 1, 9, 8, seed=1), draw(1, 1, 9, 8, seed=2)
    half = attend(q.bfloat16(), k.bfloat16(), v.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), attend(q, k, v), atol=0.05, rtol=0.05)


DOCUMENTS = torch.tensor([[0] * 300 + [1] * 130 + [-1] * 7, [4] * 437])
"""Rows of several pieces: documents longer than one, shorter, and padding."""


def in_documents(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    mixed: Tensor = attention._in_documents(q, k, v, documents, True)[0]
    return mixed


def masked(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    return attention._written_out(q, k, v, document_mask(documents))


@pytest.fixture(params=["kept", "anew"])
def weights_of_pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to have the weights in the backward pass."""
    if request.param == "anew":
        monkeypatch.setattr(attention, "_MOST_KEPT", 0)
    return str(request.param)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_documents_by_pieces_are_those_of_a_mask(kv_heads: int, weights_of_pieces: str) -> None:
    del weights_of_pieces
    found = []
    for way in (masked, in_documents):
        heads = (4, kv_heads, kv_heads)
        leaves = [draw(2, count, 437, 8, seed=seed).requires_grad_() for seed, count in enumerate(heads)]
        mixed = way(*leaves, DOCUMENTS)
        (mixed * draw(2, 4, 437, 8, seed=9)).sum().backward()
        found.append([mixed, *(leaf.grad for leaf in leaves)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("length", [437, attention.LONGEST_WRITTEN_OUT + 5])
def test_long_rows_and_short_ones_look_at_the_same(length: int) -> None:
    documents = torch.cat([DOCUMENTS, DOCUMENTS.new_full((2, length), 5)], 1)[:, :length]
    q, k, v = (draw(2, 2, length, 8, seed=seed) for seed in range(3))
    torch.testing.assert_close(
        attend(q, k, v, documents), attend(q, k, v, document_mask(documents)), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compilers_are_told_what_documents_come_to(dtype: torch.dtype, weights_of_pieces: str) -> None:
    """Transposed inputs, as a layer has them: the strides of what comes out are those that were said."""
    q, k, v = (
        draw(2, 437, heads, 8, seed=seed).to(dtype).transpose(1, 2).requires_grad_()
        for seed, heads in enumerate((4, 2, 2))
    )
    inputs = (q, k, v, DOCUMENTS)
    asked = (*inputs, True)
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(attention._in_documents, asked, test_utils=checks)
    mixed, sums, kept = attention._in_documents(*asked)
    assert len(kept) == (2 * 2 if weights_of_pieces == "kept" else 0)
    torch.library.opcheck(
        attention._in_documents_backward, (mixed.detach(), *inputs, mixed, sums, kept), test_utils=checks[:2]
    )


def test_documents_in_half_precision_keep_their_gradients(weights_of_pieces: str) -> None:
    """In float32 the loops work in place on what they still need; nothing of it may show."""
    del weights_of_pieces
    exact, half = [], []
    for dtype, kept in ((torch.float32, exact), (torch.bfloat16, half)):
        leaves = [draw(2, heads, 437, 8, seed=heads).to(dtype).requires_grad_() for heads in (4, 2)]
        in_documents(leaves[0], leaves[1], leaves[1], DOCUMENTS).float().square().sum().backward()
        kept += [leaf.grad for leaf in leaves]
    for one, other in zip(exact, half, strict=True):
        assert other.dtype == torch.bfloat16
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.float().flatten(), dim=0) > 0.999
