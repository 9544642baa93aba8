"""A picture classifier in a Hugging Face folder: read, and written (`opening` makes a program of one).

    config.json                 the network and its labels; which architectures: `families`
    model.safetensors           its weights
    preprocessor_config.json    how a picture becomes numbers

    sw2.load("vit-base-patch16-224/")      sw2 train image-classification photos/ --from vit-base-patch16-224/

The preprocessing is brought to ours: pixels a side, what happens to pictures that are not square, and mean and
deviation in grey values. `zoom` is what ImageNet's habit of cutting 224 out of 256 comes to. One thing differs:
pictures are made smaller by a triangle filter (Pillow's BILINEAR), also where a folder says bicubic; the card says so.

What it does not do: weights in pickle files, folders without a classifier's labels, pictures that are not square in the
end.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file

from sw2.base.errors import ProgramError
from sw2.base.seed import generator
from sw2.core.model import Model, count_parameters, unshared
from sw2.domains.vision import families
from sw2.domains.vision.prep import PicturePrep, PrepConfig
from sw2.parts.formats.huggingface import read_object, read_tensors

__all__ = ["FORMATS", "convert", "read_folder"]

FORMATS: Final = {"huggingface": "a folder for transformers"}

_PREPROCESSOR = "preprocessor_config.json"
_WHITE = 255.0
_BICUBIC = 3
_STRETCHED_FROM = 384  # ConvNextImageProcessor cuts below this size, and stretches from it on
_MOST_PIXELS = 4096
_COMPARED = 20


def convert(format_name: str, net: Model, prep: PicturePrep, into: Path) -> tuple[int, float]:
    """Write a folder, read it back and compare; see `core.capabilities.Convert`.

    Args:
        format_name: one of FORMATS.
        net, prep: of the program.
        into: an empty folder.
    """
    assert format_name in FORMATS
    family, hf = families.holder(net.config)
    labels = dict(enumerate(prep.labels))
    hf |= {"id2label": labels, "label2id": {label: number for number, label in labels.items()}, "dtype": "float32"}
    (into / "config.json").write_text(json.dumps(hf, indent=2, ensure_ascii=False), encoding="utf-8")
    (into / _PREPROCESSOR).write_text(json.dumps(_processor(prep.config), indent=2), encoding="utf-8")
    save_file(
        unshared(families.to_hf(net.state_dict(), family, net.config)), into / "model.safetensors", {"format": "pt"}
    )
    _, back, back_prep, _ = read_folder(into)
    side = prep.config.size
    worst = 0.0
    draws = generator(0, "conversion")
    with torch.inference_mode():
        for number in range(_COMPARED):
            raw = torch.randint(0, 256, (side + 3 * number, side + 5, 3), generator=draws).byte().numpy()
            wanted, got = (
                each({"image": fitted.normalise(fitted.picture(raw)[None])})["logits"]
                for each, fitted in ((net, prep), (back, back_prep))
            )
            worst = max(worst, float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1.0)))
    if back_prep.labels != prep.labels or not worst <= 1e-4:
        raise ProgramError(
            "The exported folder does not answer as the program does.",
            where=into,
            wanted="the same labels, and differences of at most 1e-4 of the largest logit",
            got=f"{worst:.1e}",
        )
    return _COMPARED, worst


def read_folder(path: Path) -> tuple[families.Family, Model, PicturePrep, dict[str, Any]]:
    """The family, the network, the preprocessing, and what the card is to say, of a folder; see `opening`."""
    hf = read_object(path / "config.json")
    family = families.family_of(hf)
    labels = _labels(hf)
    config, state = families.from_hf(read_tensors(path), hf, len(labels))
    with torch.device("meta"):
        net = family.network(config)
    kinds = {name: tensor.dtype for name, tensor in net.state_dict().items()}
    net.load_state_dict({name: tensor.to(kinds[name]) for name, tensor in state.items()}, assign=True)
    net.eval().requires_grad_(False)
    told = read_object(path / _PREPROCESSOR)
    prep = PicturePrep(_prep(told, config.channels, path / _PREPROCESSOR), labels)
    if getattr(config, "size", prep.config.size) != prep.config.size:
        raise ProgramError(
            "Network and preprocessing disagree on the size of pictures.",
            where=path / _PREPROCESSOR,
            wanted=f"{config.size} pixels a side, as in config.json",
            got=prep.config.size,
        )
    facts = {"read from": path.name, "parameters": count_parameters(net)}
    if told.get("resample", _BICUBIC) == _BICUBIC:
        facts["resampling"] = "bilinear here, bicubic where the weights were learned"
    return family, net, prep, facts


def _labels(hf: Mapping[str, Any]) -> Sequence[str]:
    """The labels in the order of the outputs; of several that are called the same, all but the first get numbers."""
    told = hf.get("id2label")
    wanted = "id2label, a table from 0, 1, 2, … to labels"
    if not isinstance(told, dict) or not told:
        raise ProgramError("The labels are not there.", where="config.json", wanted=wanted, got=type(told).__name__)
    labels = [label for number in range(len(told)) if isinstance(label := told.get(str(number)), str)]
    if len(labels) < len(told):
        raise ProgramError("The labels are not there.", where="config.json", wanted=wanted, got=str(told)[:80])
    seen: Counter[str] = Counter()
    unique = []
    for number, label in enumerate(labels):
        seen[label] += 1
        unique.append(label if seen[label] == 1 else f"{label} ({number})")
    if len(set(unique)) < len(unique):
        raise ProgramError("Two labels are the same.", where="config.json", wanted=wanted, got=str(told)[:80])
    return unique


# ------------------------------------------------------------------------------------------------------ preprocessing


def _prep(told: Mapping[str, Any], channels: int, where: Path) -> PrepConfig:
    """Our preprocessing for a preprocessor_config.json."""
    size, fit, zoom = _geometry(told, where)
    scale = _WHITE
    if told.get("do_rescale", True):
        factor = told.get("rescale_factor", 1 / _WHITE)
        if type(factor) not in (int, float) or abs(factor * _WHITE - 1) > 1e-6:
            raise _wrong(where, "rescale_factor", "1 / 255", factor)
    else:
        scale = 1.0
    mean, deviation = [0.0] * channels, [1.0] * channels
    if told.get("do_normalize", True):
        mean, deviation = (_values(told, name, channels, where) for name in ("image_mean", "image_std"))
    if min(deviation) <= 0:
        raise _wrong(where, "image_std", "numbers above 0", deviation)
    if channels not in (1, 3):
        raise _wrong(where, "num_channels", "1 or 3", channels)
    return PrepConfig(
        size=size,
        channels=channels,
        fit=fit,  # type: ignore[arg-type]
        zoom=zoom,
        mean=tuple(scale * value for value in mean),
        deviation=tuple(scale * value for value in deviation),
    )


def _geometry(told: Mapping[str, Any], where: Path) -> tuple[int, str, float]:
    """(pixels a side, how pictures that are not square fit, how much is cut off)."""
    if not told.get("do_resize", True):
        raise _wrong(where, "do_resize", "true", False)
    size = told.get("size")
    sides = size if isinstance(size, dict) else {"height": size, "width": size}
    shortest = sides.get("shortest_edge")
    kind = str(told.get("image_processor_type") or told.get("feature_extractor_type") or "")
    if kind.startswith("ConvNext"):
        side = _pixels(where, "size", shortest if shortest is not None else size)
        share = told.get("crop_pct", 224 / 256)
        if type(share) not in (int, float) or not 0.1 <= share <= 1:
            raise _wrong(where, "crop_pct", "a number from 0.1 to 1", share)
        return (side, "crop", 1 / share) if side < _STRETCHED_FROM else (side, "stretch", 1.0)
    cut = told.get("crop_size")
    if told.get("do_center_crop") and cut is not None:
        edges = cut if isinstance(cut, dict) else {"height": cut, "width": cut}
        side = _square(where, "crop_size", edges)
        resized = _pixels(where, "size", shortest) if shortest is not None else _square(where, "size", sides)
        if not side <= resized <= 10 * side:
            raise _wrong(where, "crop_size", "at most the size, and a tenth of it at least", side)
        return side, "crop" if shortest is not None else "stretch", resized / side
    if shortest is not None:
        raise _wrong(where, "size", "height and width, or a shortest_edge that is cut to a square", sides)
    return _square(where, "size", sides), "stretch", 1.0


def _square(where: Path, name: str, sides: Mapping[str, Any]) -> int:
    if sides.get("height") != sides.get("width"):
        raise _wrong(where, name, "a square", sides)
    return _pixels(where, name, sides.get("height"))


def _pixels(where: Path, name: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= _MOST_PIXELS:
        raise _wrong(where, name, f"a whole number from 1 to {_MOST_PIXELS}", value)
    return value


def _values(told: Mapping[str, Any], name: str, channels: int, where: Path) -> list[float]:
    values = told.get(name)
    if (
        not isinstance(values, list)
        or len(values) != channels
        or any(type(value) not in (int, float) or not abs(value) < 1e6 for value in values)
    ):
        raise _wrong(where, name, f"{channels} numbers", values)
    return [float(value) for value in values]


def _wrong(where: Path, name: str, wanted: str, got: Any) -> ProgramError:
    return ProgramError(
        "Pictures cannot be prepared as this folder says.", where=f"{where}, {name}", wanted=wanted, got=repr(got)
    )


def _processor(config: PrepConfig) -> dict[str, Any]:
    """The preprocessor_config.json of our preprocessing.

    Raises:
        ProgramError: transformers has none like it.
    """
    side = config.size
    if config.fit == "pad" or config.channels != 3 or (config.fit == "crop" and side >= _STRETCHED_FROM):
        raise ProgramError(
            "transformers prepares no pictures like this.",
            wanted=f"prep.channels=3, and prep.fit=stretch, or crop below {_STRETCHED_FROM} pixels",
            got=f"channels {config.channels}, fit {config.fit}, size {side}",
            do="Export it as onnx.",
        )
    common = {
        "do_resize": True,
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / _WHITE,
        "do_normalize": True,
        "image_mean": [value / _WHITE for value in config.mean],
        "image_std": [value / _WHITE for value in config.deviation],
    }
    if config.fit == "crop":
        return {
            "image_processor_type": "ConvNextImageProcessor",
            "size": {"shortest_edge": side},
            "crop_pct": 1 / config.zoom,
            **common,
        }
    return {"image_processor_type": "ViTImageProcessor", "size": {"height": side, "width": side}, **common}
