"""Reading pictures of every kind, and resizing them as Pillow does."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.errors import DataError, UsageError
from sw2.parts.prep.pictures import Fit, read_picture, resize, resize_matrices

Image = pytest.importorskip("PIL.Image")

sides = st.integers(1, 40)
fits = st.sampled_from(["crop", "pad", "stretch"])


def encoded(image: Any, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_colour_and_grey_come_back_exactly_and_luma_is_pillows() -> None:
    colour, grey = noise(5, 7, 3), noise(5, 7)
    assert np.array_equal(read_picture(encoded(Image.fromarray(colour)), 3), colour)
    assert np.array_equal(read_picture(encoded(Image.fromarray(grey)), 1), grey[..., None])
    assert np.array_equal(read_picture(encoded(Image.fromarray(grey)), 3), np.stack([grey] * 3, 2))
    assert np.array_equal(read_picture(colour, 1), read_picture(encoded(Image.fromarray(colour)), 1))


def test_paths_and_bytes_agree_and_the_result_is_writable(tmp_path: Path) -> None:
    content = encoded(Image.fromarray(noise(4, 6, 3)))
    (tmp_path / "a").write_bytes(content)
    from_path = read_picture(tmp_path / "a", 3)
    assert np.array_equal(from_path, read_picture(content, 3))
    from_path[0, 0] = 0


def test_an_array_is_copied() -> None:
    values = noise(3, 3, 3)
    read_picture(values, 3)[:] = 0
    assert values.any()


def test_orientation_of_the_camera_is_applied() -> None:
    picture = noise(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate clockwise to see it upright
    read = read_picture(encoded(Image.fromarray(picture), exif=exif), 3)
    assert np.array_equal(read, np.rot90(picture, -1))


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    wanted = np.array([[0, 0, 1, 1, 128, 255]], np.uint8)
    assert np.array_equal(read_picture(encoded(Image.fromarray(values)), 1)[..., 0], wanted)
    assert np.array_equal(read_picture(encoded(Image.fromarray(values), "TIFF"), 1)[..., 0], wanted)
    assert np.array_equal(read_picture(values, 3)[..., 2], wanted)


def test_one_bit_pictures_become_black_and_white() -> None:
    values = noise(5, 9) > 100
    wanted = np.where(values, 255, 0).astype(np.uint8)
    assert np.array_equal(read_picture(encoded(Image.fromarray(values)), 1)[..., 0], wanted)
    assert np.array_equal(read_picture(values, 1)[..., 0], wanted)


def test_a_palette_is_looked_up() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([1, 0])
    assert read_picture(encoded(image), 3).tolist() == [[[40, 50, 60], [10, 20, 30]]]


def test_transparent_palette_entries_are_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([1, 0])
    assert read_picture(encoded(image, transparency=0), 3).tolist() == [[[40, 50, 60], [255, 255, 255]]]


@pytest.mark.parametrize("channels", [1, 3])
def test_transparency_is_composited_on_white(channels: int) -> None:
    picture = noise(6, 6, 4)
    read = read_picture(encoded(Image.fromarray(picture)), channels).astype(int)
    assert abs(read - read_picture(picture, channels).astype(int)).max() <= 1
    clear = np.zeros((2, 2, 4), np.uint8)
    assert (read_picture(encoded(Image.fromarray(clear)), channels) == 255).all()
    assert (read_picture(encoded(Image.new("LA", (1, 1), (0, 0))), channels) == 255).all()


def test_cmyk_is_converted() -> None:
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    red, green, blue = read_picture(encoded(cyan, "TIFF"), 3)[0, 0].tolist()
    assert (red, green, blue) == (0, 255, 255)
    assert read_picture(encoded(cyan, "JPEG"), 3).shape == (8, 8, 3)


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert read_picture(content, 3)[0, 0].tolist() == [255, 0, 0]


def test_unreadable_files_say_where_and_what_to_do(tmp_path: Path) -> None:
    whole = encoded(Image.fromarray(noise(40, 40, 3)))
    jpeg = encoded(Image.fromarray(noise(40, 40, 3)), "JPEG")
    bad = {
        "empty.png": b"",
        "cut.png": whole[: len(whole) // 2],
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "head.png": whole[:20],
        "text.png": b"not a picture at all",
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError) as caught:
            read_picture(tmp_path / name, 3)
        assert name in str(caught.value.where)
        assert caught.value.wanted
        assert caught.value.got
        assert caught.value.do
    for path in (tmp_path, tmp_path / "absent.png"):
        with pytest.raises(DataError, match="cannot be opened"):
            read_picture(path, 3)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_damaged_bytes_are_the_users_error_or_a_picture(seed: int) -> None:
    generator = np.random.default_rng(seed)
    kind = ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP")[generator.integers(6)]
    content = bytearray(encoded(Image.fromarray(noise(9, 9, 3)), kind))
    for place in generator.integers(0, len(content), 4):
        content[place] = generator.integers(256)
    with contextlib.suppress(DataError):  # any other exception fails the test
        assert read_picture(bytes(content), 3).dtype == np.uint8


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    bomb = encoded(Image.new("1", (20_000, 6_001)))
    assert len(bomb) < 100_000
    with pytest.raises(DataError, match="too large"):
        read_picture(bomb, 1)


@pytest.mark.parametrize("values", [np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4), np.uint8)])
def test_arrays_that_are_no_pictures_are_refused(values: np.ndarray) -> None:
    with pytest.raises(DataError, match="not a picture"):
        read_picture(values, 3)


def test_grey_without_a_range_is_refused() -> None:
    with pytest.raises(DataError, match="range"):
        read_picture(encoded(Image.fromarray(np.ones((3, 3), np.float32)), "TIFF"), 1)


def test_two_channels_cannot_be_asked_for() -> None:
    with pytest.raises(UsageError):
        read_picture(noise(3, 3), 2)


def box_of(height: int, width: int, size: tuple[int, int], fit: Fit) -> tuple[float, float, float, float]:
    """The part of a picture that `resize` looks at, as Pillow's (left, top, right, bottom)."""
    if fit == "stretch":
        return 0, 0, width, height
    scale = min(height / size[0], width / size[1])
    half_h, half_w = size[0] * scale / 2, size[1] * scale / 2
    left, top = max(width / 2 - half_w, 0), max(height / 2 - half_h, 0)
    return left, top, min(width / 2 + half_w, width), min(height / 2 + half_h, height)


@settings(max_examples=60, deadline=None)
@given(sides, sides, sides, sides, st.sampled_from(["crop", "stretch"]))
def test_resize_is_pillows_bilinear(height: int, width: int, h: int, w: int, fit: Fit) -> None:
    picture = noise(height, width)
    box = box_of(height, width, (h, w), fit)
    wanted = Image.fromarray(picture.astype(np.float32)).resize((w, h), Image.Resampling.BILINEAR, box=box)
    ours = resize(torch.from_numpy(picture)[None], (h, w), fit)[0].numpy()
    assert abs(ours - np.asarray(wanted)).max() < 0.02
    rounded = Image.fromarray(picture).resize((w, h), Image.Resampling.BILINEAR, box=box)
    assert abs(ours - np.asarray(rounded)).max() <= 1.02  # Pillow rounds after each of its two passes


@settings(max_examples=60, deadline=None)
@given(sides, sides, sides, sides, fits, st.integers(0, 255))
def test_a_constant_stays_constant(height: int, width: int, h: int, w: int, fit: Fit, value: int) -> None:
    resized = resize(torch.full((2, height, width), value, dtype=torch.uint8), (h, w), fit)
    assert resized.shape == (2, h, w)
    inside = resized if fit != "pad" else resized[resized != 0]
    torch.testing.assert_close(inside, torch.full_like(inside, value), rtol=1e-5, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(sides, sides, fits)
def test_the_same_size_is_the_identity(height: int, width: int, fit: Fit) -> None:
    picture = torch.from_numpy(noise(3, height, width))
    assert torch.equal(resize(picture, (height, width), fit), picture.float())


def test_crop_keeps_the_centre_and_pad_keeps_everything() -> None:
    wide = torch.zeros(4, 12)
    wide[:, 4:8] = 9.0
    assert torch.equal(resize(wide, (4, 4)), torch.full((4, 4), 9.0))
    padded = resize(torch.full((4, 8), 9.0), (8, 8), "pad")
    assert torch.equal(padded.amax(1), torch.tensor([0, 0, 9, 9, 9, 9, 0, 0.0]))


def test_a_zoomed_picture_is_the_middle_of_a_larger_one() -> None:
    """224 out of 256: the same as resizing to 256 and cutting, where nothing is rounded in between."""
    picture = torch.from_numpy(noise(3, 640, 512))
    zoomed = resize(picture, (14, 14), "crop", zoom=16 / 14)
    torch.testing.assert_close(zoomed, resize(picture, (16, 16), "crop")[:, 1:15, 1:15], rtol=1e-4, atol=1e-3)
    middle = resize(picture[:, 160:480, 128:384], (8, 8), "stretch")
    torch.testing.assert_close(resize(picture, (8, 8), "stretch", 2.0)[:, 1:7, 1:7], middle[:, 1:7, 1:7])


def test_an_unknown_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="fit"):
        resize_matrices(3, 3, (2, 2), "squash")  # type: ignore[arg-type]


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_height_and_width_stay_dynamic_when_exported(fit: Fit) -> None:
    class Shrink(torch.nn.Module):
        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            return resize(x_BCHW, (8, 8), fit)

    dynamic = torch.export.Dim.DYNAMIC
    exported = torch.export.export(Shrink(), (torch.rand(2, 3, 12, 17),), dynamic_shapes=[{2: dynamic, 3: dynamic}])
    other = torch.rand(2, 3, 31, 9)
    torch.testing.assert_close(exported.module()(other), resize(other, (8, 8), fit))
