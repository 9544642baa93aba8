"""The claims about this domain's networks: both sides get the same, and verdicts come from what was seen."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from sw2.core.claims import Result
from sw2.core.data import Data, Split
from sw2.core.task import Context
from sw2.domains.vision.claims import bench, deep, handmade, squares, transfer
from sw2.domains.vision.data import _named
from sw2.domains.vision.resnet import ResNet, of_depth
from sw2.domains.vision.stamps import KINDS
from sw2.domains.vision.test_data import made_stamps

__all__: list[str] = []


def clothing(count: int) -> Data:
    """Noise in place of Fashion-MNIST, of as many pictures in either split; labels in turns."""
    draw = np.random.default_rng(0)
    splits: dict[str, Split] = {
        split: [
            {"image": draw.integers(0, 256, (28, 28), np.uint8), "label": f"{n % 10}", "sha256": f"{split}{n}"}
            for n in range(count)
        ]
        for split in ("train", "test")
    }
    return _named("fashion-mnist", splits, tuple(map(str, range(10))), licence="", source="")


@pytest.fixture
def clothes(monkeypatch: pytest.MonkeyPatch) -> Data:
    data = clothing(120)
    monkeypatch.setattr(bench, "fashion_mnist", lambda confirm: data)
    return data


def few() -> bench.Halves:
    """64 digits to learn from and 50 to judge by."""
    data = bench.halves(0).first(64)
    return dataclasses.replace(data, held_MP=data.held_MP[:50], held_M=data.held_M[:50])


def refuse(question: str) -> bool:
    pytest.fail(question)


def sound(result: Result) -> None:
    """What every page needs."""
    assert all(len(row) == len(result.head) for row in result.rows)
    assert all(line for plot in result.plots for line in plot.lines.values())


# ------------------------------------------------------------------------------------------------------------- clothes


def test_clothes_are_drawn_by_the_seed_and_halved_by_means(clothes: Data) -> None:
    whole, half = (bench.clothes(refuse, 3, seen=40, held=30, side=side) for side in (28, 14))
    assert whole.seen_NP.shape == (40, 784)
    assert half.held_MP.shape == (30, 196)
    assert torch.equal(whole.seen_N, half.seen_N)
    assert half.seen_NP.mean().abs() < 1e-5
    assert half.seen_NP.std() == pytest.approx(1.0)
    # Each scaling is a line through the pixels; through it the halves are the means of four.
    means = F.avg_pool2d(whole.seen_NP.unflatten(1, (1, 28, 28)), 2).flatten(1)
    assert torch.allclose(half.seen_NP, (means - means.mean()) / means.std(), atol=1e-4)
    assert not torch.equal(whole.seen_N, bench.clothes(refuse, 4, seen=40, held=30).seen_N)


def test_a_network_takes_rows_of_pixels_as_the_picture_they_were() -> None:
    net = ResNet(of_depth(8, channels=1)).eval()
    image = torch.randn(3, 1, 6, 6)
    assert torch.allclose(bench.InRows(net)(image.flatten(1)), net({"image": image})["logits"], atol=1e-5)


# ------------------------------------------------------------------------------------------------------ plain, residual

TINY = deep.Size(depths=(8, 14), rates=(0.03, 0.1), steps=2)


def test_plain_and_residual_start_alike_but_for_branches_of_zero() -> None:
    states = []
    for shortcut in deep.WAYS.values():
        with bench.fresh(0, "deep", 14):
            states.append(deep.network(shortcut, 14).state_dict())
    assert states[0].keys() == states[1].keys()
    other = {name for name in states[0] if not torch.equal(states[0][name], states[1][name])}
    assert other == {name for name in states[0] if name.endswith("second_norm.weight")}
    assert not any(states[1][name].any() for name in other)  # WAYS: plain, then residual


def test_a_network_counts_by_its_best_rate() -> None:
    data = few()
    alone = [
        deep.left(deep.best("pad", 8, data, 0, deep.Size(depths=(8,), rates=(rate,), steps=6))) for rate in (1e-6, 0.1)
    ]
    both = deep.best("pad", 8, data, 0, deep.Size(depths=(8,), rates=(1e-6, 0.1), steps=6))
    assert deep.left(both) == min(alone) == alone[1]
    assert both.rate == 0.1


def lost(*losses: float) -> bench.Tried:
    return bench.Tried(rate=0.1, losses=losses, loss=0.0, held_loss=0.0, right_M=np.ones(3))


def test_what_is_left_is_the_mean_of_the_last_steps() -> None:
    assert deep.left(lost(*[9.0] * 60, *[1.0, 3.0] * 25)) == pytest.approx(2.0)
    assert deep.left(lost(1.0, float("nan"))) == float("inf")


@pytest.mark.parametrize(
    ("plain", "residual", "verdict"),
    [
        ((1.0, 2.0), (1.0, 0.5), "holds"),
        ((2.0, 1.0), (0.5, 1.0), "does not hold"),
        ((1.0, 2.0), (0.5, 1.0), "undecided"),
    ],
)
def test_the_order_decides(
    plain: tuple[float, float], residual: tuple[float, float], verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def best(shortcut: str, depth: int, *rest: Any) -> bench.Tried:
        return lost((plain if shortcut == "none" else residual)[depth == 14])

    monkeypatch.setattr(deep, "best", best)
    monkeypatch.setattr(deep, "QUICK", TINY)
    assert deep.run(Context(), False).verdict == verdict


@pytest.mark.parametrize("full", [False, True])
def test_plain_and_residual_in_full(full: bool, clothes: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep, "QUICK", TINY)
    monkeypatch.setattr(deep, "FULL", deep.Size(depths=(8, 14), rates=(0.03,), steps=2, clothes=64))
    monkeypatch.setattr(deep, "_HELD", 20)
    monkeypatch.setattr(deep, "halves", lambda seed: few())
    result = deep.run(Context(seed=1, confirm=refuse), full)
    sound(result)
    assert len(result.rows) == 4 * (3 if full else 1)


# ------------------------------------------------------------------------------------------------------------ transfer


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 12)), min_size=1, max_size=60),
    st.integers(1, 5),
    st.integers(0, 9),
)
def test_a_split_shares_no_family_and_fewer_are_among_more(
    stamps: list[tuple[str, int]], labels: int, seed: int
) -> None:
    examples = [{"label": label, "family": f"{label}{family}", "name": n} for n, (label, family) in enumerate(stamps)]
    some, held = transfer.drawn(examples, labels, seed)
    assert not {each["family"] for each in some} & {each["family"] for each in held}
    there = Counter(label for label, _ in stamps)
    assert Counter(each["label"] for each in some) == {label: min(labels, count) for label, count in there.items()}
    turns = [min(Counter(each["label"] for each in some[: n * len(there)]).values()) for n in range(1, labels + 1)]
    assert turns == [min(n, *there.values()) for n in range(1, labels + 1)] or len(set(there.values())) > 1
    assert transfer.drawn(examples, labels, seed) == (some, held)


def test_the_network_from_scratch_moves_pictures_in_training_only() -> None:
    with bench.fresh(0, "net"):
        net = transfer.Small(0)
    x_NP = torch.randn(4, 3 * 64 * 64)
    assert not torch.equal(net(x_NP), net(x_NP))
    net.eval()
    assert torch.equal(net(x_NP), net(x_NP))


@pytest.mark.parametrize("full", [False, True])
def test_transfer_in_full(full: bool, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With features that say the kind, of sizes that say nothing about the claim."""
    made_stamps(own_home, 4, monkeypatch)

    def features(examples: Split, context: Context) -> torch.Tensor:
        kinds = torch.tensor([list(KINDS).index(each["label"]) for each in examples])
        return F.pad(torch.eye(len(KINDS))[kinds], (0, transfer.FEATURES - len(KINDS)))

    smaller = {"_STEPS": 2, "_RATES": (1e-3,), "_NUMBERS": (1, 2), "MOST": 2, "SEEDS": 2, "_LINEAR_STEPS": 60}
    for name, value in {**smaller, "features": features}.items():
        monkeypatch.setattr(transfer, name, value)
    monkeypatch.setattr(transfer, "_LINEAR_RATE", 0.1)
    result = transfer.run(Context(seed=1, confirm=refuse), full)
    sound(result)
    assert [row[1] for row in result.rows] == [1.0, 1.0]
    assert result.verdict == "holds"


# ------------------------------------------------------------------------------------------------------ made by hand


def test_histograms_know_neither_light_nor_contrast() -> None:
    """Also what other places make of a single edge: its bin, its cells, its length."""
    draw = np.random.default_rng(0)
    pictures = draw.random((3, 28, 28))
    features = handmade.hog(pictures)
    assert features.shape == (3, 6 * 6 * 36)
    assert np.allclose(handmade.hog(5 * pictures + 3), features, atol=1e-6)
    blocks = features.reshape(3, 36, 36)
    assert np.allclose((blocks**2).sum(-1), 1.0, atol=1e-4)
    assert not handmade.hog(np.full((1, 28, 28), 7.0)).any()


@pytest.mark.parametrize(("turned", "of_bin"), [(False, 0), (True, 4)])
def test_an_edge_votes_for_its_angle(turned: bool, of_bin: int) -> None:
    """A step from left to right has a gradient along the row, 0 degrees; from top to bottom 90, in bin 80 to 100."""
    picture = np.zeros((1, 8, 8))
    picture[:, :, 4:] = 1.0
    features = handmade.hog(picture.transpose(0, 2, 1) if turned else picture).reshape(4, 9)
    assert features[:, of_bin] == pytest.approx([0.5] * 4, abs=1e-4)  # the four cells alike, a vector of length 1
    assert features.sum() == pytest.approx(2.0, abs=1e-3)


def test_a_mirror_exchanges_angles() -> None:
    """An angle a becomes 180 - a: bins in the other order. At the picture's edge a is 0, which stays in its bin."""
    draw = np.random.default_rng(1)
    pictures = draw.random((2, 24, 24))
    straight, mirrored = (handmade.hog(each).reshape(2, 5, 5, 2, 2, 9) for each in (pictures, pictures[:, :, ::-1]))
    inner = (slice(None), slice(1, -1), slice(1, -1))
    assert np.allclose(mirrored[inner], straight[:, :, ::-1, :, ::-1, ::-1][inner], atol=1e-9)


def test_histograms_are_those_of_scikit_image() -> None:
    reference = pytest.importorskip("skimage.feature", reason="scikit-image is not among our dependencies")
    pictures = np.random.default_rng(2).random((3, 28, 28))
    wanted = [
        reference.hog(each, orientations=9, pixels_per_cell=(4, 4), cells_per_block=(2, 2), block_norm="L2-Hys")
        for each in pictures
    ]
    assert np.allclose(handmade.hog(pictures), np.stack(wanted), atol=1e-6)


def test_made_by_hand_in_full(clothes: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_NUMBERS": (30, 60), "_STEPS": 2, "_RATES": (1e-3,), "_HELD": 20}.items():
        monkeypatch.setattr(handmade, name, value)
    result = handmade.run(Context(seed=1, confirm=refuse), False)
    sound(result)
    assert [row[0] for row in result.rows] == [30, 60]


def test_support_vectors_learn_what_there_is_to_learn() -> None:
    """Steps to the right against steps downwards."""
    pictures = np.zeros((40, 8, 8))
    for number in range(20):
        pictures[number, :, 1 + number % 6 :] = 1.0
        pictures[20 + number, 1 + number % 6 :] = 1.0
    x, y = torch.from_numpy(pictures).flatten(1), torch.tensor([0] * 20 + [1] * 20)
    data = bench.Halves(seen_NP=x[::2], seen_N=y[::2], held_MP=x[1::2], held_M=y[1::2])
    assert handmade.machine(data)[1].mean() == 1.0


# ------------------------------------------------------------------------------------------------------- vit and resnet


def test_at_its_best_is_the_best_rate_alone() -> None:
    data = few()

    def make() -> torch.nn.Module:
        return torch.nn.Linear(64, 10)

    alone = [bench.at_its_best(make, data, 0, rates=(rate,), steps=8) for rate in (1e-6, 0.1)]
    both = bench.at_its_best(make, data, 0, rates=(1e-6, 0.1), steps=8)
    assert both.rate == 0.1
    assert both.losses == alone[1].losses
    assert both.right_M.mean() > alone[0].right_M.mean()


@pytest.mark.parametrize(
    ("accuracy", "verdict"),
    [
        ({("ResNet", 60): 1, ("ViT", 60): 0, ("ResNet", 120): 1, ("ViT", 120): 1}, "holds"),
        ({("ResNet", 60): 0, ("ViT", 60): 1, ("ResNet", 120): 1, ("ViT", 120): 1}, "does not hold"),
        ({("ResNet", 60): 1, ("ViT", 60): 0, ("ResNet", 120): 1, ("ViT", 120): 0}, "undecided"),
    ],
)
def test_the_gap_and_its_closing_decide(
    accuracy: dict[tuple[str, int], int], verdict: str, clothes: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {make: name for name, make in squares.NETWORKS.items()}

    def best(make: Callable[[], torch.nn.Module], data: bench.Halves, *rest: Any, **more: Any) -> bench.Tried:
        right_M = np.full(20, float(accuracy[names[make], len(data.seen_N)]))
        return bench.Tried(rate=0.1, losses=[], loss=0.0, held_loss=0.0, right_M=right_M)

    monkeypatch.setattr(squares, "at_its_best", best)
    monkeypatch.setattr(squares, "QUICK", squares.Size(numbers=(60, 120), steps=1))
    monkeypatch.setattr(squares, "_HELD", 20)
    assert squares.run(Context(confirm=refuse), False).verdict == verdict


def test_vit_and_resnet_in_full(clothes: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squares, "FULL", squares.Size(numbers=(30, 60), steps=1))
    monkeypatch.setattr(squares, "_HELD", 20)
    monkeypatch.setattr(squares, "SEEDS", 2)
    sound(squares.run(Context(seed=1, confirm=refuse), True))
