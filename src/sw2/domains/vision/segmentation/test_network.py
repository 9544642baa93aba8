"""The network: prompts have no order and reach the answer, attention is torch's, gradients reach every weight."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sw2.core.model import Batch
from sw2.domains.vision.segmentation.lesson import mask_losses, rounds_loss
from sw2.domains.vision.segmentation.network import BOX, NEGATIVE, NOTHING, POSITIVE, CrossAttention, Segmenter

SIDE = 64


@pytest.fixture(scope="module")
def net() -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(Segmenter.Config(width=32)).eval()


def _asked(points: list[list[float]], labels: list[int], mask: Tensor | None = None) -> Batch:
    earlier = torch.zeros(1, SIDE // 2, SIDE // 2) if mask is None else mask
    return {
        "image": torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)),
        "points": torch.tensor([points]),
        "labels": torch.tensor([labels]),
        "mask": earlier,
        "masked": torch.tensor([mask is not None]),
    }


def test_shapes_and_what_was_seen_gives_the_same_answer_as_the_picture(net: Segmenter) -> None:
    asked = _asked([[0.5, 0.5]], [POSITIVE])
    with torch.no_grad():
        whole = net(asked)
        seen = net({"image": asked["image"]})
        again = net({**seen, **{name: value for name, value in asked.items() if name != "image"}})
    assert whole["masks"].shape == (1, 3, SIDE // 2, SIDE // 2)
    assert whole["scores"].shape == (1, 3)
    assert "masks" not in seen
    assert torch.equal(whole["masks"], again["masks"])


def test_prompts_have_no_order_and_places_without_one_change_nothing(net: Segmenter) -> None:
    with torch.no_grad():
        one = net(_asked([[0.2, 0.3], [0.7, 0.8], [0.4, 0.1]], [POSITIVE, NEGATIVE, POSITIVE]))
        other = net(_asked([[0.4, 0.1], [0.2, 0.3], [0.9, 0.9], [0.7, 0.8]], [POSITIVE, POSITIVE, NOTHING, NEGATIVE]))
    torch.testing.assert_close(one["masks"], other["masks"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one["scores"], other["scores"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("points", "labels"),
    [([[0.8, 0.3]], [POSITIVE]), ([[0.2, 0.3]], [NEGATIVE]), ([[0.2, 0.3], [0.5, 0.6]], list(BOX))],
)
def test_place_and_label_of_a_prompt_matter(net: Segmenter, points: list[list[float]], labels: list[int]) -> None:
    with torch.no_grad():
        before = net(_asked([[0.2, 0.3]], [POSITIVE]))["masks"]
        after = net(_asked(points, labels))["masks"]
    assert (before - after).abs().max() > 1e-3


def test_an_earlier_mask_matters_only_where_there_is_one(net: Segmenter) -> None:
    asked = _asked([[0.2, 0.3]], [POSITIVE])
    earlier = torch.randn(1, SIDE // 2, SIDE // 2, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        without = net(asked)["masks"]
        unused = net({**asked, "mask": earlier})["masks"]
        used = net({**asked, "mask": earlier, "masked": torch.tensor([True])})["masks"]
    assert torch.equal(without, unused)
    assert (without - used).abs().max() > 1e-4


def test_attention_is_that_of_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = CrossAttention(24, 3), nn.MultiheadAttention(24, 3, batch_first=True)
    parts = (ours.query, ours.key, ours.value)
    theirs.in_proj_weight.data = torch.cat([part.weight.data for part in parts])
    theirs.in_proj_bias.data = torch.cat([part.bias.data for part in parts])
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    q, k, v = torch.randn(2, 5, 24), torch.randn(2, 7, 24), torch.randn(2, 7, 24)
    shown = torch.rand(2, 7) < 0.7
    shown[:, 0] = True
    expected = theirs(q, k, v, key_padding_mask=~shown, need_weights=False)[0]
    torch.testing.assert_close(ours(q, k, v, shown), expected, rtol=1e-5, atol=1e-6)


def test_gradients_reach_every_weight_and_stages_hold_each_once() -> None:
    torch.manual_seed(0)
    net = Segmenter(Segmenter.Config(width=16))
    target = torch.zeros(2, 2, SIDE, SIDE, dtype=torch.bool)
    target[:, 0, 10:40, 10:30] = target[:, 1, 30:60, 20:50] = True
    box = [[0.3, 0.4], [0.8, 0.9], [0, 0], [0, 0]]
    batch = {
        "image": torch.randn(2, 3, SIDE, SIDE),
        "target": target,
        "points": torch.tensor([[[[0.0, 0.0]] * 4, box]] * 2),
        "labels": torch.tensor([[[NOTHING] * 4, [*BOX, *[NOTHING] * 2]]] * 2),
        "draws": torch.rand(2, 2, 3),
    }
    found = rounds_loss(net, batch, 3)
    found.total.backward()  # type: ignore[no-untyped-call]
    assert found.count == 4
    # Of three masks the best alone learns, so a filter may be without a gradient; nothing else may.
    still = {name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert {name.split(".")[0] for name in still} <= {"filters"}
    held = [id(p) for _, stage in net.stages() for p in stage.parameters()]
    assert sorted(held) == sorted(id(p) for p in net.parameters())


def test_losses_are_those_of_the_papers() -> None:
    """Written out by hand for two rows alike of two pixels; a right and sure mask has almost none."""
    logits = torch.tensor([[[[0.0, 2.0]] * 2]])
    target = torch.tensor([[[1.0, 0.0]] * 2])
    p = torch.tensor([0.0, 2.0]).sigmoid()
    weight = torch.stack(((1 - p[0]) ** 2, p[1] ** 2))
    missed = torch.stack((-p[0].log(), -(1 - p[1]).log()))
    focal = (weight * missed).sum() / weight.sum()
    dice = 1 - (4 * p[0] + 1) / (2 * p.sum() + 2 + 1)
    torch.testing.assert_close(mask_losses(logits, target)[0, 0], focal + dice)
    sure = torch.where(target > 0, 20.0, -20.0)[:, None]
    assert mask_losses(sure, target).item() == pytest.approx(0, abs=1e-4)


def test_prompts_of_one_picture_are_answered_as_alone(net: Segmenter) -> None:
    points, labels = torch.tensor([[[0.2, 0.3]], [[0.7, 0.6]], [[0.5, 0.5]], [[0.1, 0.9]]]), torch.ones(4, 1).long()
    image = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    earlier = torch.zeros(4, SIDE // 2, SIDE // 2)
    given = {"points": points, "labels": labels, "mask": earlier, "masked": torch.zeros(4, dtype=torch.bool)}
    with torch.no_grad():
        whole = net({"image": image, **given})["masks"]
        for row in range(4):
            asked = {name: value[row : row + 1] for name, value in given.items()}
            alone = net({"image": image[row // 2 : row // 2 + 1], **asked})["masks"]
            torch.testing.assert_close(whole[row], alone[0], rtol=1e-3, atol=1e-4)
