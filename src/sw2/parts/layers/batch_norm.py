"""Batch normalisation with what follows it in convolutional networks, ReLU, and with what goes around a block.

    y = relu(norm(x) [+ around])

As three operations of torch they wait for memory: a sixth of the time in which a small ResNet learns on a CPU. In
training, on a CPU and in channels-last memory they are one operation in native code (`batch_norm.cpp`, compiled on
first use), which goes over the numbers eight times in place of thirteen and keeps no result of the normalisation. In
evaluation, elsewhere, under a compiler or `SW2_NATIVE=off`, or, with a warning, where nothing can compile it, the
operations of torch do the same, which are the reference.

A BatchNormRelu has the parameters and buffers of torch's BatchNorm2d under the same names.

Source: Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167.

What it does not do: statistics over several processes (torch's SyncBatchNorm); other activations; gradients of
gradients.

Shapes: B pictures · C channels · H height · W width
"""

from __future__ import annotations

import ctypes
import functools
import warnings
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from sw2.base.errors import ResourceError
from sw2.base.native import NEEDS, PATHS, compiled, first_fitting, switched_off

__all__ = ["BatchNormRelu"]

_SOURCE: Final = Path(__file__).with_suffix(".cpp")
_LAST: Final = torch.channels_last
_PATHS: Final = {"avx512_bf16": (*PATHS["avx512"], "-mavx512bf16"), **PATHS}
_NEEDS: Final = {"avx512_bf16": {*NEEDS["avx512"], "avx512_bf16"}, **NEEDS}


class BatchNormRelu(nn.BatchNorm2d):
    """relu(norm(x)), or relu(norm(x) + around); arguments as torch's BatchNorm2d.

    `forward` takes x [B, C, H, W] and, of the same shape and type, what goes around the block, if anything does.
    """

    def forward(self, x_BCHW: Tensor, around_BCHW: Tensor | None = None) -> Tensor:
        if not self._serves(x_BCHW, around_BCHW):
            y_BCHW = self.alone(x_BCHW)
            return F.relu(y_BCHW if around_BCHW is None else around_BCHW + y_BCHW)
        made_BCHW: Tensor
        made_BCHW, mean_C, variance_C = _Together.apply(x_BCHW, around_BCHW, self.weight, self.bias, self.eps)
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            rows = x_BCHW.numel() // x_BCHW.shape[1]
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                self.running_mean.lerp_(mean_C, self.momentum)
                self.running_var.lerp_(variance_C * (rows / (rows - 1)), self.momentum)
        return made_BCHW

    def alone(self, x_BCHW: Tensor) -> Tensor:
        """norm(x)."""
        return super().forward(x_BCHW)

    def _serves(self, x_BCHW: Tensor, around_BCHW: Tensor | None) -> bool:
        """Whether the kernel computes this."""
        numbers = [x_BCHW] if around_BCHW is None else [x_BCHW, around_BCHW]
        return (
            self.training
            and not torch.compiler.is_compiling()
            and x_BCHW.ndim == 4
            and x_BCHW.numel() > x_BCHW.shape[1]
            and x_BCHW.shape[1] == self.num_features
            and (self.momentum is not None or self.running_mean is None)
            and all(
                type(each) in (Tensor, nn.Parameter) and each.device.type == "cpu" for each in (*numbers, self.weight)
            )
            and x_BCHW.dtype in (torch.bfloat16, torch.float32)
            and self.weight.dtype == torch.float32
            and all(each.dtype == x_BCHW.dtype and each.shape == x_BCHW.shape for each in numbers)
            and all(each.is_contiguous(memory_format=_LAST) for each in numbers)
            and not switched_off()
            and _library() is not None
        )


class _Together(torch.autograd.Function):
    """The one operation: (y, mean, variance) of (x, around, weight, bias, epsilon)."""

    @staticmethod
    def forward(
        ctx: Any, x_BCHW: Tensor, around_BCHW: Tensor | None, weight_C: Tensor, bias_C: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        y_BCHW = torch.empty_like(x_BCHW)
        mean_C, scale_C, variance_C = (torch.empty_like(bias_C) for _ in range(3))
        tensors = {"x": x_BCHW, "around": around_BCHW, "y": y_BCHW, "weight": weight_C, "bias": bias_C}
        _run("sw2_norm_forward", epsilon, **tensors, mean=mean_C, scale=scale_C, variance=variance_C)
        goes_around = around_BCHW is not None
        ctx.save_for_backward(x_BCHW, y_BCHW if goes_around else None, weight_C, bias_C, mean_C, scale_C)
        ctx.mark_non_differentiable(mean_C, variance_C)
        return y_BCHW, mean_C, variance_C

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, d_y_BCHW: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x_BCHW, y_BCHW, weight_C, bias_C, mean_C, scale_C = ctx.saved_tensors
        d_y_BCHW = d_y_BCHW.contiguous(memory_format=_LAST)
        d_x_BCHW, d_around_BCHW = torch.empty_like(x_BCHW), None if y_BCHW is None else torch.empty_like(x_BCHW)
        d_weight_C, d_bias_C = torch.empty_like(weight_C), torch.empty_like(bias_C)
        tensors = {"x": x_BCHW, "around": y_BCHW, "y": y_BCHW, "weight": weight_C, "bias": bias_C}
        made = {"d_x": d_x_BCHW, "d_around": d_around_BCHW, "d_weight": d_weight_C, "d_bias": d_bias_C}
        _run("sw2_norm_backward", 0.0, **tensors, mean=mean_C, scale=scale_C, d_y=d_y_BCHW, **made)
        return d_x_BCHW, d_around_BCHW, d_weight_C, d_bias_C, None


_PICTURES: Final = ("x", "around", "y")
_CHANNELS: Final = ("weight", "bias", "mean", "scale", "variance")
_GRADIENTS: Final = ("d_y", "d_x", "d_around", "d_weight", "d_bias")


class _Call(ctypes.Structure):
    """The same fields in batch_norm.cpp, in the same order."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("rows", "channels", "threads", "halves")),
        ("epsilon", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in (*_PICTURES, *_CHANNELS, *_GRADIENTS)),
    ]


def _run(function: str, epsilon: float, **tensors: Tensor | None) -> None:
    x_BCHW = tensors["x"]
    assert x_BCHW is not None
    # The kernel reads and writes without looking.
    for tensor in tensors.values():
        if tensor is not None and tensor.ndim == 4:
            assert tensor.shape == x_BCHW.shape
            assert tensor.dtype == x_BCHW.dtype
            assert tensor.is_contiguous(memory_format=_LAST)
        elif tensor is not None:
            assert tensor.shape == x_BCHW.shape[1:2]
            assert tensor.dtype == torch.float32
            assert tensor.is_contiguous()
    call = _Call(
        rows=x_BCHW.numel() // x_BCHW.shape[1],
        channels=x_BCHW.shape[1],
        threads=torch.get_num_threads(),
        halves=x_BCHW.dtype == torch.bfloat16,
        epsilon=epsilon,
        **{name: tensor.data_ptr() for name, tensor in tensors.items() if tensor is not None},
    )
    if getattr(_library(), function)(ctypes.byref(call)):
        raise MemoryError("not enough memory for batch normalisation")


@functools.cache
def _library() -> Any:
    """The compiled kernel; None, said once, where nothing can compile it."""
    path = first_fitting(_NEEDS)
    try:
        library = compiled(_SOURCE, path, _PATHS[path])
    except ResourceError as error:
        warnings.warn(f"Batch normalisation goes by torch, which is slower. {error}", RuntimeWarning, stacklevel=2)
        return None
    for name in ("sw2_norm_forward", "sw2_norm_backward"):
        function = getattr(library, name)
        function.restype, function.argtypes = ctypes.c_int32, [ctypes.c_void_p]
    return library
