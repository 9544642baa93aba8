"""Recomputed blocks give the same gradients for less memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from sw2.base.errors import UsageError
from sw2.core.model import Batch, Model, Outputs
from sw2.core.recompute import recompute_blocks


class Tower(Model):
    """Blocks of a wide layer and a narrow one, with dropout between."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """As in `Tower`."""

        depth: int = 4
        width: int = 8
        hidden: int = 16
        dropout: float = 0.0
        normed: bool = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.blocks = nn.ModuleList(
                nn.Sequential(
                    nn.Linear(config.width, config.hidden),
                    nn.Tanh(),
                    nn.BatchNorm1d(config.hidden) if config.normed else nn.Dropout(config.dropout),
                    nn.Linear(config.hidden, config.width),
                )
                for _ in range(config.depth)
            )
            self.last = nn.Linear(config.width, 1)

    def layers(self) -> Sequence[tuple[str, nn.Module]]:
        return [*((f"block {number}", block) for number, block in enumerate(self.blocks)), ("last", self.last)]

    def forward(self, batch: Batch) -> Outputs:
        x = batch["x"]
        for block in self.blocks:
            x = x + block(x)
        return {"y": self.last(x)}


def learned(model: Model, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The output, and the gradient of each weight by name."""
    torch.manual_seed(1)
    y = model({"x": x})["y"]
    y.square().sum().backward()
    return y, {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_gradients_are_the_same_numbers(dropout: float) -> None:
    kept, again = (Tower(Tower.Config(dropout=dropout)) for _ in range(2))
    recompute_blocks(again)
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(2))
    (y, wanted), (found_y, found) = learned(kept, x), learned(again, x)
    assert torch.equal(y, found_y)
    assert found.keys() == wanted.keys()
    assert len(found) == 4 * 4 + 2
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert again.state_dict().keys() == kept.state_dict().keys()


def test_less_is_kept_for_the_backward_pass() -> None:
    def kept(recompute: bool) -> float:
        """Numbers that the forward pass keeps, in what one block's insides have."""
        model = Tower(Tower.Config(depth=8, width=8, hidden=1024))
        if recompute:
            recompute_blocks(model)
        count = 0

        def keep(tensor: Tensor) -> Tensor:
            nonlocal count
            count += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model({"x": torch.zeros(256, 8)})
        return count / (256 * 1024)

    assert kept(False) > 8  # every block's insides
    assert kept(True) < 1


def test_running_statistics_are_refused() -> None:
    with pytest.raises(UsageError, match="keep running statistics") as refused:
        recompute_blocks(Tower(Tower.Config(normed=True)))
    assert "block 0" in str(refused.value)
    assert "learn.gradient.micro_batch" in str(refused.value)


def test_a_network_without_blocks_is_refused() -> None:
    with pytest.raises(UsageError, match="no blocks"):
        recompute_blocks(Tower(Tower.Config(depth=0)))
