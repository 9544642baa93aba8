"""The claims' numbers against exact theory, finite differences and what a line of torch says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sw2.core.task import Context
from sw2.domains.vision.claims import bench, chain_rule, vanishing


@pytest.fixture(scope="module")
def data() -> bench.Halves:
    return bench.halves(0)


def test_the_halves_share_no_picture_and_depend_on_the_seed(data: bench.Halves) -> None:
    assert (len(data.seen_N), len(data.held_M)) == (898, 899)
    assert data.seen_NP.mean().abs() < 1e-5
    assert data.seen_NP.std() == pytest.approx(1.0)
    seen = {row.numpy().tobytes() for row in data.seen_NP}
    assert sum(row.numpy().tobytes() in seen for row in data.held_MP) == 0
    assert torch.equal(data.seen_NP, bench.halves(0).seen_NP)
    assert not torch.equal(data.seen_N, bench.halves(1).seen_N)


def test_an_experiment_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    with bench.fresh(0, "x"):
        first = torch.rand(1)
    with bench.fresh(0, "x"):
        assert torch.equal(torch.rand(1), first)
    assert torch.equal(torch.rand(1), expected)


def test_learning_learns_and_repeats(data: bench.Halves) -> None:
    def once() -> tuple[list[float], float]:
        with bench.fresh(0, "net"):
            net = bench.network(2, 16)
        losses = bench.learn(net, torch.optim.SGD(net.parameters(), lr=0.2), data, steps=60, seed=0)
        return losses, bench.loss_of(net, data.held_MP, data.held_M)

    losses, held = once()
    assert len(losses) == 60
    assert held < 0.6 < losses[0]
    assert once() == (losses, held)


def test_learning_ends_at_the_first_loss_that_is_no_number(data: bench.Halves) -> None:
    with bench.fresh(0, "net"):
        net = bench.network(3, 16)
    losses = bench.learn(net, torch.optim.SGD(net.parameters(), lr=1e6), data, steps=60, seed=0)
    assert len(losses) < 60
    assert not np.isfinite(losses[-1])


# -------------------------------------------------------------------------------------------------------- chain rule


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_gradients_by_hand_are_finite_differences(data: bench.Halves, activation: str) -> None:
    """A third witness, which knows no chain rule."""
    weights = chain_rule.initial(3)
    x, y = data.seen_NP[:20].double().numpy(), data.seen_N[:20].numpy()
    _, found = chain_rule.by_hand(x, y, weights, activation)
    for name, gradient in found.items():
        for place in (0, gradient.size // 2, gradient.size - 1):
            index, step = np.unravel_index(place, gradient.shape), 1e-6
            losses = []
            for sign in (1, -1):
                moved = {**weights, name: weights[name].copy()}
                moved[name][index] += sign * step
                losses.append(chain_rule.by_hand(x, y, moved, activation)[0])
            assert gradient[index] == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-5, abs=1e-8)


def test_a_wrong_gradient_would_be_seen(data: bench.Halves, monkeypatch: pytest.MonkeyPatch) -> None:
    right = chain_rule.by_hand

    def wrong(x: np.ndarray, y: np.ndarray, weights: chain_rule.Weights, activation: str) -> tuple[float, dict]:
        loss, gradients = right(x, y, weights, activation)
        return loss, {**gradients, "b1": gradients["b1"] * (1 + 1e-5)}

    assert chain_rule.run(Context(seed=1), False).verdict == "holds"
    monkeypatch.setattr(chain_rule, "by_hand", wrong)
    assert chain_rule.run(Context(seed=1), False).verdict == "does not hold"


# --------------------------------------------------------------------------------------------------------- vanishing


def test_a_gradient_is_the_product_of_the_layers() -> None:
    """Autograd's square against the weights multiplied out, of the same draw."""
    size = vanishing.Size(layers=4, width=6, draws=1, pictures=1)
    measured = vanishing.squares("linear", 1.5, size, seed=2)[0]
    from sw2.base.seed import generator

    draw = generator(2, "vanishing", "linear", "1.5", 0)
    matrices = []
    for inputs in (64, 6, 6, 6):
        weights = torch.randn(inputs, 6, generator=draw, dtype=torch.float64)
        matrices.append(weights * (1.5 / inputs) ** 0.5)
    gradient = torch.randn(1, 6, generator=draw, dtype=torch.float64)
    for layer in (3, 2, 1, 0):
        assert measured[layer] == pytest.approx(gradient.square().mean().item())
        gradient = gradient @ matrices[layer].T


@pytest.mark.parametrize(("activation", "variance"), [("linear", 1.0), ("relu", 2.0), ("relu", 3.0)])
def test_the_theory_is_exact_at_small_widths_too(activation: str, variance: float) -> None:
    size = vanishing.Size(layers=3, width=8, draws=1500, pictures=1)
    found = vanishing.squares(activation, variance, size, seed=0)
    expected = vanishing.theory(activation, variance) ** 2
    error = found[:, 0].std() / len(found) ** 0.5
    assert abs(found[:, 0].mean() - expected) < 4 * error
    assert error < 0.1 * expected


def test_a_factor_that_is_not_the_theorys_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vanishing, "QUICK", vanishing.Size(layers=6, width=64, draws=30, pictures=1))
    monkeypatch.setattr(vanishing, "theory", lambda activation, variance: 0.7 * variance)
    assert vanishing.run(Context(), False).verdict == "does not hold"
