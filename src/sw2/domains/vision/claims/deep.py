"""Plain against residual, by depth: the training loss that is left after as many steps.

Both are `resnet.of_depth`, the networks of He et al. for CIFAR, with and without shortcuts: every layer and weight is
the same, for their shortcuts have no weights. The last normalisation of a residual branch starts at zero, so that a
network starts as shallow as its shortcuts (Goyal et al.); a plain network cannot start so. Without that, 56 residual
layers were still behind 20 after some hundred steps (600 of clothes, rate 0.03, one seed: 0.38 and 0.31): the paper's
have a hundred times as many. The question is of the loss on what was learned from,
not on what was held out: that a deeper network ends *higher* there is no overfitting, it is the optimiser that does
not get down. It is the mean of the last steps' batches, as each was learned from: with the averages that normalisation
keeps for later, a network that moves fast would be judged by values it no longer has. Each network learns at each of a
few rates, as long as at the others, and counts by its best one, so that no depth is judged by a rate that suits
another.

Sources: He et al., "Deep Residual Learning" (2015), https://arxiv.org/abs/1512.03385, section 4.2 and figure 6. There
pictures have 32 x 32 pixels in colour and networks learn for 64,000 steps of 128, at a rate that falls twice; here they
have 8 x 8 (digits) or 14 x 14 (clothes), steps are some hundreds of 64, and the rate falls to nothing over the second
half of them: at a rate that stays (600 steps of clothes) the ends of residual networks were too noisy to be told apart,
0.387 and 0.417 with 56 and 20 layers for one seed, 0.407 and 0.404 for the next. Goyal et al. (2017),
https://arxiv.org/abs/1706.02677, section 5.1, for the start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import nn

from sw2.core.claims import Plot, Result, by_order, seeds_of
from sw2.core.task import Context
from sw2.domains.vision.claims.bench import Halves, InRows, Tried, clothes, fresh, halves, learn, tried
from sw2.domains.vision.resnet import ResNet, Shortcut, of_depth

__all__ = ["FULL", "QUICK", "Size", "best", "left", "network", "run"]

WAYS: Final[Mapping[str, Shortcut]] = {"plain": "none", "residual": "pad"}
SEEDS: Final = 3  # of the full form
_HELD, _LAST = 1000, 50


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large an experiment is.

    Args:
        depths: of the networks, rising; the last two decide.
        rates: that each of them tries.
        steps: of 64 pictures each.
        clothes: how many pictures of Fashion-MNIST are learned from; 0 for half of the digits.
    """

    depths: tuple[int, ...]
    rates: tuple[float, ...]
    steps: int
    clothes: int = 0

    def data(self, confirm: Callable[[str], bool], seed: int) -> Halves:
        """What is learned from, and what is held out."""
        return clothes(confirm, seed, seen=self.clothes, held=_HELD, side=14) if self.clothes else halves(seed)


QUICK: Final = Size(depths=(8, 20, 56), rates=(0.01, 0.03, 0.1), steps=150)
FULL: Final = Size(depths=(20, 56), rates=(0.01, 0.03, 0.1), steps=700, clothes=8000)


def network(shortcut: Shortcut, depth: int) -> ResNet:
    """A plain or a residual network; drawn from torch's generator, the same draws for either."""
    net = ResNet(of_depth(depth, shortcut, channels=1))
    if shortcut != "none":
        for stage in net.body:
            for block in stage.children():
                norm = block.get_submodule("second_norm")
                assert isinstance(norm, nn.BatchNorm2d)
                nn.init.zeros_(norm.weight)
    return net


def best(shortcut: Shortcut, depth: int, data: Halves, seed: int, size: Size) -> Tried:
    """The network of that depth that has the lowest training loss in the end, over the rates."""
    found = []
    for rate in size.rates:
        with fresh(seed, "deep", depth):  # the same weights at every rate, plain or residual
            net = InRows(network(shortcut, depth)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
        falling = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, 2 - 2 * step / size.steps))

        def fall(step: int, falling: torch.optim.lr_scheduler.LRScheduler = falling) -> bool:
            falling.step()
            return False

        losses = learn(net, optimiser, data, steps=size.steps, seed=seed, watch=fall)
        found.append(tried(net, data, rate, losses))
    return min(found, key=left)


def left(network: Tried) -> float:
    """The training loss in the end: the mean of the last steps; infinite where one was no number."""
    mean = float(np.mean(network.losses[-_LAST:]))
    return mean if np.isfinite(mean) else float("inf")


def run(context: Context, full: bool) -> Result:
    """The claim `plain-residual`."""
    size, seeds = FULL if full else QUICK, seeds_of(context.seed, full, SEEDS)
    found: dict[tuple[str, int], list[Tried]] = {(way, depth): [] for way in WAYS for depth in size.depths}
    for seed in seeds:
        data = size.data(context.confirm, seed)
        for (way, depth), tries in found.items():
            tries.append(best(WAYS[way], depth, data, seed, size))
            context.say(f"seed {seed}: {way}, {depth} layers, training loss {left(tries[-1]):.4f}")
    shallow, deep = size.depths[-2:]

    def losses(way: str, depth: int) -> list[float]:
        return [left(each) for each in found[way, depth]]

    def told(way: str) -> str:
        ends = [float(np.median(losses(way, depth))) for depth in (shallow, deep)]
        return f"{ends[0]:.4f} with {shallow} layers and {ends[1]:.4f} with {deep}"

    gains = [after - before for before, after in zip(losses("plain", shallow), losses("plain", deep), strict=True)]
    gains += [
        before - after for before, after in zip(losses("residual", shallow), losses("residual", deep), strict=True)
    ]
    return Result(
        verdict=by_order(gains),
        why=f"the training loss of plain networks is {told('plain')}, of residual ones {told('residual')} "
        "(medians over seeds).",
        head=("network", "layers", "seed", "training loss", "held-out accuracy", "at rate"),
        rows=[
            [way, depth, seed, left(each), float(each.right_M.mean()), each.rate]
            for (way, depth), tries in found.items()
            for seed, each in zip(seeds, tries, strict=True)
        ],
        plots=[
            Plot(
                title="Training loss by depth",
                axis="layer",
                lines={way: [(depth, float(np.median(losses(way, depth)))) for depth in size.depths] for way in WAYS},
                log=True,
                caption=f"The mean of the last {_LAST} steps; medians over seeds.",
            ),
            Plot(
                title="Training loss by step",
                axis="step",
                lines={
                    f"{way}, {depth} layers": _smooth(found[way, depth][0].losses)
                    for way in WAYS
                    for depth in (shallow, deep)
                },
                log=True,
                caption=f"The mean of each step's batch and the {_LAST - 1} before it, seed {context.seed}.",
            ),
        ],
        notes=(
            f"Networks of 16, 32 and 64 channels, {size.steps} steps of 64 by SGD with momentum 0.9 and weight decay "
            f"1e-4 at the rates {', '.join(map(str, size.rates))}, which fall to nothing over the second half, and of "
            "which each counts by its best; "
            + (
                f"{size.clothes} pictures of Fashion-MNIST, halved to 14 x 14, and {_HELD} held out."
                if size.clothes
                else "898 digits of 8 x 8 and 899 held out."
            ),
            "Residual branches start at zero, which a plain network cannot.",
            "A network that learned for longer would know by heart what it has seen, plain or not: this is about how "
            "fast it gets down.",
        ),
    )


def _smooth(losses: Sequence[float]) -> list[tuple[int, float]]:
    """The mean of each loss and those before it, by step."""
    return [(step, float(np.mean(losses[max(step - _LAST, 0) : step]))) for step in range(1, len(losses) + 1)]
