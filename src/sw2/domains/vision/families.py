"""Whose network is it? ViT, ResNet and ConvNeXt of `transformers` as configs of ours, and their weights by name.

| family (transformers) | ours | further |
|---|---|---|
| ViTForImageClassification | `vit`, class token | queries, keys and values stacked |
| ResNetForImageClassification | `resnet`, stem for photographs, strided shortcuts | basic and bottleneck blocks |
| ConvNextForImageClassification | `convnext` | |

Notable
- A setting that we do not compute is refused by its name; see `parts.formats.huggingface`.
- Names are those in files. `transformers` 5 calls some of them otherwise in memory, and still writes these.
- Dropout on attention's weights is not taken over: it acts in training only.

Sources: the papers are in the networks' files; the names are those of `transformers`, https://huggingface.co/docs.

What it does not do: files (see `folder.py`).

Shapes: R rows · C columns
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sw2.base.errors import ProgramError, UsageError
from sw2.core.model import Model
from sw2.domains.vision.convnext import ConvNeXt
from sw2.domains.vision.resnet import ResNet
from sw2.domains.vision.vit import ViT
from sw2.parts.formats.huggingface import Settings, architectures, check_tensors

__all__ = ["FAMILIES", "Family", "family_of", "from_hf", "holder", "to_hf"]

_KINDS = ("weight", "bias")
_STATISTICS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class _Name:
    """One tensor of ours, and where it is in the family's weights.

    Args:
        ours: its name in the network's `state_dict()`.
        theirs: their names; ours stacks them along the rows, of which each has as many.
        leading: how many axes of length 1 theirs has in front.
    """

    ours: str
    theirs: tuple[str, ...]
    leading: int = 0


@dataclass(frozen=True)
class Family:
    """One architecture of `transformers`.

    Args:
        architecture: its class.
        model_type: its name in a config.
        model: what we call the network.
        network: its class.
        read: a config.json and the number of labels to a Config of ours.
        write: back, without the labels; None where it cannot hold the shape.
        names: every tensor of a shape.
        layers: how many layers a Config has, of which each has tensors.
    """

    architecture: str
    model_type: str
    model: str
    network: type[Model]
    read: Callable[[Settings, int], Any]
    write: Callable[[Any], dict[str, Any] | None]
    names: Callable[[Any], Iterator[_Name]]
    layers: Callable[[Any], int]


def _pairs(ours: str, theirs: str, kinds: tuple[str, ...] = _KINDS) -> Iterator[_Name]:
    """A layer's tensors, of the same kinds on both sides."""
    for kind in kinds:
        yield _Name(f"{ours}.{kind}", (f"{theirs}.{kind}",))


# ---------------------------------------------------------------------------------------------------------------- ViT


def _read_vit(settings: Settings, classes: int) -> ViT.Config:
    settings.only("hidden_act", "gelu")
    settings.only("qkv_bias", True)
    return ViT.Config(
        size=settings.whole("image_size", default=224),
        channels=settings.whole("num_channels", default=3),
        classes=classes,
        patch=settings.whole("patch_size", default=16),
        width=settings.whole("hidden_size", default=768),
        depth=settings.whole("num_hidden_layers", default=12),
        heads=settings.whole("num_attention_heads", default=12),
        hidden=settings.whole("intermediate_size", default=3072),
        pool="class",
        dropout=settings.share("hidden_dropout_prob"),
        norm_epsilon=settings.number("layer_norm_eps", default=1e-12),
    )


def _write_vit(config: ViT.Config) -> dict[str, Any] | None:
    if config.pool != "class" or config.stochastic_depth:
        return None
    return {
        "image_size": config.size,
        "num_channels": config.channels,
        "patch_size": config.patch,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.hidden,
        "hidden_act": "gelu",
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": config.norm_epsilon,
        "qkv_bias": True,
    }


def _vit_names(config: ViT.Config) -> Iterator[_Name]:
    embeddings = "vit.embeddings"
    yield _Name("embedding.class_token", (f"{embeddings}.cls_token",), leading=2)
    yield _Name("embedding.positions", (f"{embeddings}.position_embeddings",), leading=1)
    yield from _pairs("embedding.squares", f"{embeddings}.patch_embeddings.projection")
    for index in range(config.depth):
        ours, theirs = f"blocks.{index}", f"vit.encoder.layer.{index}"
        yield from _pairs(f"{ours}.attention_norm", f"{theirs}.layernorm_before")
        for kind in _KINDS:
            stacked = tuple(f"{theirs}.attention.attention.{part}.{kind}" for part in ("query", "key", "value"))
            yield _Name(f"{ours}.attention.qkv.{kind}", stacked)
        yield from _pairs(f"{ours}.attention.out", f"{theirs}.attention.output.dense")
        yield from _pairs(f"{ours}.mlp_norm", f"{theirs}.layernorm_after")
        yield from _pairs(f"{ours}.mlp.up", f"{theirs}.intermediate.dense")
        yield from _pairs(f"{ours}.mlp.down", f"{theirs}.output.dense")
    yield from _pairs("norm", "vit.layernorm")
    yield from _pairs("head", "classifier")


# ------------------------------------------------------------------------------------------------------------- ResNet


def _read_resnet(settings: Settings, classes: int) -> ResNet.Config:
    settings.only("hidden_act", "relu")
    settings.only("downsample_in_first_stage", False)
    settings.only("downsample_in_bottleneck", False)
    settings.only("layer_type", "basic", "bottleneck")
    return ResNet.Config(
        channels=settings.whole("num_channels", default=3),
        classes=classes,
        stem=settings.whole("embedding_size", default=64),
        stem_halves=2,
        stem_kind="photo",
        widths=settings.wholes("hidden_sizes"),
        blocks=settings.wholes("depths"),
        block=settings.get("layer_type", default="bottleneck"),
        shortcut="stride",
    )


def _write_resnet(config: ResNet.Config) -> dict[str, Any] | None:
    if (config.stem_kind, config.shortcut) != ("photo", "stride") or config.stochastic_depth:
        return None
    return {
        "num_channels": config.channels,
        "embedding_size": config.stem,
        "hidden_sizes": list(config.widths),
        "depths": list(config.blocks),
        "layer_type": config.block,
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
    }


def _convolved(ours: str, place: int, theirs: str) -> Iterator[_Name]:
    """A convolution and its normalisation, which ours keeps at `place` and the place after it."""
    yield _Name(f"{ours}.{place}.weight", (f"{theirs}.convolution.weight",))
    yield from _pairs(f"{ours}.{place + 1}", f"{theirs}.normalization", _STATISTICS)


def _resnet_names(config: ResNet.Config) -> Iterator[_Name]:
    yield from _convolved("stem.0", 0, "resnet.embedder.embedder")
    width = config.stem
    for stage, (wide, depth) in enumerate(zip(config.widths, config.blocks, strict=True)):
        for place in range(depth):
            ours, theirs = f"body.{stage}.{place}", f"resnet.encoder.stages.{stage}.layers.{place}"
            if width != wide or (stage and not place):
                yield from _convolved(f"{ours}.shortcut", 0, f"{theirs}.shortcut")
            width = wide
            inner = ("first",) if config.block == "basic" else ("first", "second")
            for number, name in enumerate(inner):
                yield from _convolved(f"{ours}.{name}", 0, f"{theirs}.layer.{number}")
            last = "second" if config.block == "basic" else "third"
            theirs = f"{theirs}.layer.{len(inner)}"
            yield _Name(f"{ours}.{last}.weight", (f"{theirs}.convolution.weight",))
            yield from _pairs(f"{ours}.{last}_norm", f"{theirs}.normalization", _STATISTICS)
    yield from _pairs("head", "classifier.1")


# ----------------------------------------------------------------------------------------------------------- ConvNeXt


def _read_convnext(settings: Settings, classes: int) -> ConvNeXt.Config:
    settings.only("hidden_act", "gelu")
    widths = settings.wholes("hidden_sizes")
    settings.only("num_stages", len(widths))
    return ConvNeXt.Config(
        channels=settings.whole("num_channels", default=3),
        classes=classes,
        patch=settings.whole("patch_size", default=4),
        widths=widths,
        blocks=settings.wholes("depths"),
        layer_scale=settings.number("layer_scale_init_value", default=1e-6),
        stochastic_depth=settings.share("drop_path_rate"),
        norm_epsilon=settings.number("layer_norm_eps", default=1e-12),
    )


def _write_convnext(config: ConvNeXt.Config) -> dict[str, Any] | None:
    return {
        "num_channels": config.channels,
        "patch_size": config.patch,
        "num_stages": len(config.widths),
        "hidden_sizes": list(config.widths),
        "depths": list(config.blocks),
        "hidden_act": "gelu",
        "layer_scale_init_value": config.layer_scale,
        "drop_path_rate": config.stochastic_depth,
        "layer_norm_eps": config.norm_epsilon,
    }


def _convnext_names(config: ConvNeXt.Config) -> Iterator[_Name]:
    yield from _pairs("stem.0", "convnext.embeddings.patch_embeddings")
    yield from _pairs("stem.1.norm", "convnext.embeddings.layernorm")
    for stage, depth in enumerate(config.blocks):
        first = 0
        if stage:
            yield from _pairs(f"body.{stage}.0.0.norm", f"convnext.encoder.stages.{stage}.downsampling_layer.0")
            yield from _pairs(f"body.{stage}.0.1", f"convnext.encoder.stages.{stage}.downsampling_layer.1")
            first = 1
        for place in range(depth):
            ours, theirs = f"body.{stage}.{first + place}", f"convnext.encoder.stages.{stage}.layers.{place}"
            yield from _pairs(f"{ours}.depthwise", f"{theirs}.dwconv")
            yield from _pairs(f"{ours}.norm", f"{theirs}.layernorm")
            yield from _pairs(f"{ours}.up", f"{theirs}.pwconv1")
            yield from _pairs(f"{ours}.down", f"{theirs}.pwconv2")
            yield _Name(f"{ours}.scale", (f"{theirs}.layer_scale_parameter",))
    yield from _pairs("norm", "convnext.layernorm")
    yield from _pairs("head", "classifier")


# ----------------------------------------------------------------------------------------------------------- the door

FAMILIES = (
    Family(
        "ViTForImageClassification", "vit", "vit", ViT, _read_vit, _write_vit, _vit_names, lambda config: config.depth
    ),
    Family(
        "ResNetForImageClassification",
        "resnet",
        "resnet",
        ResNet,
        _read_resnet,
        _write_resnet,
        _resnet_names,
        lambda config: sum(config.blocks),
    ),
    Family(
        "ConvNextForImageClassification",
        "convnext",
        "convnext",
        ConvNeXt,
        _read_convnext,
        _write_convnext,
        _convnext_names,
        lambda config: sum(config.blocks),
    ),
)


def family_of(hf: Mapping[str, Any]) -> Family:
    """The family that a config.json names.

    Raises:
        ProgramError: it names none that is known here.
    """
    known = {family.architecture: family for family in FAMILIES}
    named = architectures(hf)
    found = next((known[name] for name in named if name in known), None)
    if found is None:
        raise ProgramError(
            "This architecture is not known.",
            where="config.json",
            wanted=" or ".join(known),
            got=", ".join(named) or "none named",
            do="Convert the weights to one of these, if they are one under another name.",
        )
    return found


def from_hf(tensors: Mapping[str, Tensor], hf: Mapping[str, Any], classes: int) -> tuple[Any, dict[str, Tensor]]:
    """The Config of ours that a config.json describes, and the family's weights under our names.

    Args:
        tensors: by the names in files of `transformers`.
        hf: the config.json.
        classes: how many labels there are.

    Raises:
        ProgramError: the architecture is unknown, has a setting that we do not compute, or weights and config do not
            fit; lists every tensor that is missing, left over or misshapen.
    """
    family = family_of(hf)
    try:
        config = family.read(Settings(hf), classes)
    except UsageError as error:  # numbers that make no network
        raise ProgramError(error.message, where="config.json", wanted=error.wanted, got=error.got) from error
    _check_sizes(family, config, tensors)
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in family.network(config).state_dict().items()}
    names = list(family.names(config))
    wanted = {theirs: _their_shape(shapes[name.ours], name) for name in names for theirs in name.theirs}
    check_tensors(tensors, wanted, family.architecture)
    state = {
        name.ours: torch.cat([tensors[theirs].reshape(_part(shapes[name.ours], name)) for theirs in name.theirs])
        if len(name.theirs) > 1
        else tensors[name.theirs[0]].reshape(shapes[name.ours])
        for name in names
    }
    return config, state


def holder(config: Any) -> tuple[Family, dict[str, Any]]:
    """The family that can hold a network of ours, and its config.json but for the labels.

    Args:
        config: the network's Config.

    Raises:
        ProgramError: none can.
    """
    for family in FAMILIES:
        if isinstance(config, family.network.Config) and (written := family.write(config)) is not None:
            return family, {"architectures": [family.architecture], "model_type": family.model_type, **written}
    raise ProgramError(
        "No known model family has this shape.",
        wanted="vit with a class token, resnet with a stem for photographs and strided shortcuts, or convnext",
        got=config,
        do="Export it as onnx.",
    )


def to_hf(state: Mapping[str, Tensor], family: Family, config: Any) -> dict[str, Tensor]:
    """Weights of ours, or their gradients, under the names of the family.

    Args:
        state: all of them, or some.
        family: from `holder`.
        config: of the network.
    """
    renamed: dict[str, Tensor] = {}
    for name in family.names(config):
        if name.ours in state:
            parts = state[name.ours].chunk(len(name.theirs)) if len(name.theirs) > 1 else (state[name.ours],)
            for theirs, part in zip(name.theirs, parts, strict=True):
                renamed[theirs] = part.reshape((1,) * name.leading + tuple(part.shape)).contiguous()
    return renamed


def _part(ours: tuple[int, ...], name: _Name) -> tuple[int, ...]:
    """The shape of one of the tensors that ours stacks."""
    return ours if len(name.theirs) == 1 else (ours[0] // len(name.theirs), *ours[1:])


def _their_shape(ours: tuple[int, ...], name: _Name) -> tuple[int, ...]:
    return (1,) * name.leading + _part(ours, name)


def _check_sizes(family: Family, config: Any, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a config that speaks of more than the tensors can hold, before a network of that size is made."""
    most = max((size for tensor in tensors.values() if tensor.numel() for size in tensor.shape), default=0)
    layers = family.layers(config)
    told = [getattr(config, name, 0) for name in ("width", "hidden", "classes", "channels", "patch", "stem")]
    told += list(getattr(config, "widths", ()))
    if layers > len(tensors) or max(told) > most or getattr(config, "size", 0) > most * getattr(config, "patch", 1):
        raise ProgramError(
            "These weights do not fit their config.",
            where=family.architecture,
            wanted=f"tensors of {layers} layers, up to {max(told)} wide",
            got=f"{len(tensors)} tensors, up to {most} wide",
            do="Check that config and weights belong together.",
        )
