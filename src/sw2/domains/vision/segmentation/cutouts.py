"""Scenes: things cut out of their pictures and pasted into photographs, with the mask of one of them.

Shapes: H height, W width, S pixels a side of a scene.

    photograph -> a cut of any size -> one to three things, each scaled, turned, mirrored, lit anew, its edge softened
               -> patches of other photographs in the outline of a thing, which are no things
               -> under about half of either a soft shadow, all from one side
               -> the whole blurred, lit, given noise, and perhaps saved as JPEG once -> image, mask of one thing

A network is quick to learn that a sharp edge is an edge of what was pasted. Three habits are against that: what is done
to a scene in the end is done to all of it; there are several things, and a click says which; and patches have the same
edges and shadows, with nothing in them that belongs together. Clicks never fall on patches as objects, and a shadow is
no part of its thing.

Every draw comes from the generator that is handed in, so that a scene is a function of its number.

Source: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation" (2021), https://arxiv.org/abs/2012.07177,
section 3; Dwibedi et al., "Cut, Paste and Learn" (2017), https://arxiv.org/abs/1708.01642, section 4, for edges and
distractors.

Not here: perspective; where things would really stand; shadows that bend over what they fall on.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from sw2.parts.prep.pictures import read_picture

__all__ = ["SMALLEST", "blemished", "read_photo", "read_thing", "recoloured", "scene"]

_LARGEST_THING: Final = 192  # pixels along the longer side that are kept of a thing
_LARGEST_PHOTO: Final = 640
SMALLEST: Final = 0.25  # of things in scenes that are judged, see `scene`
_SEEN: Final = 0.24  # of the square around the smallest thing, what has to be seen of a thing
_SOLID: Final = 128  # opacity from which on a pixel is part of a thing


def read_thing(path: Path) -> Image.Image | None:
    """A thing with its opacity, cut to what is seen of it; None where the file shows no cut-out from 32 pixels on."""
    with Image.open(path) as file:
        image = file.convert("RGBA")
    solid_HW = np.asarray(image)[..., 3] >= _SOLID
    if solid_HW.mean() > 0.98 or not solid_HW.any():
        return None
    ys, xs = np.flatnonzero(solid_HW.any(1)), np.flatnonzero(solid_HW.any(0))
    image = image.crop((int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1))
    if min(image.size) < 32:
        return None
    image.thumbnail((_LARGEST_THING, _LARGEST_THING), Image.Resampling.LANCZOS)
    return image


def read_photo(path: Path) -> Image.Image:
    """A photograph in colour, of at most 640 pixels a side."""
    image = Image.fromarray(read_picture(path, 3))
    image.thumbnail((_LARGEST_PHOTO, _LARGEST_PHOTO), Image.Resampling.LANCZOS)
    return image


def recoloured(images: Iterable[Image.Image]) -> list[Image.Image]:
    """Each picture in three versions, red, green and blue in each other's places: no thing is known by its colour."""
    made = []
    for image in images:
        red, green, blue, *opacity = image.split()
        for colours in ((red, green, blue), (green, blue, red), (blue, red, green)):
            made.append(Image.merge(image.mode, (*colours, *opacity)))
    return made


def scene(
    things: Sequence[Image.Image],
    photos: Sequence[Image.Image],
    size: int,
    draw: np.random.Generator,
    smallest: float = SMALLEST,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """One scene.

    Args:
        things: cut-outs, RGBA.
        photos: photographs, RGB.
        size: S.
        draw: decides everything.
        smallest: of things, along their longer side as a share of the scene's.

    Returns:
        uint8 [S, S, 3], and bool [S, S] for each thing of which enough is seen, which is 1.5 % of the scene where
        the smallest is a quarter of its side: one of them first that was chosen by lot.
    """
    enough = _SEEN * smallest**2
    while True:
        canvas, masks = _pasted(things, photos, size, draw, smallest)
        if masks[0].mean() >= enough:
            return blemished(canvas, draw), [mask_SS for mask_SS in masks if mask_SS.mean() >= enough]


def _pasted(
    things: Sequence[Image.Image],
    photos: Sequence[Image.Image],
    size: int,
    draw: np.random.Generator,
    smallest: float,
) -> tuple[Image.Image, list[np.ndarray]]:
    canvas = _cut(_any(photos, draw), size, draw)
    layers: list[tuple[bool, Image.Image]] = []
    for _ in range(1 + draw.integers(3)):
        layers.append((True, _lit(_posed(_any(things, draw), size, draw, smallest), draw)))
    for _ in range(draw.integers(3)):
        outline = _posed(_any(things, draw), size, draw, smallest)
        patch = _cut(_any(photos, draw), size, draw).resize(outline.size)
        patch.putalpha(outline.getchannel("A"))
        layers.insert(draw.integers(len(layers) + 1), (False, patch))
    objects = [number for number, (real, _) in enumerate(layers) if real]
    chosen = objects[draw.integers(len(objects))]
    solid: dict[int, np.ndarray] = {}
    sun = draw.uniform(0, 2 * np.pi)
    for number, (_, layer) in enumerate(layers):
        left, top = (round(draw.uniform(-0.2, 1.2) * (size - length)) for length in layer.size)
        alpha = layer.getchannel("A").filter(ImageFilter.GaussianBlur(draw.uniform(0, 0.8)))
        if draw.random() < 0.5:
            _shade(canvas, alpha, (left, top), sun, draw)
        canvas.paste(layer.convert("RGB"), (left, top), alpha)
        whole = Image.new("L", (size, size))
        whole.paste(alpha, (left, top))
        solid_SS = np.asarray(whole) >= _SOLID
        solid = {before: mask_SS & ~solid_SS for before, mask_SS in solid.items()} | {number: solid_SS}
    return canvas, [solid[chosen], *(solid[number] for number in objects if number != chosen)]


def _shade(
    canvas: Image.Image, alpha: Image.Image, place: tuple[int, int], sun: float, draw: np.random.Generator
) -> None:
    """Darken a canvas by the soft shadow of what will be pasted at `place`, up to a tenth of the scene away from it."""
    away = draw.uniform(0, 0.1) * canvas.width
    shadow = Image.new("L", canvas.size)
    shadow.paste(alpha, (place[0] + round(away * np.cos(sun)), place[1] + round(away * np.sin(sun))))
    shadow = shadow.filter(ImageFilter.GaussianBlur(draw.uniform(0.01, 0.05) * canvas.width))
    canvas.paste("black", (0, 0), ImageEnhance.Brightness(shadow).enhance(draw.uniform(0.2, 0.7)))


def _any(images: Sequence[Image.Image], draw: np.random.Generator) -> Image.Image:
    return images[int(draw.integers(len(images)))]


def _cut(photo: Image.Image, size: int, draw: np.random.Generator) -> Image.Image:
    """A square of a photograph, a third of its shorter side or more, perhaps mirrored."""
    side = draw.uniform(1 / 3, 1) * min(photo.size)
    left, top = (draw.uniform(0, length - side) for length in photo.size)
    cut = photo.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side), reducing_gap=2)
    return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw.random() < 0.5 else cut


def _posed(thing: Image.Image, size: int, draw: np.random.Generator, smallest: float) -> Image.Image:
    """A thing of another size, up to nine tenths of the scene along its longer side, turned and mirrored."""
    scale = draw.uniform(smallest, 0.9) * size / max(thing.size)
    width, height = (max(round(length * scale), 4) for length in thing.size)
    thing = thing.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2)
    if draw.random() < 0.5:
        thing = thing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turned: Image.Image = thing.rotate(draw.uniform(-20, 20), Image.Resampling.BILINEAR, expand=True)
    return turned


def _lit(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    """Brightness, contrast and colour changed by a little; opacity stays."""
    changed = image.convert("RGB")
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        changed = change(changed).enhance(draw.uniform(0.7, 1.3))
    if image.mode == "RGBA":
        changed.putalpha(image.getchannel("A"))
    return changed


def blemished(image: Image.Image, draw: np.random.Generator) -> np.ndarray:
    """A whole picture as another camera might have taken it: uint8 [H, W, 3]."""
    image = _lit(image, draw).filter(ImageFilter.GaussianBlur(draw.uniform(0, 0.9)))
    noise = draw.normal(0, draw.uniform(0, 6), (*image.size[::-1], 3))
    values_HW3 = np.clip(np.asarray(image) + noise, 0, 255).round().astype(np.uint8)
    if draw.random() < 0.5:
        buffer = io.BytesIO()
        Image.fromarray(values_HW3).save(buffer, "JPEG", quality=int(draw.integers(50, 96)))
        values_HW3 = np.array(Image.open(buffer).convert("RGB"))
    return values_HW3
