"""Training health on networks that are sick in a known way; and that looking does not touch what is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from sw2.core.health import diagnose, probe, update_ratios
from sw2.core.model import Batch, Model, Outputs
from sw2.core.trainer import Trainer, TrainerConfig, _Measured


class Deep(Model):
    """A plain stack: `layer1` to `layerN`, each a matrix and a nonlinearity."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """As in `Deep`."""

        depth: int = 40
        width: int = 16
        activation: Literal["sigmoid", "relu"] = "sigmoid"
        gain: float = 1.0
        norm: bool = False
        dropout: float = 0.0

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.stack = nn.ModuleList()
        for _ in range(config.depth):
            linear = nn.Linear(config.width, config.width)
            with torch.no_grad():
                nn.init.kaiming_normal_(linear.weight).mul_(config.gain)
            norm = [nn.BatchNorm1d(config.width)] if config.norm else []
            nonlinear = nn.Sigmoid() if config.activation == "sigmoid" else nn.ReLU()
            self.stack.append(nn.Sequential(linear, *norm, nonlinear, nn.Dropout(config.dropout)))

    def layers(self) -> list[tuple[str, nn.Module]]:
        return [(f"layer{number}", layer) for number, layer in enumerate(self.stack, 1)]

    def forward(self, batch: Batch) -> Outputs:
        x = batch["x"]
        for layer in self.stack:
            x = layer(x)
        return {"y": x}


def _loss(model: Model, batch: Batch) -> Tensor:
    return model(batch)["y"].square().mean()


def _deep(**settings: Any) -> Deep:
    torch.manual_seed(3)
    return Deep(Deep.Config(**settings)).train()


BATCH = {"x": torch.randn(8, 16, generator=torch.Generator().manual_seed(1))}


def test_a_deep_sigmoid_network_has_vanishing_gradients() -> None:
    """Each sigmoid scales a gradient by at most 1/4; the first one below 1e-3, from the loss, is named."""
    rows = probe(_deep(), _loss, BATCH)
    assert [row["layer"] for row in rows] == [f"layer{number}" for number in range(1, 41)]
    gradients = {row["layer"]: row["gradient"] for row in rows}
    first = next(f"layer{n}" for n in range(40, 0, -1) if gradients[f"layer{n}"] < 1e-3 * gradients["layer40"])
    (finding,) = diagnose(rows)
    assert finding.startswith(f"Vanishing gradients from '{first}' down:")
    assert int(first[5:]) > 30
    assert "He initialisation" in finding


def test_too_large_an_initialisation_has_exploding_gradients() -> None:
    rows = probe(_deep(activation="relu", gain=3.0, depth=20), _loss, BATCH)
    gradients = {row["layer"]: row["gradient"] for row in rows}
    first = next(f"layer{n}" for n in range(20, 0, -1) if gradients[f"layer{n}"] > 1e3 * gradients["layer20"])
    (finding,) = [text for text in diagnose(rows) if "gradients" in text]
    assert finding.startswith(f"Exploding gradients from '{first}' down:")


def test_he_initialisation_is_healthy() -> None:
    rows = probe(_deep(activation="relu", depth=20, norm=True, width=64), _loss, {"x": torch.randn(8, 64)})
    assert diagnose(rows) == []


def test_dead_units_are_counted() -> None:
    """Five of sixteen units get a bias that no input lifts above zero, in the first of two layers."""
    model = _deep(activation="relu", depth=2)
    with torch.no_grad():
        model.stack[0][0].bias.fill_(0.0)[[1, 4, 7, 11, 13]] = -1e4
        model.stack[1][0].bias.fill_(1e4)
    rows = probe(model, _loss, BATCH)
    alive = (BATCH["x"] @ model.stack[0][0].weight.T + model.stack[0][0].bias > 0).any(0)
    assert int((~alive).sum()) == 5
    assert [row["dead"] for row in rows] == [5 / 16, 0.0]


def test_units_of_pictures_are_channels() -> None:
    class Pictures(Model):
        Config = Deep.Config

        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())

        def forward(self, batch: Batch) -> Outputs:
            return {"y": self.block(batch["x"])}

    model = Pictures()
    with torch.no_grad():
        model.block[0].bias.copy_(torch.tensor([9.0, -9e3, 9.0, -9e3]))
    (row,) = probe(model, _loss, {"x": torch.rand(2, 1, 5, 5)})
    assert row["dead"] == 0.5
    model.block[0].bias.data[0] = -9e3
    (finding,) = diagnose(probe(model, _loss, {"x": torch.rand(2, 1, 5, 5)}))
    assert finding.startswith("75% of the ReLU units in 'block' are dead.")


def test_large_updates_are_told() -> None:
    model = _deep(depth=2)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.stack[1].parameters():
            parameter.mul_(1.5)
    ratios = update_ratios(model, before)
    assert ratios["layer1"] == 0.0
    assert ratios["layer2"] == pytest.approx(0.5)
    (finding,) = diagnose([{"layer": name, "update": ratio} for name, ratio in ratios.items()])
    assert finding.startswith("The last step changed 'layer2' by 50% of its weights.")


def test_not_finite_gradients_count_as_exploding() -> None:
    rows = [{"layer": "a", "gradient": float("nan")}, {"layer": "b", "gradient": 1.0}]
    assert diagnose(rows)[0].startswith("Exploding gradients from 'a' down")


def test_looking_touches_nothing() -> None:
    """Weights, running statistics, gradients, hooks and, through the trainer, random numbers stay bit for bit."""
    model = _deep(activation="relu", depth=3, norm=True)
    _loss(model, BATCH).backward()
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    copies = {name: gradient.clone() for name, gradient in gradients.items()}
    rows = probe(model, _loss, BATCH)
    assert all(row["gradient"] > 0 for row in rows)
    assert all(model.state_dict()[name].equal(tensor) for name, tensor in tensors.items())
    for name, parameter in model.named_parameters():
        assert parameter.grad is gradients[name]
        assert parameter.grad.equal(copies[name])
    assert not any(module._forward_hooks for module in model.modules())


def test_a_probe_that_fails_puts_everything_back() -> None:
    model = _deep(depth=3, norm=True)
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def broken(model: Model, batch: Batch) -> Tensor:
        _loss(model, batch)
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        probe(model, broken, BATCH)
    assert all(model.state_dict()[name].equal(tensor) for name, tensor in tensors.items())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_watched_step_is_the_step(toy: Any, kinds_of_toys: Any) -> None:
    """With dropout, whose random numbers the probe draws too, and with running statistics."""
    from dataclasses import replace

    from sw2.core.objective import Clock

    toy = replace(toy, model=kinds_of_toys["Mlp"].Config(norm="batch", dropout=0.5))
    job = replace(toy.job(), choices={"micro_batch": 0, "compile": "off", "precision": "fp32"})
    plain, watched = toy.objective(), toy.objective()
    one, other = plain.start(job), watched.start(job)
    for step in range(5):
        metrics = plain.step(one, Clock(step, 5))
        random_after = torch.random.get_rng_state()
        watched_metrics, health = watched.watched_step(other, Clock(step, 5))
        assert torch.random.get_rng_state().equal(random_after)
        assert metrics == watched_metrics
        assert health is not None
        assert [row["layer"] for row in health["layers"]] == ["first", "norm", "dropout", "last"]
    ours, theirs = plain.snapshot(one).tensors, watched.snapshot(other).tensors
    assert all(ours[name].equal(theirs[name]) for name in ours)


@pytest.mark.parametrize("extra", [0.0, 0.001, 0.1, 5.0])
@pytest.mark.parametrize("total", [20, 2_000, 100_000])
def test_the_cadence_costs_less_than_two_percent(extra: float, total: int) -> None:
    measured = _Measured(step=0.01, watched_extra=extra, evaluate=0.0, checkpoint=0.0, checkpoint_bytes=0, peak=0)
    every = Trainer(TrainerConfig())._health_cadence(measured, total)
    assert extra / every <= 0.02 * measured.step * (1 + 1e-9)
    assert every >= max(10, total / 100)
    assert Trainer(TrainerConfig(health="off"))._health_cadence(measured, total) == 0
