"""Transfer against scratch, by the number of labels: what ImageNet's weights are worth on pictures of another kind.

    transfer    EfficientNet-Lite0 as it is, at 224 x 224; one linear layer is learned on its 1,280 features
    scratch     a small ResNet at 64 x 64, shifted and mirrored while it learns, at each of two rates; the better one on
                the held-out pictures counts, which is a little too kind to it

Pictures are Tux Paint's stamps of eleven kinds (`stamps.py`): drawings and cut-outs on white, which is not what
ImageNet shows. A split draws labelled pictures, the same number of each kind; fewer are always among more, both ways
get the same, and what is held out is of other families and the same for all numbers.

Sources: Esteva et al. (2017), https://doi.org/10.1038/nature21056, who started from ImageNet; Donahue et al. (2013),
https://arxiv.org/abs/1310.1531, for a linear layer on features; Kornblith et al. (2018),
https://arxiv.org/abs/1805.08974, for both by the number of pictures.

Not here: fine-tuning, which is what `sw2 train --from` does (benchmarks/transfer_stamps.py).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sw2.base.seed import generator, numpy_generator
from sw2.core.claims import Plot, Result, Verdict, by_interval, paired, seeds_of
from sw2.core.data import Example, Split
from sw2.core.task import Context
from sw2.domains.vision.augment import Config as AugmentConfig
from sw2.domains.vision.augment import augment
from sw2.domains.vision.claims.bench import Halves, Tried, at_its_best, fresh, learn, tried
from sw2.domains.vision.data import stamp_kinds
from sw2.domains.vision.efficientnet import FEATURES, EfficientNetLite
from sw2.domains.vision.prep import PicturePrep, PrepConfig
from sw2.domains.vision.resnet import Config, ResNet
from sw2.domains.vision.stamps import KINDS
from sw2.domains.vision.weights import MEAN, SIZE, STD, ensure_weights, load_features

__all__ = ["Small", "drawn", "features", "from_scratch", "run", "transferred"]

WAYS: Final = ("transfer", "scratch")
SEEDS: Final = 10  # of the full form
MOST: Final = 15  # labels of a kind
_NUMBERS: Final = (1, 5, MOST)
_SIDE, _BATCH, _STEPS, _RATES = 64, 32, 300, (1e-3, 4e-3)
_LINEAR_STEPS, _LINEAR_RATE = 300, 1e-3


def drawn(examples: Split, labels: int, seed: int) -> tuple[list[Example], list[Example]]:
    """Labelled pictures, and those of other families.

    Args:
        examples: with "label" and "family".
        labels: of each kind.
        seed: another one, another split.

    Returns:
        `labels` of each kind, kind by kind in turns, so that the first ones are as many of each too; and what is held
        out, in the order of `examples`.
    """
    shown: Counter[str] = Counter()
    turns: list[tuple[int, str, Example]] = []
    taken: set[str] = set()
    by_family: defaultdict[str, list[Example]] = defaultdict(list)
    for example in examples:
        by_family[example["family"]].append(example)
    names = list(by_family)
    for place in numpy_generator(seed, "drawn").permutation(len(names)):
        for example in by_family[names[place]]:
            label = example["label"]
            if shown[label] < labels:
                turns.append((shown[label], label, example))
                shown[label] += 1
                taken.add(names[place])
    turns.sort(key=lambda turn: turn[:2])
    return [example for *_, example in turns], [each for each in examples if each["family"] not in taken]


def features(examples: Split, context: Context) -> Tensor:
    """What EfficientNet-Lite0 with ImageNet's weights sees of each picture, float32 [N, 1280]."""
    net = EfficientNetLite(EfficientNetLite.Config())
    load_features(net, ensure_weights(context.confirm))
    prep = PicturePrep(PrepConfig(size=SIZE, channels=3, mean=(MEAN,) * 3, deviation=(STD,) * 3), tuple(KINDS))
    with torch.inference_mode():
        parts = [net.eval()({"image": prep.normalise(part)})["features"] for part in prep.pictures(examples).split(32)]
    return torch.cat(parts).clone()


class Small(nn.Module):
    """The network from scratch: pixels in a row [N, 3 S S] to logits [N, K]; in training each is moved and mirrored."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.net = ResNet(Config(channels=3, classes=len(KINDS), stem_halves=2))
        self.draw = generator(seed, "transfer", "augment")

    def forward(self, x_NP: Tensor) -> Tensor:
        image = x_NP.unflatten(1, (3, _SIDE, _SIDE))
        if self.training:
            image = augment(image, AugmentConfig(shift=4, mirror=True), self.draw)
        logits_NK: Tensor = self.net({"image": image.contiguous(memory_format=torch.channels_last)})["logits"]
        return logits_NK


def transferred(data: Halves, seed: int) -> Tried:
    """A linear layer on features, each of which has mean 0 and deviation 1 over what is learned from."""
    with fresh(seed, "transfer", "linear"):
        layer = nn.Linear(FEATURES, len(KINDS))
    nn.init.zeros_(layer.weight)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=_LINEAR_RATE, weight_decay=0.01)
    losses = learn(layer, optimiser, data, steps=_LINEAR_STEPS, seed=seed, batch=_BATCH)
    return tried(layer, data, _LINEAR_RATE, losses)


def from_scratch(data: Halves, seed: int) -> Tried:
    """A small ResNet, at the rate that does better on what is held out."""
    return at_its_best(lambda: Small(seed), data, seed, rates=_RATES, steps=_STEPS, batch=_BATCH)


@dataclass(frozen=True)
class _Seen:
    """All pictures as each way sees them: features [N, D], pixels 0 to 255 as rows [N, P], the kinds' numbers [N]."""

    features_ND: Tensor
    pixels_NP: Tensor
    labels_N: Tensor

    def data(self, way: str, some: Sequence[int], held: Sequence[int]) -> Halves:
        """What a way learns from, and what it is judged by: deviations are of the former alone."""
        x_NP = self.features_ND if way == "transfer" else self.pixels_NP
        known, asked = x_NP[list(some)], x_NP[list(held)]
        over = (0,) if way == "transfer" else (0, 1)
        mean, deviation = known.mean(over, keepdim=True), known.std(over, keepdim=True).clamp_min(1e-3)
        return Halves(
            seen_NP=(known - mean) / deviation,
            seen_N=self.labels_N[list(some)],
            held_MP=(asked - mean) / deviation,
            held_M=self.labels_N[list(held)],
        )


def run(context: Context, full: bool) -> Result:
    """The claim `transfer-labels`."""
    examples = stamp_kinds(context.confirm).split("train")
    prep = PicturePrep(PrepConfig(size=_SIDE, channels=3), tuple(KINDS))
    pixels_NP = prep.pictures(examples).flatten(1).float()
    seen = _Seen(features(examples, context), pixels_NP, prep.targets(examples))
    place = {example["name"]: number for number, example in enumerate(examples)}
    seeds = seeds_of(context.seed, full, SEEDS)
    right: dict[tuple[str, int], list[NDArray[Any]]] = {(way, number): [] for way in WAYS for number in _NUMBERS}
    counts = []
    for seed in seeds:
        some, held = ([place[each["name"]] for each in part] for part in drawn(examples, MOST, seed))
        counts.append(len(held))
        for number in _NUMBERS:
            for way, learned in zip(WAYS, (transferred, from_scratch), strict=True):
                found = learned(seen.data(way, some[: number * len(KINDS)], held), seed)
                right[way, number].append(found.right_M)
            told = ", ".join(f"{way} {right[way, number][-1].mean():.4f}" for way in WAYS)
            context.say(f"seed {seed}, {number} of each kind: {told}")

    def of(way: str, number: int) -> list[NDArray[Any]]:
        # Splits hold out unlike numbers of pictures; over several of them only each one's mean counts.
        found = right[way, number]
        return [each.mean(keepdims=True) for each in found] if len(found) > 1 else found

    gains = {number: paired(of("scratch", number), of("transfer", number), context.seed) for number in _NUMBERS}
    verdicts = [by_interval(gain) for gain in gains.values()]
    verdict: Verdict = "holds" if all(each == "holds" for each in verdicts) else "undecided"
    if "does not hold" in verdicts:
        verdict = "does not hold"
    mean = {key: float(np.mean([each.mean() for each in found])) for key, found in right.items()}
    gain = gains[MOST]
    return Result(
        verdict=verdict,
        why=f"with {MOST} labels of each kind held-out accuracy is {mean['transfer', MOST]:.1%} by transfer and "
        f"{mean['scratch', MOST]:.1%} from scratch, {gain.value:+.1%} ({gain.low:+.1%} to {gain.high:+.1%}); the least "
        f"lower end of the {len(_NUMBERS)} intervals is {min(each.low for each in gains.values()):+.1%}.",
        head=("labels of each kind", "transfer", "scratch", "gain", "from", "to"),
        rows=[
            [number, mean["transfer", number], mean["scratch", number], each.value, each.low, each.high]
            for number, each in gains.items()
        ],
        plots=[
            Plot(
                title="Held-out accuracy by labels",
                axis="label of each kind",
                lines={way: [(number, mean[way, number]) for number in _NUMBERS] for way in WAYS},
                caption=f"Of eleven kinds; the mean of {len(seeds)} split{'s' * (len(seeds) > 1)}.",
            )
        ],
        notes=(
            f"Tux Paint's stamps, {len(examples)} in all, {min(counts)} to {max(counts)} held out in a split. "
            f"Transfer: {_LINEAR_STEPS} steps of a linear layer by AdamW. Scratch: a ResNet of 3 blocks, {_STEPS} "
            f"steps of {_BATCH} by AdamW at {' and '.join(map(str, _RATES))}, whose better one counts.",
            "Each way's network is its own: that of the weights is larger and sees larger pictures, as it was made "
            "for; so the gain is of starting from it, not of the same network with and without.",
        ),
    )
