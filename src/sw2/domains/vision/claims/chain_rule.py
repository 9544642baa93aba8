"""The chain rule by hand against autograd: the gradients of a network with two layers, written out in numpy.

Shapes: N pictures, P pixels, H hidden values, K labels.

    s = x W1 + b1     h = f(s)     o = h W2 + b2     loss = mean over N of -log softmax(o)[label]

    dloss/do  = (softmax(o) - onehot(label)) / N
    dloss/dW2 = h' dloss/do          dloss/db2 = sum over N of dloss/do
    dloss/ds  = (dloss/do W2') * f'(s)
    dloss/dW1 = x' dloss/ds          dloss/db1 = sum over N of dloss/ds

Both learn, too: as many steps of gradient descent, each with its own gradients, have to end at the same loss.

Source: Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors" (1986),
https://doi.org/10.1038/323533a0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sw2.base.seed import numpy_generator
from sw2.core.claims import Plot, Result, by_order, seeds_of
from sw2.core.task import Context
from sw2.domains.vision.claims.bench import CLASSES, PIXELS, halves

__all__ = ["TOLERANCE", "by_autograd", "by_hand", "initial", "run"]

TOLERANCE: Final = 1e-6
_HIDDEN, _STEPS, _RATE = 32, 60, 0.5

Weights = Mapping[str, NDArray[Any]]


def initial(seed: int) -> dict[str, NDArray[Any]]:
    """Weights and biases by name, float64; the biases are not zero, so that a wrong one shows."""
    draw = numpy_generator(seed, "chain-rule")
    return {
        "W1": draw.normal(size=(PIXELS, _HIDDEN)) / PIXELS**0.5,
        "b1": draw.normal(size=_HIDDEN) / 10,
        "W2": draw.normal(size=(_HIDDEN, CLASSES)) / _HIDDEN**0.5,
        "b2": draw.normal(size=CLASSES) / 10,
    }


def by_hand(
    x_NP: NDArray[Any], y_N: NDArray[Any], weights: Weights, activation: str
) -> tuple[float, dict[str, NDArray[Any]]]:
    """The loss and its gradients by the rule at the top of this file.

    Args:
        x_NP: pixels [N, P], float64.
        y_N: labels [N].
        weights: as `initial` makes them.
        activation: "relu" or "tanh".
    """
    s_NH = x_NP @ weights["W1"] + weights["b1"]
    h_NH = np.maximum(s_NH, 0.0) if activation == "relu" else np.tanh(s_NH)
    slope_NH = (s_NH > 0).astype(float) if activation == "relu" else 1 - h_NH**2
    o_NK = h_NH @ weights["W2"] + weights["b2"]
    o_NK -= o_NK.max(axis=1, keepdims=True)  # changes no softmax, and no exponential is too large
    log_p_NK = o_NK - np.log(np.exp(o_NK).sum(axis=1, keepdims=True))
    places = np.arange(len(y_N))
    d_o_NK = np.exp(log_p_NK)
    d_o_NK[places, y_N] -= 1
    d_o_NK /= len(y_N)
    d_s_NH = d_o_NK @ weights["W2"].T * slope_NH
    gradients = {"W1": x_NP.T @ d_s_NH, "b1": d_s_NH.sum(0), "W2": h_NH.T @ d_o_NK, "b2": d_o_NK.sum(0)}
    return float(-log_p_NK[places, y_N].mean()), gradients


def by_autograd(x_NP: Tensor, y_N: Tensor, weights: Weights, activation: str) -> tuple[float, dict[str, NDArray[Any]]]:
    """The same by torch: the forward pass alone is written down."""
    leaves = {name: torch.tensor(value, requires_grad=True) for name, value in weights.items()}
    s_NH = x_NP @ leaves["W1"] + leaves["b1"]
    h_NH = s_NH.relu() if activation == "relu" else s_NH.tanh()
    loss = F.cross_entropy(h_NH @ leaves["W2"] + leaves["b2"], y_N)
    found = torch.autograd.grad(loss, list(leaves.values()))
    return loss.item(), {name: each.numpy() for name, each in zip(leaves, found, strict=True)}


def run(context: Context, full: bool) -> Result:
    """The claim `chain-rule`."""
    rows: list[list[str | float | int | None]] = []
    worst: list[float] = []
    plots: list[Plot] = []
    for seed in seeds_of(context.seed, full):
        data = halves(seed)
        x_NP, y_N = data.seen_NP.double(), data.seen_N
        for activation in ("relu", "tanh"):
            weights = initial(seed)
            _, hand = by_hand(x_NP.numpy(), y_N.numpy(), weights, activation)
            _, auto = by_autograd(x_NP, y_N, weights, activation)
            for name in weights:
                largest, apart = float(abs(auto[name]).max()), float(abs(hand[name] - auto[name]).max())
                rows.append([activation, name, seed, weights[name].size, largest, apart, apart / largest])
                worst.append(apart / largest)
            losses_hand = _descend(x_NP, y_N, weights, activation, hand=True)
            losses_auto = _descend(x_NP, y_N, weights, activation, hand=False)
            worst.append(max(abs(one / other - 1) for one, other in zip(losses_hand, losses_auto, strict=True)))
            rows.append([activation, f"loss of {_STEPS} steps", seed, None, losses_auto[-1], None, worst[-1]])
            if seed == context.seed:
                lines = {"by hand": list(enumerate(losses_hand)), "autograd": list(enumerate(losses_auto))}
                plots.append(Plot(title=f"Loss while learning, {activation}", axis="step", lines=lines))
    return Result(
        verdict=by_order([TOLERANCE - max(worst)]),
        why=f"the largest difference is {max(worst):.1e} of the largest gradient (or of the loss), "
        f"of {TOLERANCE} that are allowed.",
        head=("activation", "of", "seed", "numbers", "largest", "apart", "share"),
        rows=rows,
        plots=plots,
        notes=(
            f"Two layers, {PIXELS} pixels, {_HIDDEN} hidden values, {CLASSES} labels, on 898 digits, in float64. "
            "At float32 both round, and differ by about 1e-6 of the largest gradient for that reason alone.",
        ),
    )


def _descend(x_NP: Tensor, y_N: Tensor, weights: Weights, activation: str, *, hand: bool) -> list[float]:
    """The losses of gradient descent on all examples at once."""
    now, losses = dict(weights), []
    for _ in range(_STEPS):
        if hand:
            loss, gradients = by_hand(x_NP.numpy(), y_N.numpy(), now, activation)
        else:
            loss, gradients = by_autograd(x_NP, y_N, now, activation)
        losses.append(loss)
        now = {name: value - _RATE * gradients[name] for name, value in now.items()}
    return losses
