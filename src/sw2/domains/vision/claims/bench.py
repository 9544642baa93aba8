"""What the claims share: digits and clothes, networks, and a loop that does what it is told and nothing else.

Shapes: N pictures to learn from, M to judge by, S pixels a side, P = S * S pixels of one, K labels (10).

Why not `core.trainer`: its recipes hold what the claims compare (initial weights, normalisation, rates that warm up and
fall, averages), and every one of them would answer for the others. Here a rate is constant, or falls for both sides of
a comparison alike (`at_its_best`); nothing is saved, for a claim takes minutes and is repeated from its seed.

Not here: augmentation, devices other than the CPU; claims about networks of this domain bring their own.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sw2.base.seed import derive, generator
from sw2.core.data import Split
from sw2.core.model import Model
from sw2.domains.vision.data import digits, fashion_mnist

__all__ = [
    "CLASSES",
    "PIXELS",
    "Halves",
    "InRows",
    "Tried",
    "answers",
    "at_its_best",
    "clothes",
    "fresh",
    "halves",
    "learn",
    "linear_layer",
    "loss_of",
    "network",
    "tried",
]

PIXELS: Final = 64  # of a digit
CLASSES: Final = 10
_AT_ONCE: Final = 2048


@dataclass(frozen=True, kw_only=True)
class Halves:
    """Pictures in two parts, pixels at mean 0 and deviation 1 over the first one.

    Args:
        seen_NP, seen_N: to learn from: float32 pixels [N, P] and int64 labels [N].
        held_MP, held_M: to judge by, [M, P] and [M].
    """

    seen_NP: Tensor
    seen_N: Tensor
    held_MP: Tensor
    held_M: Tensor

    def first(self, count: int) -> Halves:
        """The same with fewer examples to learn from."""
        return Halves(
            seen_NP=self.seen_NP[:count], seen_N=self.seen_N[:count], held_MP=self.held_MP, held_M=self.held_M
        )


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A network that has learned.

    Args:
        rate: at which.
        losses: of each step's batch.
        loss: the mean cross entropy of what it learned from; infinite where it fell apart.
        held_loss: that of the held-out examples.
        right_M: which of those it has right, 0 or 1, float64 [M].
    """

    rate: float
    losses: Sequence[float]
    loss: float
    held_loss: float
    right_M: NDArray[Any]


def halves(seed: int) -> Halves:
    """The 1,797 digits in an order of `seed`: 898 to learn from, 899 to judge by."""
    pictures, labels = _tensors(digits().split("train"))
    order = torch.randperm(len(labels), generator=generator(seed, "halves"))
    seen, held = order[: len(order) // 2], order[len(order) // 2 :]
    return _scaled(pictures[seen], labels[seen], pictures[held], labels[held])


def clothes(confirm: Callable[[str], bool], seed: int, *, seen: int, held: int, side: int = 28) -> Halves:
    """Pictures of Fashion-MNIST, drawn by `seed`: `seen` of the training split, `held` of the test split.

    Args:
        confirm: asked before the data is fetched.
        seed: another one, other pictures.
        seen, held: how many.
        side: S, 28 or 14, where each pixel is the mean of four.

    Raises:
        UsageError, ResourceError, DataError: as `fashion_mnist`.
    """
    data = fashion_mnist(confirm)
    drawn = []
    for split, count in (("train", seen), ("test", held)):
        examples = data.split(split)
        order = torch.randperm(len(examples), generator=generator(seed, "clothes", split))[:count]
        pictures, labels = _tensors([examples[place] for place in order.tolist()])
        small = F.avg_pool2d(pictures.unflatten(1, (1, 28, 28)), 28 // side)
        drawn += [small.flatten(1), labels]
    return _scaled(*drawn)


def _tensors(examples: Split) -> tuple[Tensor, Tensor]:
    """Pixels 0 to 255, float32 [N, P], and the numbers of the labels in the order of their names, int64 [N]."""
    names = {label: number for number, label in enumerate(sorted({row["label"] for row in examples}))}
    pictures = torch.from_numpy(np.stack([row["image"] for row in examples])).float().flatten(1)
    return pictures, torch.tensor([names[row["label"]] for row in examples])


def _scaled(seen_NP: Tensor, seen_N: Tensor, held_MP: Tensor, held_M: Tensor) -> Halves:
    # One mean and one deviation for all pixels: some pixels are always black and have no deviation of their own.
    mean, deviation = seen_NP.mean(), seen_NP.std()
    return Halves(
        seen_NP=(seen_NP - mean) / deviation, seen_N=seen_N, held_MP=(held_MP - mean) / deviation, held_M=held_M
    )


class InRows(nn.Module):
    """A network for grey pictures that takes them as rows of pixels: [N, P] to logits [N, K]."""

    def __init__(self, net: Model) -> None:
        super().__init__()
        self.net = net

    def forward(self, x_NP: Tensor) -> Tensor:
        side = math.isqrt(x_NP.shape[1])
        image = x_NP.unflatten(1, (1, side, side)).contiguous(memory_format=torch.channels_last)
        logits_NK: Tensor = self.net({"image": image})["logits"]
        return logits_NK


@contextlib.contextmanager
def fresh(seed: int, *names: str | int) -> Iterator[None]:
    """Within the context torch draws as `seed` and `names` say; afterwards as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, *names))
        yield


def linear_layer(inputs: int, outputs: int, variance: float) -> nn.Linear:
    """A layer with weights from N(0, variance) and no bias at the start; drawn from torch's generator."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=variance**0.5)
    nn.init.zeros_(layer.bias)
    return layer


def network(
    depth: int,
    width: int,
    *,
    variance: Callable[[int, int], float] = lambda inputs, outputs: 2 / inputs,
    normalised: bool = False,
    dropout: float = 0.0,
) -> nn.Sequential:
    """A ReLU network from P pixels to K logits; drawn from torch's generator.

    Args:
        depth: how many layers have weights, at least 2.
        width: of every hidden layer.
        variance: of a layer's initial weights, by its numbers of inputs and outputs; He's unless told otherwise.
        normalised: whether each hidden layer is normalised over the batch, before its ReLU.
        dropout: the share of hidden values that are left out in training.
    """
    layers: list[nn.Module] = []
    inputs = PIXELS
    for _ in range(depth - 1):
        layers.append(linear_layer(inputs, width, variance(inputs, width)))
        if normalised:
            layers.append(nn.BatchNorm1d(width))
        layers.append(nn.ReLU())
        if dropout:
            layers.append(nn.Dropout(dropout))
        inputs = width
    return nn.Sequential(*layers, linear_layer(inputs, CLASSES, variance(inputs, CLASSES)))


def learn(
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    data: Halves,
    *,
    steps: int,
    seed: int,
    batch: int = 64,
    watch: Callable[[int], bool] = lambda step: False,
) -> list[float]:
    """Take steps down the cross entropy; the loss of each step's batch.

    The batches of a step are those of `seed`, whatever learns. A loss that is not finite ends it, and is the last one.

    Args:
        net: what learns; left in training mode.
        optimiser: of its weights.
        data: whose first half is learned from.
        steps: how many.
        seed: of the order.
        batch: examples of a step; fewer at the end of a pass.
        watch: called after each step with its number, from 1; True ends it.
    """
    net.train()
    losses: list[float] = []
    order: list[Tensor] = []
    for step in range(1, steps + 1):
        if not order:
            passed = generator(seed, "order", step)
            order = list(torch.randperm(len(data.seen_N), generator=passed).split(batch))
            # A batch of one has no variance to normalise by.
            order = [each for each in order if len(each) > 1]
        chosen = order.pop(0)
        loss = F.cross_entropy(net(data.seen_NP[chosen]), data.seen_N[chosen])
        losses.append(loss.item())
        if not np.isfinite(losses[-1]):
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if watch(step):
            break
    return losses


@torch.no_grad()
def answers(net: nn.Module, x_NP: Tensor) -> Tensor:
    """The probability of each label, [N, K]; `net` is left in the mode that it was in."""
    training = net.training
    p_NK = torch.cat([net.eval()(part).softmax(1) for part in x_NP.split(_AT_ONCE)])
    net.train(training)
    return p_NK


def loss_of(net: nn.Module, x_NP: Tensor, y_N: Tensor) -> float:
    """The mean cross entropy; infinite where the network's answers are not finite."""
    p_NK = answers(net, x_NP).clamp_min(1e-30)
    loss = -p_NK.log().gather(1, y_N[:, None]).mean().item()
    return loss if np.isfinite(loss) else float("inf")


def tried(net: nn.Module, data: Halves, rate: float, losses: Sequence[float]) -> Tried:
    """What a network that has learned at `rate` is worth."""
    right_M = (answers(net, data.held_MP).argmax(1) == data.held_M).double().numpy()
    return Tried(
        rate=rate,
        losses=losses,
        loss=loss_of(net, data.seen_NP, data.seen_N) if np.isfinite(losses[-1]) else float("inf"),
        held_loss=loss_of(net, data.held_MP, data.held_M),
        right_M=right_M,
    )


def at_its_best(
    make: Callable[[], nn.Module], data: Halves, seed: int, *, rates: Sequence[float], steps: int, batch: int = 64
) -> Tried:
    """The network that does best on what is held out, over the rates.

    The choice is a little too kind to each network, and as kind to all that had as many rates. By AdamW with weight
    decay 0.05, at a rate that falls to nothing along half a cosine.

    Args:
        make: a new network, drawn from torch's generator: the same weights at every rate.
        data, seed, steps, batch: as of `learn`.
        rates: to try.
    """
    found = []
    for rate in rates:
        with fresh(seed, "best"):
            net = make()
        optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.05)

        def watch(step: int, optimiser: torch.optim.Optimizer = optimiser, rate: float = rate) -> bool:
            for group in optimiser.param_groups:
                group["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            return False

        losses = learn(net, optimiser, data, steps=steps, seed=seed, batch=batch, watch=watch)
        found.append(tried(net, data, rate, losses))
    return max(found, key=lambda each: each.right_M.mean())
