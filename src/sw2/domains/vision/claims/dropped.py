"""Dropout: the same wide network from few digits, with half of its hidden values left out in training, and without.

Source: Srivastava et al. (2014), "Dropout: a simple way to prevent neural networks from overfitting",
https://jmlr.org/papers/v15/srivastava14a.html. Its networks are larger and learn for longer; the rate here is the same
for both, and both learn until they know by heart what they have seen.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from sw2.core.claims import Plot, Result, by_interval, paired, seeds_of
from sw2.core.task import Context
from sw2.domains.vision.claims.bench import Halves, Tried, fresh, halves, learn, network, tried

__all__ = ["run", "trained"]

WAYS: Final = {"without": 0.0, "with": 0.5}
_DEPTH, _WIDTH, _STEPS, _SEEN, _RATE = 3, 256, 400, 200, 0.05


def trained(share: float, data: Halves, seed: int, *, steps: int) -> Tried:
    """A network that leaves out this share of its hidden values while it learns."""
    with fresh(seed, "dropped"):
        net = network(_DEPTH, _WIDTH, dropout=share)
    with fresh(seed, "dropped", "masks"):
        optimiser = torch.optim.SGD(net.parameters(), lr=_RATE, momentum=0.9)
        losses = learn(net, optimiser, data, steps=steps, seed=seed)
    return tried(net, data, _RATE, losses)


def run(context: Context, full: bool) -> Result:
    """The claim `dropout`."""
    seeds = seeds_of(context.seed, full)
    found: dict[str, list[Tried]] = {way: [] for way in WAYS}
    for seed in seeds:
        data = halves(seed).first(_SEEN)
        for way, share in WAYS.items():
            found[way].append(trained(share, data, seed, steps=_STEPS))
        context.say(f"seed {seed}: " + ", ".join(f"{way} {found[way][-1].right_M.mean():.4f}" for way in WAYS))
    gain = paired([each.right_M for each in found["without"]], [each.right_M for each in found["with"]], context.seed)
    score = {way: float(np.mean([each.right_M.mean() for each in found[way]])) for way in WAYS}
    return Result(
        verdict=by_interval(gain),
        why=f"held-out accuracy is {score['with']:.2%} with dropout and {score['without']:.2%} without, "
        f"{gain.value:+.2%} ({gain.low:+.2%} to {gain.high:+.2%}).",
        head=("dropout", "seed", "held-out accuracy", "held-out loss", "loss of what was seen"),
        rows=[
            [way, seed, float(each.right_M.mean()), each.held_loss, each.loss]
            for way in WAYS
            for seed, each in zip(seeds, found[way], strict=True)
        ],
        plots=[
            Plot(
                title="Loss while learning",
                axis="step",
                lines={way: list(enumerate(found[way][0].losses, start=1)) for way in WAYS},
                log=True,
                caption=f"Of each step's batch, with what is left out, seed {context.seed}.",
            )
        ],
        notes=(
            f"ReLU networks of {_DEPTH} layers, {_WIDTH} values each, {_STEPS} steps on {_SEEN} digits by SGD with "
            f"momentum 0.9 at {_RATE}; dropout of {WAYS['with']} behind each hidden layer; 899 held-out digits.",
        ),
    )
