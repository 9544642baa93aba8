"""Features learned against features made by hand: a small ResNet against HOG and a support vector machine.

HOG (histograms of oriented gradients) was the best that people wrote down before networks learned it from the data:

    gradient      g = x[+1] - x[-1] along rows and columns, 0 at the edge
    histogram     of the angle of g without its sign, 9 bins of 20 degrees, each pixel with |g|, over cells of 4 x 4
    block         2 x 2 cells together, every one of them: v / |v|, cut at 0.2, and v / |v| again ("L2-Hys")

A picture of 28 x 28 has 6 x 6 blocks of 36 numbers. Of a linear machine and one with a Gaussian kernel the better one
on the held-out pictures counts, as the better one of two rates does for the network.

Source: Dalal and Triggs (2005), https://doi.org/10.1109/CVPR.2005.177, sections 6.1 to 6.4, with whole votes in place
of shared ones between neighbouring bins, and cells of 4 x 4 for small pictures.

Shapes: N and M pictures, S pixels a side, C cells a side, B blocks a side, D features.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sw2.base.names import missing_extra
from sw2.core.claims import Plot, Result, by_interval, paired, seeds_of
from sw2.core.task import Context
from sw2.domains.vision.claims.bench import Halves, InRows, at_its_best, clothes
from sw2.domains.vision.resnet import Config, ResNet

__all__ = ["hog", "machine", "run"]

BINS: Final = 9
CELL: Final = 4
SEEDS: Final = 3  # of the full form
_BLOCK, _CUT, _TINY = 2, 0.2, 1e-5
_PENALTIES: Final = {"linear": 0.1, "rbf": 10.0}
_RATES, _HELD = (2e-3, 6e-3), 2000
_NUMBERS, _STEPS = (300, 1000, 3000), 400
_FULL_NUMBERS, _FULL_STEPS = (300, 1000, 3000, 10_000), 1000


def hog(pictures_NSS: NDArray[Any]) -> NDArray[np.float64]:
    """Histograms of oriented gradients.

    Args:
        pictures_NSS: grey, at any scale, for each block is normalised; S a multiple of 4, [N, S, S].

    Returns:
        [N, D], D = B * B * 36; a block where nothing changes is 0.
    """
    x_NSS = pictures_NSS.astype(np.float64)
    down_NSS, right_NSS = np.zeros_like(x_NSS), np.zeros_like(x_NSS)
    down_NSS[:, 1:-1] = x_NSS[:, 2:] - x_NSS[:, :-2]
    right_NSS[:, :, 1:-1] = x_NSS[:, :, 2:] - x_NSS[:, :, :-2]
    angle_NSS = np.rad2deg(np.arctan2(down_NSS, right_NSS)) % 180
    bin_NSS = np.minimum((angle_NSS / (180 / BINS)).astype(int), BINS - 1)
    votes_NSS9 = np.hypot(down_NSS, right_NSS)[..., None] * (bin_NSS[..., None] == np.arange(BINS))
    number, side = x_NSS.shape[0], x_NSS.shape[1] // CELL
    cells_NCC9 = votes_NSS9.reshape(number, side, CELL, side, CELL, BINS).mean((2, 4))
    blocks = [
        cells_NCC9[:, y : y + _BLOCK, x : x + _BLOCK].reshape(number, -1)
        for y in range(side - _BLOCK + 1)
        for x in range(side - _BLOCK + 1)
    ]
    v = _unit(np.minimum(_unit(np.stack(blocks, axis=1)), _CUT))
    return v.reshape(number, -1)


def _unit(v: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = v / np.sqrt((v**2).sum(-1, keepdims=True) + _TINY**2)
    return scaled


def machine(data: Halves) -> tuple[str, NDArray[Any]]:
    """The better support vector machine on HOG: its kernel, and which held-out pictures it has right, [M].

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn.svm import SVC
    except ModuleNotFoundError as error:
        raise missing_extra("sklearn") from error
    seen_ND, held_MD = (_hog_of_rows(rows.numpy()) for rows in (data.seen_NP, data.held_MP))
    found = {}
    for kernel, penalty in _PENALTIES.items():
        told_M = SVC(kernel=kernel, C=penalty).fit(seen_ND, data.seen_N.numpy()).predict(held_MD)
        found[kernel] = (told_M == data.held_M.numpy()).astype(float)
    kernel = max(found, key=lambda name: found[name].mean())
    return kernel, found[kernel]


def _hog_of_rows(rows: NDArray[Any]) -> NDArray[np.float64]:
    side = int(rows.shape[1] ** 0.5)
    return hog(rows.reshape(-1, side, side))


def run(context: Context, full: bool) -> Result:
    """The claim `made-learned-features`."""
    numbers, steps = (_FULL_NUMBERS, _FULL_STEPS) if full else (_NUMBERS, _STEPS)
    seeds = seeds_of(context.seed, full, SEEDS)
    right: dict[tuple[str, int], list[NDArray[Any]]] = {(w, n): [] for w in ("learned", "made") for n in numbers}
    kernels: dict[int, list[str]] = {number: [] for number in numbers}
    for seed in seeds:
        data = clothes(context.confirm, seed, seen=max(numbers), held=_HELD)
        for number in numbers:
            some = data.first(number)
            kernel, made_M = machine(some)
            kernels[number].append(kernel)
            right["made", number].append(made_M)
            learned = at_its_best(lambda: InRows(ResNet(Config())), some, seed, rates=_RATES, steps=steps)
            right["learned", number].append(learned.right_M)
            context.say(
                f"seed {seed}, {number} pictures: made {made_M.mean():.4f}, learned {learned.right_M.mean():.4f}"
            )
    gains = {n: paired(right["made", n], right["learned", n], context.seed) for n in numbers}
    mean = {key: float(np.mean(found)) for key, found in right.items()}
    most, gain = numbers[-1], gains[numbers[-1]]
    return Result(
        verdict=by_interval(gain),
        why=f"of {most} pictures held-out accuracy is {mean['learned', most]:.2%} with learned features and "
        f"{mean['made', most]:.2%} with those made by hand, {gain.value:+.2%} ({gain.low:+.2%} to {gain.high:+.2%}).",
        head=("pictures", "learned", "made by hand", "gain", "from", "to", "kernels"),
        rows=[
            [
                n,
                mean["learned", n],
                mean["made", n],
                each.value,
                each.low,
                each.high,
                ", ".join(sorted(set(kernels[n]))),
            ]
            for n, each in gains.items()
        ],
        plots=[
            Plot(
                title="Held-out accuracy by pictures learned from",
                axis="picture",
                lines={
                    name: [(number, mean[way, number]) for number in numbers]
                    for way, name in (("learned", "learned features"), ("made", "HOG and support vectors"))
                },
            )
        ],
        notes=(
            f"Fashion-MNIST, 28 x 28, {_HELD} held out. A ResNet of 3 blocks, {steps} steps of 64 by AdamW at "
            f"{' and '.join(map(str, _RATES))}, without augmentation; support vectors with a linear kernel at C = "
            f"{_PENALTIES['linear']} and a Gaussian one at C = {_PENALTIES['rbf']}. On each side the better counts.",
            "Of few pictures, features that people made may well be the better ones: the table shows where.",
        ),
    )
