"""What the claims share: the digits, plain networks, and a loop that does what it is told and nothing else.

Shapes: N pictures to learn from, M to judge by, P pixels of one (64), K labels (10).

Why not `core.trainer`: its recipes hold what the claims compare (initial weights, normalisation, rates that warm up and
fall, averages), and every one of them would answer for the others. Here a rate is constant and a network is a list of
layers; nothing is saved, for a claim takes minutes and is repeated from its seed.

Not here: convolutions, augmentation, schedules, devices other than the CPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sw2.base.seed import derive, generator
from sw2.domains.vision.data import digits

__all__ = [
    "CLASSES",
    "PIXELS",
    "Halves",
    "Tried",
    "answers",
    "fresh",
    "halves",
    "learn",
    "linear_layer",
    "loss_of",
    "network",
    "tried",
]

PIXELS: Final = 64
CLASSES: Final = 10


@dataclass(frozen=True, kw_only=True)
class Halves:
    """The digits in two halves, pixels at mean 0 and deviation 1 over the first one.

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
    examples = digits().split("train")
    rows = [examples[place] for place in range(len(examples))]
    pictures = torch.from_numpy(np.stack([row["image"] for row in rows])).float().flatten(1)
    labels = torch.tensor([int(row["label"]) for row in rows])
    order = torch.randperm(len(rows), generator=generator(seed, "halves"))
    seen, held = order[: len(order) // 2], order[len(order) // 2 :]
    # One mean and one deviation for all pixels: some pixels are always black and have no deviation of their own.
    mean, deviation = pictures[seen].mean(), pictures[seen].std()
    scaled = (pictures - mean) / deviation
    return Halves(seen_NP=scaled[seen], seen_N=labels[seen], held_MP=scaled[held], held_M=labels[held])


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
    p_NK = net.eval()(x_NP).softmax(1)
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
