"""Values and gradients of trusted implementations, as `scripts/make_golden.py` recorded them once.

The same comparisons with the implementations themselves, where they are installed, stand beside the networks.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from sw2.domains.language.decoder import Decoder
from sw2.domains.language.families import config_to_hf, from_hf, to_hf
from sw2.domains.vision import weights as lite
from sw2.domains.vision.efficientnet import EfficientNetLite
from sw2.testing.golden import digest, numbers

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """The script, for its rule of weights."""
    spec = importlib.util.spec_from_file_location("make_golden", ROOT / "scripts" / "make_golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def golden(name: str) -> Any:
    return json.loads((ROOT / "tests" / "golden" / f"{name}.json").read_text())


def assert_gradients(got: dict[str, Tensor], wanted: dict[str, list[float]], tolerance: float) -> None:
    """Norms agree, and so do projections, whose error is counted in norms."""
    assert got.keys() == wanted.keys()
    for name, gradient in got.items():
        (norm, projection), (wanted_norm, wanted_projection) = digest(name, gradient), wanted[name]
        assert wanted_norm > 0, f"{name}: a gradient of zero compares nothing"
        assert norm == pytest.approx(wanted_norm, rel=tolerance), name
        assert projection == pytest.approx(wanted_projection, abs=tolerance * wanted_norm), name


@pytest.mark.parametrize("tied", [True, False])
def test_a_decoder_is_the_llama_of_transformers(maker: ModuleType, tied: bool) -> None:
    kept = golden("llama")
    theirs, wanted = kept["config"], kept["tied" if tied else "own head"]
    config = Decoder.Config(
        vocab_size=theirs["vocab_size"],
        context=theirs["max_position_embeddings"],
        width=theirs["hidden_size"],
        depth=theirs["num_hidden_layers"],
        heads=theirs["num_attention_heads"],
        kv_heads=theirs["num_key_value_heads"],
        hidden=theirs["intermediate_size"],
        norm_epsilon=theirs["rms_norm_eps"],
        rope_base=kept["rope_base"],
        tied=tied,
    )
    ours = Decoder(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in to_hf(ours.state_dict(), config).items()}
    ours.load_state_dict(from_hf(maker.weights(shapes), config, config_to_hf(config)))
    tokens = torch.tensor(kept["tokens"])
    logits = ours({"tokens": tokens})["logits"]
    torch.testing.assert_close(logits, torch.tensor(wanted["logits"]), rtol=1e-4, atol=1e-4)
    loss = ours({"tokens": tokens[:, :-1], "targets": tokens[:, 1:]})["nats"].mean()
    assert loss.item() == pytest.approx(wanted["loss"], rel=1e-5)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert_gradients(to_hf(gradients, config), wanted["gradients"], 1e-4)  # type: ignore[arg-type]


def test_our_efficientnet_is_the_reference(maker: ModuleType) -> None:
    kept = golden("efficientnet")
    ours = EfficientNetLite(EfficientNetLite.Config()).eval()
    blocks = lite._block_names()
    by_name = dict(ours.named_parameters())
    names = {lite._renamed(name, blocks): name for name in kept["gradients"]}
    assert names.keys() == by_name.keys()
    # Buffers have no gradient, so their foreign names follow from those of the weights beside them.
    for name in [name for name, tensor in ours.state_dict().items() if tensor.ndim and name not in names]:
        stem, _, leaf = name.rpartition(".")
        names[name] = names[f"{stem}.weight"].removesuffix("weight") + leaf
    shapes = {names[name]: tuple(tensor.shape) for name, tensor in ours.state_dict().items() if tensor.ndim}
    filled = maker.weights(shapes)
    ours.load_state_dict({name: filled[foreign] for name, foreign in names.items()}, strict=False)
    logits = ours({"image": torch.from_numpy(numbers("image", 1, 3, 224, 224))})["logits"]
    wanted = torch.tensor(kept["logits"])
    assert wanted.std() > 0.1, "logits of zero compare nothing"
    torch.testing.assert_close(logits[0], wanted, rtol=1e-4, atol=1e-4 * float(wanted.std()))
    (logits * torch.from_numpy(numbers("direction", 1, 1000))).sum().backward()
    gradients = {names[name]: parameter.grad for name, parameter in by_name.items()}
    assert_gradients(gradients, kept["gradients"], 1e-3)  # type: ignore[arg-type]
