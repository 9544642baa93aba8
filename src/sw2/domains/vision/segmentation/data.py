"""Pictures with masks: a folder of one's own, and scenes made of stamps and photographs.

    photos/images/street.jpg   photos/masks/street.png        each value above 0 is one object; 255 beside others: none
    photos/images/yard.jpg     photos/masks/yard/dog.png      or a folder with one object in each file: all above 0
    stamps                     things of Tux Paint in photographs of scikit-image and scikit-learn

Examples of a folder, and all held-out ones, have

    image    a path, or uint8 [H, W, 3]
    mask     the path of the mask, or bool [H, W]; `mask_of` reads either
    object   the value in the mask, or 0 for all above 0
    name, sha256

Those that stamps are learned from have in place of image and mask "thing" or "photo", paths (see `cutouts`): a new
scene is made of them at every step.

Choices: what is learned from and what is judged on have no stamp and no photograph in common. Stamps of one folder
whose names begin alike (frog1, frog2) stay on one side, since they often show one thing. Letters and signs (the folder
symbols) are left out. All objects of a picture stay on one side. `refuse_if_too_many` is as everywhere: a few pictures
without a mask are a note, many are a mistake.

Sources: Tux Paint's stamps, https://tuxpaint.org/stamps/ (GPL-2, of many authors, Debian package
tuxpaint-stamps-default); the photographs of scikit-image (Debian package python3-skimage; licences in its README, most
of them free of rights) and two of scikit-learn (CC BY).

What it does not do: photographs with masks drawn by people. None was found where was looked (docs/segmentation.md); a
folder of one's own is judged the same way (`sw2 eval PROGRAM FOLDER`), and benchmarks/segmentation.py has two
photographs whose masks can be computed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from sw2.base.errors import DataError
from sw2.base.names import missing_extra
from sw2.base.packages import DebianFiles
from sw2.base.seed import derive, numpy_generator
from sw2.base.store import home, sha256_of_bytes, sha256_of_file
from sw2.core.data import Data, Example, Rejected, refuse_if_too_many
from sw2.domains.vision.segmentation.cutouts import read_photo, read_thing, scene
from sw2.domains.vision.stamps import STAMPS
from sw2.parts.prep.pictures import read_picture

__all__ = ["mask_of", "read_masked", "stamps"]

_LEARNED_PHOTOS: Final[Mapping[str, str]] = {
    "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "brick.png": "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    "camera.png": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "grass.png": "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
    "gravel.png": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
    "hubble_deep_field.jpg": "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
    "ihc.png": "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef",
    "moon.png": "78739619d11f7eb9c165bb5d2efd4772cee557812ec847532dbb1d92ef71f577",
    "retina.jpg": "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
    "rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
}
_JUDGED_PHOTOS: Final[Mapping[str, str]] = {
    "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
}
_PHOTOS: Final = DebianFiles(
    title="scikit-image's photographs",
    package="python3-skimage",
    files={
        f"usr/lib/python3/dist-packages/skimage/data/{name}": digest
        for name, digest in {**_LEARNED_PHOTOS, **_JUDGED_PHOTOS}.items()
    },
    size="21 MB",
    licence="BSD-3-Clause, the photographs mostly free of rights",
)
_OF_SCIKIT_LEARN: Final = {"train": "china.jpg", "test": "flower.jpg"}

_SCENE: Final = 192  # pixels a side of held-out scenes
_VOID: Final = 255

Confirm = Callable[[str], bool]


def mask_of(example: Example) -> np.ndarray:
    """The mask of an example, bool [H, W]."""
    mask, value = example["mask"], example.get("object", 0)
    values_HW = mask if isinstance(mask, np.ndarray) else _values(Path(mask))
    chosen: np.ndarray = values_HW == value if value else values_HW > 0
    return chosen


def stamps(confirm: Confirm, *, test: int, validation: int, seed: int) -> Data:
    """Things and photographs to make scenes of, and held-out scenes.

    Args:
        confirm: asked before a package is fetched.
        test, validation: how many scenes are made for judging and for watching.
        seed: of these scenes, and of which stamps are held out: a fifth of them.

    Raises:
        UsageError, ResourceError, DataError: as `base.packages`.
    """
    folder = STAMPS.found(home() / "data" / "stamps", confirm)
    found = _PHOTOS.found(home() / "data" / "photographs", confirm)
    photos = {
        "train": [path for path in found if path.name in _LEARNED_PHOTOS],
        "test": [path for path in found if path.name in _JUDGED_PHOTOS],
    }
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise missing_extra("sklearn")
    for split, name in _OF_SCIKIT_LEARN.items():
        photos[split].append(Path(package.origin).parent / "datasets" / "images" / name)
    things: dict[str, list[Path]] = {"train": [], "test": []}
    for path in sorted(folder.rglob("*.png")):
        if path.relative_to(folder).parts[0] != "symbols" and read_thing(path) is not None:
            things["test" if derive(seed, "stamp", _family(path, folder)) % 5 == 0 else "train"].append(path)
    train: list[Example] = [
        {kind: str(path), "name": path.stem, "sha256": sha256_of_file(path)}
        for kind, paths in (("thing", things["train"]), ("photo", photos["train"]))
        for path in paths
    ]
    # The scenes to watch while learning are of training's things: nothing of the test may decide when to stop.
    splits = {
        "train": train,
        "validation": _scenes(things["train"], photos["train"], validation, seed, "validation"),
        "test": _scenes(things["test"], photos["test"], test, seed, "test"),
    }
    return Data(
        name="stamps",
        splits={name: split for name, split in splits.items() if split},
        fingerprint=_fingerprint(splits),
        licence="GPL-2 (stamps), photographs as scikit-image and scikit-learn have them",
        source=f"Debian packages {STAMPS.package} and {_PHOTOS.package}, scikit-learn",
        facts={"things": len(things["train"]), "things held out": len(things["test"])},
    )


def _family(path: Path, folder: Path) -> str:
    """What names of stamps that often show one thing have in common: the folder, and how the name begins."""
    begin = re.match(r"[a-z]*", path.stem.lower())
    return f"{path.parent.relative_to(folder).as_posix()}/{begin[0] if begin else ''}"


def _scenes(things: Sequence[Path], photos: Sequence[Path], count: int, seed: int, split: str) -> list[Example]:
    cutouts = [thing for path in things if (thing := read_thing(path)) is not None] if count else []
    backgrounds = [read_photo(path) for path in photos]
    made: list[Example] = []
    for number in range(count):
        image, (mask, *_) = scene(cutouts, backgrounds, _SCENE, numpy_generator(seed, "scene", split, number))
        digest = sha256_of_bytes(image.tobytes() + mask.tobytes())
        made.append({"image": image, "mask": mask, "name": f"{split}/{number}", "sha256": digest})
    return made


def read_masked(path: Path, shares: Mapping[str, float], seed: int) -> Data:
    """A folder with "images" and "masks".

    Args:
        path: the folder.
        shares: what is held out, by split.
        seed: another number, another division; which picture goes where depends on its content.

    Raises:
        DataError: there are no such folders, no usable object, or too many pictures that cannot be used.
    """
    images, masks = path / "images", path / "masks"
    if not (images.is_dir() and masks.is_dir()):
        raise DataError(
            "This is no folder of pictures with masks.",
            where=path,
            wanted=f"{images} with pictures, {masks} with a PNG of the same name for each",
            got=", ".join(sorted(each.name for each in path.iterdir())[:10]) or "an empty folder",
        )
    files = sorted(file for file in images.iterdir() if file.is_file() and not file.name.startswith("."))
    splits: dict[str, list[Example]] = {"train": [], **{name: [] for name in shares}}
    rejected: list[Rejected] = []
    for file in files:
        try:
            examples = _objects(file, masks)
        except DataError as error:
            rejected.append(Rejected(str(error.where or file), f"{error.message} {error.got or ''}".strip()))
            continue
        splits[_side(examples[0]["sha256"], shares, seed)].extend(examples)
    known = {file.stem for file in files}
    for other in sorted(masks.iterdir()):
        if other.stem not in known and not other.name.startswith("."):
            rejected.append(Rejected(str(other), "There is no picture of this name."))
    refuse_if_too_many(rejected, max(len(files), 1), where=path)
    if not splits["train"]:
        raise DataError("There is nothing to learn from.", where=path, wanted="pictures with masks", got="none")
    return Data(
        name=path.resolve().name,
        splits={name: split for name, split in splits.items() if split},
        fingerprint=_fingerprint(splits),
        source=str(path),
        rejected=rejected,
    )


def _side(digest: str, shares: Mapping[str, float], seed: int) -> str:
    drawn = derive(seed, "split", digest) / 2**63
    for split, share in shares.items():
        if drawn < share:
            return split
        drawn -= share
    return "train"


def _objects(file: Path, masks: Path) -> list[Example]:
    """The objects of one picture."""
    single, several = masks / f"{file.stem}.png", masks / file.stem
    found = sorted(several.glob("*.png")) if several.is_dir() else [single] if single.is_file() else []
    if not found:
        raise DataError("There is no mask.", where=file, wanted=single, got="nothing there")
    height, width = read_picture(file, 3).shape[:2]
    digest = sha256_of_file(file)
    examples: list[Example] = []
    for mask in found:
        values_HW = _values(mask)
        if values_HW.shape != (height, width):
            raise DataError(
                "Picture and mask differ in size.",
                where=mask,
                wanted=f"{width} x {height} pixels",
                got=f"{values_HW.shape[1]} x {values_HW.shape[0]}",
            )
        present = [int(value) for value in np.unique(values_HW) if value]
        if len(present) > 1 and _VOID in present:
            present.remove(_VOID)
        if not present:
            raise DataError("The mask is empty.", where=mask, wanted="a pixel above 0", got="none")
        for value in [0] if several.is_dir() else present:
            name = f"{file.name}:{mask.stem if several.is_dir() else value}"
            examples.append({
                "image": str(file), "mask": str(mask), "object": value, "name": name, "sha256": digest,
            })  # fmt: skip
    return examples


def _values(path: Path) -> np.ndarray:
    """The numbers in a mask as they are stored, [H, W]: no colour, no palette applied."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            values = np.array(file)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError("This mask cannot be read.", where=path, wanted="a PNG", got=str(error)) from error
    if values.ndim != 2:
        raise DataError(
            "This mask has colours.",
            where=path,
            wanted="one number a pixel: grey or indexed",
            got=f"{values.shape[2]} channels",
            do="Save it as an indexed or a grey PNG.",
        )
    return values.astype(np.uint8) if values.dtype == bool else values


def _fingerprint(splits: Mapping[str, Sequence[Example]]) -> str:
    digest = hashlib.sha256()
    for split, examples in splits.items():
        for example in examples:
            digest.update(f"{split} {example['sha256']} {example.get('object', 0)}\n".encode())
            if isinstance(example.get("mask"), str):
                digest.update(sha256_of_file(Path(example["mask"])).encode())
    return digest.hexdigest()
