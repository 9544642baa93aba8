"""A Model: a network with its typed, frozen Config beside it. Tensors in, tensors out.

A Model knows no files, no strings, no labels and no device: those belong to the task's Prep and to the Program. Its
Config is a frozen dataclass of plain values (numbers, strings, booleans, tuples and nested configs of the same kind),
so that it travels through TOML and JSON unchanged. See `base.config` for reading and writing configs.

It does not hold the loss: how a network is learned is the Objective's business, and one network may be learned in
many ways.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

__all__ = ["Batch", "Model", "Outputs", "Shared", "blocks", "count_parameters", "unshared"]

Batch = Mapping[str, Tensor]
Outputs = Mapping[str, Tensor]


class Model(nn.Module, ABC):
    """The base class of every network that the catalogue names.

    A subclass is final, holds a nested or neighbouring frozen dataclass as `Config`, and keeps the instance it was
    made from in `self.config`, so that a Program can be rebuilt from its JSON.
    """

    Config: type[Any]
    config: Any

    @abstractmethod
    def forward(self, batch: Batch) -> Outputs:
        """Map named tensors to named tensors; the shape legend stands at the top of each model's file."""

    def layers(self) -> Sequence[tuple[str, nn.Module]]:
        """The stages that training health reports on, from input to output, as (name, module).

        The default is every direct child, which suits a flat network; deep ones name their blocks.
        """
        return list(self.named_children())

    def blank(self) -> Model:
        """A network of the same shape, with any weights; one that can be changed after it was made says how."""
        return type(self)(self.config)

    def stages(self) -> Sequence[tuple[str, nn.Module]]:
        """What is frozen, or given a learning rate of its own, together: from input to output, as (name, module).

        Every parameter is in exactly one stage.
        """
        return self.layers()

    def thawed(self) -> Model:
        """A copy that can learn. The default is a plain copy; a network kept in fewer bits unpacks it."""
        return copy.deepcopy(self)


class Shared(Model):
    """A network that holds the weights of many, which differ in a few settings, and is one of them at a time.

    It is made from the Config of any of them, and a domain registers it beside their class
    (`core.domain.ModelEntry.shared`); the domain's lesson makes its network by `job.model_class`. Only the chosen
    network is computed and learns. As a part of a program it answers as the chosen one, so that the task judges one
    after the other (`verbs.sharing`).
    """

    settings: ClassVar[Sequence[str]]
    """Whole names of the settings in which the networks may differ."""

    @abstractmethod
    def choose(self, config: Any) -> None:
        """Be the network of `config` from now on, which differs from its own in nothing but `settings`."""


def blocks(model: Model) -> list[tuple[str, nn.Module]]:
    """The stages of `model` that are made of further modules and have weights: what is sharded or recomputed together.

    A stage that is one plain layer is none: its weights may be used elsewhere too, as an embedding's by a tied head.
    """
    return [
        (name, stage)
        for name, stage in model.layers()
        if any(True for _ in stage.children()) and any(True for _ in stage.parameters())
    ]


def unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` on the CPU, contiguous and without gradients; those that share memory (tied weights) become copies."""
    kept: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().to("cpu").contiguous()
        place = tensor.untyped_storage().data_ptr()
        kept[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return kept


def count_parameters(model: nn.Module) -> int:
    """How many trainable and frozen numbers `model` holds; tied tensors count once."""
    return sum(parameter.numel() for parameter in model.parameters())
