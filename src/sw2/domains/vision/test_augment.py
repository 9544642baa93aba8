"""Augmentation: the draws are the generator's alone, and every picture is what its draw says."""

from __future__ import annotations

import pytest
import torch

from sw2.base.errors import UsageError
from sw2.base.seed import generator
from sw2.domains.vision.augment import Config, augment


def ramp(number: int = 64, side: int = 9) -> torch.Tensor:
    """Pictures whose every pixel is different."""
    return torch.arange(side * side, dtype=torch.uint8).reshape(1, 1, side, side).repeat(number, 2, 1, 1)


@pytest.mark.parametrize("config", [Config(), Config(mirror=True), Config(shift=0, erase=4), Config(erase=3)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_shape_and_type_stay_and_equal_seeds_agree(config: Config, dtype: torch.dtype) -> None:
    x = ramp().to(dtype)
    first, again, other = (augment(x, config, generator(seed, "augment", 7)) for seed in (0, 0, 1))
    assert first.shape == x.shape
    assert first.dtype == dtype
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(x, ramp().to(dtype))


def test_nothing_asked_is_nothing_done() -> None:
    assert torch.equal(augment(ramp(), Config(shift=0), generator(0)), ramp())


def test_a_shift_moves_whole_pictures_by_at_most_so_many_pixels_in_every_direction() -> None:
    side, seen = 9, set()
    for picture in augment(ramp(400), Config(shift=2), generator(0))[:, 0]:
        dy, dx = divmod(int(picture[4, 4]), side)
        seen.add((dy - 4, dx - 4))
        rows = (torch.arange(side) + dy - 4).clamp(0, side - 1)
        columns = (torch.arange(side) + dx - 4).clamp(0, side - 1)
        assert torch.equal(picture, ramp(1)[0, 0][rows][:, columns])
    assert seen == {(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)}


def test_about_half_the_pictures_are_mirrored_and_the_rest_untouched() -> None:
    x = ramp(400)
    got = augment(x, Config(shift=0, mirror=True), generator(0))
    mirrored = (got == x.flip(3)).all(3).all(2).all(1)
    assert torch.equal(got[~mirrored], x[~mirrored])
    assert 150 < mirrored.sum() < 250


def test_the_erased_square_holds_the_mean_and_nothing_else_changes() -> None:
    x = ramp(200).float()
    changed = augment(x, Config(shift=0, erase=3), generator(0)) != x
    per_picture = changed[:, 0].sum((1, 2))
    assert per_picture.max() == 9
    assert per_picture.min() >= 3
    assert torch.equal(changed[:, 0], changed[:, 1])
    got = augment(x, Config(shift=0, erase=3), generator(0))
    assert (got[changed] == 40).all()


def test_negative_pixels_are_refused() -> None:
    with pytest.raises(UsageError, match="negative"):
        Config(shift=-1)
