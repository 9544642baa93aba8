"""Vanishing and exploding gradients: what depth does to a gradient at the start, beside the exact theory.

Shapes: B pictures, L layers, n values of a layer, D draws of all weights.

    z_1 = W_1 x,   z_l = W_l f(z_(l-1)),   weights from N(0, s / inputs)
    g_l = gradient of v . z_L by z_l,      v from N(0, 1)

    E[g_l^2] = s E[f'^2] E[g_(l+1)^2],   so   E[g_l^2] = (s E[f'^2])^(L - l),   with E[f'^2] = 1 (linear), 1/2 (ReLU)

The mean over draws of the weights is this at any width, not only at infinite width: for linear layers because W_(l+1)
is independent of g_(l+1), for ReLU by Hanin's sum over paths. A *typical* draw lies below the mean, the more so the
deeper and the narrower the network is, so means are compared and not medians.

Sources: Hochreiter (1991) and Glorot and Bengio (2010), https://proceedings.mlr.press/v9/glorot10a.html, for the
effect; He et al. (2015), https://arxiv.org/abs/1502.01852, section 2.2, for ReLU; Hanin (2018),
https://arxiv.org/abs/1801.03744, for finite widths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sw2.base.seed import generator
from sw2.core.claims import Plot, Result, Verdict, seeds_of
from sw2.core.task import Context
from sw2.domains.vision.claims.bench import PIXELS, halves
from sw2.parts.metrics import Interval, bootstrap

__all__ = ["MARGIN", "Size", "factor", "run", "squares", "theory"]

MARGIN: Final = 0.02
_CASES: Final = (("linear", 0.5), ("linear", 1.0), ("linear", 2.0), ("relu", 1.0), ("relu", 2.0), ("relu", 4.0))


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the experiment is: layers, values of each, draws of a seed, pictures of a draw."""

    layers: int = 20
    width: int = 256
    draws: int = 40
    pictures: int = 4


QUICK: Final = Size()
FULL: Final = Size(layers=50, width=512, draws=40)


def theory(activation: str, variance: float) -> float:
    """S E[f'^2]: by what the mean square of a gradient is multiplied a layer."""
    return variance * (0.5 if activation == "relu" else 1.0)


def squares(activation: str, variance: float, size: Size, seed: int) -> NDArray[Any]:
    """The mean square of the gradient by each layer's z, for each draw of the weights: float64 [D, L]."""
    pictures = halves(seed).seen_NP[: size.pictures].double()
    found = []
    for draw in range(size.draws):
        random = generator(seed, "vanishing", activation, str(variance), draw)
        inputs = PIXELS
        places: list[Tensor] = []
        x_Bn = pictures
        for _ in range(size.layers):
            weights = torch.randn(inputs, size.width, generator=random, dtype=torch.float64)
            z_Bn = x_Bn @ (weights * (variance / inputs) ** 0.5)
            if not places:
                z_Bn.requires_grad_()
            places.append(z_Bn)
            x_Bn = z_Bn.relu() if activation == "relu" else z_Bn
            inputs = size.width
        v_Bn = torch.randn(z_Bn.shape, generator=random, dtype=torch.float64)
        gradients = torch.autograd.grad((v_Bn * z_Bn).sum(), places)
        found.append([each.square().mean().item() for each in gradients])
    return np.array(found)


def factor(squares_DL: NDArray[Any]) -> float:
    """By what the mean over draws is multiplied a layer, from the last to the first: a geometric mean."""
    mean_L = squares_DL.mean(axis=0)
    return float((mean_L[0] / mean_L[-1]) ** (1 / (len(mean_L) - 1)))


def run(context: Context, full: bool) -> Result:
    """The claim `vanishing-gradients`."""
    size = FULL if full else QUICK
    rows: list[list[str | float | int | None]] = []
    plots: list[Plot] = []
    verdicts: list[Verdict] = []
    apart: list[float] = []
    for activation, variance in _CASES:
        seeds = seeds_of(context.seed, full)
        squares_DL = np.concatenate([squares(activation, variance, size, seed) for seed in seeds])
        expected = theory(activation, variance)
        found = bootstrap(squares_DL, factor, seed=context.seed)
        verdicts.append(_near(found, expected))
        apart.append(abs(found.value / expected - 1))
        first = float(squares_DL[:, 0].mean())
        rows.append([
            activation, variance, expected, found.value, found.low, found.high, expected ** (size.layers - 1), first,
        ])  # fmt: skip
        lines = {
            "measured": [(layer, float(each)) for layer, each in enumerate(squares_DL.mean(axis=0), start=1)],
            "theory": [(layer, expected ** (size.layers - layer)) for layer in range(1, size.layers + 1)],
        }
        title = f"Variance of the gradient, {activation}, weights {variance:g} / inputs"
        plots.append(Plot(title=title, axis="layer", lines=lines, log=True))
        context.say(
            f"{activation}, {variance:g} / inputs: a factor of {found.value:.4f} a layer, {expected:g} in theory"
        )
    verdict: Verdict = "holds" if all(each == "holds" for each in verdicts) else "undecided"
    if "does not hold" in verdicts:
        verdict = "does not hold"
    return Result(
        verdict=verdict,
        why=f"the factor a layer is at most {max(apart):.2%} from the theory, of {MARGIN:.0%} that are allowed.",
        head=(
            *("activation", "variance x inputs", "factor in theory", "factor measured", "from", "to"),
            *("first layer in theory", "first layer measured"),
        ),
        rows=rows,
        plots=plots,
        notes=(
            f"{size.layers} layers of {size.width} values, {len(squares_DL)} draws of all weights, "
            f"{size.pictures} digits each; variances of the gradient by a layer's values before its activation, where "
            "it is 1 at the last layer.",
        ),
    )


def _near(found: Interval, expected: float) -> Verdict:
    """Whether the interval lies within the margin of what is expected, outside of it, or on its edge."""
    low, high = expected * (1 - MARGIN), expected * (1 + MARGIN)
    if low <= found.low and found.high <= high:
        return "holds"
    return "does not hold" if found.high < low or found.low > high else "undecided"
