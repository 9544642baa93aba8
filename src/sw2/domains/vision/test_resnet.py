"""ResNet: shapes, the initial function, learning a batch, order of the stages, export."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sw2.base.errors import UsageError
from sw2.core.model import count_parameters
from sw2.domains.vision.resnet import Config, GreyConvolution, ResNet

SMALL = Config(classes=3, stem=4, stem_halves=0, widths=(8, 12), blocks=(1, 2))


@pytest.fixture(autouse=True)
def _one_thread_and_one_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.mark.parametrize("side", [8, 28, 33, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_any_size_give_logits(side: int, channels: int) -> None:
    model = ResNet(Config(channels=channels, classes=7))
    assert model({"image": torch.randn(2, channels, side, side)})["logits"].shape == (2, 7)


def test_the_size_of_the_default() -> None:
    assert count_parameters(ResNet(Config())) == 701_170


def test_a_new_network_is_its_shortcuts() -> None:
    """The branches end in zeros, so damage inside them changes nothing."""
    model, image = ResNet(SMALL).eval(), torch.randn(2, 1, 8, 8)
    before = model({"image": image})["logits"]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".second." in name or ".first." in name:
                parameter.normal_()
    assert torch.equal(model({"image": image})["logits"], before)


def test_the_halving_shortcut_is_the_mean_of_the_neighbours_that_are_there() -> None:
    from sw2.domains.vision.resnet import _HalvingMean

    halved = _HalvingMean()(torch.tensor([[[[1.0, 3, 5], [5, 7, 9], [2, 4, 8]]]]))
    assert halved.tolist() == [[[[4.0, 7.0], [3.0, 8.0]]]]


def test_it_learns_one_batch() -> None:
    model = ResNet(SMALL)
    image, label = torch.randn(24, 1, 8, 8), torch.arange(24) % 3
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        loss = F.cross_entropy(model({"image": image})["logits"], label)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() < 0.05


def test_memory_layout_does_not_change_the_answer() -> None:
    model, image = ResNet(SMALL).eval(), torch.randn(3, 1, 9, 9)
    wanted = model({"image": image})["logits"]
    turned = {"image": image.contiguous(memory_format=torch.channels_last)}
    got = model.to(memory_format=torch.channels_last)(turned)  # type: ignore[call-overload]
    torch.testing.assert_close(got["logits"], wanted, rtol=1e-4, atol=1e-5)


def test_layers_and_stages_cover_every_parameter_once_and_in_order() -> None:
    model = ResNet(SMALL)
    for parts in (model.layers(), model.stages()):
        held = [id(parameter) for _, module in parts for parameter in module.parameters()]
        assert held == [id(parameter) for parameter in model.parameters()]
    assert [name for name, _ in model.layers()] == ["stem", "stage1.block1", "stage2.block1", "stage2.block2", "head"]


def test_it_exports_with_a_dynamic_batch() -> None:
    model = ResNet(SMALL).eval()
    dynamic = ({"image": {0: torch.export.Dim.DYNAMIC}},)
    exported = torch.export.export(model, ({"image": torch.randn(2, 1, 9, 9)},), dynamic_shapes=dynamic)
    other = {"image": torch.randn(5, 1, 9, 9)}
    torch.testing.assert_close(exported.module()(other)["logits"], model(other)["logits"])


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(UsageError, match="shape"):
        Config(widths=(8, 16), blocks=(1,))
    with pytest.raises(UsageError, match="shape"):
        Config(widths=(8, 0), blocks=(1, 1))


@pytest.mark.parametrize("half", [False, True])
def test_a_convolution_of_one_channel_is_a_convolution(half: bool) -> None:
    torch.manual_seed(0)
    own = GreyConvolution(24)
    plain = torch.nn.Conv2d(1, 24, 3, padding=1, bias=False)
    plain.load_state_dict(own.state_dict())
    x, told = torch.randn(5, 1, 9, 7), torch.randn(5, 24, 9, 7)
    made = []
    for each in (own, plain):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            y = each(x)
        y.backward(told.to(y.dtype))
        made.append((y, each.weight.grad))
    assert made[0][0].dtype == made[1][0].dtype
    assert made[0][0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(made[0], made[1], rtol=2e-2 if half else 1e-5, atol=5e-2 if half else 1e-5)
    own.eval()
    assert torch.equal(own(x), plain(x))
