"""The kernel of attention of packed rows, beside the loop over pieces and float64 with an explicit mask."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from sw2.base import native
from sw2.parts.layers import attention, attention_kernel
from sw2.parts.layers.attention import branch_mask, document_mask

HERE = native.processor_flags().issuperset(attention_kernel._SETS) and native._compiler() is not None
needs_kernel = pytest.mark.skipif(not HERE, reason="no AVX-512 for bf16, or no compiler")


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SW2_NATIVE", "on")


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs(B: int, H: int, K: int, T: int, E: int, seed: int = 0) -> list[Tensor]:
    """Queries, keys, values and the gradient of what is found, lying as a layer has them: values part of a product."""
    qkv_BTHE = draw(B, T, H + 2 * K, E, seed=seed).bfloat16()
    q, k, v = (part.transpose(1, 2) for part in qkv_BTHE.split([H, K, K], dim=2))
    return [q.clone(), k.clone(), v, draw(B, T, H, E, seed=seed + 1).bfloat16().transpose(1, 2)]


def exact(q: Tensor, k: Tensor, v: Tensor, gradient: Tensor, mask_BTS: Tensor) -> list[Tensor]:
    """What is found and the gradients, by the formula in float64."""
    leaves = [each.double().requires_grad_() for each in (q, k, v)]
    group = q.shape[1] // k.shape[1]
    keys, values = (each.repeat_interleave(group, 1) for each in leaves[1:])
    scores = (leaves[0] @ keys.mT / q.shape[-1] ** 0.5).masked_fill(~mask_BTS[:, None], -torch.inf)
    mixed = scores.softmax(-1) @ values
    mixed.backward(gradient.double())
    return [mixed.detach(), *(leaf.grad for leaf in leaves)]  # type: ignore[misc]


def found(q: Tensor, k: Tensor, v: Tensor, gradient: Tensor, documents: Tensor) -> list[Tensor]:
    leaves = [each.detach().requires_grad_() for each in (q, k, v)]
    mixed = attention._in_documents(*leaves, documents, True)[0]
    mixed.backward(gradient)
    return [mixed.detach(), *(leaf.grad for leaf in leaves)]  # type: ignore[misc]


def by_pieces(*given: Tensor) -> list[Tensor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SW2_NATIVE", "off")
        return found(*given)


def wrong(got: Tensor, right: Tensor) -> float:
    """The error as a share of what is right, or of 0.1 where that is next to nothing; the inputs are about 1."""
    return float((got.double() - right).norm() / right.norm().clamp(min=0.1 * right.numel() ** 0.5))


def compare(tensors: list[Tensor], documents: Tensor, mask_BTS: Tensor) -> None:
    right = exact(*tensors, mask_BTS)
    for got, other, true in zip(found(*tensors, documents), by_pieces(*tensors, documents), right, strict=True):
        assert got.dtype == torch.bfloat16
        assert got.stride() == other.stride()
        assert wrong(got, true) < max(wrong(other, true), 2**-8)


def row_of(sizes: list[int]) -> Tensor:
    return torch.cat([torch.full((size,), number) for number, size in enumerate(sizes)])[None]


@needs_kernel
@pytest.mark.parametrize(("H", "K", "E"), [(6, 2, 64), (4, 4, 32), (8, 1, 96), (4, 2, 128)])
def test_documents(kernel: None, H: int, K: int, E: int) -> None:
    documents = torch.cat([row_of([300, 1, 5, 47, 48, 49, 97]), row_of([400, 147])])
    compare(inputs(2, H, K, 547, E), documents, document_mask(documents))


@needs_kernel
def test_a_document_of_several_tasks_and_keys_tiles(kernel: None) -> None:
    documents = row_of([1300])
    compare(inputs(1, 3, 1, 1300, 64), documents, document_mask(documents))


@needs_kernel
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_layout_of_documents_and_branches(kernel: None, data: st.DataObject) -> None:
    T = data.draw(st.integers(1, 260))
    rows = []
    for _ in range(data.draw(st.integers(1, 2))):
        documents: list[int] = []
        branches: list[int] = []
        while len(documents) < T:
            new = documents[-1] + 1 if documents else 0
            sizes = data.draw(st.lists(st.integers(1, 120), min_size=1, max_size=4))
            for branch, size in enumerate(sizes):
                documents += [new] * size
                branches += [branch] * size
        padding = data.draw(st.integers(0, T - 1))
        documents[T - padding : T] = branches[T - padding : T] = [-1] * padding
        rows.append([documents[:T], branches[:T]])
    both_B2T = torch.tensor(rows)
    K, G = data.draw(st.sampled_from([(1, 1), (2, 1), (1, 3), (2, 4)]))
    tensors = inputs(len(rows), K * G, K, T, data.draw(st.sampled_from([32, 64, 96])), data.draw(st.integers(0, 99)))
    compare(tensors, both_B2T, branch_mask(both_B2T[:, 1], both_B2T[:, 0]))
    compare(tensors, both_B2T[:, 0], document_mask(both_B2T[:, 0]))


@needs_kernel
def test_the_same_bits_again_and_on_any_number_of_threads(kernel: None) -> None:
    documents = row_of([900, 200, 31])
    documents = torch.stack([documents, (torch.arange(1131)[None] // 300) % 4], 1)
    tensors = inputs(1, 6, 2, 1131, 64)
    first = found(*tensors, documents)
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        for one, other in zip(first, found(*tensors, documents), strict=True):
            assert torch.equal(one, other)


@needs_kernel
def test_large_scores_neither_overflow_nor_vanish(kernel: None) -> None:
    documents = row_of([200, 57])
    q, k, v, gradient = inputs(1, 2, 1, 257, 64)
    compare([q * 30, k * 30, v, gradient], documents, document_mask(documents))


@needs_kernel
def test_what_is_not_a_number_is_not_hidden(kernel: None) -> None:
    documents = row_of([100, 60])
    q, k, v, gradient = inputs(1, 2, 1, 160, 64)
    k[0, 0, 30, 5] = torch.nan
    mixed, d_q, d_k, _ = found(q, k, v, gradient, documents)
    assert mixed[0, :, 30:100].isnan().all()
    assert d_q[0, :, 30:100].isnan().all()
    assert d_k[0, 0, :100].isnan().all()
    for each in (mixed[0, :, :30], mixed[0, :, 100:], d_q[0, :, 100:], d_k[0, 0, 100:]):
        assert each.isfinite().all()


@needs_kernel
def test_compilers_are_told_what_the_kernel_makes(kernel: None) -> None:
    documents = row_of([300, 137])
    q, k, v, gradient = inputs(1, 4, 2, 437, 32)
    leaves = [each.requires_grad_() for each in (q, k, v.detach())]
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(attention._in_documents, (*leaves, documents, True), test_utils=checks)
    mixed, sums, kept = attention._in_documents(*leaves, documents, True)
    assert kept == []
    asked = (gradient, *leaves, documents, mixed.detach(), sums, kept)
    torch.library.opcheck(attention._in_documents_backward, asked, test_utils=checks[:2])


@needs_kernel
def test_compiled_is_as_it_was(kernel: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "LONGEST_WRITTEN_OUT", 8)
    documents = row_of([70, 30])
    *tensors, gradient = inputs(1, 4, 2, 100, 32)
    results = []
    for way in (attention.attend, torch.compile(attention.attend, backend="aot_eager", fullgraph=True)):
        leaves = [each.detach().requires_grad_() for each in tensors]
        mixed = way(*leaves, documents)
        mixed.backward(gradient)
        results.append([mixed, *(leaf.grad for leaf in leaves)])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@needs_kernel
def test_gradients_that_do_not_lie_channel_by_channel(kernel: None) -> None:
    documents = row_of([60])
    q, k, v, _ = inputs(1, 2, 1, 60, 32)
    spread = torch.ones((), dtype=torch.bfloat16).expand(1, 2, 60, 32)
    for one, other in zip(found(q, k, v, spread, documents), found(q, k, v, spread.clone(), documents), strict=True):
        assert torch.equal(one, other)


@needs_kernel
@pytest.mark.parametrize("change", ["float32", "channels", "order", "off"])
def test_what_the_kernel_does_not_serve_goes_by_pieces(
    kernel: None, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = inputs(1, 2, 1, 60, 40 if change == "channels" else 64)[:3]
    if change == "float32":
        tensors = [each.float() for each in tensors]
    if change == "order":
        tensors[1] = tensors[1].mT.contiguous().mT
    if change == "off":
        monkeypatch.setenv("SW2_NATIVE", "off")
    assert not attention_kernel.serves(*tensors)
    assert attention._in_documents(*tensors, row_of([60]), False)[0].isfinite().all()


@pytest.fixture
def compiled_anew() -> Iterator[None]:
    attention_kernel._library.cache_clear()
    yield
    attention_kernel._library.cache_clear()


def test_a_missing_compiler_is_said_once(kernel: None, compiled_anew: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_kernel, "processor_flags", lambda: frozenset(attention_kernel._SETS))
    monkeypatch.setenv("CXX", "a-compiler-that-is-not-there")
    tensors, documents = inputs(1, 2, 1, 60, 64), row_of([60])
    with pytest.warns(RuntimeWarning, match=r"goes by torch(.|\n)*need a C\+\+ compiler"):
        got = found(*tensors, documents)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = found(*tensors, documents)
    for one, other, third in zip(got, again, by_pieces(*tensors, documents), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, third)


def test_another_processor_is_no_reason_to_warn(
    kernel: None, compiled_anew: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_kernel, "processor_flags", lambda: frozenset({"avx2"}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not attention_kernel.serves(*inputs(1, 2, 1, 60, 64)[:3])
