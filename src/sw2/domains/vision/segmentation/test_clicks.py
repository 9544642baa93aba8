"""Clicks: the protocol beside distances computed one by one; random clicks are wrong pixels, mostly deep ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from sw2.base.errors import DataError
from sw2.domains.vision.segmentation.clicks import farthest, iou, next_click, random_clicks

MASKS = arrays(bool, (6, 7))


def _distances(region_HW: np.ndarray) -> np.ndarray:
    """From the middle of each pixel to that of the nearest one outside the region, or outside the picture."""
    height, width = region_HW.shape
    outside = [
        (y, x)
        for y in range(-1, height + 1)
        for x in range(-1, width + 1)
        if not (0 <= y < height and 0 <= x < width and region_HW[y, x])
    ]
    return np.array([
        [min(np.hypot(y - v, x - u) for v, u in outside) for x in range(width)] for y in range(height)
    ])  # fmt: skip


@given(MASKS)
@settings(max_examples=60, deadline=None)
def test_the_middle_of_a_region_is_farthest_from_its_border(region: np.ndarray) -> None:
    distance, x, y = farthest(region)
    expected = _distances(region)
    assert distance == pytest.approx(expected.max())
    assert expected[y, x] == pytest.approx(expected.max())


@given(MASKS, MASKS)
@settings(max_examples=100, deadline=None)
def test_a_click_lies_in_the_larger_error_and_says_what_it_is(target: np.ndarray, mask: np.ndarray) -> None:
    if not target.any():
        with pytest.raises(DataError):
            next_click(target, mask)
        return
    x, y, label = next_click(target, mask)
    assert label == target[y, x]
    if (target != mask).any():
        assert target[y, x] != mask[y, x]
        other = (target & ~mask) if label == 0 else (mask & ~target)
        assert farthest(target != mask)[0] >= farthest(other)[0]


def test_the_first_click_is_the_middle_of_the_object() -> None:
    target = np.zeros((9, 9), bool)
    target[2:7, 1:6] = True
    assert next_click(target, np.zeros_like(target)) == (3, 4, 1)
    assert next_click(target, target) == (3, 4, 1)
    assert next_click(target, np.ones_like(target))[2] == 0


def test_random_clicks_are_wrong_pixels_alike_likely_where_they_are_as_deep() -> None:
    target = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask = target.clone()
    target[0, 1, 1:3] = True  # the pixel (1, 1) is missing
    mask[0, 1, 2] = mask[0, 3, 0] = True  # the pixel (0, 3) is too much
    number = 1000
    draws = (torch.arange(number) + 0.5) / number
    points, labels = random_clicks(target.expand(number, -1, -1), mask.expand(number, -1, -1), draws)
    missing = (points == torch.tensor([1.5, 1.5]) / 4).all(1)
    too_much = (points == torch.tensor([0.5, 3.5]) / 4).all(1)
    assert missing.sum() == too_much.sum() == number // 2
    assert torch.equal(labels, missing.long())


def test_a_pixel_amid_what_is_wrong_is_likelier_than_one_at_its_edge() -> None:
    target = torch.zeros(1, 5, 5, dtype=torch.bool)
    target[0, 1:4, 1:4] = True
    number = 1600
    draws = (torch.arange(number) + 0.5) / number
    nothing = torch.zeros(number, 5, 5, dtype=torch.bool)
    points, labels = random_clicks(target.expand(number, -1, -1), nothing, draws)
    assert (points == 0.5).all(1).sum() == number // 2  # two deep, so 8 times as likely as each of the other eight
    assert labels.all()


def test_where_nothing_is_wrong_the_object_is_clicked() -> None:
    target = torch.zeros(1, 4, 4, dtype=torch.bool)
    target[0, 2, 3] = True
    points, labels = random_clicks(target, target, torch.tensor([0.999]))
    assert points[0].tolist() == [3.5 / 4, 2.5 / 4]
    assert labels.item() == 1


def test_iou() -> None:
    one, two = np.array([[1, 1, 0]], bool), np.array([[0, 1, 1]], bool)
    assert iou(one, two) == pytest.approx(1 / 3)
    assert iou(one, one) == 1
    assert iou(one & False, two & False) == 1
