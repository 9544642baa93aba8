"""Every network for pictures: shapes, gradients, learning a batch, stages, export, and published sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sw2.base.errors import Sw2Error, UsageError
from sw2.core.model import Model, count_parameters
from sw2.domains.vision.cells import CellNet
from sw2.domains.vision.convnext import ConvNeXt
from sw2.domains.vision.googlenet import GoogLeNet
from sw2.domains.vision.lenet import LeNet
from sw2.domains.vision.resnet import ResNet, of_depth
from sw2.domains.vision.vit import ViT

SMALL_VIT = {"size": 8, "classes": 3, "patch": 2, "width": 16, "depth": 2, "heads": 2, "hidden": 24}
SMALL: dict[str, tuple[type[Model], Any]] = {
    "lenet": (LeNet, LeNet.Config(size=8, classes=3)),
    "lenet 28": (LeNet, LeNet.Config(classes=3)),
    "googlenet": (GoogLeNet, GoogLeNet.Config(classes=3, width=0.05, dropout=0.0)),
    "googlenet photo": (GoogLeNet, GoogLeNet.Config(channels=3, classes=3, width=0.05, dropout=0.0, stem_kind="photo")),
    "vit": (ViT, ViT.Config(**SMALL_VIT)),
    "vit with a token": (ViT, ViT.Config(**SMALL_VIT, pool="class")),
    "convnext": (ConvNeXt, ConvNeXt.Config(classes=3, patch=1, widths=(8, 12), blocks=(1, 2), layer_scale=0.5)),
    "cells": (CellNet, CellNet.Config(classes=3, stem_halves=0, widths=(8, 12))),
    "resnet 8": (ResNet, of_depth(8, channels=1, classes=3)),
    "plain 8": (ResNet, of_depth(8, "none", channels=1, classes=3)),
    "resnet photo": (
        ResNet,
        ResNet.Config(
            channels=3, classes=3, stem=8, stem_halves=2, stem_kind="photo", shortcut="stride", widths=(8, 16),
            blocks=(1, 2), block="bottleneck",
        ),
    ),
}  # fmt: skip
EVERY = pytest.mark.parametrize(("kind", "config"), SMALL.values(), ids=SMALL.keys())


def pictures(config: Any, number: int = 4) -> torch.Tensor:
    side = getattr(config, "size", 32 if getattr(config, "stem_kind", "") == "photo" else 9)
    return torch.randn(number, config.channels, side, side)


@EVERY
def test_every_parameter_gets_a_gradient_and_stands_in_one_stage_in_order(kind: type[Model], config: Any) -> None:
    model = kind(config)
    for module in model.modules():  # branches that start at nothing hide what is behind them
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    outputs = model({"image": pictures(config)})
    assert outputs["logits"].shape == (4, 3)
    torch.testing.assert_close(model.stages()[-1][1](outputs["features"]), outputs["logits"])
    sum(output.square().sum() for output in outputs.values()).backward()  # type: ignore[union-attr]
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent
    for parts in (model.layers(), model.stages()):
        held = [id(parameter) for _, module in parts for parameter in module.parameters()]
        assert held == [id(parameter) for parameter in model.parameters()]
        assert len({name for name, _ in parts}) == len(parts)
    assert model.stages()[-1][0] == "head"


@EVERY
def test_it_learns_one_batch(kind: type[Model], config: Any) -> None:
    model = kind(config)
    image, label = pictures(config, 12), torch.arange(12) % 3
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    for _ in range(40):
        optimizer.zero_grad()
        loss = F.cross_entropy(model({"image": image})["logits"], label)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() < 0.1


@EVERY
def test_it_exports_with_a_dynamic_batch(kind: type[Model], config: Any) -> None:
    model = kind(config).eval()
    image = pictures(config)
    dynamic = ({"image": {0: torch.export.Dim.DYNAMIC}},)
    exported = torch.export.export(model, ({"image": image[:2]},), dynamic_shapes=dynamic)
    got, wanted = exported.module()({"image": image}), model({"image": image})
    assert set(got) == set(wanted) >= {"logits", "features"}
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@EVERY
def test_pictures_do_not_see_each_other(kind: type[Model], config: Any) -> None:
    model, image = kind(config).eval(), pictures(config)
    together = model({"image": image})["logits"]
    alone = torch.cat([model({"image": each[None]})["logits"] for each in image])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


def _resnet(block: Any, widths: tuple[int, ...], blocks: tuple[int, ...]) -> ResNet.Config:
    return ResNet.Config(
        channels=3, classes=1000, stem=64, stem_halves=2, stem_kind="photo", block=block, shortcut="stride",
        widths=widths, blocks=blocks,
    )  # fmt: skip


def _vit(width: int, heads: int) -> ViT.Config:
    return ViT.Config(
        size=224, channels=3, classes=1000, patch=16, width=width, depth=12, heads=heads, hidden=4 * width, pool="class"
    )


def _vit_by_hand(d: int) -> int:
    """Dosovitskiy et al., equations 1 to 4: squares, token, places; norms, q k v and out, mlp; norm; head."""
    embedding = (16 * 16 * 3 + 1) * d + d + (14 * 14 + 1) * d
    block = 2 * (2 * d) + 4 * (d + 1) * d + (d + 1) * 4 * d + (4 * d + 1) * d
    return embedding + 12 * block + 2 * d + (d + 1) * 1000


def _deep_by_hand(depth: int) -> int:
    """He et al. 2015, section 4.2, shortcuts without weights; two numbers of each norm; a linear layer."""
    n = (depth - 2) // 6
    stages = [(16, 16), (16, 32), (32, 64)]
    convolutions = 9 * 3 * 16 + sum(9 * (before * width + (2 * n - 1) * width * width) for before, width in stages)
    norms = 2 * 16 + sum(2 * 2 * n * width for _, width in stages)
    return convolutions + norms + 64 * 10 + 10


@pytest.mark.parametrize(
    ("kind", "config", "published"),
    [
        (LeNet, LeNet.Config(), 156 + 2_416 + 48_120 + 10_164 + 850),
        (ViT, _vit(768, 12), 86_567_656),
        (ViT, _vit(192, 3), 5_717_416),
        (ConvNeXt, ConvNeXt.Config(channels=3, classes=1000, patch=4, widths=(96, 192, 384, 768), blocks=(3, 3, 9, 3)),
         28_589_128),
        (ResNet, _resnet("basic", (64, 128, 256, 512), (2, 2, 2, 2)), 11_689_512),
        (ResNet, _resnet("bottleneck", (256, 512, 1024, 2048), (3, 4, 6, 3)), 25_557_032),
        (ResNet, of_depth(20), _deep_by_hand(20)),
        (ResNet, of_depth(56, "none"), _deep_by_hand(56)),
    ],
)  # fmt: skip
def test_published_sizes(kind: type[Model], config: Any, published: int) -> None:
    with torch.device("meta"):
        assert count_parameters(kind(config)) == published


def test_sizes_by_hand() -> None:
    """The formulas are right where the paper gives a number, in millions: table 6 of He et al.; ViT-B/16 is "86M"."""
    assert [round(_deep_by_hand(depth) / 1e6, 2) for depth in (20, 32, 44, 56, 110)] == [0.27, 0.46, 0.66, 0.85, 1.73]
    assert _vit_by_hand(768) == 86_567_656
    assert _vit_by_hand(192) == 5_717_416


def test_the_blocks_of_googlenet_are_those_of_the_table() -> None:
    """Weights of convolutions and biases, as table 1 counts them in units of 1024, within the table's own roundings."""
    told = {"3a": 159, "3b": 380, "4a": 364, "4b": 437, "4c": 463, "4d": 580, "4e": 840, "5a": 1072, "5b": 1388}
    with torch.device("meta"):
        model = GoogLeNet(GoogLeNet.Config(channels=3, classes=1000, width=1.0, stem_kind="photo"))
    widths = {"3a": 256, "3b": 480, "4a": 512, "4b": 512, "4c": 512, "4d": 528, "4e": 832, "5a": 832, "5b": 1024}
    for name, block in model.body.items():
        assert block.width == widths[name]
        weights = sum(module.weight.numel() for module in block.modules() if isinstance(module, nn.Conv2d))
        biases = sum(module.out_channels for module in block.modules() if isinstance(module, nn.Conv2d))
        assert (weights + biases) / 1024 == pytest.approx(told[name], rel=0.09), name
    places = {}
    for name, block in model.body.items():
        block.register_forward_hook(lambda module, inputs, output, name=name: places.__setitem__(name, output.shape[2]))
    model({"image": torch.empty(1, 3, 224, 224, device="meta")})
    assert places == {"3a": 28, "3b": 28, "4a": 14, "4b": 14, "4c": 14, "4d": 14, "4e": 14, "5a": 7, "5b": 7}


def test_auxiliary_heads_speak_only_in_training() -> None:
    model = GoogLeNet(GoogLeNet.Config(classes=5, width=0.05))
    image = {"image": torch.randn(2, 1, 8, 8)}
    assert model(image)["auxiliary"].shape == (2, 2, 5)
    assert set(model.eval()(image)) == {"logits", "features"}
    without = GoogLeNet(GoogLeNet.Config(classes=5, width=0.05, auxiliary=False))
    assert set(without(image)) == {"logits", "features"}
    assert not any(name.startswith("auxiliary") for name in without.state_dict())


def test_a_vit_without_positions_would_not_know_a_shuffled_picture() -> None:
    """Squares in another order give another answer; with equal positions they give the same."""
    model = ViT(ViT.Config(**SMALL_VIT)).eval()
    image = torch.randn(1, 1, 8, 8)
    turned = torch.cat((image[..., 4:], image[..., :4]), -1)  # whole squares change places
    assert not torch.allclose(model({"image": turned})["logits"], model({"image": image})["logits"], atol=1e-4)
    nn.init.zeros_(model.embedding.positions)
    torch.testing.assert_close(model({"image": turned})["logits"], model({"image": image})["logits"])


def test_a_plain_network_is_the_residual_one_without_its_shortcuts() -> None:
    plain, residual = ResNet(of_depth(20, "none")), ResNet(of_depth(20))
    assert plain.state_dict().keys() == residual.state_dict().keys()
    residual.load_state_dict(plain.state_dict())
    image = {"image": torch.randn(2, 3, 32, 32)}
    assert not torch.allclose(plain.eval()(image)["logits"], residual.eval()(image)["logits"])


def test_padding_takes_every_second_place_and_adds_zeros() -> None:
    from sw2.domains.vision.resnet import _Padded

    assert _Padded(1, 2)(torch.arange(9.0).view(1, 1, 3, 3)).tolist() == [[[[0, 2], [6, 8]], [[0, 0], [0, 0]]]]


@pytest.mark.parametrize(("depth", "near"), [(21, "20 or 26"), (1, "8"), (2, "8"), (9, "8 or 14"), (57, "56 or 62")])
def test_a_depth_of_another_form_names_those_beside_it(depth: int, near: str) -> None:
    with pytest.raises(UsageError, match="6 n") as caught:
        of_depth(depth)
    assert caught.value.wanted == near


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: LeNet.Config(size=3), "size is out of range"),
        (lambda: GoogLeNet.Config(width=0.0), "width is out of range"),
        (lambda: GoogLeNet.Config(dropout=1.0), "dropout is out of range"),
        (lambda: ViT.Config(size=30), "do not fill"),
        (lambda: ViT.Config(width=100, heads=3), "do not divide"),
        (lambda: ViT.Config(depth=0), "depth is out of range"),
        (lambda: ConvNeXt.Config(widths=(8,), blocks=(1, 1)), "shape of a ConvNeXt"),
        (lambda: ConvNeXt.Config(layer_scale=0.0), "layer_scale is out of range"),
        (lambda: ResNet.Config(stem_kind="photo"), "halves twice"),
        (lambda: ResNet.Config(block="bottleneck", widths=(6,), blocks=(1,)), "quarter"),
        (lambda: ResNet.Config(shortcut="none", stochastic_depth=0.1), "plain network"),
        (lambda: ResNet.Config(shortcut="pad", widths=(8, 4), blocks=(1, 1)), "adds channels"),
        (lambda: ResNet.Config(stochastic_depth=1.0), "stochastic_depth is out of range"),
    ],
)
def test_impossible_shapes_are_refused(make: Any, told: str) -> None:
    with pytest.raises(Sw2Error, match=told):
        make()
