"""An exponential average of a network's weights, which often generalises better than the last weights.

    average <- d average + (1 - d) weights,   d = min(decay, (1 + step) / (10 + step))

The decay warms up, so that the first, poor weights are forgotten within a few steps instead of within 1 / (1 - decay).
Floating-point buffers (running statistics) are averaged alike; integer ones (counters) are copied.

Source: Polyak & Juditsky (1992) for averaging; the warm-up is that of TensorFlow's ExponentialMovingAverage,
https://www.tensorflow.org/api_docs/python/tf/train/ExponentialMovingAverage.

Why not `torch.optim.swa_utils.AveragedModel`: it copies the whole module, treats counters as numbers to average, and
counts its own updates, where a run that resumes should depend on the step alone. The tests compare the two.

Sharded weights (FSDP2) stay sharded: each process averages its part.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor, nn

from sw2.base.errors import UsageError

__all__ = ["Average"]


class Average:
    """The average of one network's weights; starts as a copy of them.

    Args:
        net: the network whose weights are followed.
        decay: share of the average that is kept at each step once warmed up, in [0, 1).
        constant: names of tensors that never change, which are not followed.

    Raises:
        UsageError: when `decay` is outside its range.
    """

    def __init__(self, net: nn.Module, decay: float, constant: Collection[str] = ()) -> None:
        if not 0.0 <= decay < 1.0:
            raise UsageError("The decay of the average is a share.", wanted="a number in [0, 1)", got=decay)
        self.decay = decay
        self._constant = frozenset(constant)
        self._kept = {name: tensor.clone() for name, tensor in self._followed(net).items()}

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        """Follow `net` after the step numbered `step`, from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, tensor in self._followed(net).items():
            if tensor.is_floating_point():
                self._kept[name].lerp_(tensor, 1 - decay)
            else:
                self._kept[name].copy_(tensor)

    def tensors(self) -> Mapping[str, Tensor]:
        """The average itself by name, for checkpoints; writing into these tensors restores it."""
        return self._kept

    @contextlib.contextmanager
    def swapped_into(self, net: nn.Module) -> Iterator[None]:
        """Within the context `net` holds the average; afterwards its own weights again, bit for bit.

        The two change places tensor by tensor, which needs memory for one tensor. Meanwhile `tensors()` holds the
        weights, so no checkpoint may be written inside the context.
        """
        self._swap(net)
        try:
            yield
        finally:
            self._swap(net)

    def _followed(self, net: nn.Module) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in _tensors_of(net).items() if name not in self._constant}

    @torch.no_grad()
    def _swap(self, net: nn.Module) -> None:
        for name, tensor in self._followed(net).items():
            aside = tensor.clone()
            tensor.copy_(self._kept[name])
            self._kept[name].copy_(aside)


def _tensors_of(net: nn.Module) -> dict[str, Tensor]:
    """Parameters and saved buffers by name, tied ones once; tables that the network recomputes are not saved."""
    saved = net.state_dict().keys()
    buffers = {name: buffer for name, buffer in net.named_buffers() if name in saved}
    return {name: tensor.detach() for name, tensor in [*net.named_parameters(), *buffers.items()]}
