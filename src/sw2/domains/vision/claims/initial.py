"""Xavier against He: two initial variances for ReLU networks, by depth.

    Xavier   variance 2 / (inputs + outputs)    keeps the variance of values and gradients where f'(0) = 1
    He       variance 2 / inputs                makes up for the half of them that ReLU cuts off

With Xavier a ReLU network of L layers starts with values and gradients of 2^-L the variance: shallow ones hardly
notice, deep ones stand still. Each way gets the best of the same rates, chosen by the loss on what it learned from, so
that a rate that suits one of them decides nothing.

Sources: Glorot and Bengio (2010), https://proceedings.mlr.press/v9/glorot10a.html; He et al. (2015),
https://arxiv.org/abs/1502.01852, section 2.2 and figure 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch

from sw2.core.claims import Plot, Result, by_interval, paired, seeds_of
from sw2.core.task import Context
from sw2.domains.vision.claims.bench import Halves, Tried, fresh, halves, learn, network, tried

__all__ = ["WAYS", "run", "trained"]

WAYS: Final[dict[str, Callable[[int, int], float]]] = {
    "Xavier": lambda inputs, outputs: 2 / (inputs + outputs),
    "He": lambda inputs, outputs: 2 / inputs,
}
_DEPTHS, _WIDTH, _STEPS, _RATES = (2, 5, 10, 20, 30), 128, 300, (0.003, 0.03)


def trained(way: str, depth: int, data: Halves, seed: int, *, steps: int) -> Tried:
    """A network of this depth with this initial variance, at its best rate."""
    found = []
    for rate in _RATES:
        with fresh(seed, "initial", depth):  # the same draws for both, scaled
            net = network(depth, _WIDTH, variance=WAYS[way])
        losses = learn(net, torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9), data, steps=steps, seed=seed)
        found.append(tried(net, data, rate, losses))
    return min(found, key=lambda each: each.loss)


def run(context: Context, full: bool) -> Result:
    """The claim `xavier-he`."""
    seeds = seeds_of(context.seed, full)
    found: dict[tuple[str, int], list[Tried]] = {(way, depth): [] for depth in _DEPTHS for way in WAYS}
    for seed in seeds:
        data = halves(seed)
        for way, depth in found:
            found[way, depth].append(trained(way, depth, data, seed, steps=_STEPS))
        context.say(f"seed {seed}: {_DEPTHS[-1]} layers, " + ", ".join(
            f"{way} {found[way, _DEPTHS[-1]][-1].right_M.mean():.4f}" for way in WAYS
        ))  # fmt: skip
    gains = {
        depth: paired([each.right_M for each in found["Xavier", depth]], [each.right_M for each in found["He", depth]],
                      context.seed)
        for depth in _DEPTHS
    }  # fmt: skip

    def score(way: str, depth: int) -> float:
        return float(np.mean([each.right_M.mean() for each in found[way, depth]]))

    deepest = _DEPTHS[-1]
    gain = gains[deepest]
    return Result(
        verdict=by_interval(gain),
        why=f"at {deepest} layers He is right {score('He', deepest):.1%} of the time and Xavier "
        f"{score('Xavier', deepest):.1%}, {gain.value:+.1%} ({gain.low:+.1%} to {gain.high:+.1%}).",
        head=("layers", "Xavier", "He", "He - Xavier", "from", "to", "loss Xavier", "loss He"),
        rows=[
            [depth, score("Xavier", depth), score("He", depth), gains[depth].value, gains[depth].low, gains[depth].high,
             *(float(np.mean([each.loss for each in found[way, depth]])) for way in WAYS)]
            for depth in _DEPTHS
        ],
        plots=[
            Plot(
                title="Held-out accuracy by depth",
                axis="layer",
                lines={way: [(depth, score(way, depth)) for depth in _DEPTHS] for way in WAYS},
            ),
            Plot(
                title=f"Loss of {deepest} layers while learning",
                axis="step",
                lines={way: list(enumerate(found[way, deepest][0].losses, start=1)) for way in WAYS},
                caption=f"Of each step's 64 digits, seed {context.seed}. Guessing has a loss of 2.303.",
            ),
        ],
        notes=(
            f"ReLU networks of {_WIDTH} values a layer without normalisation or shortcuts, {_STEPS} steps of 64 digits "
            f"by SGD with momentum 0.9, the best of the rates {', '.join(map(str, _RATES))} for each; 899 held-out "
            "digits. Width, steps and rates were chosen on seed 0 so that He's deepest network learns; at width 64, "
            "150 steps and rates of 0.01 and 0.03 neither did (0.17 and 0.09 of the held-out digits).",
        ),
    )  # fmt: skip
