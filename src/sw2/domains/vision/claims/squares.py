"""ViT against ResNet, by the number of pictures: what it costs to know nothing of neighbours.

A convolution looks at neighbours and does the same everywhere, before it has learned anything. A Transformer over
squares has to learn both, from the pictures. So the claim is of the *gap*: a ResNet is ahead when pictures are few, and
less so, or no longer, when they are many. Both take as many steps of as many pictures whatever the number of different
ones, and both have two rates, of which the better one on held-out pictures counts.

Source: Dosovitskiy et al. (2020), https://arxiv.org/abs/2010.11929, section 4.3 and figure 4, of 9 to 300 million
pictures in place of some thousands; Touvron et al. (2020), https://arxiv.org/abs/2012.12877, for how augmentation
narrows the gap, which is not tried here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sw2.core.claims import Plot, Result, Verdict, by_interval, paired, seeds_of
from sw2.core.task import Context
from sw2.domains.vision.claims.bench import InRows, at_its_best, clothes
from sw2.domains.vision.resnet import ResNet
from sw2.domains.vision.vit import ViT

__all__ = ["FULL", "NETWORKS", "QUICK", "Size", "run"]

NETWORKS: Final[Mapping[str, Callable[[], nn.Module]]] = {
    "ResNet": lambda: InRows(ResNet(ResNet.Config(stem=8, widths=(16, 32, 64)))),
    "ViT": lambda: InRows(ViT(ViT.Config(size=28, patch=4, width=48, depth=3, heads=3, hidden=192))),
}
SEEDS: Final = 3  # of the full form
_RATES, _HELD = (1e-3, 4e-3), 2000


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large an experiment is: the numbers of pictures, rising, and the steps of 64 for each."""

    numbers: tuple[int, ...]
    steps: int


QUICK: Final = Size(numbers=(500, 2000, 8000), steps=500)
FULL: Final = Size(numbers=(1000, 7000, 50_000), steps=1500)


def run(context: Context, full: bool) -> Result:
    """The claim `vit-resnet`."""
    size, seeds = FULL if full else QUICK, seeds_of(context.seed, full, SEEDS)
    right: dict[tuple[str, int], list[NDArray[Any]]] = {(name, n): [] for name in NETWORKS for n in size.numbers}
    rates: dict[tuple[str, int], list[float]] = {key: [] for key in right}
    for seed in seeds:
        data = clothes(context.confirm, seed, seen=max(size.numbers), held=_HELD)
        for (name, number), found in right.items():
            best = at_its_best(NETWORKS[name], data.first(number), seed, rates=_RATES, steps=size.steps)
            found.append(best.right_M)
            rates[name, number].append(best.rate)
            context.say(f"seed {seed}: {name} of {number} pictures {best.right_M.mean():.4f}")

    def ahead(number: int) -> NDArray[Any]:
        """How far the ResNet is ahead, by seed and picture, [S, M]."""
        gap: NDArray[Any] = np.stack(right["ResNet", number]) - np.stack(right["ViT", number])
        return gap

    few, many = size.numbers[0], size.numbers[-1]
    gaps = {n: paired(right["ViT", n], right["ResNet", n], context.seed) for n in size.numbers}
    closing = paired(ahead(many), ahead(few), context.seed)
    parts = [by_interval(gaps[few]), by_interval(closing)]
    verdict: Verdict = "holds" if all(part == "holds" for part in parts) else "undecided"
    if "does not hold" in parts:
        verdict = "does not hold"
    mean = {key: float(np.mean(found)) for key, found in right.items()}
    return Result(
        verdict=verdict,
        why=f"the ResNet is {gaps[few].value:+.2%} ({gaps[few].low:+.2%} to {gaps[few].high:+.2%}) ahead with {few} "
        f"pictures and {gaps[many].value:+.2%} with {many}; the gap closes by {closing.value:+.2%} "
        f"({closing.low:+.2%} to {closing.high:+.2%}).",
        head=("pictures", "ResNet", "ViT", "ResNet ahead", "from", "to", "rates"),
        rows=[
            [n, mean["ResNet", n], mean["ViT", n], gap.value, gap.low, gap.high,
             "; ".join(f"{name} {float(np.median(rates[name, n])):g}" for name in NETWORKS)]
            for n, gap in gaps.items()
        ],
        plots=[
            Plot(
                title="Held-out accuracy by pictures learned from",
                axis="picture",
                lines={name: [(n, mean[name, n]) for n in size.numbers] for name in NETWORKS},
            )
        ],
        notes=(
            f"Fashion-MNIST, 28 x 28, {_HELD} held out; {size.steps} steps of 64 by AdamW at "
            f"{' and '.join(map(str, _RATES))}, without augmentation. ResNet: 3 blocks of 16, 32 and 64 channels; ViT: "
            "3 blocks of width 48 over 7 x 7 squares.",
            "Many pictures are some ten thousand here; the paper's networks meet at tens of millions.",
        ),
    )  # fmt: skip
