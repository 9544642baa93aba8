"""SGD against Adam: the loss after as many steps, each at the best of as many rates.

    SGD    w <- w - rate g
    Adam   w <- w - rate m / (sqrt(v) + eps),   m and v running means of g and g^2

SGD with momentum 0.9 stands beside them and has no part in the verdict: it tells what of Adam's gain its running mean
of gradients explains. The rates are powers of two, nine for each, around what each is used with; the best is chosen by
the loss that is compared, for all alike, and the table says when it lay at an end of its grid.

Sources: Kingma and Ba (2014), https://arxiv.org/abs/1412.6980; Wilson et al. (2017), https://arxiv.org/abs/1705.08292,
for the doubt.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from sw2.core.claims import Plot, Result, by_interval, paired, seeds_of
from sw2.core.task import Context
from sw2.domains.vision.claims.bench import Halves, Tried, fresh, halves, learn, network, tried

__all__ = ["WAYS", "run", "trained"]

WAYS: Final = {"SGD": range(-7, 2), "SGD, momentum 0.9": range(-10, -1), "Adam": range(-13, -4)}
_DEPTH, _WIDTH, _STEPS = 5, 64, 150


def _optimiser(way: str, net: torch.nn.Module, rate: float) -> torch.optim.Optimizer:
    if way == "Adam":
        return torch.optim.Adam(net.parameters(), lr=rate)
    return torch.optim.SGD(net.parameters(), lr=rate, momentum=0.0 if way == "SGD" else 0.9)


def trained(way: str, data: Halves, seed: int, *, steps: int) -> tuple[Tried, NDArray[Any]]:
    """The best of the rates of `way`, and its loss of each example that it learned from, [N]."""
    found: list[tuple[Tried, torch.nn.Module]] = []
    for exponent in WAYS[way]:
        with fresh(seed, "optimisers"):
            net = network(_DEPTH, _WIDTH)
        losses = learn(net, _optimiser(way, net, 2.0**exponent), data, steps=steps, seed=seed)
        found.append((tried(net, data, 2.0**exponent, losses), net))
    best, winner = min(found, key=lambda each: each[0].loss)
    with torch.no_grad():
        each_N = F.cross_entropy(winner.eval()(data.seen_NP), data.seen_N, reduction="none")
    return best, each_N.double().numpy()


def run(context: Context, full: bool) -> Result:
    """The claim `sgd-adam`."""
    seeds = seeds_of(context.seed, full)
    found: dict[str, list[tuple[Tried, NDArray[Any]]]] = {way: [] for way in WAYS}
    for seed in seeds:
        data = halves(seed)
        for way in WAYS:
            found[way].append(trained(way, data, seed, steps=_STEPS))
        context.say(f"seed {seed}: " + ", ".join(f"{way} {found[way][-1][0].loss:.4f}" for way in WAYS))
    # The loss that Adam saves, example by example.
    gain = paired([each for _, each in found["Adam"]], [each for _, each in found["SGD"]], context.seed)
    loss = {way: float(np.mean([one.loss for one, _ in found[way]])) for way in WAYS}
    rows: list[list[str | float | int | None]] = [
        [way, seed, one.rate, "yes" if one.rate in (2.0 ** WAYS[way][0], 2.0 ** WAYS[way][-1]) else "no", one.loss,
         float(one.right_M.mean())]
        for way in WAYS
        for seed, (one, _) in zip(seeds, found[way], strict=True)
    ]  # fmt: skip
    return Result(
        verdict=by_interval(gain),
        why=f"after {_STEPS} steps the loss is {loss['Adam']:.4f} with Adam and {loss['SGD']:.4f} with SGD, "
        f"{gain.value:.4f} less ({gain.low:.4f} to {gain.high:.4f}); with momentum it is "
        f"{loss['SGD, momentum 0.9']:.4f}.",
        head=("optimiser", "seed", "best rate", "at an end", "loss", "held-out accuracy"),
        rows=rows,
        plots=[
            Plot(
                title="Loss while learning, each at its best rate",
                axis="step",
                lines={way: list(enumerate(found[way][0][0].losses, start=1)) for way in WAYS},
                log=True,
                caption=f"Of each step's 64 digits, seed {context.seed}.",
            )
        ],
        notes=(
            f"A ReLU network of {_DEPTH} layers, {_WIDTH} values each, without normalisation, started as He et al. do; "
            f"{_STEPS} steps of 64 of 898 digits at a constant rate. Losses are over all 898; this is about going "
            "down, and the held-out accuracy stands beside it.",
        ),
    )
