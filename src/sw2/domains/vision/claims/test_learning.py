"""The claims about learning: what each compares is what it says, by exact theory where there is one."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sw2.core.task import Context
from sw2.domains.vision.claims import averaged, bench, dropped, initial, normalised, optimisers


@pytest.fixture(scope="module")
def data() -> bench.Halves:
    return bench.halves(0).first(100)


def _weights(net: nn.Module) -> list[torch.Tensor]:
    return [layer.weight for layer in net.modules() if isinstance(layer, nn.Linear)]


# ------------------------------------------------------------------------------------------------------- xavier and he


@pytest.mark.parametrize(("way", "variance"), [("Xavier", 1 / 64), ("He", 2 / 64)])
def test_the_initial_variance_is_the_ways(way: str, variance: float) -> None:
    net = bench.network(30, 64, variance=initial.WAYS[way])
    values = torch.cat([weight.flatten() for weight in _weights(net)[:-1]])
    assert values.var().item() == pytest.approx(variance, rel=0.03)


def test_he_keeps_the_squares_of_values_and_xavier_halves_them(data: bench.Halves) -> None:
    """E[h^2] = s / 2 E[x^2] a layer, s the variance times inputs: in the mean over draws exact, at any width."""
    for way, factor in (("He", 1.0), ("Xavier", 0.5)):
        squares = []
        for draw in range(60):
            with bench.fresh(draw, "squares"):
                net = bench.network(5, 64, variance=initial.WAYS[way])[:-1]  # the hidden layers, all 64 wide
            with torch.no_grad():
                squares.append(net(data.seen_NP[:20]).square().mean().item())
        expected = factor**4 * data.seen_NP[:20].square().mean().item()
        error = np.std(squares) / len(squares) ** 0.5
        assert abs(np.mean(squares) - expected) < 4 * error
        assert error < 0.1 * expected


def test_both_ways_start_from_the_same_draws() -> None:
    nets = []
    for way in initial.WAYS:
        with bench.fresh(0, "same"):
            nets.append(bench.network(3, 64, variance=initial.WAYS[way]))
    assert torch.allclose(_weights(nets[0])[0] * 2**0.5, _weights(nets[1])[0])


# ---------------------------------------------------------------------------------------------------------- batch norm


def test_batch_norm_stands_before_each_relu(data: bench.Halves) -> None:
    kinds = [type(layer).__name__ for layer in bench.network(3, 8, normalised=True)]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear"]
    hidden = bench.network(2, 8, normalised=True)[:2](data.seen_NP)
    assert hidden.mean(0).abs().max() < 1e-5


def test_a_rate_is_stable_or_not(data: bench.Halves) -> None:
    torn = normalised.at(False, 14, data, 0, steps=20)
    assert (torn.stable, torn.steps) == (False, float("inf"))
    slow = normalised.at(True, -20, data, 0, steps=20)
    assert np.isfinite(slow.loss)
    assert not slow.stable  # finite, and nothing learned
    good = normalised.at(True, -3, data, 0, steps=60)
    assert good.stable


# ------------------------------------------------------------------------------------------------------------ sgd, adam


def test_adams_first_step_is_its_rate_and_sgds_is_the_gradient() -> None:
    """Adam's m / sqrt(v) of one gradient is its sign."""
    for way in optimisers.WAYS:
        layer = nn.Linear(3, 2)
        before = layer.weight.detach().clone()
        (layer.weight * torch.tensor([[1.0, -2.0, 3.0]] * 2)).sum().backward()
        assert layer.weight.grad is not None
        optimisers._optimiser(way, layer, 0.25).step()
        moved = layer.weight.grad.sign() if way == "Adam" else layer.weight.grad
        assert torch.allclose(before - layer.weight, 0.25 * moved, atol=1e-5)


# -------------------------------------------------------------------------------------------------------------- dropout


def test_dropout_is_for_training_only_and_repeats(data: bench.Halves) -> None:
    with bench.fresh(0, "x"):
        net = bench.network(3, 16, dropout=0.5)
    assert torch.equal(bench.answers(net, data.held_MP), bench.answers(net, data.held_MP))
    assert net.training
    assert not torch.equal(net(data.seen_NP), net(data.seen_NP))
    once, again = (dropped.trained(0.5, data, 0, steps=10) for _ in range(2))
    assert once.losses == again.losses
    assert once.losses != dropped.trained(0.0, data, 0, steps=10).losses


# ------------------------------------------------------------------------------------------------------------ averaging


def test_averages_are_what_they_say(data: bench.Halves) -> None:
    found, between = averaged.scores(data, 0, steps=30)
    assert found["one model"].mean() == pytest.approx((between[0] + between[-1]) / 2)  # the ends are A and B
    assert found["weights of two runs"].mean() == pytest.approx(between[len(between) // 2])
    assert set(np.unique(found["one model"])) <= {0.0, 0.5, 1.0}
    one, other = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([3.0, 6.0])}
    assert averaged.mean_weights([one, other], [0.5, 0.5])["w"].tolist() == [2.0, 4.0]
    assert averaged.mean_weights([one, other], [1.0, 0.0])["w"].tolist() == [1.0, 2.0]


def test_a_verdict_comes_from_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the ways exchanged, what holds does no longer hold."""
    right = {
        "one model": np.full(899, 0.5),
        "predictions of two runs": np.ones(899),
        "weights of one run": np.ones(899),
    }
    right["weights of two runs"] = np.zeros(899)
    monkeypatch.setattr(averaged, "scores", lambda data, seed, steps: (right, [0.0] * 11))
    assert averaged.run(Context(), False).verdict == "holds"
    right["weights of two runs"], right["weights of one run"] = (
        right["weights of one run"],
        right["weights of two runs"],
    )
    assert averaged.run(Context(), False).verdict == "does not hold"


# ------------------------------------------------------------------------------------------------------------------ all


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("claim", "smaller"),
    [
        (initial, {"_DEPTHS": (2, 3), "_STEPS": 4, "_RATES": (0.01,)}),
        (normalised, {"_EXPONENTS": range(-4, -2), "_STEPS": 10}),
        (optimisers, {"WAYS": {way: range(-6, -5) for way in optimisers.WAYS}, "_STEPS": 4}),
        (dropped, {"_STEPS": 4}),
        (averaged, {"_STEPS": 20}),
    ],
    ids=lambda value: value.__name__.rpartition(".")[2] if hasattr(value, "__name__") else "",
)
def test_an_experiment_brings_what_its_page_shows(
    claim: ModuleType, smaller: dict[str, Any], full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole of each, of a size that says nothing about the claim."""
    for name, value in smaller.items():
        monkeypatch.setattr(claim, name, value)
    result = claim.run(Context(seed=2), full)
    assert result.verdict in ("holds", "does not hold", "undecided")
    assert all(len(row) == len(result.head) for row in result.rows)
    assert len(result.rows) >= 2
    assert all(line for plot in result.plots for line in plot.lines.values())
    if not full and claim is not averaged:
        assert claim.run(Context(seed=2), full).rows == result.rows  # the seed decides every draw
