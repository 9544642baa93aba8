"""Averaging two models: their predictions, their weights, and the weights of one run along its way.

    predictions   (p_A(x) + p_B(x)) / 2            two runs of other draws, asked both
    weights       (w_A + w_B) / 2                  the same two runs, one network; like neurons stand in other places
    one run       the mean of w over its last steps

The score of *one model* is the mean of A's and B's, so nobody chose the better one.

Sources: Hansen and Salamon (1990), https://doi.org/10.1109/34.58871, for predictions; Izmailov et al. (2018),
https://arxiv.org/abs/1803.05407, for one run's weights; Ainsworth et al. (2022), https://arxiv.org/abs/2209.04836, for
why the weights of two runs do not meet unless their neurons are matched, which is not done here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sw2.core.claims import Plot, Result, Verdict, by_interval, paired, seeds_of
from sw2.core.task import Context
from sw2.domains.vision.claims.bench import Halves, answers, fresh, halves, learn, network

__all__ = ["mean_weights", "run", "scores"]

_DEPTH, _WIDTH, _STEPS, _SEEN, _RATE, _EVERY = 3, 128, 300, 200, 0.05, 10
_PLACES: Final = 10  # of the way from A's weights to B's


def mean_weights(states: Sequence[dict[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """The weighted mean of as many networks' weights, by name."""
    return {
        name: torch.stack([share * state[name] for state, share in zip(states, shares, strict=True)]).sum(0)
        for name in states[0]
    }


def _learned(data: Halves, seed: int, which: str, steps: int) -> tuple[nn.Module, list[dict[str, Tensor]]]:
    """A network and its weights along the second half of its way."""
    with fresh(seed, "averaged", which):
        net = network(_DEPTH, _WIDTH)
    kept: list[dict[str, Tensor]] = []

    def watch(step: int) -> bool:
        if step > steps // 2 and step % _EVERY == 0:
            kept.append({name: tensor.clone() for name, tensor in net.state_dict().items()})
        return False

    order = seed if which == "A" else seed + 1_000_000
    learn(net, torch.optim.SGD(net.parameters(), lr=_RATE, momentum=0.9), data, steps=steps, seed=order, watch=watch)
    return net, kept


def scores(data: Halves, seed: int, *, steps: int) -> tuple[dict[str, NDArray[Any]], list[float]]:
    """Which held-out examples each way has right (of one model: in what share), [M], and accuracy from A to B."""
    (net_a, way_a), (net_b, _) = _learned(data, seed, "A", steps), _learned(data, seed, "B", steps)
    state_a, state_b = net_a.state_dict(), net_b.state_dict()
    p_a_MK, p_b_MK = answers(net_a, data.held_MP), answers(net_b, data.held_MP)

    def right(p_MK: Tensor) -> NDArray[Any]:
        return (p_MK.argmax(1) == data.held_M).double().numpy()

    probe = network(_DEPTH, _WIDTH)

    def right_with(state: dict[str, Tensor]) -> NDArray[Any]:
        probe.load_state_dict(state)
        return right(answers(probe, data.held_MP))

    between = [
        right_with(mean_weights([state_a, state_b], [1 - place / _PLACES, place / _PLACES]))
        for place in range(_PLACES + 1)
    ]
    found = {
        "one model": (right(p_a_MK) + right(p_b_MK)) / 2,
        "predictions of two runs": right((p_a_MK + p_b_MK) / 2),
        "weights of one run": right_with(mean_weights(way_a, [1 / len(way_a)] * len(way_a))),
        "weights of two runs": between[_PLACES // 2],
    }
    return found, [float(each.mean()) for each in between]


def run(context: Context, full: bool) -> Result:
    """The claim `averaging-models`."""
    seeds = seeds_of(context.seed, full)
    found: list[dict[str, NDArray[Any]]] = []
    ways: list[list[float]] = []
    for seed in seeds:
        with fresh(seed, "averaged", "probe"):
            one, way = scores(halves(seed).first(_SEEN), seed, steps=_STEPS)
        found.append(one)
        ways.append(way)
        context.say(f"seed {seed}: " + ", ".join(f"{name} {each.mean():.4f}" for name, each in one.items()))

    def of(name: str) -> list[NDArray[Any]]:
        return [each[name] for each in found]

    against = {name: paired(of("one model"), of(name), context.seed) for name in found[0] if name != "one model"}
    parts = [
        by_interval(against["predictions of two runs"]),
        by_interval(paired(of("weights of two runs"), of("weights of one run"), context.seed)),
    ]
    verdict: Verdict = "holds" if all(part == "holds" for part in parts) else "undecided"
    if "does not hold" in parts:
        verdict = "does not hold"
    gain = against["predictions of two runs"]
    mean = {name: float(np.mean(of(name))) for name in found[0]}
    rows: list[list[str | float | int | None]] = [["one model", mean["one model"], None, None, None]]
    rows += [[name, mean[name], each.value, each.low, each.high] for name, each in against.items()]
    return Result(
        verdict=verdict,
        why=f"predictions of two runs are {gain.value:+.2%} ({gain.low:+.2%} to {gain.high:+.2%}) above one model; "
        f"averaged weights are right {mean['weights of one run']:.1%} of the time within one run and "
        f"{mean['weights of two runs']:.1%} across two.",
        head=("averaged", "held-out accuracy", "above one model", "from", "to"),
        rows=rows,
        plots=[
            Plot(
                title="Held-out accuracy from one run's weights to the other's",
                axis="tenth",
                lines={"weights in between": list(enumerate(np.mean(ways, axis=0).tolist()))},
            )
        ],
        notes=(
            f"ReLU networks of {_DEPTH} layers, {_WIDTH} values each, {_STEPS} steps on {_SEEN} digits by SGD with "
            f"momentum 0.9 at {_RATE}; one run's weights are the mean of every {_EVERY}th step of its second half; "
            "899 held-out digits.",
        ),
    )
