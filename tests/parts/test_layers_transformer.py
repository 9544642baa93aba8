"""The bricks of a block, each against its formula."""

from __future__ import annotations

import cmath
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.errors import UsageError
from sw2.parts.layers.transformer import (
    Attention,
    Block,
    FeedForward,
    RMSNorm,
    RotaryScaling,
    SwiGLU,
    alibi_slopes,
    rotary_table,
    rotate,
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_rms_norm_by_hand() -> None:
    norm = RMSNorm(2, epsilon=1e-12)
    norm.weight.data = torch.tensor([1.0, 10.0])
    got = norm(torch.tensor([[3.0, 4.0]]))
    torch.testing.assert_close(got, torch.tensor([[3.0, 40.0]]) / (12.5**0.5) * torch.tensor([1.0, 1.0]))


def test_rms_norm_computes_in_float32() -> None:
    norm = RMSNorm(512, epsilon=1e-5).bfloat16()
    x = (1000 * draw(1, 512)).bfloat16()
    wide = x.double()
    exact = wide / (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x).double(), exact, atol=0, rtol=2**-8)


def test_rotation_multiplies_complex_numbers() -> None:
    x = draw(1, 3, 1, 4)
    turned = rotate(x, *rotary_table(torch.tensor([0, 1, 50]), 4, base=100.0))
    for t, position in enumerate((0, 1, 50)):
        for c in range(2):
            number = complex(x[0, t, 0, c], x[0, t, 0, c + 2]) * cmath.exp(1j * position * 100.0 ** (-2 * c / 4))
            assert turned[0, t, 0, c] == pytest.approx(number.real, abs=1e-5)
            assert turned[0, t, 0, c + 2] == pytest.approx(number.imag, abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_rotated_products_know_distances_only(first: int, second: int, shift: int) -> None:
    q, k = draw(1, 1, 1, 8, seed=1), draw(1, 1, 1, 8, seed=2)

    def product(t: int, s: int) -> float:
        turned = [rotate(x, *rotary_table(torch.tensor([place]), 8, 1e4)) for x, place in ((q, t), (k, s))]
        return float((turned[0] * turned[1]).sum())

    assert product(first, second) == pytest.approx(product(first + shift, second + shift), abs=1e-3)


def test_swiglu_is_its_formula() -> None:
    layer = SwiGLU(3, 5)
    layer.gate_up.weight.data, layer.down.weight.data = draw(10, 3), draw(3, 5, seed=1)
    x = draw(2, 4, 3, seed=2)
    gate, up = x @ layer.gate_up.weight[:5].T, x @ layer.gate_up.weight[5:].T
    torch.testing.assert_close(layer(x), (gate * torch.sigmoid(gate) * up) @ layer.down.weight.T)


def test_a_block_does_not_look_ahead() -> None:
    block = Block(Attention.Config(width=8, heads=2, kv_heads=1), hidden=12, norm_epsilon=1e-5)
    for index, parameter in enumerate(block.parameters()):
        parameter.data = draw(*parameter.shape, seed=index)
    x = draw(1, 6, 8)
    changed = x.clone()
    changed[0, 4] += 1
    rotary = rotary_table(torch.arange(6), 4, 1e4)
    before, after = block(x, rotary), block(changed, rotary)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 5], after[:, 5])


def test_no_heads_are_refused() -> None:
    with pytest.raises(UsageError, match="not the shape of attention"):
        Attention.Config(width=16, heads=0, kv_heads=1)


@pytest.mark.parametrize(("width", "heads", "kv_heads"), [(10, 4, 4), (12, 4, 4), (16, 4, 3)])
def test_wrong_sizes_are_explained(width: int, heads: int, kv_heads: int) -> None:
    with pytest.raises(UsageError, match="heads do not divide"):
        Attention.Config(width=width, heads=heads, kv_heads=kv_heads)


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu2"])
def test_feed_forward_is_its_formula(activation: str) -> None:
    layer = FeedForward(2, 1, activation, bias=True)  # type: ignore[arg-type]
    layer.up.weight.data, layer.up.bias.data = torch.tensor([[1.0, 2.0]]), torch.tensor([0.5])
    layer.down.weight.data, layer.down.bias.data = torch.tensor([[1.0], [-3.0]]), torch.tensor([0.0, 10.0])
    z = 1.0 * 0.2 + 2.0 * 0.1 + 0.5
    formula = {
        "gelu": z * 0.5 * (1 + math.erf(z / math.sqrt(2))),
        "gelu_tanh": 0.5 * z * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
        "relu2": max(z, 0) ** 2,
    }[activation]
    torch.testing.assert_close(layer(torch.tensor([[[0.2, 0.1]]])), torch.tensor([[[formula, 10 - 3 * formula]]]))


def test_slopes_of_heads_that_are_no_power_of_two() -> None:
    assert alibi_slopes(6).tolist() == [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]


def test_linear_stretching_reads_a_text_as_if_it_were_shorter() -> None:
    plain = rotary_table(torch.arange(5), 8, 1e4)
    stretched = rotary_table(torch.arange(0, 20, 4), 8, 1e4, RotaryScaling(rule="linear", factor=4.0))
    torch.testing.assert_close(stretched, plain)


def test_yarn_and_llama3_leave_fast_pairs_and_slow_the_others() -> None:
    for rule, low, high in (("llama3", 1.0, 4.0), ("yarn", 1.0, 32.0)):
        scaling = RotaryScaling(rule=rule, factor=8.0, trained=4096, low=low, high=high, attention=1.0)  # type: ignore[arg-type]
        one = torch.tensor([1])
        angles = torch.atan2(*rotary_table(one, 64, 1e4, scaling)[::-1])[0]
        plain = torch.atan2(*rotary_table(one, 64, 1e4)[::-1])[0]
        torch.testing.assert_close(angles[0], plain[0])
        torch.testing.assert_close(angles[-1], plain[-1] / 8)
        assert (angles.diff() < 0).all()


def test_impossible_stretching_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be stretched"):
        RotaryScaling(rule="yarn", factor=2.0)
