"""Packed weights: llama.cpp's numbers bit for bit, what rounding costs, modules that answer as their numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sw2.base.errors import UsageError
from sw2.parts.layers.packed import GROUP, Packed, PackedEmbedding, PackedLinear, pack, pack_modules, unpack

gguf = pytest.importorskip("gguf", reason="gguf is in the extra text")
KINDS = {4: gguf.GGMLQuantizationType.Q4_1, 8: gguf.GGMLQuantizationType.Q8_0}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def as_file(packed: Packed) -> np.ndarray:
    """The bytes that a GGUF file would hold: in each group the scale, the minimum, the codes."""
    rows, groups = packed.scales.shape
    parts = [packed.scales.view(torch.uint8).view(rows, groups, 2)]
    if packed.minima is not None:
        parts.append(packed.minima.view(torch.uint8).view(rows, groups, 2))
    parts.append(packed.codes.view(torch.uint8).view(rows, groups, -1))
    return torch.cat(parts, -1).flatten(1).numpy()


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 4),
    groups=st.integers(1, 3),
    seed=st.integers(0, 2**31),
    scale=st.sampled_from([0.0, 1e-6, 1e-2, 1.0, 1e3]),
    bits=st.sampled_from([4, 8]),
)
def test_the_numbers_are_llama_cpps(rows: int, groups: int, seed: int, scale: float, bits: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    weight = scale * torch.randn(rows, groups * GROUP, generator=draws) + 0.0  # without a zero below zero
    packed = pack(weight, bits)  # type: ignore[arg-type]
    assert np.array_equal(as_file(packed), gguf.quants.quantize(weight.numpy(), KINDS[bits]))
    assert np.array_equal(unpack(packed).numpy(), gguf.quants.dequantize(as_file(packed), KINDS[bits]))


@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_errs_by_half_a_step_at_most(bits: int) -> None:
    weight = torch.randn(6, 96, generator=torch.Generator().manual_seed(0))
    packed = pack(weight, bits)  # type: ignore[arg-type]
    step = packed.scales.float().repeat_interleave(GROUP, 1)
    assert ((unpack(packed) - weight).abs() <= 0.51 * step + 4e-3).all()


@pytest.mark.parametrize("weight", [torch.zeros(2, 33), torch.full((1, 32), torch.inf), torch.full((1, 32), 7e4)])
def test_what_cannot_be_packed(weight: torch.Tensor) -> None:
    with pytest.raises(UsageError, match="cannot be packed"):
        pack(weight, 4)


@pytest.mark.parametrize("bits", [4, 8])
def test_modules_answer_as_their_numbers(bits: int) -> None:
    draws = torch.Generator().manual_seed(1)
    plain = nn.ModuleDict({"table": nn.Embedding(7, 64), "layer": nn.Linear(64, 5), "narrow": nn.Linear(5, 3)})
    for parameter in plain.parameters():
        parameter.data.normal_(generator=draws)
    wanted = {name: unpack(pack(plain[name].weight.detach(), bits)) for name in ("table", "layer")}  # type: ignore[arg-type]
    state = dict(plain.state_dict())
    for name in wanted:
        packed = pack(state.pop(f"{name}.weight"), bits)  # type: ignore[arg-type]
        state |= {f"{name}.codes": packed.codes, f"{name}.scales": packed.scales}
        state |= {} if packed.minima is None else {f"{name}.minima": packed.minima}
    pack_modules(plain, bits, bits)
    assert isinstance(plain["table"], PackedEmbedding)
    assert isinstance(plain["layer"], PackedLinear)
    assert isinstance(plain["narrow"], nn.Linear)  # five columns are no group
    plain.load_state_dict(state)
    tokens = torch.tensor([[6, 0], [3, 3]])
    assert torch.equal(plain["table"](tokens), wanted["table"][tokens])
    x = torch.randn(2, 64, generator=draws)
    torch.testing.assert_close(plain["layer"](x), x @ wanted["layer"].T + state["layer.bias"])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("value", [0.0, 1.5, -3.0, 1e-42])
def test_groups_of_equal_numbers(bits: int, value: float) -> None:
    weight = torch.full((2, 32), value)
    torch.testing.assert_close(unpack(pack(weight, bits)), weight, atol=1e-7, rtol=1e-3)  # type: ignore[arg-type]
