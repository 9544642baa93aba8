"""Settings for picture classifiers: from the data and one dial to every number, each with its reason.

    tiny    seconds, for tests and first looks: a narrow ResNet
    small   minutes: the ResNet that measured best in ten minutes on two cores; a narrower one where there are so many
            pictures that it would see each of them but a few times
    full    an hour or more: the same, wider and deeper

Other networks come by name (`--model vit`), each in these three sizes. `--depth 20` takes the ResNet of He et al. with
so many layers, and `--set model.shortcut=none` beside it the plain network of the same depth.

Started from another program (`--from`), the network and the picture size are that program's, and rates are lower; it
may be one that learned from pictures without labels (`pretraining`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from sw2.base.config import from_dict, replace, to_dict
from sw2.base.errors import UsageError
from sw2.core.domain import Recipe, Request, Start
from sw2.core.gradient import GradientConfig
from sw2.core.program import Net, Program
from sw2.core.registry import Registry
from sw2.core.task import Context
from sw2.domains.vision.augment import Config as AugmentConfig
from sw2.domains.vision.cells import Config as CellNetConfig
from sw2.domains.vision.convnext import Config as ConvNeXtConfig
from sw2.domains.vision.efficientnet import Config as EfficientNetConfig
from sw2.domains.vision.efficientnet import EfficientNetLite
from sw2.domains.vision.googlenet import Config as GoogLeNetConfig
from sw2.domains.vision.lenet import Config as LeNetConfig
from sw2.domains.vision.objective import LearnConfig, known_network
from sw2.domains.vision.prep import PicturePrep, PrepConfig
from sw2.domains.vision.resnet import Config as ResNetConfig
from sw2.domains.vision.resnet import of_depth
from sw2.domains.vision.task import PictureClassifier
from sw2.domains.vision.vit import Config as ViTConfig
from sw2.domains.vision.weights import MEAN, SIZE, STD, ensure_weights, load_all
from sw2.parts.optim.build import OptimConfig
from sw2.parts.prep.pictures import read_picture

__all__ = ["imagenet_program", "recipe", "starts"]

# Pictures of which mirroring changes the meaning: digits, letters, maps. Only named sets are known well enough.
_NOT_MIRRORED = ("digits",)
_LARGEST_FROM_SCRATCH = 64

_MANY, _FEW = 20_000, 5_000  # training pictures
# Below so many milliseconds of a core for each of many pictures: widths of the stages, and how far pictures are moved.
# Measured on held-out training pictures of Fashion-MNIST, for 1, 3 and 10 minutes of a core; see the README.
_HURRIED = ((2.0, (24, 48, 96), 0), (6.0, (32, 64, 128), 0), (16.0, (48, 96, 192), 1))

_IMAGENET = "efficientnet-lite0"
_LEAST_OF_IMAGENET = 48  # pixels a side
_SEEN_A_SECOND = 10  # pictures that its network learns from on one core, about
_LEAST_PASSES = 3


@dataclass(frozen=True, kw_only=True)
class _Survey:
    """What there is to learn from: the pictures' shorter side, 1 or 3 channels, how many labels and examples."""

    side: int
    channels: int
    labels: int
    examples: int

    @property
    def size(self) -> int:
        """Pixels a side for a network from scratch."""
        return min(self.side, _LARGEST_FROM_SCRATCH)


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """A network for what the survey found, how its weights move, and the size of its pictures.

    Args:
        batch, shift: where they are not the usual ones.
    """

    config: Any
    optim: OptimConfig
    size: int
    clip_norm: float = 0.0
    batch: int | None = None
    shift: int | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)


def recipe(request: Request) -> Recipe:
    """Every setting for `request`."""
    if request.parent is not None:
        return _continued(request, request.parent)
    found = _survey(request)
    if request.model == _IMAGENET:
        return _efficientnet(found.labels, request)
    name = request.model or "resnet"
    if name not in _NETWORKS:
        known = " or ".join((*_NETWORKS, _IMAGENET))
        raise UsageError("This model has no settings here.", wanted=known, got=request.model)
    choice = _NETWORKS[name](request, found)
    mirror = request.data.name not in _NOT_MIRRORED
    batch = choice.batch or (256 if found.examples >= _MANY else 64)
    size = choice.size
    shift = choice.shift if choice.shift is not None else 2 if size >= 20 else 1
    return Recipe(
        model=name,
        model_config=choice.config,
        prep_config=PrepConfig(size=size, channels=found.channels),
        objective="picture-classifier",
        learn_config=LearnConfig(
            gradient=GradientConfig(
                batch_size=batch, clip_norm=choice.clip_norm, average_decay=0.98, optim=choice.optim
            ),
            augment=AugmentConfig(shift=shift, mirror=mirror),
            label_smoothing=0.1 if found.examples < _MANY else 0.0,
        ),
        depth=request.depth if name == "resnet" else None,
        reasons={
            "prep.size": f"{size} pixels: the median picture has {found.side}"
            + (
                ""
                if found.size == found.side
                else f", and from scratch more than {_LARGEST_FROM_SCRATCH} costs more than it gains"
            ),
            "prep.channels": "1, all pictures looked at are grey" if found.channels == 1 else "3, there are colours",
            "learn.gradient.batch_size": f"{batch}, for {found.examples} training pictures",
            "learn.augment.mirror": "on, a mirrored picture keeps its label"
            if mirror
            else "off, mirrored digits change",
            **choice.reasons,
        },
    )


def starts(request: Request) -> Sequence[Start]:
    """The ways to begin between which a trial decides; none where only one has a chance.

    ImageNet's knowledge is of photographs: pictures of a few pixels have none of what it looks for. And its network is
    a large one: where the minutes do not let it see each picture a few times, a small one learns more from scratch.
    """
    if request.preset == "tiny" or request.minutes is None:
        return ()
    found = _survey(request)
    seen = request.minutes * 60 * torch.get_num_threads() * _SEEN_A_SECOND
    if found.side < _LEAST_OF_IMAGENET or found.examples * _LEAST_PASSES > seen or found.labels < 2:
        return ()
    return (
        Start(name="from ImageNet, all layers learn", parent=_IMAGENET),
        Start(name="from ImageNet, the last layer learns", parent=_IMAGENET, settings=("learn.frozen_until=1.0",)),
        Start(name="from scratch"),
    )


def _resnet(request: Request, found: _Survey) -> _Choice:
    optim = OptimConfig(method="muon", learning_rate=4e-3, weight_decay=0.05, hidden=("body",))
    if request.depth is not None:
        deep = of_depth(request.depth, channels=found.channels, classes=found.labels)
        reason = f"{deep.blocks}, for {request.depth} layers: the first, two a block, the last"
        return _Choice(config=deep, optim=optim, size=found.size, reasons={"model.blocks": reason})
    widths = {"tiny": (16, 32, 64), "small": (48, 96, 192), "full": (64, 128, 256)}[request.preset]
    blocks = {"tiny": (1, 1, 1), "small": (1, 1, 1), "full": (2, 2, 2)}[request.preset]
    left, batch, shift, reasons = _milliseconds(request, found), None, None, dict[str, str]()
    if request.preset == "small" and found.examples >= _MANY and left < _HURRIED[-1][0]:
        _, widths, shift = next(tier for tier in _HURRIED if left < tier[0])
        optim, batch = replace(optim, learning_rate=8e-3), 128
        reasons = {
            "model.widths": f"{widths}, the minutes leave {left:.1f} ms of a core for each picture: many seen with a "
            "narrow network teach more than few with a wide one",
            "learn.augment.shift": f"{shift}, pictures that are seen but a few times need little variation",
        }
    config = ResNetConfig(
        channels=found.channels,
        classes=found.labels,
        stem=widths[0] // 2,
        stem_halves=0 if found.size < 20 else 1 if found.size <= 40 else 2,
        widths=widths,
        blocks=blocks,
    )
    return _Choice(config=config, optim=optim, size=found.size, batch=batch, shift=shift, reasons=reasons)


def _milliseconds(request: Request, found: _Survey) -> float:
    """Of one core for each training picture, which the minutes leave; infinite without minutes."""
    if request.minutes is None:
        return math.inf
    return request.minutes * 60_000 * torch.get_num_threads() / found.examples


def _lenet(request: Request, found: _Survey) -> _Choice:
    """One size, whatever the preset."""
    del request
    size = max(found.size, 4)
    return _Choice(
        config=LeNetConfig(size=size, channels=found.channels, classes=found.labels),
        optim=OptimConfig(method="adamw", learning_rate=4e-3, weight_decay=0.01),
        size=size,
    )


def _googlenet(request: Request, found: _Survey) -> _Choice:
    width = {"tiny": 0.125, "small": 0.25, "full": 0.5}[request.preset]
    return _Choice(
        config=GoogLeNetConfig(channels=found.channels, classes=found.labels, width=width),
        optim=OptimConfig(method="muon", learning_rate=4e-3, weight_decay=0.05, hidden=("body",)),
        size=found.size,
    )


def _vit(request: Request, found: _Survey) -> _Choice:
    width, depth = {"tiny": (48, 3), "small": (96, 6), "full": (192, 9)}[request.preset]
    patch = min(max(2, round(found.size / 8)), found.size)
    size = found.size // patch * patch
    config = ViTConfig(
        size=size,
        channels=found.channels,
        classes=found.labels,
        patch=patch,
        width=width,
        depth=depth,
        heads=width // 16 if width < 64 else width // 32,
        hidden=4 * width,
    )
    return _Choice(
        config=config,
        optim=OptimConfig(method="muon", learning_rate=4e-3, weight_decay=0.05),
        size=size,
        clip_norm=1.0,
        reasons={"model.patch": f"{patch}, for about 8 x 8 squares in a picture of {size}"},
    )


def _convnext(request: Request, found: _Survey) -> _Choice:
    widths = {"tiny": (16, 32, 64), "small": (40, 80, 160), "full": (64, 128, 256)}[request.preset]
    blocks = {"tiny": (1, 1, 1), "small": (2, 2, 2), "full": (2, 2, 4)}[request.preset]
    patch = 1 if found.size < 20 else 2 if found.size <= 40 else 4
    size = max(found.size, 4 * patch)
    return _Choice(
        config=ConvNeXtConfig(
            channels=found.channels,
            classes=found.labels,
            patch=patch,
            widths=widths,
            blocks=blocks,
            layer_scale=1.0,
        ),
        optim=OptimConfig(method="muon", learning_rate=4e-3, weight_decay=0.05, hidden=("body",)),
        size=size,
        clip_norm=1.0,
        reasons={"model.layer_scale": "1, minutes are too short to grow branches from next to nothing"},
    )


def _cells(request: Request, found: _Survey) -> _Choice:
    return _Choice(
        config=CellNetConfig(
            channels=found.channels,
            classes=found.labels,
            stem_halves=0 if found.size < 20 else 1 if found.size <= 40 else 2,
            widths={"tiny": (16, 32), "small": (32, 64, 128), "full": (64, 128, 256)}[request.preset],
        ),
        optim=OptimConfig(method="muon", learning_rate=4e-3, weight_decay=0.05, hidden=("body",)),
        size=found.size,
    )


_NETWORKS: Mapping[str, Callable[[Request, _Survey], _Choice]] = {
    "resnet": _resnet,
    "lenet": _lenet,
    "googlenet": _googlenet,
    "vit": _vit,
    "convnext": _convnext,
    "cells": _cells,
}


def _survey(request: Request) -> _Survey:
    """The median of the shorter sides and whether all are grey, over at most 64 pictures."""
    train = request.data.split("train")
    step = max(1, len(train) // 64)
    sides, grey = [], True
    for example in train[::step]:
        picture_HWC = read_picture(example["image"], 3)
        sides.append(min(picture_HWC.shape[:2]))
        grey = grey and bool((picture_HWC == picture_HWC[..., :1]).all())
    return _Survey(
        side=int(statistics.median(sides)),
        channels=1 if grey else 3,
        labels=len({example.get("label") for example in train}),
        examples=len(train),
    )


def _transfer(batch: int) -> LearnConfig:
    return LearnConfig(
        gradient=GradientConfig(
            batch_size=batch,
            average_decay=0.98,
            optim=OptimConfig(method="adamw", learning_rate=1e-3, weight_decay=0.05, layer_decay=0.7),
        ),
        augment=AugmentConfig(shift=8, mirror=True),
        label_smoothing=0.1,
        frozen_until=0.2,
    )


def _continued(request: Request, parent: Program) -> Recipe:
    """From a program: its network, its picture size, gentle rates."""
    _, net = known_network(parent)
    labels = len({example.get("label") for example in request.data.split("train")})
    prep = from_dict(PrepConfig, {k: v for k, v in parent.prep.state().config.items() if k != "labels"}, "prep")
    mirror = request.data.name not in _NOT_MIRRORED
    examples = len(request.data.split("train"))
    rate = min(1e-3, max(5e-5, 5e-8 * examples))
    learn = _transfer(32)
    learn = replace(
        learn,
        gradient=replace(learn.gradient, optim=replace(learn.gradient.optim, learning_rate=rate)),
        augment=replace(learn.augment, mirror=mirror, shift=max(1, prep.size // 28)),
        label_smoothing=0.0,
        frozen_until=0.0,
        statistics="kept" if examples < _FEW else "batch",
    )
    return Recipe(
        model=net.model,
        model_config=from_dict(type(net.module.config), {**to_dict(net.module.config), "classes": labels}, "model"),
        prep_config=prep,
        objective="picture-classifier",
        learn_config=learn,
        reasons={
            "model": f"{net.model}, as in the program to start from",
            "prep.size": f"{prep.size} pixels, what that program was trained on",
            "learn.gradient.optim.learning_rate": f"{rate:g}, for {examples} training pictures: the fewer, the less of "
            "what the program knows is changed",
            "learn.statistics": f"{learn.statistics}, "
            + ("of few pictures" if examples < _FEW else "of many pictures"),
        },
    )


def _efficientnet(labels: int, request: Request) -> Recipe:
    """EfficientNet-Lite0 from scratch, for who asks for it by name."""
    return Recipe(
        model=_IMAGENET,
        model_config=EfficientNetConfig(classes=labels),
        prep_config=PrepConfig(
            size=128 if request.preset == "small" else SIZE if request.preset == "full" else 64, channels=3
        ),
        objective="picture-classifier",
        learn_config=replace(_transfer(64), frozen_until=0.0),
        reasons={
            "model": "from scratch; `--from efficientnet-lite0` starts from ImageNet and needs far fewer pictures"
        },
    )


def imagenet_program(registry: Registry, context: Context) -> Program:
    """The weights `efficientnet-lite0` as a program that knows ImageNet's 1,000 labels by number.

    Raises:
        UsageError: when they are not there and may not be fetched.
    """
    path = ensure_weights(context.confirm)
    net = EfficientNetLite(EfficientNetConfig())
    load_all(net, path)
    config = PrepConfig(size=SIZE, channels=3, mean=(MEAN,) * 3, deviation=(STD,) * 3)
    return Program.assemble(
        task=registry.task("image-classification"),
        runtime=PictureClassifier,
        nets={"classifier": Net(_IMAGENET, net)},
        prep=PicturePrep(config, [f"imagenet-{number}" for number in range(1000)]),
        provider=registry.provider("image-classification"),
    )
