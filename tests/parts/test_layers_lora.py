"""Low-rank adapters: the formula by hand, values and gradients; over packed matrices; merged."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sw2.base.errors import UsageError
from sw2.base.seed import generator
from sw2.parts.layers.lora import LoraConfig, LoraLinear, adapt, detach, is_adapter, restructured
from sw2.parts.layers.packed import PackedLinear, pack


def _layer(bias: bool = True) -> nn.Linear:
    layer = nn.Linear(64, 48, bias=bias)
    with torch.no_grad():
        layer.weight.normal_(generator=generator(1, "w"))
    return layer


def _adapted(base: nn.Linear | PackedLinear) -> LoraLinear:
    layer = LoraLinear(base, 4, 8.0)
    with torch.no_grad():
        for parameter in (layer.lora_down, layer.lora_up):
            parameter.normal_(generator=generator(2, str(tuple(parameter.shape))))
    return layer


def _packed(bits: int) -> PackedLinear:
    plain = _layer()
    packed = pack(plain.weight.detach(), bits)  # type: ignore[arg-type]
    layer = PackedLinear(plain, bits)  # type: ignore[arg-type]
    state = {"codes": packed.codes, "scales": packed.scales, "minima": packed.minima}
    layer.load_state_dict({**{k: v for k, v in state.items() if v is not None}, "bias": plain.bias.detach()})
    return layer


@pytest.mark.parametrize("base", ["plain", "without bias", 4, 8])
def test_values_and_gradients_are_those_of_the_changed_matrix(base: str | int) -> None:
    """Y = (W + 2 B A) x + b with one dense matrix, differentiated by torch."""
    inner = _packed(base) if isinstance(base, int) else _layer(bias=base == "plain")
    layer = _adapted(inner)
    x = torch.randn(5, 64, generator=generator(3, "x"), requires_grad=True)
    layer(x).square().sum().backward()
    down, up = (p.detach().clone().requires_grad_() for p in (layer.lora_down, layer.lora_up))
    again = x.detach().clone().requires_grad_()
    y = nn.functional.linear(again, inner.weight.detach() + 2.0 * up @ down, inner.bias)
    y.square().sum().backward()
    assert torch.allclose(layer(x), y, atol=2e-4)
    for ours, theirs in ((x, again), (layer.lora_down, down), (layer.lora_up, up)):
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-2)


def _tower() -> nn.Module:
    tower = nn.Sequential()
    tower.add_module("blocks", nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))]))
    tower.add_module("head", nn.Linear(8, 3))
    return tower


def test_at_first_nothing_changes_and_merged_everything_stays() -> None:
    tower = _tower()
    x = torch.randn(4, 8, generator=generator(0, "x"))
    before = tower.blocks[0](x)
    adapt(tower, "blocks.", LoraConfig(rank=2), generator(0, "adapters"))
    assert torch.equal(tower.blocks[0](x), before)
    names = [name for name, _ in tower.named_parameters() if is_adapter(name)]
    assert names == [f"blocks.0.{layer}.lora_{part}" for layer in (0, 2) for part in ("down", "up")]
    with torch.no_grad():
        tower.blocks[0][0].lora_up.normal_(generator=generator(0, "up"))
    after = tower.blocks[0](x)
    empty = restructured(_tower(), tower)
    assert empty.state_dict().keys() == tower.state_dict().keys()
    changes = detach(tower)
    assert torch.equal(tower.blocks[0](x), before)
    with torch.no_grad():
        for name, change in changes.items():
            tower.get_submodule(name).weight += change
    assert torch.allclose(tower.blocks[0](x), after, atol=1e-6)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="rank of the adapters is too large"):
        adapt(_tower(), "blocks.", LoraConfig(rank=9), generator(0, "adapters"))
    for settings in ({"rank": -1}, {"alpha": 0.0}, {"rate": 0.0}):
        with pytest.raises(UsageError, match="out of range"):
            LoraConfig(**settings)  # type: ignore[arg-type]
