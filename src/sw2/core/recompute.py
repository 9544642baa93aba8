"""Activation checkpointing: what a block computed is thrown away, and computed again when the way back needs it.

Between the forward and the backward pass a network keeps what every block computed on the way. Recomputed, a block
keeps its input only, and the insides of one block exist at any moment: a forward pass more, a third of the work, for a
fraction of the memory (Chen et al. 2016, https://arxiv.org/abs/1604.06174). Gradients are the same numbers, dropout
included: the random state of the first time is put back for the second.

It works by instance, so that the names of weights stay what they are in checkpoints and programs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch.utils.checkpoint import checkpoint

from sw2.base.errors import UsageError
from sw2.core.model import Model, blocks

__all__ = ["recompute_blocks"]


def recompute_blocks(model: Model) -> None:
    """Have each block of `model` computed again in the backward pass, in place; before it is sharded or compiled.

    Raises:
        UsageError: when the network has no blocks, or one keeps running statistics.
    """
    found = blocks(model)
    if not found:
        raise UsageError(
            "This network has no blocks that could be computed again.",
            wanted="learn.gradient.recompute = off",
            got="on",
        )
    for name, block in found:
        if any(True for _ in block.buffers()):
            raise UsageError(
                "The blocks of this network keep running statistics, which computing them again would update twice.",
                where=name,
                wanted="learn.gradient.recompute = off",
                got="on",
                do="To save memory, lower learn.gradient.micro_batch.",
            )
        block.forward = partial(_recomputed, block.forward)  # type: ignore[method-assign]


def _recomputed(forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    return checkpoint(forward, *inputs, use_reentrant=False, **named)
