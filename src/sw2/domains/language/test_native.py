"""A decoder through the native kernels beside the same decoder through torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from sw2.base.config import replace
from sw2.domains.language import native as language_native
from sw2.domains.language.decoder import Decoder
from sw2.parts.decoding import native
from sw2.parts.decoding.cache import CachedStep
from sw2.parts.decoding.engine import Engine, Stop
from sw2.parts.decoding.native import NativeStep
from sw2.parts.decoding.sampling import Sampling
from sw2.parts.layers.packed import is_packed, pack
from sw2.parts.layers.transformer import RotaryScaling, rotary_table

if reason := native.available():
    pytest.skip(reason, allow_module_level=True)


SMALL = {"vocab_size": 70, "context": 48, "width": 128, "depth": 2, "heads": 4, "kv_heads": 2, "hidden": 160}
GPT2 = {"kv_heads": 4, "positions": "learned", "norm": "layer", "activation": "gelu_tanh", "biases": "all"}
VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"biases": "qkv", "tied": False},
    "qwen3": {"head_dim": 64, "head_norm": True},
    "stretched": {"rope_scaling": RotaryScaling(rule="yarn", factor=4.0, trained=16, low=1.0, high=32.0)},
    "gpt2": GPT2,
    "bloom": {**GPT2, "positions": "alibi", "embedding_norm": True},
    "bloom of six heads": {**GPT2, "width": 192, "heads": 6, "kv_heads": 6, "positions": "alibi"},
    "alibi in groups": {"positions": "alibi", "activation": "relu2", "kv_heads": 1},
    "trained here": {"recall": 3},
}
# Of the largest logit; inputs of packed matrices are rounded to 8 bits, keys and values to fp16.
NEAR = {0: 2e-3, 8: 0.08, 4: 0.08}


def decoder(bits: int = 0, **changed: Any) -> Decoder:
    model = Decoder(Decoder.Config(**{**SMALL, **changed}))
    model.initialise(torch.Generator().manual_seed(1))
    with torch.no_grad():
        for parameter in model.parameters():
            # Larger than at the start of learning, and norms that are not all one: every weight must matter.
            parameter.mul_(4.0 if parameter.ndim > 1 else 1.0).add_(0.1 * torch.randn(parameter.shape))
    return packed(model, bits).eval()


def packed(model: Decoder, bits: int) -> Decoder:
    """The same in 4 or 8 bits, the embeddings in 8."""
    if not bits:
        return model
    result = Decoder(replace(model.config, matrix_bits=bits, embedding_bits=8))
    state = {name: each for name, each in model.state_dict().items() if name in result.state_dict()}
    for name, module in result.named_modules():
        if is_packed(module):
            parts = vars(pack(model.get_submodule(name).weight.detach(), module.bits))
            state |= {
                f"{name}.{part}": parts[part] for part in ("codes", "scales", "minima") if parts[part] is not None
            }
    result.load_state_dict(state)
    return result


def both(
    model: Decoder, slots: int, patch: pytest.MonkeyPatch, cache_dtype: torch.dtype | None = None
) -> tuple[CachedStep, NativeStep]:
    reference = model.cached_step(slots, cache_dtype=cache_dtype)
    with patch.context() as inside:
        inside.delenv("SW2_NATIVE")
        step = model.cached_step(slots, cache_dtype=cache_dtype)
    assert isinstance(reference, CachedStep)
    assert isinstance(step, NativeStep)
    return reference, step


def off(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("cache", [None, torch.int8], ids=str)
@pytest.mark.parametrize("bits", NEAR)
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_native_and_torch_agree(variant, bits, cache, monkeypatch):
    reference, step = both(decoder(bits, **variant), 3, monkeypatch, cache)
    texts = [[3, 1, 4, 1, 5, 9, 2, 6, 3, 1], [69, 0, 69]]
    for tokens, starts in ((texts, [0, 0]), ([[4], [69, 0]], [10, 3]), ([[1], [6]], [11, 5])):
        assert off(step(tokens, [1, 0], starts), reference(tokens, [1, 0], starts)) < NEAR[bits]
    for each in (reference, step):
        each.copy(1, 2, 12)
    both_slots = ([[5], [7, 5, 9]], [2, 1], [12, 6])
    assert off(step(*both_slots), reference(*both_slots)) < NEAR[bits]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    config=st.fixed_dictionaries(
        {
            "positions": st.sampled_from(["rotary", "learned", "alibi"]),
            "norm": st.sampled_from(["rms", "layer"]),
            "activation": st.sampled_from(["swiglu", "gelu", "gelu_tanh", "relu2"]),
            "biases": st.sampled_from(["none", "qkv", "all"]),
            "kv_heads": st.sampled_from([1, 2, 4]),
            "head_dim": st.sampled_from([0, 64]),
            "hidden": st.sampled_from([32, 160]),
            "recall": st.integers(0, 3),
            "vocab_size": st.sampled_from([5, 70]),
            **{name: st.booleans() for name in ("tied", "head_norm", "embedding_norm")},
        }
    ),
    bits=st.sampled_from(sorted(NEAR)),
    data=st.data(),
)
def test_any_config_and_any_pieces(config, bits, data, monkeypatch):
    reference, step = both(decoder(bits, **config), 3, monkeypatch)
    held = [0, 0, 0]
    for _ in range(data.draw(st.integers(1, 4))):
        slots = data.draw(st.permutations(range(3)))[: data.draw(st.integers(1, 3))]
        token = st.integers(0, config["vocab_size"] - 1)
        rows = [data.draw(st.lists(token, min_size=1, max_size=10)) for _ in slots]
        starts = [held[slot] for slot in slots]
        for slot, row in zip(slots, rows, strict=True):
            held[slot] += len(row)
        # Twice as far as the known variants: a few numbers more in the middle between two roundings.
        assert off(step(rows, slots, starts), reference(rows, slots, starts)) < 2 * NEAR[bits]


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


@pytest.mark.parametrize("variant", [{}, {"recall": 2}, GPT2], ids=["llama", "trained here", "gpt2"])
def test_an_engine_takes_up_the_weights_that_were_learned(variant, monkeypatch):
    monkeypatch.delenv("SW2_NATIVE")
    model = decoder(**variant)
    engine, greedy = Engine(model.cached_step(2)), Sampling(temperature=0)
    before = list(engine.stream(engine.submit([1, 2, 1], greedy, Stop(max_tokens=8))))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    wanted = Engine(model.cached_step(1))
    after = list(wanted.stream(wanted.submit([1, 2, 1], greedy, Stop(max_tokens=8))))
    assert after != before
    engine.forget()
    assert list(engine.stream(engine.submit([1, 2, 1], greedy, Stop(max_tokens=8)))) == after


@pytest.mark.parametrize("changed", [{"width": 96, "heads": 6, "kv_heads": 6}, {"hidden": 40}])
def test_other_shapes_stay_with_torch(changed, monkeypatch):
    monkeypatch.delenv("SW2_NATIVE")
    model = decoder(**changed)
    assert isinstance(model.cached_step(1), CachedStep)
    assert isinstance(decoder().train().cached_step(1), CachedStep)
    assert isinstance(decoder(**GPT2).cached_step(1, capacity=49), CachedStep)


def test_reasons(monkeypatch):
    state = decoder().state_dict()
    assert language_native.why_not(state) == "SW2_NATIVE is off."
    monkeypatch.delenv("SW2_NATIVE")
    assert language_native.why_not(state) is None
    for name in ("blocks.0.mlp.router.weight", "norm.scale", "blocks.1.attention.qkv.zeros", "weight"):
        assert (
            language_native.why_not({**state, name: state["norm.weight"]}) == f"The native kernels do not know {name}."
        )


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
        state,
        heads=4,
        kv_heads=2,
        norm_epsilon=1e-5,
        activation="swiglu",
        rotary=rotary_table(torch.arange(8), 32, 10_000.0),
        slopes=torch.zeros(4),
    )
    assert weights is not None
    assert [layer.down.bits for layer in weights.layers] == [8, 32]
    wanted = model.cached_step(1)([[1, 2, 3]], [0], [0])
    assert (NativeStep(weights, 1, 8)([[1, 2, 3]], [0], [0]) - wanted).abs().max() < 0.03 * wanted.std()
