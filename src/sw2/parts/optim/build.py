"""One optimiser from one config: AdamW, SGD, or Muon with AdamW for what is not a hidden matrix.

Schedules, weight-decay groups and layer-wise rates are the same for all three. `Optim` hides that Muon needs two torch
optimisers: the trainer calls `step(step, total)` and saves `tensors()`.

State is saved by the *name* of each parameter, not by its position, so that a checkpoint survives a change in the order
of modules and can be gathered from, and given back to, any number of processes.

Sources: Loshchilov & Hutter, "Decoupled weight decay regularization" (2019), https://arxiv.org/abs/1711.05101; those
of `muon`, `schedule` and `groups`.

It neither clips nor clears gradients, and holds no step counter of its own beside Adam's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from sw2.base.config import check_ranges
from sw2.base.errors import RunError, UsageError
from sw2.parts.optim.groups import Group, divide
from sw2.parts.optim.muon import Muon
from sw2.parts.optim.schedule import ScheduleConfig, multiplier

__all__ = ["Optim", "OptimConfig", "build_optim"]

_FUSED_DEVICES = frozenset({"cpu", "cuda", "mps", "xpu"})


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How gradients become steps.

    Args:
        method: "adamw"; "muon" (hidden matrices by Muon, the rest by AdamW); "sgd" (Nesterov momentum).
        learning_rate: the peak rate, above 0. Muon's is on AdamW's scale, SGD's is not.
        weight_decay: decoupled for AdamW and Muon, at least 0; only matrices and filters are decayed.
        betas: AdamW's decay rates of the first and second moment, each in [0, 1).
        momentum: of Muon and SGD, in [0, 1).
        schedule: how the rate moves over the run.
        layer_decay: factor of the rate from each stage to the one before it, in (0, 1]; below 1 for finetuning.
        hidden: names of modules whose matrices Muon takes.
        block_rows: Muon treats matrices in blocks of so many rows; 0 takes them whole.
    """

    method: Literal["adamw", "muon", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    momentum: float = 0.95
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    layer_decay: float = 1.0
    hidden: tuple[str, ...] = ("blocks",)
    block_rows: int = 64

    def __post_init__(self) -> None:
        allowed = {
            "learning_rate": (self.learning_rate > 0, "a number above 0"),
            "weight_decay": (self.weight_decay >= 0, "a number of at least 0"),
            "betas": (all(0 <= beta < 1 for beta in self.betas), "two numbers in [0, 1)"),
            "momentum": (0 <= self.momentum < 1, "a number in [0, 1)"),
            "layer_decay": (0 < self.layer_decay <= 1, "a number in (0, 1]"),
            "block_rows": (self.block_rows >= 0, "a whole number of at least 0"),
        }
        check_ranges("optim", self, allowed)


class Optim:
    """An optimiser with its schedule; made by `build_optim`.

    Args:
        config: what it was built from.
        optimizers: torch's optimisers, whose groups hold (name, parameter) pairs and their own `initial_lr`.
    """

    def __init__(self, config: OptimConfig, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.config = config
        self.optimizers = tuple(optimizers)

    def multiplier(self, step: int, total: int) -> float:
        """The schedule's factor at `step` of a run of `total` steps."""
        return multiplier(self.config.schedule, step, total)

    def step(self, step: int, total: int) -> None:
        """Take the step numbered `step` (from 0) of `total` from the gradients that the parameters hold."""
        factor = self.multiplier(step, total)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """What must be saved to go on bit for bit, as `parameter name/what`; the tensors themselves, not copies."""
        return {
            f"{name}/{key}": value
            for optimizer, name, parameter in self._parameters()
            for key, value in optimizer.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }

    def restore(self, tensors: Mapping[str, Tensor], copy: Callable[[Tensor, Tensor], None]) -> None:
        """Put saved `tensors` back.

        Args:
            tensors: what `tensors()` gave, each gathered whole.
            copy: writes its second argument, whole, into its first, which may be sharded.

        Raises:
            RunError: when they belong to other parameters than this optimiser's.
        """
        kept: dict[str, dict[str, Tensor]] = {}
        for path, tensor in tensors.items():
            name, _, key = path.rpartition("/")
            kept.setdefault(name, {})[key] = tensor
        for optimizer, name, parameter in self._parameters():
            optimizer.state.pop(parameter, None)
            for key, whole in kept.pop(name, {}).items():
                # Adam's step counts are the one scalar; fused kernels want them beside the parameter.
                target = torch.zeros((), device=_counter_device(optimizer, parameter))
                if key != "step":
                    target = torch.zeros_like(parameter)
                    if whole.shape != target.shape:
                        raise RunError(
                            "A checkpoint's optimiser does not fit this network.",
                            where=f"{name}/{key}",
                            wanted=tuple(target.shape),
                            got=tuple(whole.shape),
                        )
                copy(target, whole)
                optimizer.state[parameter][key] = target
        if kept:
            raise RunError("A checkpoint's optimiser belongs to another network.", got=", ".join(sorted(kept)[:5]))

    def _parameters(self) -> list[tuple[torch.optim.Optimizer, str, Tensor]]:
        return [
            (optimizer, name, parameter)
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for name, parameter in zip(group["param_names"], group["params"], strict=True)
        ]


def build_optim(
    config: OptimConfig, named: Sequence[tuple[str, Tensor]], stages: Sequence[Sequence[str]] = ()
) -> Optim:
    """The optimiser that `config` describes, for the parameters `named`.

    Args:
        config: see OptimConfig.
        named: parameters by dotted name, each once, in an order that is the same in every process.
        stages: names of parameters, stage by stage from input to output, for `layer_decay`.

    Raises:
        UsageError: when there is nothing to learn, or a setting does not fit these parameters.
    """
    if not named:
        raise UsageError("There is nothing to learn: the network has no parameters.")
    hidden = config.hidden if config.method == "muon" else ()
    groups = divide(named, hidden=hidden, stages=stages, layer_decay=config.layer_decay)
    matrices = [_torch_group(config, group) for group in groups if group.rule == "matrix"]
    plain = [_torch_group(config, group) for group in groups if group.rule == "plain"]
    optimizers: list[torch.optim.Optimizer] = []
    if matrices:
        optimizers.append(Muon(matrices, momentum=config.momentum, block_rows=config.block_rows))
    if plain and config.method == "sgd":
        optimizers.append(torch.optim.SGD(plain, momentum=config.momentum, nesterov=config.momentum > 0))
    elif plain:
        fused = all(parameter.device.type in _FUSED_DEVICES for _, parameter in named)
        optimizers.append(torch.optim.AdamW(plain, betas=config.betas, fused=fused))
    return Optim(config, optimizers)


def _torch_group(config: OptimConfig, group: Group) -> dict[str, Any]:
    rate = config.learning_rate * group.scale
    return {
        "params": list(group.members),
        "lr": rate,
        "initial_lr": rate,
        "weight_decay": config.weight_decay if group.decayed else 0.0,
    }


def _counter_device(optimizer: torch.optim.Optimizer, parameter: Tensor) -> torch.device:
    return parameter.device if optimizer.defaults.get("fused") else torch.device("cpu")
