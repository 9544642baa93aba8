"""Adapters of a decoder as a network of their own, for programs that use the one that they were learned from.

What is saved is A and B of every adapted layer (see `parts.layers.lora`), a few megabytes beside a base of any size.
Opened, they are added to the base's weights: the program runs as fast as a merged one.

Shapes: K adapted layers, R rows and C columns of a layer's matrix.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from sw2.base.config import replace
from sw2.core.model import Batch, Model, Outputs
from sw2.domains.language.decoder import Decoder
from sw2.parts.layers.lora import LoraLinear, detach

__all__ = ["Adapters", "as_spoken", "merged", "taken", "with_adapters"]


@final
class Adapters(Model):
    """A and B of every adapted layer, by the layer's name."""

    name = "adapters"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The shape of all adapters of a network.

        Args:
            rank: of the changes.
            alpha: the changes are multiplied by alpha / rank.
            layers: the names of the adapted layers, K of them.
            rows, columns: of their matrices, K of each.
            context: how many tokens the adapted network reads; 0 for as many as its base.
        """

        rank: int = 1
        alpha: float = 32.0
        layers: tuple[str, ...] = ()
        rows: tuple[int, ...] = ()
        columns: tuple[int, ...] = ()
        context: int = 0

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.down = nn.ParameterList(torch.zeros(config.rank, columns) for columns in config.columns)
        self.up = nn.ParameterList(torch.zeros(rows, config.rank) for rows in config.rows)

    def forward(self, batch: Batch) -> Outputs:
        """Return the change of each layer's matrix [R, C] by its name; of the batch nothing is read."""
        del batch
        factor = self.config.alpha / self.config.rank
        return {
            name: factor * (up @ down) for name, up, down in zip(self.config.layers, self.up, self.down, strict=True)
        }


def taken(net: Decoder) -> Adapters:
    """The adapters of a network."""
    found = {name: module for name, module in net.named_modules() if isinstance(module, LoraLinear)}
    first = next(iter(found.values()))
    adapters = Adapters(
        Adapters.Config(
            rank=first.rank,
            alpha=first.alpha,
            layers=tuple(found),
            rows=tuple(module.lora_up.shape[0] for module in found.values()),
            columns=tuple(module.lora_down.shape[1] for module in found.values()),
            context=net.config.context,
        )
    )
    with torch.no_grad():
        for module, down, up in zip(found.values(), adapters.down, adapters.up, strict=True):
            down.copy_(module.lora_down)
            up.copy_(module.lora_up)
    return adapters


def merged(net: Decoder) -> Decoder:
    """A network in floating point with its adapters added to its weights; `net` loses them."""
    changes = detach(net)
    return _changed(net.unpacked(), changes)


def as_spoken(net: Decoder) -> Decoder:
    """A network in floating point that says what `net` with its adapters says; itself, if it has none."""
    if not any(isinstance(module, LoraLinear) for module in net.modules()):
        return net
    return merged(copy.deepcopy(net))


def with_adapters(base: Decoder, adapters: Adapters) -> Decoder:
    """A copy of `base` in floating point that is changed as `adapters` say."""
    plain = copy.deepcopy(base.unpacked())
    if adapters.config.context:
        plain.config = replace(plain.config, context=adapters.config.context)
    with torch.no_grad():
        changes = dict(adapters({}))
    return _changed(plain, changes)


@torch.no_grad()
def _changed(net: Decoder, changes: dict[str, Tensor]) -> Decoder:
    for name, change_RC in changes.items():
        weight = net.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        weight += change_RC
    return net
