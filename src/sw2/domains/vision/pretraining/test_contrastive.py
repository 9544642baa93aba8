"""Contrastive learning: NT-Xent and its gradient against a plain computation in float64, and what views keep."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.errors import UsageError
from sw2.base.seed import generator
from sw2.core.gradient import GradientConfig
from sw2.domains.vision.augment import Config as AugmentConfig
from sw2.domains.vision.pretraining.contrastive import ContrastiveConfig, Projection, learn, nt_xent
from sw2.domains.vision.pretraining.views import ViewConfig, view

SAME = ViewConfig(crop=1.0, tone=0.0, grey=0.0, augment=AugmentConfig(shift=0))


def by_hand(one: np.ndarray, other: np.ndarray, temperature: float) -> float:
    """Equation 1 of the paper, pair by pair in float64, summed over all views."""
    z = [row / math.sqrt(float(row @ row)) for row in (*one, *other)]
    total = 0.0
    for i in range(len(z)):
        j = (i + len(one)) % len(z)
        others = sum(math.exp(float(z[i] @ z[k]) / temperature) for k in range(len(z)) if k != i)
        total -= math.log(math.exp(float(z[i] @ z[j]) / temperature) / others)
    return total


@given(pictures=st.integers(2, 6), temperature=st.floats(0.1, 2.0), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_the_loss_and_its_gradient_are_those_computed_by_hand(pictures: int, temperature: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    one, other = draw.normal(size=(2, pictures, 5)) + 0.1
    ours = torch.from_numpy(np.stack((one, other))).float().requires_grad_()
    total, _ = nt_xent(ours[0], ours[1], temperature)
    total.backward()  # type: ignore[no-untyped-call]
    assert total.item() == pytest.approx(by_hand(one, other, temperature), rel=1e-4, abs=1e-4)
    assert ours.grad is not None
    for which, row, column in ((0, 0, 0), (1, pictures - 1, 4), (0, 1, 2)):
        steps = np.zeros((2, pictures, 5))
        steps[which, row, column] = 1e-5
        above = by_hand(one + steps[0], other + steps[1], temperature)
        below = by_hand(one - steps[0], other - steps[1], temperature)
        assert ours.grad[which, row, column].item() == pytest.approx((above - below) / 2e-5, rel=2e-3, abs=2e-3)


def test_neither_lengths_nor_the_order_of_views_matter() -> None:
    one, other = torch.randn(2, 6, 8, generator=generator(0, "views"))
    total, nearest = nt_xent(one, other, 0.5)
    torch.testing.assert_close(nt_xent(other, one, 0.5)[0], total)
    torch.testing.assert_close(nt_xent(one * 7, other * torch.arange(1, 7)[:, None], 0.5)[0], total)
    assert 0 <= nearest <= 1


def test_vectors_that_are_all_the_same_are_told_apart_by_chance() -> None:
    same = torch.ones(8, 3)
    total, _ = nt_xent(same, same, 0.2)
    assert total.item() / 16 == pytest.approx(math.log(15), rel=1e-5)


def test_partners_in_the_same_place_are_found() -> None:
    total, nearest = nt_xent(torch.eye(6), torch.eye(6), 0.1)
    assert nearest.item() == 1.0
    assert total.item() / 12 == pytest.approx(math.log(1 + 10 * math.exp(-10)), rel=1e-2)


def test_the_projection_hides_nothing_behind_a_dead_layer() -> None:
    projection = Projection(Projection.Config(inputs=6, outputs=4))
    projected = projection({"features": torch.randn(9, 6)})["projected"]
    assert projected.shape == (9, 4)
    projected.square().sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in projection.parameters())


# --------------------------------------------------------------------------------------------------------------- views


@given(
    channels=st.sampled_from([1, 3]),
    side=st.integers(2, 20),
    crop=st.floats(0.05, 1.0),
    tone=st.floats(0.0, 0.9),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_a_view_is_a_picture_that_follows_from_its_seed(
    channels: int, side: int, crop: float, tone: float, seed: int
) -> None:
    pictures = torch.randint(
        0, 256, (3, channels, side, side), dtype=torch.uint8, generator=generator(seed, "pictures")
    )
    kept, config = pictures.clone(), ViewConfig(crop=crop, tone=tone)
    seen = view(pictures, config, generator(seed, "view"))
    assert seen.shape == pictures.shape
    assert seen.dtype == torch.float32
    assert seen.min() >= 0
    assert seen.max() <= 255
    assert torch.equal(pictures, kept)
    assert torch.equal(seen, view(pictures, config, generator(seed, "view")))


def test_nothing_asked_for_changes_nothing() -> None:
    pictures = torch.randint(0, 256, (4, 3, 9, 9), dtype=torch.uint8, generator=generator(0, "pictures"))
    torch.testing.assert_close(view(pictures, SAME, generator(0, "view")), pictures.float(), rtol=0, atol=1e-3)


def test_a_crop_is_a_part_of_the_picture_enlarged() -> None:
    """Of a slope from left to right there is left a slope, less steep, of values that were there."""
    slope = torch.linspace(0, 255, 32).expand(64, 1, 32, 32)
    config = ViewConfig(crop=0.3, tone=0.0, grey=0.0, augment=AugmentConfig(shift=0))
    seen = view(slope, config, generator(5, "view"))
    steps = seen[:, 0, 16, 1:] - seen[:, 0, 16, :-1]
    inner = steps[:, 2:-2]
    whole = 255 / 31
    torch.testing.assert_close(inner, inner.mean(1, keepdim=True).expand_as(inner), rtol=0, atol=0.05)
    assert (inner.mean(1) < whole + 0.01).all()
    assert inner.mean(1).min() < 0.7 * whole
    torch.testing.assert_close(seen[:, :, :1].expand_as(seen), seen, rtol=0, atol=0.01)


def test_tones_change_and_colours_go() -> None:
    pictures = torch.randint(50, 150, (200, 3, 4, 4), dtype=torch.uint8, generator=generator(1, "pictures"))
    plain = AugmentConfig(shift=0)
    grey = view(pictures, ViewConfig(crop=1.0, tone=0.0, grey=1.0, augment=plain), generator(1, "view"))
    torch.testing.assert_close(grey[:, :1].expand_as(grey), grey)
    some = view(pictures, ViewConfig(crop=1.0, tone=0.0, grey=0.2, augment=plain), generator(1, "view"))
    lost = (some.amax(1) - some.amin(1)).flatten(1).amax(1) < 0.01
    assert 0.1 < lost.float().mean() < 0.3
    toned = view(pictures, ViewConfig(crop=1.0, tone=0.4, grey=0.0, augment=plain), generator(1, "view"))
    ratio = toned.mean((1, 2, 3)) / pictures.float().mean((1, 2, 3))
    assert 0.55 < ratio.min() < 0.75
    assert 1.25 < ratio.max() < 1.45


# ------------------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: ContrastiveConfig(temperature=0.0), "temperature"),
        (lambda: ContrastiveConfig(projection=0), "projection"),
        (lambda: ContrastiveConfig(gradient=GradientConfig(batch_size=1)), "batch_size"),
        (lambda: ViewConfig(crop=0.0), "crop"),
        (lambda: ViewConfig(tone=1.0), "tone"),
        (lambda: ViewConfig(grey=1.1), "grey"),
    ],
)
def test_settings_that_cannot_be(make: object, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        make()  # type: ignore[operator]


def test_a_batch_is_not_divided() -> None:
    """A micro-batch is refused, and memory that runs out does not make one."""
    whole = ContrastiveConfig(gradient=GradientConfig(batch_size=64))
    assert learn(whole, {}).smaller({"micro_batch": 0}) is None
    with pytest.raises(UsageError, match="cannot be divided") as caught:
        learn(ContrastiveConfig(gradient=GradientConfig(batch_size=64, micro_batch=8)), {})
    assert "batch_size" in str(caught.value.do)
