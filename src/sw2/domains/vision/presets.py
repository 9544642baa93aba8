"""Settings for picture classifiers: from the data and one dial to every number, each with its reason.

    tiny    seconds, for tests and first looks: a narrow ResNet
    small   minutes: the ResNet that measured best in ten minutes on two cores
    full    an hour or more: the same, wider and deeper

Started from another program (`--from`), the network and the picture size are that program's, and rates are lower.
"""

from __future__ import annotations

import statistics

from sw2.base.config import from_dict, replace, to_dict
from sw2.base.errors import UsageError
from sw2.core.domain import Recipe, Request
from sw2.core.gradient import GradientConfig
from sw2.core.program import Net, Program
from sw2.core.registry import Registry
from sw2.core.task import Context
from sw2.domains.vision.augment import Config as AugmentConfig
from sw2.domains.vision.efficientnet import Config as EfficientNetConfig
from sw2.domains.vision.efficientnet import EfficientNetLite
from sw2.domains.vision.objective import LearnConfig
from sw2.domains.vision.resnet import Config as ResNetConfig
from sw2.domains.vision.task import PictureClassifier, PicturePrep, PrepConfig
from sw2.domains.vision.weights import MEAN, SIZE, STD, ensure_weights, load_all
from sw2.parts.optim.build import OptimConfig
from sw2.parts.prep.pictures import read_picture

__all__ = ["imagenet_program", "recipe"]

# Pictures of which mirroring changes the meaning: digits, letters, maps. Only named sets are known well enough.
_NOT_MIRRORED = ("digits",)
_LARGEST_FROM_SCRATCH = 64


def recipe(request: Request) -> Recipe:
    """Every setting for `request`."""
    if request.parent is not None:
        return _continued(request, request.parent)
    side, channels, labels = _survey(request)
    if request.model == "efficientnet-lite0":
        return _efficientnet(labels, request)
    if request.model not in (None, "resnet"):
        raise UsageError("This model has no settings here.", wanted="resnet or efficientnet-lite0", got=request.model)
    size = min(side, _LARGEST_FROM_SCRATCH)
    widths = {"tiny": (16, 32, 64), "small": (48, 96, 192), "full": (64, 128, 256)}[request.preset]
    blocks = {"tiny": (1, 1, 1), "small": (1, 1, 1), "full": (2, 2, 2)}[request.preset]
    halves = 0 if size < 20 else 1 if size <= 40 else 2
    mirror = request.data.name not in _NOT_MIRRORED
    examples = len(request.data.split("train"))
    batch = 256 if examples >= 20_000 else 64
    return Recipe(
        model="resnet",
        model_config=ResNetConfig(
            channels=channels, classes=labels, stem=widths[0] // 2, stem_halves=halves, widths=widths, blocks=blocks
        ),
        prep_config=PrepConfig(size=size, channels=channels),
        objective="picture-classifier",
        learn_config=LearnConfig(
            gradient=GradientConfig(
                batch_size=batch,
                clip_norm=0.0,
                average_decay=0.98,
                optim=OptimConfig(method="muon", learning_rate=4e-3, weight_decay=0.05, hidden=("body",)),
            ),
            augment=AugmentConfig(shift=2 if size >= 20 else 1, mirror=mirror),
            label_smoothing=0.1 if examples < 20_000 else 0.0,
        ),
        reasons={
            "prep.size": f"{size} pixels: the median picture has {side}"
            + (
                "" if size == side else f", and from scratch more than {_LARGEST_FROM_SCRATCH} costs more than it gains"
            ),
            "prep.channels": "1, all pictures looked at are grey" if channels == 1 else "3, there are colours",
            "learn.gradient.batch_size": f"{batch}, for {examples} training pictures",
            "learn.augment.mirror": "on, a mirrored picture keeps its label"
            if mirror
            else "off, mirrored digits change",
        },
    )


def _survey(request: Request) -> tuple[int, int, int]:
    """(median of the shorter sides, 1 if all are grey else 3, number of labels) over at most 64 pictures."""
    train = request.data.split("train")
    step = max(1, len(train) // 64)
    sides, grey = [], True
    for example in train[::step]:
        picture_HWC = read_picture(example["image"], 3)
        sides.append(min(picture_HWC.shape[:2]))
        grey = grey and bool((picture_HWC == picture_HWC[..., :1]).all())
    return int(statistics.median(sides)), 1 if grey else 3, len({example["label"] for example in train})


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
    if "classifier" not in parent.nets:
        raise UsageError(
            "A picture classifier cannot start from this program.",
            where=parent.path,
            wanted="a program for image-classification",
            got=f"a program for {parent.task.name}",
        )
    net = parent.nets["classifier"]
    labels = len({example["label"] for example in request.data.split("train")})
    prep = from_dict(PrepConfig, {k: v for k, v in parent.prep.state().config.items() if k != "labels"}, "prep")
    mirror = request.data.name not in _NOT_MIRRORED
    learn = _transfer(32)
    learn = replace(learn, augment=replace(learn.augment, mirror=mirror, shift=max(1, prep.size // 28)))
    return Recipe(
        model=net.model,
        model_config=from_dict(type(net.module.config), {**to_dict(net.module.config), "classes": labels}, "model"),
        prep_config=prep,
        objective="picture-classifier",
        learn_config=learn,
        reasons={
            "model": f"{net.model}, as in the program to start from",
            "prep.size": f"{prep.size} pixels, what that program was trained on",
            "learn.frozen_until": "the last stage learns alone for a fifth of the steps, then all do",
        },
    )


def _efficientnet(labels: int, request: Request) -> Recipe:
    """EfficientNet-Lite0 from scratch, for who asks for it by name."""
    return Recipe(
        model="efficientnet-lite0",
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
        nets={"classifier": Net("efficientnet-lite0", net)},
        prep=PicturePrep(config, [f"imagenet-{number}" for number in range(1000)]),
        provider=registry.provider("image-classification"),
    )
