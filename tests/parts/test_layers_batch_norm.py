"""Batch normalisation, ReLU and what goes around, as one operation, against those of torch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from sw2.base import native
from sw2.core import health
from sw2.core.model import Batch
from sw2.domains.vision.resnet import Config, ResNet
from sw2.parts.layers import batch_norm
from sw2.parts.layers.batch_norm import BatchNormRelu

pytestmark = pytest.mark.skipif(native._compiler() is None, reason="there is no C++ compiler")


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SW2_NATIVE", "on")


def pictures(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2 + 0.7
    return made.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()


def norm(channels: int, seed: int = 0) -> BatchNormRelu:
    made, draw = BatchNormRelu(channels), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        made.weight.copy_(torch.rand(channels, generator=draw) * 3 - 1)
        made.bias.copy_(torch.randn(channels, generator=draw))
    return made


def by_torch(own: BatchNormRelu, x: Tensor, around: Tensor | None) -> tuple[Tensor, nn.BatchNorm2d]:
    """The same by torch's operations, in double precision where the numbers are fp32."""
    plain = nn.BatchNorm2d(own.num_features).to(x.dtype if x.dtype == torch.float64 else torch.float32)
    plain.load_state_dict(own.state_dict())
    y = plain(x)
    return F.relu(y if around is None else around + y), plain


@given(
    pictures_B=st.integers(1, 5),
    channels=st.integers(1, 70),
    height=st.integers(1, 9),
    width=st.integers(2, 9),
    goes_around=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fp32_agrees_with_torch_in_double_precision(
    pictures_B: int, channels: int, height: int, width: int, goes_around: bool, seed: int
) -> None:
    shape = (pictures_B, channels, height, width)
    own, x = norm(channels, seed), pictures(*shape, seed=seed)
    around = pictures(*shape, seed=seed + 1) if goes_around else None
    assume(own._serves(x, around))  # torch says of some pictures of one row that they are not channels-last
    exact_x = x.detach().double().requires_grad_()
    exact_around = None if around is None else around.detach().double().requires_grad_()
    told = pictures(*shape, seed=seed + 2).detach()
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}

    y = own(x, around)
    y.backward(told)

    reference = BatchNormRelu(channels).double()
    reference.load_state_dict(before)
    wanted, plain = by_torch(reference, exact_x, exact_around)
    # Where y is within rounding of zero, either side of ReLU is right.
    decided = (wanted.detach().abs() > 1e-5) | (y.detach() == 0)
    wanted.backward(torch.where(decided & (y.detach() > 0), told.double(), torch.zeros(())))
    torch.testing.assert_close(y.double(), wanted, rtol=1e-4, atol=1e-4)
    if bool((decided == (y.detach() >= 0)).all()):
        # Of two numbers a channel, deviations can be as small as the epsilon; gradients are then as large as 1 / it.
        scale = float(exact_x.grad.abs().max()) + 1.0  # type: ignore[union-attr]
        assert float((x.grad.double() - exact_x.grad).abs().max()) < 2e-3 * scale  # type: ignore[union-attr, operator]
        torch.testing.assert_close(own.bias.grad.double(), plain.bias.grad, rtol=1e-3, atol=1e-3)  # type: ignore[union-attr]
        torch.testing.assert_close(own.weight.grad.double(), plain.weight.grad, rtol=1e-3, atol=1e-2)  # type: ignore[union-attr]
        if around is not None and exact_around is not None:
            torch.testing.assert_close(around.grad.double(), exact_around.grad, rtol=1e-5, atol=1e-5)  # type: ignore[union-attr]
    torch.testing.assert_close(own.running_mean.double(), plain.running_mean, rtol=1e-4, atol=1e-5)  # type: ignore[union-attr]
    torch.testing.assert_close(own.running_var.double(), plain.running_var, rtol=1e-3, atol=1e-5)  # type: ignore[union-attr]
    assert own.num_batches_tracked == 1


@pytest.mark.parametrize("goes_around", [False, True])
def test_bf16_is_as_near_to_the_truth_as_torch(goes_around: bool) -> None:
    shape, told = (16, 24, 14, 14), pictures(16, 24, 14, 14, dtype=torch.bfloat16, seed=5).detach()

    def errors(of: str) -> list[float]:
        x = pictures(*shape, dtype=torch.bfloat16)
        around = pictures(*shape, dtype=torch.bfloat16, seed=1) if goes_around else None
        exact_x = x.detach().double().requires_grad_()
        exact_around = None if around is None else around.detach().double().requires_grad_()
        own = norm(24)
        exact, plain = by_torch(own.double(), exact_x, exact_around)
        exact.backward(told.double())
        own = norm(24)
        y, other = (own(x, around), own) if of == "own" else by_torch(own, x, around)
        y.backward(told)
        assert y.dtype == x.grad.dtype == torch.bfloat16  # type: ignore[union-attr]
        pairs = [(y, exact), (x.grad, exact_x.grad), (other.weight.grad, plain.weight.grad)]
        return [float((a.detach().double() - b.detach()).square().mean().sqrt()) for a, b in pairs]  # type: ignore[union-attr, operator]

    for own, torchs in zip(errors("own"), errors("torch"), strict=True):
        assert own < 1.1 * torchs + 1e-6


def test_a_mean_far_from_zero_costs_no_precision() -> None:
    x = (torch.randn(8, 16, 12, 12, dtype=torch.float64) * 0.1 + 1000).float()
    x = x.contiguous(memory_format=torch.channels_last)
    own = BatchNormRelu(16)
    with torch.no_grad():
        made, wanted = own(x), F.relu(F.batch_norm(x.double(), None, None, training=True))
    torch.testing.assert_close(made.double(), wanted, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(own.running_var, 0.9 + 0.1 * x.double().var((0, 2, 3)).float(), rtol=1e-4, atol=0)


def test_the_same_bits_on_any_number_of_threads() -> None:
    def run(threads: int) -> list[Tensor]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            own, x = norm(24), pictures(64, 24, 14, 14, dtype=torch.bfloat16)
            around = pictures(64, 24, 14, 14, dtype=torch.bfloat16, seed=1)
            y = own(x, around)
            y.backward(pictures(64, 24, 14, 14, dtype=torch.bfloat16, seed=2).detach())
            return [y, x.grad, around.grad, own.weight.grad, own.bias.grad, own.running_var]  # type: ignore[list-item]
        finally:
            torch.set_num_threads(before)

    assert all(torch.equal(a, b) for a, b in zip(run(1), run(2), strict=True))


def test_every_instruction_set_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> Tensor:
        own, x = norm(20), pictures(3, 20, 5, 7)
        own(x).backward(pictures(3, 20, 5, 7, seed=2).detach())
        assert x.grad is not None
        return x.grad

    wanted, loaded = run(), batch_norm._library
    tried = 0
    for path in ("avx512", "portable"):  # the best one is what everything else here runs on
        if batch_norm._NEEDS[path] <= native.processor_flags():
            monkeypatch.setattr(batch_norm, "first_fitting", lambda needs, path=path: path)
            monkeypatch.setattr(batch_norm, "_library", lambda: loaded.__wrapped__())
            torch.testing.assert_close(run(), wanted, rtol=1e-4, atol=1e-5)
            tried += 1
    assert tried >= 1


def test_what_is_no_number_is_not_hidden() -> None:
    x = pictures(2, 8, 4, 4).detach()
    x[0, 3, 1, 1] = torch.nan
    y = BatchNormRelu(8)(x)
    assert y[:, 3].isnan().all()
    assert not y[:, :3].isnan().any()


def test_elsewhere_the_operations_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    own, x = norm(8), pictures(4, 8, 6, 6)
    wanted = own(x)
    others = {
        "not channels-last": x.detach().contiguous(),
        "one number a channel": torch.randn(1, 8, 1, 1),
        "double precision": x.detach().double(),
    }
    assert all(not own._serves(each, None) for each in others.values())
    torch.testing.assert_close(own(others["not channels-last"]), wanted, rtol=1e-5, atol=1e-5)
    monkeypatch.setenv("SW2_NATIVE", "off")
    assert not own._serves(x, None)
    torch.testing.assert_close(own(x), wanted, rtol=1e-5, atol=1e-5)
    monkeypatch.setenv("SW2_NATIVE", "on")
    own.eval()
    assert not own._serves(x, None)
    plain = F.relu(F.batch_norm(x, own.running_mean, own.running_var, own.weight, own.bias))
    assert torch.equal(own(x), plain)


def test_a_network_learns_the_same_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def losses() -> list[float]:
        torch.manual_seed(0)
        net = ResNet(Config(stem=8, widths=(16, 32), blocks=(1, 1))).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x, labels = torch.randn(64, 1, 28, 28), torch.arange(64) % 10
        optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        found = []
        for _ in range(8):
            loss = F.cross_entropy(net({"image": x})["logits"], labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            found.append(float(loss.detach()))
        return found

    own = losses()
    monkeypatch.setenv("SW2_NATIVE", "off")
    assert own == pytest.approx(losses(), rel=2e-2)
    assert own[-1] < own[0]


def test_health_counts_its_dead_units() -> None:
    net = ResNet(Config(stem=8, widths=(8,), blocks=(1,))).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    norms = [module for module in net.modules() if isinstance(module, BatchNormRelu)]
    with torch.no_grad():
        norms[1].bias.fill_(-100.0)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return F.cross_entropy(model(batch)["logits"], batch["label"])

    batch = {"image": torch.randn(8, 1, 12, 12), "label": torch.arange(8)}
    rows = {row["layer"]: row for row in health.probe(net, loss, batch)}
    assert rows["stem"]["dead"] == 0.5  # one of its two normalisations, of as many units each
