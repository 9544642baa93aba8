"""With and without batch norm: how many steps to a score, and the highest rate at which learning stays stable.

Both networks learn at every rate of one grid, of powers of two. *Steps to the score* are those of the rate that needs
fewest; a rate is *stable* when every loss is finite and the last ones are below half of what guessing has. Weights at
the start are He's, so that the network without normalisation is not handicapped from its first step.

Sources: Ioffe and Szegedy (2015), https://arxiv.org/abs/1502.03167, sections 3.3 and 4.2; Santurkar et al. (2018),
https://arxiv.org/abs/1805.11604, on why it helps, which is not tried here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from sw2.core.claims import Plot, Result, by_order, seeds_of
from sw2.core.task import Context
from sw2.domains.vision.claims.bench import CLASSES, Halves, answers, fresh, halves, learn, network

__all__ = ["At", "at", "run"]

SCORE: Final = 0.9
_DEPTH, _WIDTH, _STEPS, _EVERY, _LAST = 8, 64, 200, 10, 20
_EXPONENTS = range(-9, 5)  # of two, the rates
_NEVER: Final = math.inf


@dataclass(frozen=True, kw_only=True)
class At:
    """A network at one rate: steps to the score (infinite when it was not reached), stable or not, its last loss."""

    steps: float
    stable: bool
    loss: float


def at(normalised: bool, exponent: int, data: Halves, seed: int, *, steps: int) -> At:
    """Learn at the rate 2^exponent."""
    with fresh(seed, "normalised"):
        net = network(_DEPTH, _WIDTH, normalised=normalised)
    reached = _NEVER

    def watch(step: int) -> bool:
        nonlocal reached
        asked = step % _EVERY == 0 and reached is _NEVER
        if asked and (answers(net, data.held_MP).argmax(1) == data.held_M).float().mean() >= SCORE:
            reached = step
        return False

    losses = learn(net, torch.optim.SGD(net.parameters(), lr=2.0**exponent), data, steps=steps, seed=seed, watch=watch)
    last = float(np.mean(losses[-_LAST:])) if np.isfinite(losses).all() else math.inf
    return At(steps=reached, stable=last < math.log(CLASSES) / 2, loss=last)


def run(context: Context, full: bool) -> Result:
    """The claim `batch-norm`."""
    gains: list[float] = []
    rows: list[list[str | float | int | None]] = []
    fewest: dict[bool, list[float]] = {False: [], True: []}
    highest: dict[bool, list[float]] = {False: [], True: []}
    plots: list[Plot] = []
    for seed in seeds_of(context.seed, full):
        data = halves(seed)
        found = {way: {each: at(way, each, data, seed, steps=_STEPS) for each in _EXPONENTS} for way in (False, True)}
        for way, by_rate in found.items():
            fewest[way].append(min(each.steps for each in by_rate.values()))
            highest[way].append(max((2.0**each for each, one in by_rate.items() if one.stable), default=0.0))
            best = min(by_rate, key=lambda each: (by_rate[each].steps, by_rate[each].loss))
            name = "with" if way else "without"
            reached = fewest[way][-1] if math.isfinite(fewest[way][-1]) else None
            rows.append([f"{name} batch norm", seed, reached, 2.0**best, highest[way][-1], by_rate[best].loss])
        gains.append(_fewer(fewest[False][-1], fewest[True][-1]))
        gains.append(highest[True][-1] - highest[False][-1])
        if not plots:
            plots = [
                Plot(
                    title=title,
                    axis="exponent",
                    lines={
                        f"{'with' if way else 'without'} batch norm": [
                            (e, float(getattr(one, what))) for e, one in by_rate.items()
                        ]
                        for way, by_rate in found.items()
                    },
                    log=what == "loss",
                    caption=f"The rate is two to the exponent; seed {seed}. {gap}",
                )
                for title, what, gap in (
                    (f"Steps to {SCORE:.0%} by rate", "steps", f"Gaps: not within {_STEPS} steps."),
                    ("Last loss by rate", "loss", "Gaps: a loss that was no number."),
                )
            ]
        context.say(f"seed {seed}: steps {fewest[False][-1]:g} without, {fewest[True][-1]:g} with; "
                    f"highest stable rate {highest[False][-1]:g} without, {highest[True][-1]:g} with")  # fmt: skip

    def told(values: dict[bool, list[float]]) -> str:
        return f"{np.median(values[True]):g} with it and {np.median(values[False]):g} without"

    return Result(
        verdict=by_order(gains),
        why=f"steps to {SCORE:.0%} are {told(fewest)}, the highest stable rate is {told(highest)} "
        "(medians over seeds).",
        head=("network", "seed", "steps", "at rate", "highest stable rate", "last loss"),
        rows=rows,
        plots=plots,
        notes=(
            f"ReLU networks of {_DEPTH} layers, {_WIDTH} values each, {_STEPS} steps of 64 digits by plain SGD at the "
            f"rates 2^{_EXPONENTS[0]} to 2^{_EXPONENTS[-1]}; held-out accuracy was asked every {_EVERY} steps. A "
            "highest rate at the end of the grid may lie beyond it.",
        ),
    )


def _fewer(before: float, after: float) -> float:
    """How many steps fewer; of two that never came, none."""
    return 0.0 if before == after else before - after
