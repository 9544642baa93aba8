"""A decoder through the native kernels beside the same decoder through torch."""

from __future__ import annotations

import pytest
import torch

from sw2.domains.language import native as language_native
from sw2.domains.language.decoder import Decoder
from sw2.parts.decoding import native
from sw2.parts.decoding.cache import CachedStep
from sw2.parts.decoding.native import NativeStep
from sw2.parts.layers.transformer import rotary_table

if reason := native.available():
    pytest.skip(reason, allow_module_level=True)


def decoder(**changed) -> Decoder:
    shape = {"vocab_size": 70, "context": 48, "width": 128, "depth": 2, "heads": 4, "kv_heads": 2, "hidden": 160}
    model = Decoder(Decoder.Config(**{**shape, **changed}))
    model.initialise(torch.Generator().manual_seed(1))
    with torch.no_grad():
        for parameter in model.parameters():
            # Larger than at the start of learning, and norms that are not all one: every weight must matter.
            parameter.mul_(4.0 if parameter.ndim > 1 else 1.0).add_(0.1 * torch.randn(parameter.shape))
    return model.eval()


@pytest.mark.parametrize("tied", [True, False])
def test_native_and_torch_agree(tied, monkeypatch):
    model = decoder(tied=tied)
    reference = model.cached_step(2)
    monkeypatch.delenv("SW2_NATIVE")
    step = model.cached_step(2)
    assert isinstance(reference, CachedStep)
    assert isinstance(step, NativeStep)
    texts = [[3, 1, 4, 1, 5, 9, 2, 6], [69, 0, 69]]
    for tokens, starts in ((texts, [0, 0]), ([[7], [8, 9]], [8, 3]), ([[5], [6]], [4, 5])):
        wanted, got = reference(tokens, [1, 0], starts), step(tokens, [1, 0], starts)
        assert (got - wanted).abs().max() < 5e-3 * wanted.std()


def test_bfloat16_stays_so(monkeypatch):
    model = decoder()
    wanted = model.bfloat16().float().cached_step(1)([[1, 2, 3]], [0], [0])
    monkeypatch.delenv("SW2_NATIVE")
    step = model.bfloat16().cached_step(1)
    assert isinstance(step, NativeStep)
    assert (step([[1, 2, 3]], [0], [0]) - wanted).abs().max() < 5e-3 * wanted.std()


def test_the_weights_are_those_of_the_moment(monkeypatch):
    monkeypatch.delenv("SW2_NATIVE")
    model = decoder()
    before = model.cached_step(1)
    first = before([[1, 2]], [0], [0])
    with torch.no_grad():
        model.norm.weight.mul_(2)
    assert torch.equal(before([[1, 2]], [0], [0]), first)
    assert torch.allclose(model.cached_step(1)([[1, 2]], [0], [0]), 2 * first, atol=1e-5)


@pytest.mark.parametrize("changed", [{"recall": 2}, {"width": 96, "heads": 6, "kv_heads": 6}])
def test_other_shapes_stay_with_torch(changed, monkeypatch):
    monkeypatch.delenv("SW2_NATIVE")
    model = decoder(**changed)
    assert isinstance(model.cached_step(1), CachedStep)
    assert isinstance(decoder().train().cached_step(1), CachedStep)


def test_reasons(monkeypatch):
    state = decoder(recall=2).state_dict()
    assert language_native.why_not(state) == "SW2_NATIVE is off."
    monkeypatch.delenv("SW2_NATIVE")
    assert language_native.why_not(state) == "The native kernels do not know recall.weight."
    assert language_native.why_not(decoder().state_dict()) is None


def test_packed_names_are_read(monkeypatch):
    monkeypatch.delenv("SW2_NATIVE")
    model = decoder()
    state = dict(model.state_dict())
    name = "blocks.0.mlp.down"
    grouped = state.pop(f"{name}.weight").view(128, 5, 32)
    scales = (grouped.abs().amax(-1) / 127).half()
    codes = (grouped / scales.float()[..., None]).round().clamp(-127, 127)
    with torch.no_grad():
        model.blocks[0].mlp.down.weight.copy_((codes * scales.float()[..., None]).view(128, 160))
    state |= {f"{name}.codes": codes.to(torch.int8).view(128, 160), f"{name}.scales": scales}
    weights = language_native.native_weights(
        state, heads=4, kv_heads=2, norm_epsilon=1e-5, rotary=rotary_table(torch.arange(8), 32, 10_000.0)
    )
    assert weights is not None
    assert [layer.down.bits for layer in weights.layers] == [8, 32]
    wanted = model.cached_step(1)([[1, 2, 3]], [0], [0])
    assert (NativeStep(weights, 1, 8)([[1, 2, 3]], [0], [0]) - wanted).abs().max() < 0.03 * wanted.std()
