"""Recipes: the default stays what was measured, every network fits its pictures, depth is one number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sw2.base.errors import UsageError
from sw2.core.data import Data
from sw2.core.domain import Request
from sw2.core.model import Model
from sw2.domains.vision.cells import CellNet
from sw2.domains.vision.convnext import ConvNeXt
from sw2.domains.vision.googlenet import GoogLeNet
from sw2.domains.vision.lenet import LeNet
from sw2.domains.vision.presets import recipe
from sw2.domains.vision.resnet import ResNet
from sw2.domains.vision.vit import ViT

NETWORKS: dict[str, type[Model]] = {
    "resnet": ResNet,
    "lenet": LeNet,
    "googlenet": GoogLeNet,
    "vit": ViT,
    "convnext": ConvNeXt,
    "cells": CellNet,
}


def data(side: int, channels: int = 1, number: int = 6) -> Data:
    draw = np.random.default_rng(0)
    pictures = draw.integers(0, 256, (number, side, side + 3, channels), dtype=np.uint8)
    rows = [{"image": each, "label": str(place % 3), "sha256": str(place)} for place, each in enumerate(pictures)]
    return Data(name="noise", splits={"train": rows}, fingerprint="0")


def test_the_default_is_the_network_that_measured_best() -> None:
    got = recipe(Request(data=data(28), preset="small"))
    assert got.model == "resnet"
    assert got.model_config == ResNet.Config(channels=1, classes=3, stem=24, widths=(48, 96, 192), blocks=(1, 1, 1))
    assert (got.learn_config.gradient.optim.method, got.learn_config.gradient.optim.learning_rate) == ("muon", 4e-3)
    assert (got.learn_config.gradient.clip_norm, got.learn_config.mix.mixup, got.learn_config.mix.cutmix) == (0, 0, 0)
    assert got.prep_config.zoom == 1.0


def many(number: int) -> Data:
    one = data(28).split("train")
    return Data(name="many", splits={"train": [one[i % len(one)] for i in range(number)]}, fingerprint="0")


@pytest.mark.parametrize(
    ("minutes", "widths", "batch", "shift"),
    [(1.0, (24, 48, 96), 128, 0), (3.0, (32, 64, 128), 128, 0), (10.0, (48, 96, 192), 128, 1)],
)
def test_many_pictures_in_few_minutes_take_a_narrow_network(
    minutes: float, widths: tuple[int, ...], batch: int, shift: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    got = recipe(Request(data=many(57_000), preset="small", minutes=minutes))
    assert got.model_config.widths == widths
    assert (got.learn_config.gradient.batch_size, got.learn_config.augment.shift) == (batch, shift)
    assert "ms of a core for each picture" in got.reasons["model.widths"]


@pytest.mark.parametrize(("number", "minutes"), [(57_000, 60.0), (57_000, None), (2_000, 0.1)])
def test_with_time_or_few_pictures_the_network_is_the_usual_one(number: int, minutes: float | None) -> None:
    got = recipe(Request(data=many(number), preset="small", minutes=minutes))
    assert got.model_config.widths == (48, 96, 192)
    assert got.learn_config.augment.shift == 2


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("side", [1, 5, 8, 19, 28, 50, 64, 300])
def test_every_network_fits_its_pictures(name: str, side: int) -> None:
    got = recipe(Request(data=data(side, channels=3), preset="tiny", model=name))
    assert got.model == name
    size = got.prep_config.size
    assert size <= 64
    assert getattr(got.model_config, "size", size) == size
    model = NETWORKS[name](got.model_config).eval()
    assert model({"image": torch.randn(1, 3, size, size)})["logits"].shape == (1, 3)


@pytest.mark.parametrize("name", NETWORKS)
def test_presets_grow(name: str) -> None:
    sizes = []
    for preset in ("tiny", "small", "full"):
        got = recipe(Request(data=data(28), preset=preset, model=name))
        with torch.device("meta"):
            sizes.append(sum(p.numel() for p in NETWORKS[name](got.model_config).parameters()))
    assert sizes == sorted(sizes)
    assert name == "lenet" or len(set(sizes)) == 3, "of LeNet there is one"


def test_depth_is_one_number_and_its_reason_is_told() -> None:
    got = recipe(Request(data=data(28, channels=3), preset="small", depth=20))
    assert (got.model, got.depth) == ("resnet", 20)
    assert (got.model_config.blocks, got.model_config.widths, got.model_config.shortcut) == (
        (3, 3, 3),
        (16, 32, 64),
        "pad",
    )
    assert "20 layers" in got.reasons["model.blocks"]
    with pytest.raises(UsageError, match="6 n"):
        recipe(Request(data=data(28), preset="small", depth=21))
    assert recipe(Request(data=data(28), preset="small", depth=20, model="vit")).depth is None


def test_a_model_without_settings_is_refused() -> None:
    with pytest.raises(UsageError, match="no settings") as caught:
        recipe(Request(data=data(8), preset="tiny", model="perceptron"))
    assert "convnext" in str(caught.value.wanted)
