"""Pictures: from a file to numbers, and from one size to another.

Shapes: B pictures, C channels, H height, W width as read; h, w height and width wanted.

Two bricks. `read_picture` turns whatever a user calls a picture into uint8 numbers, always in the same way, or says
why it cannot. `resize` brings pictures to one size with tensor operations only, so that the training cache, the
trained program and its ONNX export compute the very same numbers and no image library is needed after export.

Choices of `read_picture`:
- Only formats that are decoded inside the image library are opened. PostScript and the like, which start other
  programs, are refused: a data set must never run code.
- A camera's orientation mark (EXIF) is applied. Colour profiles (ICC) are ignored, as most training sets ignored them.
- Transparency is composited on white, since a cut-out object is usually drawn for a page. It is never dropped: what
  lies under transparent pixels is arbitrary.
- 16-bit grey goes from 0..65535 to 0..255 by dividing by 257 and rounding; nothing is clipped. 32-bit integers and
  floats have no agreed range and are refused unless the integers fit in 16 bits.
- Grey from colour is the luma of ITU-R BT.601 (0.299 R + 0.587 G + 0.114 B). Of an animation the first frame counts.

Choices of `resize`: a triangle filter that widens with the reduction, which is what Pillow calls BILINEAR and OpenCV
lacks; plain bilinear interpolation skips pixels when it shrinks and aliases. The result is not rounded to integers.

Sources: Pillow (https://pillow.readthedocs.io), its `resize` for the filter; G. Wolberg, "Digital Image Warping"
(1990), chapter 6, for resampling with a prefilter; ITU-R BT.601-7, section 2.5.1, for luma.

Not here: writing pictures, augmentation, normalisation, video.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from sw2.base.errors import DataError, UsageError
from sw2.base.names import missing_extra

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MAX_PIXELS", "Fit", "Picture", "read_picture", "resample", "resize", "resize_matrices"]

Picture = Path | str | bytes | np.ndarray
Fit = Literal["crop", "pad", "stretch"]

# A file of a few kilobytes can claim to hold terabytes. Telephones take 108 million pixels; the decoded picture is then
# 324 MB, which is as far as one picture may go.
MAX_PIXELS = 120_000_000

_FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "TGA", "TIFF", "WEBP")


def read_picture(source: Picture, channels: int) -> np.ndarray:
    """One picture as numbers, by the rules at the top of this file.

    Args:
        source: a path, the bytes of a picture file, or an array: bool, uint8 or uint16, of shape [H, W], [H, W, 1],
            [H, W, 3] or [H, W, 4] (the fourth channel is opacity).
        channels: 1 for grey, 3 for red, green and blue.

    Returns:
        uint8 [H, W, channels], 0 black to 255 white; memory of its own.

    Raises:
        DataError: when the file is missing, empty, truncated, not a picture, or too large; or the array has another
            type or shape.
        MissingExtra: when Pillow is not installed.
    """
    if channels not in (1, 3):
        raise UsageError("Pictures are read as grey or colour.", wanted="channels = 1 or 3", got=channels)
    if isinstance(source, np.ndarray):
        return _from_array(source, channels)
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ModuleNotFoundError as error:
        raise missing_extra("PIL") from error

    where, content = _content(source)
    Image.init()  # registers the formats, of which an installation may lack some
    formats = [name for name in _FORMATS if name in Image.OPEN]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata that is not used, and sizes that are checked below
            with Image.open(io.BytesIO(content), formats=formats) as image:
                _check_size(image.width, image.height, where)
                image.load()
                return _flatten(ImageOps.exif_transpose(image), channels, where)
    except DataError:
        raise
    except Exception as error:
        # The decoders raise whatever they stumble on (OSError, SyntaxError, ValueError, struct.error, zlib.error, …).
        # This is the one border where all of that becomes the user's error.
        unlike = isinstance(error, UnidentifiedImageError)
        raise DataError(
            "This picture cannot be read.",
            where=where,
            wanted=f"a whole file in one of the formats {', '.join(formats)}",
            got=f"{len(content)} bytes: {'no picture of these formats' if unlike else error}",
            do="Open it in a picture viewer; replace or remove it if it does not open there.",
        ) from error


def _content(source: Path | str | bytes) -> tuple[str, bytes]:
    """A name for error messages, and the bytes of the file."""
    if isinstance(source, bytes):
        where, content = f"{len(source)} bytes in memory", source
    else:
        where = str(source)
        try:
            content = Path(source).read_bytes()
        except OSError as error:
            raise DataError(
                "This picture cannot be opened.",
                where=where,
                wanted="a file that can be read",
                got=error.strerror,
                do="Check the path and the permissions.",
            ) from error
    if not content:
        raise DataError(
            "This picture file is empty.",
            where=where,
            wanted="a picture",
            got="0 bytes",
            do="Copy it again or remove it.",
        )
    return where, content


def _check_size(width: int, height: int, where: str) -> None:
    """Refuse a picture that would fill the memory, before it is decoded."""
    if width * height > MAX_PIXELS:
        raise DataError(
            "This picture is too large.",
            where=where,
            wanted=f"at most {MAX_PIXELS:,} pixels",
            got=f"{width} x {height} = {width * height:,} pixels",
            do="Save it at a smaller size; learning looks at a few hundred pixels a side.",
        )


def _flatten(image: Image.Image, channels: int, where: str) -> np.ndarray:
    """One loaded frame of any Pillow mode as uint8 [H, W, channels]."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _from_array(_as_uint16(np.asarray(image), where), channels)
    if image.has_transparency_data:
        from PIL import Image

        opaque = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
    values = np.array(image.convert("L" if channels == 1 else "RGB"))
    return values.reshape(*values.shape[:2], channels)


def _as_uint16(values_HW: np.ndarray, where: str) -> np.ndarray:
    """Grey values of more than 8 bits, when they have the range of 16-bit grey."""
    if values_HW.dtype.kind == "f" or values_HW.min() < 0 or values_HW.max() > 65535:
        raise DataError(
            "This picture holds grey values without an agreed range.",
            where=where,
            wanted="8-bit or 16-bit grey",
            got=f"{values_HW.dtype} from {values_HW.min()} to {values_HW.max()}",
            do="Save it as 8-bit or 16-bit PNG.",
        )
    return values_HW.astype(np.uint16)


def _from_array(values: np.ndarray, channels: int) -> np.ndarray:
    """An array of any accepted type and shape as uint8 [H, W, channels]."""
    to_uint8: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "bool": lambda x: x.astype(np.uint8) * 255,
        "uint8": lambda x: x,
        "uint16": lambda x: (x.astype(np.uint32) + 128) // 257,
    }
    deep = values[..., None] if values.ndim == 2 else values
    if values.dtype.name not in to_uint8 or deep.ndim != 3 or deep.shape[2] not in (1, 3, 4) or not deep.size:
        raise DataError(
            "This array is not a picture.",
            where="an array in memory",
            wanted="bool, uint8 or uint16 of shape [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]",
            got=f"{values.dtype} of shape {list(values.shape)}",
            do="Scale floats to 0..255 and convert with .astype('uint8'); put the channels last.",
        )
    picture_HWC = to_uint8[values.dtype.name](deep).astype(np.uint8)
    if picture_HWC.shape[2] == 4:
        colour_HWC, opacity_HW1 = picture_HWC[..., :3].astype(np.uint32), picture_HWC[..., 3:].astype(np.uint32)
        picture_HWC = ((colour_HWC * opacity_HW1 + 255 * (255 - opacity_HW1) + 127) // 255).astype(np.uint8)
    if picture_HWC.shape[2] == channels:
        return np.array(picture_HWC)
    if channels == 3:
        return np.repeat(picture_HWC, 3, axis=2)
    # BT.601 in 16-bit fixed point: the weights sum to 65536, so white stays white.
    luma_HW = (picture_HWC.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32) + 32768) >> 16
    return luma_HW[..., None].astype(np.uint8)


def resize(pictures: Tensor, size: tuple[int, int], fit: Fit = "crop", zoom: float = 1.0) -> Tensor:
    """Pictures at another size: `Wy @ x @ Wx^T` with the matrices of `resize_matrices`.

    Args:
        pictures: [..., H, W] of any leading shape, uint8 or float, in any range.
        size: (h, w) wanted, in pixels.
        fit: what to do when the shape differs.
            "crop" (default) scales until the picture covers `size` and keeps the centre: for a square, the shorter
            side is brought to size and the longer one is cut. Proportions stay true and every pixel holds picture.
            "pad" scales until the picture fits inside; what is left over is 0.
            "stretch" scales both sides on their own; proportions change.
        zoom: what of a picture is kept is made so many times larger than `size`, and cut to it around its centre.

    Returns:
        float32 [..., h, w] in the same range, not rounded.
    """
    return resample(pictures, resize_matrices(pictures.shape[-2], pictures.shape[-1], size, fit, zoom, pictures.device))


def resample(pictures: Tensor, matrices: tuple[Tensor, Tensor]) -> Tensor:
    """Pictures [..., H, W] by the matrices [h, H] and [w, W] of their height and width: float32 [..., h, w]."""
    y_hH, x_wW = matrices
    return y_hH @ pictures.to(torch.float32) @ x_wW.transpose(0, 1)


def resize_matrices(
    height: int,
    width: int,
    size: tuple[int, int],
    fit: Fit = "crop",
    zoom: float = 1.0,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """The two matrices whose products resize a picture, one for each axis.

    With the reduction s (input pixels for each output pixel), output pixel o looks at the input position
    c_o = n_in / 2 + (o + 1/2 - n_out / 2) s, and weighs input pixel i by

        max(0, 1 - |i + 1/2 - c_o| / max(s, 1)),    each row divided by its sum.

    The three policies differ in nothing but s: "stretch" takes n_in / n_out on each axis, "crop" the smaller of both on
    both, "pad" the larger; `zoom` divides it. At s = 1 the matrix is exactly the identity (or a cut of it).

    The sizes may be symbolic: only `arange`, `abs`, `relu` and sums are used, so exporters keep H and W dynamic.

    Returns:
        float32 [h, H] and [w, W]. Every row sums to 1, or to 0 where "pad" looks outside the picture.
    """
    if fit not in ("crop", "pad", "stretch"):
        raise UsageError("Unknown way to fit a picture.", wanted="crop, pad or stretch", got=fit)
    y_H = torch.arange(height, dtype=torch.float32, device=device)
    x_W = torch.arange(width, dtype=torch.float32, device=device)
    tall, wide = y_H[-1] + 1, x_W[-1] + 1  # sizes as tensors: an exporter then takes them from the input
    scale_y, scale_x = tall / size[0], wide / size[1]
    if fit != "stretch":
        scale_y = scale_x = (torch.minimum if fit == "crop" else torch.maximum)(scale_y, scale_x)
    return _filter(y_H, tall, scale_y / zoom, size[0]), _filter(x_W, wide, scale_x / zoom, size[1])


def _filter(position_I: Tensor, extent: Tensor, scale: Tensor, size: int) -> Tensor:
    """The triangle filter from `extent` pixels at `position_I` to `size` pixels that are `scale` apart: [size, I]."""
    offset_O = torch.arange(size, dtype=torch.float32, device=position_I.device) + (0.5 - size / 2)
    centre_O = extent / 2 + offset_O * scale
    distance_OI = (position_I + 0.5 - centre_O[:, None]).abs() / torch.clamp(scale, min=1.0)
    inside_O = ((centre_O > 0) & (centre_O < extent)).to(torch.float32)
    weight_OI = torch.relu(1 - distance_OI) * inside_O[:, None]
    # The sum is at least 1/2 inside the picture, so the bound only serves the rows outside, which stay 0.
    return weight_OI / torch.clamp(weight_OI.sum(1, keepdim=True), min=0.5)
