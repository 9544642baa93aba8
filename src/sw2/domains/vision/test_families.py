"""The families: values and gradients of `transformers`, both ways, and weights or settings that do not fit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from sw2.base.errors import ProgramError
from sw2.base.seed import generator
from sw2.domains.vision.families import family_of, from_hf, holder, to_hf
from sw2.domains.vision.resnet import ResNet
from sw2.parts.formats.huggingface import Settings, read_object, read_tensors

VIT = {
    "architectures": ["ViTForImageClassification"],
    "image_size": 16,
    "patch_size": 4,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
RESNET = {
    "architectures": ["ResNetForImageClassification"],
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 2],
}
CONVNEXT = {
    "architectures": ["ConvNextForImageClassification"],
    "num_stages": 2,
    "hidden_sizes": [8, 16],
    "depths": [2, 1],
    "layer_scale_init_value": 0.5,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "vit": VIT,
    "vit of few squares": {**VIT, "patch_size": 8, "num_hidden_layers": 1, "layer_norm_eps": 1e-5},
    "resnet basic": {**RESNET, "layer_type": "basic"},
    "resnet bottleneck": {**RESNET, "layer_type": "bottleneck", "hidden_sizes": [16, 32]},
    "convnext": CONVNEXT,
}
EVERY = pytest.mark.parametrize("hf", CONFIGS.values(), ids=CONFIGS.keys())


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def lively(model: torch.nn.Module, seed: int = 3) -> None:
    """Weights and running statistics of which every one matters."""
    draws = generator(seed, "weights")
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data += 0.2 * torch.rand(tensor.shape, generator=draws)


def state_of(hf: dict[str, Any]) -> tuple[Any, Any, dict[str, torch.Tensor]]:
    """The family, the Config and lively weights under the family's names."""
    family = family_of(hf)
    config = family.read(Settings(hf), 3)
    net = family.network(config)
    lively(net)
    return family, config, to_hf(net.state_dict(), family, config)


def reference(hf: dict[str, Any], transformers: Any) -> Any:
    family = family_of(hf)
    config_class = getattr(transformers, family.architecture.replace("ForImageClassification", "Config"))
    plain = {name: value for name, value in hf.items() if name != "architectures"}
    return getattr(transformers, family.architecture)(config_class(**plain, num_labels=3, return_dict=True))


def named(model: Any, folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What transformers writes of a model: its config and tensors, under the names that it has in files."""
    model.save_pretrained(folder)
    return read_object(folder / "config.json"), read_tensors(folder)


@EVERY
def test_values_and_gradients_are_those_of_transformers(hf: dict[str, Any], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: no parity of families")
    theirs = reference(hf, transformers).eval()
    lively(theirs)
    written, tensors = named(theirs, tmp_path / "weights")
    config, state = from_hf(tensors, written, 3)
    ours = family_of(written).network(config).eval()
    ours.load_state_dict(state)
    side = getattr(config, "size", 40)
    image = torch.randn(2, 3, side, side, generator=generator(1, "image"))
    direction = torch.randn(2, 3, generator=generator(1, "direction"))
    got, wanted = ours({"image": image})["logits"], theirs(pixel_values=image).logits
    assert float((got - wanted).detach().abs().max()) <= 1e-5 * float(wanted.detach().abs().max())
    (got * direction).sum().backward()
    (wanted * direction).sum().backward()
    # Their gradients under the names of files: saved in the place of the weights.
    slopes = copy.deepcopy(theirs)
    for parameter, source in zip(slopes.parameters(), theirs.parameters(), strict=True):
        parameter.data = source.grad
    _, gradients = from_hf(named(slopes, tmp_path / "gradients")[1], written, 3)
    steepest = max(float(gradients[name].abs().max()) for name, _ in ours.named_parameters())
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        assert float((parameter.grad - gradients[name]).abs().max()) <= 1e-5 * steepest, name


@EVERY
def test_there_and_back(hf: dict[str, Any]) -> None:
    family, config, state = state_of(hf)
    chosen, written = holder(config)
    assert chosen == family
    again, ours = from_hf(state, written, 3)
    assert again == config
    back = to_hf(ours, family, config)
    assert set(back) == set(state)
    assert all(torch.equal(back[name], state[name]) for name in state)
    assert {name.ours for name in family.names(config)} == set(family.network(config).state_dict())


def test_queries_keys_and_values_stand_in_this_order() -> None:
    _, _, state = state_of(VIT)
    _, ours = from_hf(state, VIT, 3)
    for number, part in enumerate(("query", "key", "value")):
        wanted = state[f"vit.encoder.layer.1.attention.attention.{part}.weight"]
        assert torch.equal(ours["blocks.1.attention.qkv.weight"][16 * number : 16 * (number + 1)], wanted)
    assert torch.equal(ours["embedding.class_token"], state["vit.embeddings.cls_token"][0, 0])


def test_every_tensor_that_does_not_fit_is_named_at_once() -> None:
    _, _, state = state_of(VIT)
    del state["vit.layernorm.bias"]
    state["vit.embeddings.cls_token"] = torch.zeros(16)
    state["vit.pooler.dense.weight"] = torch.zeros(16, 16)
    with pytest.raises(ProgramError, match="do not fit their config") as caught:
        from_hf(state, VIT, 3)
    text = str(caught.value)
    assert "3 tensors" in text
    assert "missing vit.layernorm.bias [16]" in text
    assert "vit.embeddings.cls_token is [16], wanted [1, 1, 16]" in text
    assert "left over vit.pooler.dense.weight [16, 16]" in text


@pytest.mark.parametrize(
    "change",
    [{"num_hidden_layers": 10**9}, {"hidden_size": 2**40}, {"image_size": 2**40}, {"intermediate_size": 2**62}],
)
def test_sizes_that_no_weights_have_are_refused_at_once(change: dict[str, Any]) -> None:
    _, _, state = state_of(VIT)
    with pytest.raises(ProgramError, match="do not fit their config"):
        from_hf(state, {**VIT, **change}, 3)


@pytest.mark.parametrize(
    ("name", "hf"),
    [
        ("hidden_act", {**VIT, "hidden_act": "relu"}),
        ("qkv_bias", {**VIT, "qkv_bias": False}),
        ("hidden_size", {**VIT, "hidden_size": "wide"}),
        ("hidden_dropout_prob", {**VIT, "hidden_dropout_prob": 1.5}),
        ("downsample_in_bottleneck", {**RESNET, "downsample_in_bottleneck": True}),
        ("downsample_in_first_stage", {**RESNET, "downsample_in_first_stage": True}),
        ("layer_type", {**RESNET, "layer_type": "wide"}),
        ("depths", {**RESNET, "depths": [1, 0]}),
        ("num_stages", {**CONVNEXT, "num_stages": 3}),
        ("layer_scale_init_value", {**CONVNEXT, "layer_scale_init_value": 0}),
    ],
)
def test_a_setting_that_is_not_computed_is_refused_by_name(name: str, hf: dict[str, Any]) -> None:
    with pytest.raises(ProgramError) as caught:
        from_hf({}, hf, 3)
    assert name in str(caught.value.where)


@pytest.mark.parametrize("change", [{"patch_size": 5}, {"num_attention_heads": 3}])
def test_numbers_that_make_no_network_are_the_files_fault(change: dict[str, Any]) -> None:
    with pytest.raises(ProgramError) as caught:
        from_hf(state_of(VIT)[2], {**VIT, **change}, 3)
    assert caught.value.where == "config.json"


def test_what_no_family_holds_is_refused() -> None:
    with pytest.raises(ProgramError, match="No known model family"):
        holder(ResNet.Config())
