"""Attention of packed rows as native code: `attention_kernel.cpp`, compiled on first use and called through ctypes.

`serves` says whether it can for these tensors, and `attend` and `attend_backward` are the two calls. Where it cannot,
the loop over pieces in `attention.py` does the same, which is the reference: another device or dtype, channels that are
no multiple of 32, a processor without AVX-512 for bf16, `SW2_NATIVE=off`, or, with a warning, no working compiler.

Shapes: B batch · H query heads · K key heads · T tokens · E channels of a head
"""

from __future__ import annotations

import ctypes
import functools
import warnings
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from sw2.base.errors import ResourceError
from sw2.base.native import compiled, processor_flags, switched_off

__all__ = ["attend", "attend_backward", "serves"]

_SOURCE: Final = Path(__file__).with_suffix(".cpp")
_SETS: Final = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16", "fma")
_FLAGS: Final = tuple(f"-m{each.replace('_', '')}" for each in _SETS)


def serves(*tensors: Tensor) -> bool:
    """Whether the kernel computes with these tensors, [B, heads, T, E]."""
    return (
        all(
            each.device.type == "cpu"
            and each.dtype == torch.bfloat16
            and each.shape[-1] % 32 == 0
            and each.stride(-1) == 1
            for each in tensors
        )
        and not switched_off()
        and _library() is not None
    )


def attend(q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, documents: Tensor, mixed_BHTE: Tensor) -> Tensor:
    """Write what queries find into `mixed_BHTE`, and return ln Σ exp(scores) of each, float32 [B, H, T].

    Args:
        documents: int64, [B, T], the document of each token, or [B, 2, T], the document and the branch.
    """
    sums_BHT = q_BHTE.new_empty(q_BHTE.shape[:3], dtype=torch.float32)
    _run("sw2_attend", documents, sums_BHT, q_BHTE, k_BKTE, v_BKTE, mixed_BHTE)
    return sums_BHT


def attend_backward(
    d_mixed_BHTE: Tensor,
    q_BHTE: Tensor,
    k_BKTE: Tensor,
    v_BKTE: Tensor,
    documents: Tensor,
    mixed_BHTE: Tensor,
    sums_BHT: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of queries, keys and values, the same bits from the same inputs on any number of threads.

    Args:
        d_mixed_BHTE: the gradient of what `attend` wrote.
        mixed_BHTE, sums_BHT: what it wrote and returned; the others as there.
    """
    gradients = torch.empty_like(q_BHTE), torch.empty_like(k_BKTE), torch.empty_like(v_BKTE)
    if d_mixed_BHTE.stride(-1) != 1:
        d_mixed_BHTE = d_mixed_BHTE.contiguous()
    inputs = (q_BHTE, k_BKTE, v_BKTE, mixed_BHTE, d_mixed_BHTE)
    _run("sw2_attend_backward", documents, sums_BHT.contiguous(), *inputs, *gradients)
    return gradients


class _Numbers(ctypes.Structure):
    """The same fields in attention_kernel.cpp, in the same order; of `_Call` too."""

    _fields_ = [("first", ctypes.c_void_p), *((name, ctypes.c_int64) for name in ("row", "head", "token"))]


_TENSORS: Final = ("queries", "keys", "values", "mixed", "d_mixed", "d_queries", "d_keys", "d_values")


class _Call(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("rows", "tokens", "heads", "key_heads", "channels", "threads", "kinds")),
        ("documents", ctypes.c_void_p),
        ("sums", ctypes.c_void_p),
        *((name, _Numbers) for name in _TENSORS),
    ]


def _run(function: str, documents: Tensor, sums_BHT: Tensor, *tensors: Tensor) -> None:
    q_BHTE, k_BKTE = tensors[:2]
    B, H, T, E = q_BHTE.shape
    K = k_BKTE.shape[1]
    ids = documents.reshape(B, -1, T).contiguous()
    # The kernel reads and writes without looking.
    assert H % K == 0
    assert ids.dtype == torch.int64
    assert ids.shape[1] in (1, 2)
    for tensor, heads in zip(tensors, (H, K, K, H, H, H, K, K)):
        assert tensor.shape == (B, heads, T, E)
        assert tensor.dtype == torch.bfloat16
        assert tensor.stride(-1) == 1
    call = _Call(
        rows=B,
        tokens=T,
        heads=H,
        key_heads=K,
        channels=E,
        threads=torch.get_num_threads(),
        kinds=ids.shape[1],
        documents=ids.data_ptr(),
        sums=sums_BHT.data_ptr(),
    )
    for name, tensor in zip(_TENSORS, tensors):
        setattr(call, name, _Numbers(tensor.data_ptr(), *tensor.stride()[:3]))
    if getattr(_library(), function)(ctypes.byref(call)):
        raise MemoryError("not enough memory for attention")


@functools.cache
def _library() -> Any:
    """The compiled kernel; None where the processor has not what it needs, or, said once, nothing can compile it."""
    if not processor_flags().issuperset(_SETS):
        return None
    try:
        library = compiled(_SOURCE, "avx512_bf16", _FLAGS)
    except ResourceError as error:
        warnings.warn(
            f"Attention of packed rows goes by torch, at a fraction of the speed. {error}", RuntimeWarning, stacklevel=2
        )
        return None
    for name in ("sw2_attend", "sw2_attend_backward"):
        function = getattr(library, name)
        function.restype, function.argtypes = ctypes.c_int32, [ctypes.c_void_p]
    return library
