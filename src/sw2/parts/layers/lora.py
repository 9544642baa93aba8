"""Low-rank adapters: a matrix that stays, and a small change of it that learns.

    y = W x + b + (alpha / rank) · B A x        A [rank, C] random, B [R, rank] zero: at first nothing changes

W may be packed in 4 or 8 bits (as in QLoRA): gradients pass through it and none are of it. Merged, the change is added
to W, and nothing of the adapter is left.

Sources: Hu et al. 2021, https://arxiv.org/abs/2106.09685, section 4.1; packed: Dettmers et al. 2023,
https://arxiv.org/abs/2305.14314, section 3.

What it does not do: embeddings, convolutions, dropout.

Shapes: R rows (outputs) · C columns (inputs)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sw2.base.config import check_ranges
from sw2.base.errors import UsageError
from sw2.parts.layers.packed import PackedLinear

__all__ = ["LoraConfig", "LoraLinear", "adapt", "detach", "is_adapter", "restructured"]

M = TypeVar("M", bound=nn.Module)
_DOWN, _UP = "lora_down", "lora_up"


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """How low-rank adapters learn.

    Args:
        rank: of the change of each matrix; 0 learns all weights instead.
        alpha: the change is multiplied by alpha / rank.
        rate: adapters learn at so many times the learning rate for all weights.
        merge: whether the change is added to the weights in the end; "off" keeps a program of the adapters alone, which
            uses the one that it was learned from.
    """

    rank: int = 0
    alpha: float = 32.0
    rate: float = 10.0
    merge: Literal["on", "off"] = "on"

    def __post_init__(self) -> None:
        allowed = {
            "rank": (self.rank >= 0, "a whole number of at least 0"),
            "alpha": (self.alpha > 0, "a number above 0"),
            "rate": (self.rate > 0, "a number above 0"),
        }
        check_ranges("lora", self, allowed)


@final
class LoraLinear(nn.Module):
    """A linear layer with an adapter.

    Args:
        base: the layer, as it stays.
        rank: of the change.
        alpha: see the formula at the top of this file.
    """

    def __init__(self, base: nn.Linear | PackedLinear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base, self.rank, self.alpha = base, rank, alpha
        rows, columns = _shape(base)
        self.lora_down = nn.Parameter(torch.zeros(rank, columns))
        self.lora_up = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Return the product with the changed matrix."""
        change = F.linear(F.linear(x, self.lora_down), self.lora_up)
        return self.base(x) + change * (self.alpha / self.rank)

    def change(self) -> Tensor:
        """What is added to the matrix: (alpha / rank) · B A, [R, C]."""
        return (self.alpha / self.rank) * (self.lora_up @ self.lora_down)


def _shape(base: nn.Linear | PackedLinear) -> tuple[int, int]:
    if isinstance(base, nn.Linear):
        return base.out_features, base.in_features
    rows, columns = base.weight.shape
    return int(rows), int(columns)


def adapt(model: nn.Module, within: str, config: LoraConfig, generator: torch.Generator) -> None:
    """Give every linear layer whose name begins with `within` an adapter, in place.

    A is uniform in ± 1 / √C and B zero, so that the model says what it said.

    Raises:
        UsageError: there is no such layer, or the rank is larger than a matrix.
    """
    found = [
        (name, module)
        for name, module in model.named_modules()
        if name.startswith(within) and isinstance(module, (nn.Linear, PackedLinear))
    ]
    least = min((min(_shape(module)) for _, module in found), default=0)
    if config.rank > least:
        raise UsageError(
            "The rank of the adapters is too large.", where="lora.rank", wanted=f"at most {least}", got=config.rank
        )
    for name, module in found:
        adapter = LoraLinear(module, config.rank, config.alpha)
        bound = 1 / math.sqrt(_shape(module)[1])
        with torch.no_grad():
            adapter.lora_down.uniform_(-bound, bound, generator=generator)
        model.set_submodule(name, adapter)


def is_adapter(name: str) -> bool:
    """Whether a parameter of that name belongs to an adapter."""
    return name.endswith((f".{_DOWN}", f".{_UP}"))


def restructured(model: M, like: nn.Module) -> M:
    """`model`, with empty adapters where `like` has some."""
    for name, module in list(like.named_modules()):
        if isinstance(module, LoraLinear):
            base = model.get_submodule(name)
            assert isinstance(base, (nn.Linear, PackedLinear))
            model.set_submodule(name, LoraLinear(base, module.rank, module.alpha))
    return model


def detach(model: nn.Module) -> dict[str, Tensor]:
    """Take all adapters off, in place; return the change of each layer's matrix by the layer's name."""
    changes = {}
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLinear):
            changes[name] = module.change().detach()
            model.set_submodule(name, module.base)
    return changes
