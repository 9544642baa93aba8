"""Calibrated rounding: beside a dense reference that follows the paper's derivation, and never worse than plain."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sw2.base.errors import LearningError, UsageError
from sw2.parts.layers.calibrated import error, fit, gptq
from sw2.parts.layers.packed import GROUP, Packed, pack, unpack


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def drawn(rows: int, columns: int, seed: int, tokens: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix, and the products of inputs whose columns depend on each other and differ in size."""
    draws = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=draws)
    hidden = torch.randn(tokens, columns // 4, generator=draws)
    inputs = hidden @ torch.randn(columns // 4, columns, generator=draws)
    inputs = (inputs + torch.randn(tokens, columns, generator=draws)) * torch.rand(columns, generator=draws).exp()
    return weight, inputs.T @ inputs


def reference(weight: torch.Tensor, gram: torch.Tensor, bits: int) -> torch.Tensor:
    """GPTQ as optimal brain surgery: after each column the inverse itself is reduced (Frantar et al., equation 3)."""
    grid = fit(weight, bits, gram.diagonal())  # type: ignore[arg-type]
    scales = grid.scales.double().repeat_interleave(GROUP, 1)
    minima = torch.zeros_like(scales) if grid.minima is None else grid.minima.double().repeat_interleave(GROUP, 1)
    least, most = (0, 15) if bits == 4 else (-127, 127)
    left, rounded = weight.double().clone(), torch.zeros_like(weight, dtype=torch.float64)
    inverse = torch.linalg.inv(gram.double() + 0.01 * gram.diagonal().double().mean() * torch.eye(len(gram)))
    for column in torch.argsort(gram.diagonal(), descending=True).tolist():
        codes = ((left[:, column] - minima[:, column]) / scales[:, column]).round().clamp(least, most)
        rounded[:, column] = codes * scales[:, column] + minima[:, column]
        errors = (left[:, column] - rounded[:, column]) / inverse[column, column]
        left -= errors[:, None] * inverse[column]
        inverse -= inverse[:, column, None] * inverse[column] / inverse[column, column]
        inverse[:, column] = inverse[column] = 0.0
    return rounded.float()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("columns", [32, 160])  # within one block of columns, and beyond it
def test_it_rounds_as_the_dense_reference(bits: int, columns: int) -> None:
    weight, gram = drawn(6, columns, 0)
    wanted, got = reference(weight, gram, bits), unpack(gptq(weight, gram, bits))  # type: ignore[arg-type]
    # A number half-way between two codes may fall to either side, and others then follow it.
    alike = (wanted - got).abs() <= 1e-5 * wanted.abs().max()
    assert alike.float().mean() > 0.98


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), bits=st.sampled_from([4, 8]), groups=st.integers(1, 5))
def test_outputs_change_less_than_by_plain_rounding(seed: int, bits: int, groups: int) -> None:
    """Of a matrix: a single row may be luckier with plain rounding."""
    weight, gram = drawn(48, groups * GROUP, seed)
    assert error(weight, gptq(weight, gram, bits), gram) < error(weight, pack(weight, bits), gram)  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", [4, 8])
def test_inputs_that_are_independent_and_alike_leave_nothing_to_make_good(bits: int) -> None:
    weight, _ = drawn(5, 96, 3)
    assert same(gptq(weight, 7.0 * torch.eye(96), bits), fit(weight, bits))  # type: ignore[arg-type]


def same(one: Packed, other: Packed) -> bool:
    pairs = zip(one.state("it").values(), other.state("it").values(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    bits=st.sampled_from([4, 8]),
    scale=st.sampled_from([0.0, 1e-6, 1e-2, 1.0, 1e4]),
    offset=st.sampled_from([0.0, -3.0, 1e4]),
    weighted=st.booleans(),
)
def test_a_fit_is_never_worse_in_any_group(seed: int, bits: int, scale: float, offset: float, weighted: bool) -> None:
    draws = torch.Generator().manual_seed(seed)
    weight = scale * torch.randn(3, 96, generator=draws) + offset
    importance = torch.rand(96, generator=draws) ** 4 if weighted else torch.ones(96)

    def squares(packed: Packed) -> torch.Tensor:
        return ((unpack(packed) - weight).square() * importance).unflatten(1, (-1, GROUP)).sum(-1)

    fitted = fit(weight, bits, importance)  # type: ignore[arg-type]
    assert torch.isfinite(unpack(fitted)).all()
    assert (squares(fitted) <= squares(pack(weight, bits)) * 1.001 + 1e-10 * weight.square().max()).all()  # type: ignore[arg-type]


def test_a_fit_is_better_by_a_tenth_in_four_bits() -> None:
    weight = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    squares = [float((unpack(packed) - weight).square().sum()) for packed in (fit(weight, 4), pack(weight, 4))]
    assert squares[0] < 0.9 * squares[1]


def test_inputs_that_never_come() -> None:
    weight, gram = drawn(4, 64, 5)
    gram[:40] = 0.0
    gram[:, :40] = 0.0
    silent = unpack(gptq(weight, gram, 4))
    assert (silent - weight).abs().max() < 0.5  # rounded like others, not left at any number
    assert torch.isfinite(unpack(gptq(weight, torch.zeros(64, 64), 4))).all()


def test_the_error_is_that_of_the_outputs() -> None:
    weight, _ = drawn(4, 64, 6)
    inputs = torch.randn(50, 64, generator=torch.Generator().manual_seed(1))
    packed = pack(weight, 4)
    wanted = (inputs @ (unpack(packed) - weight).T).square().sum()
    assert error(weight, packed, inputs.T @ inputs) == pytest.approx(float(wanted), rel=1e-4)


def test_mistakes() -> None:
    with pytest.raises(UsageError, match="cannot be packed"):
        fit(torch.zeros(2, 33), 4)
    with pytest.raises(UsageError, match="cannot be packed"):
        gptq(torch.full((1, 32), torch.nan), torch.eye(32), 4)
    with pytest.raises(LearningError, match="not finite"):
        gptq(torch.zeros(1, 32), torch.full((32, 32), torch.inf), 4)
